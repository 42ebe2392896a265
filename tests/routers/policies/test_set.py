"""Policies composed: their order, what they leave to the router, and what no composition may break."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.base import NoCandidate, Router
from routers.fixed import FixedRouter
from routers.policies.base import Excluded, State, Wish
from routers.policies.conversation import Stay
from routers.policies.load_price import LoadPrice
from routers.policies.number import Budget, TopP
from routers.policies.policy_set import PolicySet
from tests.routers.policies.parts import Ranked, Scored, expert, pool

NAMES = ("a", "b", "c", "d")
SCORES = {"a": 0.9, "b": 0.8, "c": 0.5, "d": 0.1}
QUICK = settings(deadline=None, database=None, max_examples=100)


def decide(router: Router, policies: PolicySet, wish: Wish = Wish(), state: State = State()) -> Any:  # noqa: B008
    return policies.decide(router, "x", pool(*NAMES), wish, state).route


def test_without_policies_the_route_is_the_routers_own() -> None:
    router = Scored(SCORES)
    assert decide(router, PolicySet()) == router.route("x", NAMES, 1)
    assert decide(router, PolicySet(k=3)) == router.route("x", NAMES, 3)
    assert decide(router, PolicySet(k=3), Wish(k=2)) == router.route("x", NAMES, 2)


def test_policies_that_change_nothing_leave_the_routers_own_route() -> None:
    router = Scored(SCORES)
    policies = PolicySet(k=2, price=LoadPrice(0.01), stay=Stay(0.05))
    state = State(load_s={"c": 5.0}, last="d")
    assert decide(router, policies, state=state) == router.route("x", NAMES, 2)


def test_the_router_is_asked_among_those_who_may_answer_only() -> None:
    router = Scored(SCORES)
    decision = PolicySet().decide(
        router, "x", pool(*NAMES), Wish(deny=frozenset("a")), State(failed={"b": "no weights"})
    )
    assert router.asked == [("c", "d")]
    assert (decision.candidates, decision.route.experts) == (("c", "d"), ("c",))
    assert {name: removed.rule for name, removed in decision.removed.items()} == {"a": "lists", "b": "outage"}


@pytest.mark.parametrize("router", [Scored(SCORES), Ranked(SCORES)], ids=["predicts", "weights alone"])
def test_a_resident_expert_is_asked_instead_of_a_cold_one(router: Router) -> None:
    route = decide(router, PolicySet(price=LoadPrice(0.05)), state=State(load_s={"a": 4.0}))
    assert route.experts == ("b",)
    assert route.category == "all"
    assert route.reason.startswith("a ranks first; b instead of a, whose load takes 4 s for ")
    assert route.aggregator == "single"


def test_who_a_plan_puts_first_is_not_passed_over_for_its_score() -> None:
    router = Scored(SCORES, first="d")
    policies = PolicySet(price=LoadPrice(0.01), stay=Stay(0.05))
    assert decide(router, policies, state=State(load_s={"a": 3.0}, last="b")).experts == ("d",)
    assert decide(router, policies, state=State(load_s={"d": 20.0})).experts == ("a",)


def test_nothing_goes_before_an_expert_that_is_fixed() -> None:
    policies = PolicySet(price=LoadPrice(0.01), stay=Stay(0.2))
    route = decide(FixedRouter("c"), policies, state=State(load_s={"c": 20.0}, last="a"))
    assert route.experts == ("c",)


def test_top_p_asks_as_many_as_it_takes_and_at_most_k() -> None:
    assert decide(Scored(SCORES), PolicySet(k=4, number=TopP(0.39), sharpness=1.0)).experts == ("a",)
    assert decide(Scored(SCORES), PolicySet(k=4, number=TopP(0.9), sharpness=1.0)).experts == ("a", "b", "c")
    assert decide(Scored(SCORES), PolicySet(k=2, number=TopP(0.9), sharpness=1.0)).experts == ("a", "b")
    assert decide(Scored({**SCORES, "b": 0.1, "c": 0.1}), PolicySet(k=4, number=TopP(0.9))).experts == ("a",)


def test_a_request_that_says_how_many_gets_as_many_and_moves_no_budget() -> None:
    budget = Budget(1.5, at_most=3)
    before = budget.threshold
    assert len(decide(Scored(SCORES), PolicySet(k=3, number=budget), Wish(k=4)).experts) == 4
    assert budget.threshold == before
    decide(Scored(SCORES), PolicySet(k=3, number=budget))
    assert budget.threshold != before


def test_forced_experts_take_part_first_and_the_router_fills_up() -> None:
    router = Scored(SCORES)
    assert decide(router, PolicySet(), Wish(force=("d",))).experts == ("d",)
    assert decide(router, PolicySet(), Wish(force=("d", "b"))).experts == ("d", "b")
    route = decide(router, PolicySet(), Wish(k=3, force=("d",)))
    assert route.experts == ("d", "a", "b")
    assert route.reason == "a ranks first; the request asks for d"
    assert [choice.weight for choice in route.choices] == pytest.approx([0.1 / 1.8, 0.9 / 1.8, 0.8 / 1.8])
    assert route.aggregator == "vote"


def test_skills_speak_for_who_is_first_or_are_left_out() -> None:
    assert decide(Scored(SCORES), PolicySet(), Wish(force=("d",))).skills == {"skill of d": 2.0}
    assert decide(Scored(SCORES), PolicySet(), Wish(k=3, force=("a",))).skills == {"skill of a": 2.0}
    several = decide(Scored(SCORES), PolicySet(), Wish(k=3, force=("d",)))
    assert (several.experts[0], several.skills) == ("d", {}), "the router was not asked what speaks for d"


def test_a_forced_expert_that_cannot_answer_is_told_and_one_in_doubt_is_asked() -> None:
    state = State(failed={"d": "no weights"}, doubtful={"c": "it went down"})
    with pytest.raises(NoCandidate, match="'force' names an expert that cannot answer now: outage: no weights: d"):
        decide(Scored(SCORES), PolicySet(), Wish(force=("d",)), state)
    assert decide(Scored(SCORES), PolicySet(k=2), Wish(force=("c",)), state).experts == ("c", "a")


def test_the_language_of_the_prompt_is_kept() -> None:
    specs = (expert("english", languages=["en"]), expert("german", languages=["de"]), expert("any"))
    router = Scored({"english": 0.9, "german": 0.8, "any": 0.1})

    def asked(prompt: str, wish: Wish = Wish(), **fields: Any) -> tuple[str, ...]:  # noqa: B008
        return PolicySet(**fields).decide(router, prompt, specs, wish).route.experts

    assert asked("Was ist das und wie geht es weiter?") == ("german",)
    assert asked("What is this and how does it go on?") == ("english",)
    assert asked("Qu'est-ce que c'est et comment ça marche ?") == ("any",)
    assert asked("x = 3") == ("english",)
    assert asked("x = 3", Wish(earlier="Was ist das und wie geht es weiter?")) == ("german",)
    assert asked("What is this?", Wish(earlier="Was ist das und wie geht es weiter?")) == ("english",)
    assert asked("Was ist das?", Wish(languages=("en",))) == ("english",)
    assert asked("Was ist das?", Wish(languages=())) == ("english",)
    assert asked("Was ist das?", language=False) == ("english",)
    assert PolicySet().decide(router, "Was ist das?", specs[:1]).route.experts == ("english",)  # nobody speaks it
    with pytest.raises(Excluded, match="language: does not speak 'de': english"):
        PolicySet().decide(router, "Was ist das?", specs[:1], Wish(languages=("de",)))


@QUICK
@given(
    scores=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    deny=st.frozensets(st.sampled_from(NAMES), max_size=3),
    failed=st.frozensets(st.sampled_from(NAMES)),
    cold=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100)),
    last=st.sampled_from([None, *NAMES]),
    k=st.none() | st.integers(1, 5),
    most=st.integers(1, 5),
    predicts=st.booleans(),
    first=st.sampled_from([None, *NAMES]),
)
def test_no_composition_calls_a_denied_expert_or_breaks_a_routes_promises(
    scores: list[float],
    deny: frozenset[str],
    failed: frozenset[str],
    cold: dict[str, float],
    last: str | None,
    k: int | None,
    most: int,
    predicts: bool,
    first: str | None,
) -> None:
    left = set(NAMES) - deny - failed
    if not left:
        return
    router = (Scored if predicts else Ranked)(dict(zip(NAMES, scores, strict=True)), first)
    policies = PolicySet(k=most, number=TopP(0.7), price=LoadPrice(0.01), stay=Stay(0.1))
    state = State(failed=dict.fromkeys(failed, "no weights"), load_s=cold, last=last)
    route = decide(router, policies, Wish(k=k, deny=deny), state)
    assert set(route.experts) <= left
    assert len(set(route.experts)) == len(route.experts) <= min(k or most, len(left))
    assert k is None or len(route.experts) == min(k, len(left))
    assert sum(choice.weight for choice in route.choices) == pytest.approx(1)
    assert (route.aggregator == "single") == (len(route.experts) == 1)
    assert all(not set(asked) & (deny | failed) for asked in router.asked)
