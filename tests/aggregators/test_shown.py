"""What callers are told of an aggregator's settings."""

import orjson
import pytest

from aggregators.registry import NAMES
from aggregators.settings import Settings
from aggregators.shown import shown


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("single", {"stream_first"}),
        ("vote", {"waves"}),
        ("synthesize", {"expert", "draft_characters", "reserve_s", "prompts"}),
    ],
)
def test_an_aggregator_has_the_settings_that_it_heeds(name: str, fields: set[str]) -> None:
    assert shown(name, Settings()).keys() == fields


def test_an_aggregator_of_others_has_theirs() -> None:
    settings = Settings(layers=2, end="vote", first="judge", otherwise="refine", waves=True, is_pairwise=True)
    refine = shown("refine", settings)
    assert (refine["layers"], refine["end"], refine["waves"]) == (2, "vote", True)
    cascade = shown("cascade", settings)
    assert (cascade["first"], cascade["otherwise"]) == ("judge", "refine")
    assert cascade["pairwise"]
    assert {**refine, **cascade} == cascade


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_a_prompt_is_told(name: str) -> None:
    told = orjson.dumps(shown(name, Settings(prompts={"judge": "a secret of ours {drafts}"})))
    assert b"secret" not in told
