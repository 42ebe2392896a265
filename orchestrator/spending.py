"""A request's budget: before its calls as fewer experts, and while it runs as calls that are not made any more."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from experts.registry import Registry
from routers.base import Route
from routers.policies.base import Excluded, Wish
from routers.policies.budget import Budget, answer_tokens, most_usd
from routers.policies.policy_set import Decision

_ROUNDING = 1e-9
"""Share by which a sum of floats may be over a bound that it equals."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision that the budget allows. note: what had to be given up for it, "" for nothing."""

    decision: Decision
    note: str = ""


def within(
    wish: Wish, own_calls: Callable[[Route], int], decide: Callable[[Wish], Decision], registry: Registry
) -> Plan:
    """The decision with as many experts as the budget of `wish` allows, at most as many as `decide` would ask.

    own_calls: how many, beside the drafts, it takes to make one answer of a route of several.
    Raises Excluded where it allows fewer than must take part, and what `decide` raises.
    """
    decision = decide(wish)
    wanted = len(decision.route.choices)
    while len(decision.route.choices) > 1 and not _fits(decision.route, own_calls(decision.route), wish, registry):
        fewer = len(decision.route.choices) - 1
        if fewer < len(wish.force):
            raise Excluded(
                f"'force' names {len(wish.force)} experts, more than the budget allows: {_told(wish.budget)}"
            )
        decision = decide(replace(wish, k=fewer))
    asked = len(decision.route.choices)
    note = f"{asked} of {wanted} experts answer, for the budget is {_told(wish.budget)}" if asked < wanted else ""
    return Plan(decision, note)


def _fits(route: Route, own: int, wish: Wish, registry: Registry) -> bool:
    drafts = len(route.choices)
    if wish.budget.calls is not None and drafts + own > wish.budget.calls:
        return False
    if wish.budget.usd is None:
        return True
    specs = [registry.get(expert) for expert in route.experts]
    usd = sum(most_usd(spec, wish.prompt_tokens, wish.answer) for spec in specs)
    read = wish.prompt_tokens + sum(answer_tokens(spec, wish.answer) for spec in specs)
    usd += own * max(most_usd(spec, read, wish.answer) for spec in specs)
    return usd <= wish.budget.usd * (1 + _ROUNDING)


class Spent:
    """What the calls of one request have cost so far."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._usd: dict[int, float] = {}  # call -> its cost, or the most that it may have

    def begin(self, call: int, most_usd: float) -> str | None:
        """Counts a call that may cost so much; why it must not be made if the budget does not allow it."""
        budget, usd = self._budget, sum(self._usd.values()) + most_usd
        calls = budget.calls is not None and len(self._usd) >= budget.calls
        if calls or (budget.usd is not None and usd > budget.usd * (1 + _ROUNDING)):
            return f"the budget of {_told(budget)} does not allow another call"
        self._usd[call] = most_usd
        return None

    def end(self, call: int, usd: float) -> None:
        """What it has cost. One that ends without that counts for the most."""
        self._usd[call] = usd

    def undo(self, call: int) -> None:
        """It was not begun after all."""
        self._usd.pop(call, None)


def _told(budget: Budget) -> str:
    calls = [f"{budget.calls} call{'s' if budget.calls != 1 else ''}"] if budget.calls is not None else []
    return " and ".join([*calls, f"{budget.usd:g} US dollars"] if budget.usd is not None else calls)
