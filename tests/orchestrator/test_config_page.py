"""coe.yaml in the examples, the schema and the page of the docs."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from experts.spec import ExpertSpec
from orchestrator.config.load import default_config, load_config
from orchestrator.config.model import FamilyConfig
from orchestrator.config.schema import json_schema, written
from tests.orchestrator.config_parts import ENV, read, told

ROOT = Path(__file__).parents[2]


def test_the_example_is_the_starter_pool() -> None:
    config = load_config(ROOT / "examples/coe.yaml", env=ENV)
    pool = default_config(Path("/home/ada/.coe"))

    def served(spec: ExpertSpec) -> tuple[object, ...]:
        return spec.name, spec.source, spec.family_name, spec.parameters, spec.context_length, spec.languages, spec.tags

    assert [served(spec) for spec in config.experts] == [served(spec) for spec in pool.experts]
    assert [spec.sampling.temperature for spec in config.experts] == [
        spec.sampling.temperature for spec in pool.experts
    ]
    assert (config.router, config.families) == (pool.router, {"smollm2-135m": FamilyConfig(dtype="float32")})


def test_the_example_for_gpus_is_read() -> None:
    config = load_config(ROOT / "examples/gpu.yaml", env=ENV)
    assert {family: config.engine(family) for family in config.registry().families()} == {
        "llama-3-8b": "vllm",
        "gpt": "remote",
    }
    assert config.experts[0].source == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert config.experts[3].options["api_key"] == "env:OPENAI_API_KEY"
    assert config.family("llama-3-8b").num_gpus == 1


def test_the_example_of_ensembles_is_read() -> None:
    config = load_config(ROOT / "examples/ensembles.yaml", env=ENV)
    assert config.registry().names == default_config(Path("/home/ada/.coe")).registry().names
    assert {name: ensemble.seats for name, ensemble in config.ensembles.items()} == {
        "vote": 3,
        "careful": 3,
        "commands": 3,
    }


def test_page_and_schema_are_current() -> None:
    for path, content in written(ROOT / "docs").items():
        assert path.read_text(encoding="utf-8") == content, (
            f"{path.name} is out of date: python -m orchestrator.config.schema"
        )


def test_the_page_lists_every_key_and_setting() -> None:
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    for key in ("experts[].sampling.top_p", "families.<name>.swap.overhead", "limits.keep_alive_s", "server.redis_url"):
        assert f"| `{key}` |" in page
    for setting in ("COE_HOME", "COE_HOST", "COE_PORT", "COE_API_KEY", "COE_REDIS_URL", "RAY_ADDRESS", "COE_CONFIG"):
        assert f"| `{setting}` |" in page


def test_what_the_page_shows_is_so(file: Path) -> None:
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    good, bad = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    [messages] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert read(file, good).registry().names == ("chat", "sums")
    assert told(file, bad) == messages.splitlines()


def test_the_schema_takes_what_the_loader_takes() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in ("coe.yaml", "gpu.yaml", "ensembles.yaml"):
        validator.validate(yaml.safe_load((ROOT / "examples" / name).read_text(encoding="utf-8")))
    assert schema == json.loads((ROOT / "docs/coe.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"expertz": []},
        {"experts": [{"name": "a"}]},
        {"experts": [{"name": "A", "source": "x"}]},
        {"experts": [{"name": "a", "source": "x", "parameters": "7X"}]},
        {"experts": [{"name": "a", "source": "x", "parameters": 0}]},
        {"families": {"f": {"max_model_len": 0}}},
        {"families": {"f": {"swap": {"overhead": 1}}}},
        {"server": {"port": 0}},
        {"server": {"api_key": "x"}},
        {"log_level": "chatty"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(file: Path, wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(wrong)
    assert told(file, json.dumps(wrong))
