"""What an expert may be, and what it may not."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from experts.spec import ExpertSpec, Sampling


def spec(**fields: Any) -> ExpertSpec:
    return ExpertSpec(**{"name": "sql", "source": "./models/sql"} | fields)


def test_two_fields_make_an_expert() -> None:
    expert = ExpertSpec(name="sql", source="org/model")
    assert (expert.kind, expert.modalities, expert.tools) == ("checkpoint", ("text",), False)
    assert expert.family_name == "sql"  # its own
    assert expert.sampling == Sampling()


@pytest.mark.parametrize(
    ("written", "count"),
    [("135M", 135_000_000), ("7B", 7_000_000_000), ("0.5b", 500_000_000), (" 8 k ", 8000), ("42", 42), (42, 42)],
)
def test_counts_are_numbers_or_have_a_suffix(written: object, count: int) -> None:
    assert spec(parameters=written).parameters == count


@pytest.mark.parametrize("written", ["7X", "B", "", "-1M", "0B", 0, -5, 1.5, "1.2.3M", [1]])
def test_what_is_no_count_is_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="parameters"):
        spec(parameters=written)


@pytest.mark.parametrize("name", ["a", "smol-sql", "llama3.1_8b", "7b", "a" * 63])
def test_names(name: str) -> None:
    assert spec(name=name).name == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "SQL", "a b", "a/b", "é", "a\n", "a" * 64, "auto"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        spec(name=name)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "adapter"}, "needs 'base'"),
        ({"base": "chat"}, "'base' is for kind 'adapter'"),
        ({"options": {"model": "m"}}, "'options' is for kind 'remote'"),
        ({"kind": "remote"}, "'package.module:ChatModelClass'"),
        ({"kind": "remote", "source": "gpt-4o"}, "'package.module:ChatModelClass'"),
        ({"kind": "remote", "source": "pkg:Cls()"}, "'package.module:ChatModelClass'"),
        ({"kind": "lora"}, "'checkpoint', 'adapter' or 'remote'"),
        ({"familly": "x"}, "familly"),
        ({"modalities": ["video"]}, "'text', 'image' or 'audio'"),
        ({"price": {"input": -1}}, "greater than or equal to 0"),
        ({"source": ""}, "at least 1 character"),
    ],
)
def test_what_does_not_fit_together_is_told(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        spec(**fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"repetition_penalty": 0},
        {"max_tokens": 0},
        {"stop": ["x"] * 17},
    ],
)
def test_sampling_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_an_expert_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec().name = "other"  # type: ignore[misc]


def test_an_adapter_without_family_goes_by_its_base() -> None:
    assert spec(kind="adapter", base="chat").family_name == "chat"
    assert spec(family="llama").family_name == "llama"
