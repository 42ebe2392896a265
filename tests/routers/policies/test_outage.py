"""Outages: experts that failed are masked, the others weighed anew, and nothing is fitted again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.base import NoCandidate, Router
from routers.encoders.hashed import HashEncoder
from routers.fixed import FixedRouter
from routers.policies.base import Excluded, Removed, State
from routers.policies.outage import mask
from routers.policies.policy_set import PolicySet
from routers.two_level.router import TwoLevelRouter
from tests.routers.policies.parts import Scored, pool

NAMES = ("chat", "math", "sql")
QUICK = settings(deadline=None, database=None, max_examples=50)


def two_level() -> Router:
    prompts = [f"{word} {n}" for n in range(10) for word in ("select rows", "add numbers")]
    categories = ["sql", "math"] * 10
    quality = {
        "sql": {"sql": (0.9, 50), "math": (0.1, 50), "chat": (0.5, 50)},
        "math": {"sql": (0.2, 50), "math": (0.8, 50), "chat": (0.4, 50)},
    }
    return TwoLevelRouter.fit(prompts, categories, quality, HashEncoder())


def test_who_failed_is_masked_and_who_is_in_doubt_only_while_others_are_left() -> None:
    assert mask(NAMES, State()) == (NAMES, {})
    assert mask(NAMES, State(failed={"sql": "no weights"})) == (
        ("chat", "math"),
        {"sql": Removed("outage", "no weights")},
    )
    state = State(failed={"sql": "no weights"}, doubtful={"math": "it went down"})
    assert mask(NAMES, state)[0] == ("chat",)
    assert mask(("sql", "math"), state)[0] == ("math",)


def test_when_all_failed_the_message_has_every_reason() -> None:
    with pytest.raises(NoCandidate) as caught:
        mask(NAMES, State(failed={"sql": "no weights", "math": "no weights", "chat": "broken"}))
    assert str(caught.value) == "no expert can answer now: outage: broken: chat; outage: no weights: math, sql"
    assert not isinstance(caught.value, Excluded)  # the same request may be answered later


@pytest.mark.parametrize(
    "router", [Scored({"chat": 0.5, "math": 0.7, "sql": 0.2}), FixedRouter("sql"), two_level()], ids=lambda r: r.name
)
@pytest.mark.parametrize("prompt", ["select rows of a table", "add numbers"])
def test_a_masked_router_needs_no_retraining(router: Router, prompt: str) -> None:
    """What is left has the same order and the same proportions of weight as before, and sums to 1."""
    policies = PolicySet(k=3)
    whole = policies.decide(router, prompt, pool(*NAMES)).route
    weights = {choice.expert: choice.weight for choice in whole.choices}
    for failed in NAMES:
        route = policies.decide(router, prompt, pool(*NAMES), state=State(failed={failed: "no weights"})).route
        assert failed not in route.experts
        assert sum(choice.weight for choice in route.choices) == pytest.approx(1)
        if not isinstance(router, FixedRouter) or failed != "sql":
            assert route.experts == tuple(name for name in whole.experts if name != failed)
        for choice in route.choices:
            left = sum(weights[name] for name in route.experts)
            assert choice.weight == pytest.approx(weights[choice.expert] / left)


@QUICK
@given(st.frozensets(st.sampled_from(NAMES), max_size=2), st.frozensets(st.sampled_from(NAMES)), st.integers(1, 3))
def test_no_call_goes_to_an_expert_that_failed(failed: frozenset[str], doubtful: frozenset[str], k: int) -> None:
    router = Scored(dict(zip(NAMES, np.linspace(0.2, 0.9, 3), strict=True)))
    state = State(dict.fromkeys(failed, "no weights"), dict.fromkeys(doubtful, "it went down"))
    decision = PolicySet(k=k).decide(router, "x", pool(*NAMES), state=state)
    sure = set(NAMES) - failed - doubtful
    assert set(decision.candidates) == (sure or set(NAMES) - failed)
    assert set(decision.route.experts) <= set(decision.candidates)
    assert set(decision.removed) == set(NAMES) - set(decision.candidates)
