"""docs/aggregation.md says what is so."""

import ast
import re
from pathlib import Path

import yaml

from aggregators.registry import NAMES, make
from aggregators.settings import Settings
from orchestrator.aggregation import ensembles
from orchestrator.http.wire_coe import ALIASES, CoeOptions
from tests.orchestrator.config_parts import read

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/aggregation.md").read_text(encoding="utf-8")
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def test_the_table_has_every_aggregator() -> None:
    table = PAGE.split("## Aggregators")[1].split("\n\n* ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == NAMES
    calls = {name: make(name).calls(3) for name in NAMES}
    assert calls == {"single": 0, "vote": 0, "judge": 1, "synthesize": 1, "refine": 4, "cascade": 1}
    assert make("judge", Settings(is_pairwise=True)).calls(3) == 4


def test_the_file_that_it_shows_is_read(file: Path) -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = read(file, shown)
    careful, queries = ensembles(config).values()
    assert (careful.k, careful.aggregator.name, careful.expert) == (3, "judge", "smol-general")
    assert (queries.k, queries.aggregator.name, queries.expert) == (3, "cascade", "smol-sql")
    assert set(yaml.safe_load(shown)) == {"router", "aggregation", "ensembles"}


def test_the_requests_that_it_shows_are_taken() -> None:
    [shown] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(shown)) if isinstance(node, ast.Call)]
    given = [
        ast.literal_eval(word.value)["coe"] for call in calls for word in call.keywords if word.arg == "extra_body"
    ]
    assert [CoeOptions.model_validate(coe).k for coe in given] == [3]


def test_the_api_page_has_every_option_and_other_name() -> None:
    table = API.split("`coe` is this service's own field")[1].split("## The answer")[0]
    for name in (*CoeOptions.model_fields, *ALIASES):
        assert f"`{name}`" in table
