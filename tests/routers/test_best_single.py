"""The best single expert: always the same one, as long as it may be asked."""

import pytest

from routers.base import Choice, NoCandidate
from routers.best_single import BestSingle

ROUTER = BestSingle(("a", "b", "c"), (0.2, 0.6, 0.4))


def test_the_best_candidate_answers_and_weights_are_shares() -> None:
    route = ROUTER.route("hi", ("a", "b", "c"), k=2)
    assert route.experts == ("b", "c")
    assert [choice.weight for choice in route.choices] == pytest.approx([0.6, 0.4])
    assert route.reason == "b is the best expert on average (60.0 %); also asked: c"
    assert ROUTER.route("hi", ("c", "a")).experts == ("c",)


def test_an_expert_that_was_not_measured_comes_last() -> None:
    assert ROUTER.route("hi", ("new", "a"), k=2).experts == ("a", "new")
    assert ROUTER.route("hi", ("new",)).reason == "new, since no candidate was measured"
    assert BestSingle(("a", "b"), (0.0, 0.0)).route("hi", ("b", "a"), k=2).choices == (
        Choice("a", 0.5),
        Choice("b", 0.5),
    )


def test_it_predicts_the_means() -> None:
    assert ROUTER.predict(["x", "y"]).tolist() == [[0.2, 0.6, 0.4]] * 2
    assert ROUTER.explain("x") == "b is the best expert on average (60.0 %)"


def test_it_needs_a_candidate_and_a_number() -> None:
    with pytest.raises(NoCandidate):
        ROUTER.route("hi", ())
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        ROUTER.route("hi", ("a",), k=0)
