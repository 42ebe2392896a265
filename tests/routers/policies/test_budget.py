"""What calls may cost, and which experts a request's money is not enough for."""

import pytest

from routers.policies.base import Removed, Wish
from routers.policies.budget import ANSWER_TOKENS, NO_BOUND, Budget, most_usd
from routers.policies.constraints import keep
from tests.routers.policies.parts import expert


def test_of_two_budgets_the_tighter_bound_holds() -> None:
    assert Budget(3, 0.5).within(Budget(2, 1.0)) == Budget(2, 0.5)
    assert Budget(calls=3).within(Budget(usd=1.0)) == Budget(3, 1.0)
    assert Budget(3, 0.5).within(NO_BOUND) == NO_BOUND.within(Budget(3, 0.5)) == Budget(3, 0.5)


def test_a_call_costs_its_prompt_and_the_longest_answer_that_it_may_have() -> None:
    spec = expert("a", price={"input": 2, "output": 10}, sampling={"max_tokens": 500})
    assert most_usd(spec, 1000, 100) == pytest.approx(0.003)
    assert most_usd(spec, 1000, None) == pytest.approx(0.007)
    assert most_usd(expert("a", price={"output": 1}), 1000, None) == pytest.approx(ANSWER_TOKENS / 1e6)
    assert most_usd(expert("free"), 10**9, 10**9) == 0


def test_an_expert_that_alone_may_cost_more_does_not_answer() -> None:
    specs = (expert("dear", price={"output": 10}), expert("cheap", price={"output": 1}), expert("free"))
    wish = Wish(tokens=600, answer=500, budget=Budget(usd=0.001))
    assert keep(specs, wish) == (
        ("cheap", "free"),
        {"dear": Removed("budget", "may cost 0.005 US dollars, more than 0.001")},
    )
    assert keep(specs, Wish(tokens=600, answer=500, budget=Budget(calls=1)))[1] == {}
