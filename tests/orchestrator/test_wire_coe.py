"""The `coe` field of a request, and what does not go with several experts."""

from typing import Any

import pytest

from routers.policies.base import Wish
from routers.policies.budget import Budget
from tests.orchestrator.wire_parts import parse, refused

TRIO = "ensemble/trio"


def test_what_a_request_asks_of_the_experts() -> None:
    coe = {"allow": ["sql", "math"], "deny": ["math"], "force": ["sql", "sql"], "needs": ["tools"], "languages": ["de"]}
    assert parse(coe=coe).coe.wish == Wish(
        allow=frozenset({"sql", "math"}),
        deny=frozenset({"math"}),
        force=("sql",),
        needs=frozenset({"tools"}),
        languages=("de",),
    )
    assert parse().coe.wish == parse(coe=dict.fromkeys(coe)).coe.wish == Wish()
    assert parse(coe={"languages": []}).coe.wish == Wish(languages=())


@pytest.mark.parametrize(
    ("coe", "param", "words"),
    [
        ({"allow": ["sql", "mth"]}, "coe.allow[1]", "no expert is named 'mth'; did you mean 'math'?"),
        ({"deny": ["x" * 5000]}, "coe.deny[0]", "no expert is named"),
        ({"force": ["nobody"]}, "coe.force[0]", "no expert is named 'nobody'"),
        ({"include": ["mth"]}, "coe.include[0]", "no expert is named 'mth'; did you mean 'math'?"),
        ({"exclude": "sql"}, "coe.exclude", "coe.exclude: input should be a valid list"),
        ({"allow": []}, "coe.allow", "at least 1"),
        ({"allow": "sql"}, "coe.allow", "list"),
        ({"force": ["sql"] * 9}, "coe.force", "at most 8"),
        ({"allow": ["sql"], "include": ["math"]}, "coe", "'include' is another name of 'allow'; give one of them"),
        ({"budget": {}}, "coe.budget", "give 'calls', 'usd' or both"),
        ({"budget": 3}, "coe.budget", "got 3"),
        ({"budget": {"calls": 0}}, "coe.budget.calls", "greater than or equal to 1"),
        ({"budget": {"usd": 0}}, "coe.budget.usd", "greater than 0"),
        ({"needs": ["wings"]}, "coe.needs[0]", "'tools', 'image' or 'audio'"),
        ({"languages": ["german"]}, "coe.languages[0]", "pattern"),
    ],
)
def test_wishes_that_nobody_can_meet_are_told_where(coe: dict[str, Any], param: str, words: str) -> None:
    error = refused(coe=coe)
    assert (error.cause, error.param) == ("invalid_value", param)
    assert words in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "coe",
    [
        {"allow": ["sql"]},
        {"deny": ["math"]},
        {"force": ["sql"]},
        {"needs": ["tools"]},
        {"languages": []},
        {"budget": {"calls": 1}},
    ],
)
def test_a_named_expert_leaves_no_choice_to_constrain(coe: dict[str, Any]) -> None:
    assert f"'coe.{next(iter(coe))}' needs model 'auto'" in refused(model="sql", coe=coe).message


def test_include_and_exclude_are_other_names() -> None:
    assert parse(coe={"include": ["sql"], "exclude": ["math"]}) == parse(coe={"allow": ["sql"], "deny": ["math"]})
    assert parse(coe={"include": None, "allow": ["sql"]}) == parse(coe={"allow": ["sql"]})


def test_a_budget_bounds_calls_money_or_both() -> None:
    assert parse(coe={"budget": {"calls": 3}}).coe.wish.budget == Budget(calls=3)
    assert parse(coe={"budget": {"calls": None, "usd": 1}}).coe.wish.budget == Budget(usd=1)
    assert parse(coe={"budget": None}).coe.wish.budget == Budget()


def test_options_that_contradict_each_other_are_refused() -> None:
    assert "needs model 'auto'" in refused(model="sql", coe={"k": 2}).message
    assert "needs model 'auto'" in refused(model="sql", coe={"aggregator": "joined"}).message
    assert "'coe.k' of at least 2" in refused(coe={"k": 1, "aggregator": "joined"}).message
    assert "'vote' needs 'coe.k' of at least 3" in refused(coe={"k": 2, "aggregator": "vote"}).message
    error = refused(coe={"k": 2, "aggregator": "magic"})
    assert error.param == "coe.aggregator"
    assert "allowed are joined, first, broken" in error.message
    assert "'coe.force' names more experts than 'coe.k'" in refused(coe={"force": ["sql", "math"], "k": 1}).message


def test_the_aggregator_may_be_named_where_the_router_decides_how_many() -> None:
    assert parse(coe={"aggregator": "joined"}).coe.aggregator == "joined"


@pytest.mark.parametrize("coe", [{"k": 3}, {"aggregator": "joined"}])
def test_an_ensemble_has_its_own_number_and_aggregator(coe: dict[str, Any]) -> None:
    assert (
        f"'coe.{next(iter(coe))}' needs model 'auto': 'ensemble/trio' has its own"
        in refused(model=TRIO, coe=coe).message
    )


def test_an_ensemble_takes_constraints_and_a_budget() -> None:
    coe = {"deny": ["sql"], "budget": {"calls": 2}, "explain": True}
    assert parse(model=TRIO, coe=coe).coe.wish == Wish(deny=frozenset({"sql"}), budget=Budget(calls=2))


ALONE: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "n": 2,
}


@pytest.mark.parametrize("field", ALONE)
@pytest.mark.parametrize(
    ("body", "who"),
    [
        ({"model": TRIO}, "model 'ensemble/trio'"),
        ({"coe": {"k": 2}}, "'coe.k' 2"),
        ({"coe": {"aggregator": "joined"}}, "'coe.aggregator' 'joined'"),
        ({"coe": {"force": ["sql", "math"]}}, "'coe.force'"),
    ],
)
def test_what_one_expert_must_answer_alone_is_refused_with_several(field: str, body: dict[str, Any], who: str) -> None:
    error = refused(**body, **{field: ALONE[field]})
    assert (error.cause, error.param) == ("unsupported_parameter", field)
    assert f"{field}: one expert alone can answer it, and {who} asks several; leave one of them out" in error.message
    neutral = {"tools": [], "response_format": {"type": "text"}, "logprobs": False, "n": 1}[field]
    assert parse(**body, **{field: neutral}).alone == []
