"""Two routers as one: the mean of what they expect decides, and the sum of what they weigh."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from routers.base import Route
from routers.both import Both
from routers.encoders.hashed import HashEncoder
from tests.routers.fitted_parts import FirstWord

NAMES = ("ada", "bob", "cyd")


def router(one: list[float], other: list[float], names: tuple[str, ...] = NAMES) -> Both:
    """Both expect the same of all prompts."""
    left, right = (FirstWord(own, {"": row}, HashEncoder()) for own, row in ((names, one), (NAMES, other)))
    left.name, right.name = "left", "right"
    return Both(left, right, [0.2, 0.3, 0.4])


def test_the_best_mean_wins_though_neither_prefers_it() -> None:
    both = router([0.9, 0.7, 0.1], [0.1, 0.7, 0.9])
    assert both.predict(["x"]).tolist() == [[0.5, 0.7, 0.5]]
    route = both.route("x", NAMES)
    assert (route.experts, route.router, route.aggregator) == (("bob",), "both", "single")
    assert route.reason == ("bob is expected to do best by both together (0.70; left alone: ada and right alone: cyd)")


def test_where_both_agree_the_first_one_says_why() -> None:
    route = router([0.9, 0.7, 0.1], [0.8, 0.7, 0.1]).route("x", NAMES)
    assert route.experts == ("ada",)
    assert route.reason == "ada is the best expert on average (90.0 %); right agrees"


def test_only_candidates_answer_and_equals_are_ordered_by_their_means() -> None:
    both = router([0.9, 0.7, 0.1], [0.1, 0.7, 0.9])
    assert both.route("x", ("ada", "cyd")).experts == ("cyd",)
    assert both.route("x", ("stranger", "ada")).experts == ("ada",)
    route = both.route("x", ("stranger",))
    assert (route.experts, route.router) == (("stranger",), "both")


def test_several_are_those_that_weigh_most_with_both() -> None:
    route = router([0.5, 0.5, 0.0], [0.0, 0.4, 0.6]).route("x", NAMES, 2)
    assert route.experts == ("bob", "cyd")
    assert [choice.weight for choice in route.choices] == pytest.approx([0.9 / 1.5, 0.6 / 1.5])
    assert route.aggregator == "vote"


class Skilled(FirstWord):
    """Knows what speaks for an expert: its place in the alphabet."""

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        routes = super().route_many(prompts, candidates, k)
        return [replace(route, skills={f"skill of {route.experts[0]}": 3.5}) for route in routes]


def skilled(one: list[float], other: list[float]) -> Both:
    left, right = (kind(NAMES, {"": row}, HashEncoder()) for kind, row in ((FirstWord, one), (Skilled, other)))
    return Both(left, right, [0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("one", "other", "k", "experts"),
    [
        pytest.param([0.9, 0.7, 0.1], [0.8, 0.7, 0.1], 1, ("ada",), id="both agree"),
        pytest.param([0.9, 0.7, 0.1], [0.1, 0.7, 0.9], 1, ("bob",), id="neither would have chosen it"),
        pytest.param([0.9, 0.1, 0.1], [0.5, 0.6, 0.1], 1, ("ada",), id="the other one would have chosen another"),
        pytest.param([0.5, 0.5, 0.0], [0.0, 0.4, 0.6], 2, ("bob", "cyd"), id="several"),
    ],
)
def test_skills_are_those_that_speak_for_the_first_choice(
    one: list[float], other: list[float], k: int, experts: tuple[str, ...]
) -> None:
    both = skilled(one, other)
    for route in both.route_many(["x", "y"], NAMES, k):
        assert (route.experts, route.skills) == (experts, {f"skill of {experts[0]}": 3.5})


def test_where_no_candidate_was_measured_skills_still_come_from_the_router_that_has_some() -> None:
    route = skilled([0.9, 0.7, 0.1], [0.1, 0.7, 0.9]).route("x", ("stranger",))
    assert route.skills == {"skill of stranger": 3.5}


def test_routers_of_different_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="left and right were fitted on different experts"):
        router([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], ("ada", "bob", "eve"))
