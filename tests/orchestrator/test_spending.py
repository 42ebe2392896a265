"""How a budget makes fewer experts do."""

from typing import Any

import pytest

from aggregators.registry import make
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.spending import Plan, Spent, within
from routers.fixed import FixedRouter
from routers.policies.base import Excluded, Wish
from routers.policies.budget import Budget
from routers.policies.policy_set import Decision, PolicySet

PRICES = {"a": 1.0, "b": 1.0, "c": 1.0, "dear": 20.0}  # US dollars per million tokens of an answer
REGISTRY = Registry(
    ExpertSpec.model_validate({"name": name, "source": f"./{name}", "price": {"output": price}})
    for name, price in PRICES.items()
)


def plan(k: int = 3, aggregator: str = "vote", **wish: Any) -> Plan:
    router = FixedRouter("a")

    def decide(wish: Wish) -> Decision:
        return PolicySet(k=k).decide(router, "hello", REGISTRY, wish)

    maker = make(aggregator)
    return within(Wish(tokens=110, answer=100, **wish), lambda route: maker.calls(len(route.choices)), decide, REGISTRY)


def experts(plan: Plan) -> tuple[str, ...]:
    return plan.decision.route.experts


def test_without_a_budget_the_decision_is_left_alone() -> None:
    assert experts(plan()) == ("a", "b", "c")
    assert plan().note == ""


@pytest.mark.parametrize(("calls", "asked"), [(9, 3), (3, 3), (2, 2), (1, 1)])
def test_a_vote_needs_no_call_but_its_drafts(calls: int, asked: int) -> None:
    assert len(experts(plan(budget=Budget(calls=calls)))) == asked


@pytest.mark.parametrize(("calls", "asked"), [(4, 3), (3, 2), (2, 1), (1, 1)])
def test_a_judge_keeps_a_call_for_itself(calls: int, asked: int) -> None:
    assert len(experts(plan(aggregator="judge", budget=Budget(calls=calls)))) == asked


@pytest.mark.parametrize(("calls", "asked"), [(7, 3), (6, 2), (5, 2), (4, 1)])
def test_layers_keep_a_call_for_each_draft_and_one_for_the_end(calls: int, asked: int) -> None:
    assert len(experts(plan(aggregator="refine", budget=Budget(calls=calls)))) == asked


def test_what_is_given_up_is_told() -> None:
    assert plan(budget=Budget(calls=2)).note == "2 of 3 experts answer, for the budget is 2 calls"
    told = plan(budget=Budget(calls=1, usd=5)).note
    assert told == "1 of 3 experts answer, for the budget is 1 call and 5 US dollars"


def test_money_is_counted_over_all_drafts_and_the_call_that_reads_them() -> None:
    assert experts(plan(budget=Budget(usd=0.0003))) == ("a", "b", "c")  # 100 tokens each at 1 dollar a million
    assert experts(plan(budget=Budget(usd=0.00029))) == ("a", "b")
    assert experts(plan(aggregator="judge", budget=Budget(usd=0.0003))) == ("a", "b")
    assert experts(plan(aggregator="judge", budget=Budget(usd=0.0004))) == ("a", "b", "c")


def test_who_is_too_dear_alone_is_not_among_them() -> None:
    found = plan(k=4, budget=Budget(usd=0.001))
    assert experts(found) == ("a", "b", "c")
    assert found.note == ""
    assert found.decision.removed["dear"].rule == "budget"


def test_forced_experts_are_not_given_up() -> None:
    assert experts(plan(force=("c",), budget=Budget(calls=1))) == ("c",)
    with pytest.raises(Excluded, match="'force' names 2 experts, more than the budget allows: 1 call"):
        plan(force=("c", "b"), budget=Budget(calls=1))


def test_calls_over_the_budget_are_not_made() -> None:
    spent = Spent(Budget(calls=2))
    assert spent.begin(0, 0.0) is spent.begin(1, 0.0) is None
    spent.end(0, 0.0)
    assert spent.begin(2, 0.0) == "the budget of 2 calls does not allow another call"
    spent.undo(1)
    assert spent.begin(3, 0.0) is None


def test_a_call_counts_for_the_most_until_its_cost_is_known() -> None:
    spent = Spent(Budget(usd=0.01))
    assert spent.begin(0, 0.01) is None
    assert spent.begin(1, 0.002) is not None
    spent.end(0, 0.008)
    assert spent.begin(2, 0.002) is None
    assert spent.begin(3, 0.0) is None
    assert spent.begin(4, 0.001) is not None
