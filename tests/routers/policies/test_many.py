"""Many requests decided together, and briefly, are decided as each alone: a batch is planned by it."""

from itertools import chain, combinations

import pytest

from routers.encoders.hashed import HashEncoder
from routers.policies.base import Excluded, Wish
from routers.policies.budget import Budget
from routers.policies.number import TopP
from routers.policies.policy_set import Decision, PolicySet
from routers.two_level.router import TwoLevelRouter
from tests.routers.policies.parts import pool

NAMES = ("chat", "math", "sql", "new")
PROMPTS = [f"{word} {n}" for n in range(20) for word in ("select rows", "add numbers", "something else", "select add")]
SUBSETS = list(chain.from_iterable(combinations(NAMES, size) for size in range(1, 5)))


def router(fallback: str | None = None) -> TwoLevelRouter:
    """It does not know the expert `new`."""
    prompts = [f"{word} {n}" for n in range(10) for word in ("select rows", "add numbers", "chat with me")]
    quality = {
        "sql": {"sql": (0.9, 50), "math": (0.1, 50), "chat": (0.5, 50)},
        "math": {"sql": (0.2, 50), "math": (0.8, 50), "chat": (0.8, 50)},
        "general": {"sql": (0.2, 50), "math": (0.3, 50), "chat": (0.6, 50)},
    }
    return TwoLevelRouter.fit(prompts, ["sql", "math", "general"] * 10, quality, HashEncoder(), fallback=fallback)


@pytest.mark.parametrize("candidates", SUBSETS, ids=" ".join)
@pytest.mark.parametrize("fallback", [None, "math"])
def test_who_comes_first_is_told_without_a_route(candidates: tuple[str, ...], fallback: str | None) -> None:
    own = router(fallback)
    routes = own.route_many(PROMPTS, candidates)
    assert own.first_many(PROMPTS, candidates) == [route.experts[0] for route in routes]
    assert own.first_many([], candidates) == []


WISHES = [
    Wish(),
    Wish(deny=frozenset(("sql",))),
    Wish(allow=frozenset(("new", "chat"))),
    Wish(k=2),
    Wish(force=("math",)),
    Wish(budget=Budget(calls=1)),
    Wish(allow=frozenset(("nobody",))),
]


@pytest.mark.parametrize("policies", [PolicySet(), PolicySet(k=2), PolicySet(k=3, number=TopP(0.5))])
def test_requests_decided_together_are_decided_as_alone(policies: PolicySet) -> None:
    own, specs = router(), pool(*NAMES)
    wishes = [WISHES[n % len(WISHES)] for n in range(len(PROMPTS))]
    whole = policies.decide_many(own, PROMPTS, specs, wishes)
    brief = policies.decide_many(own, PROMPTS, specs, wishes, brief=True)
    for prompt, wish, decision, short in zip(PROMPTS, wishes, whole, brief, strict=True):
        alone = _alone(policies, own, prompt, wish)
        if isinstance(alone, Excluded):
            assert [str(decision), str(short)] == [str(alone)] * 2
            continue
        assert isinstance(decision, Decision)
        assert isinstance(short, Decision)
        assert decision.route.experts == short.route.experts == alone.route.experts
        assert decision.removed == short.removed == alone.removed
        assert decision.candidates == alone.candidates
        assert decision.route.reason == alone.route.reason


def _alone(policies: PolicySet, own: TwoLevelRouter, prompt: str, wish: Wish) -> Decision | Excluded:
    try:
        return policies.decide(own, prompt, pool(*NAMES), wish)
    except Excluded as error:
        return error
