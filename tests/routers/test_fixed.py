"""The router without a model."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routers.base import NoCandidate, Router
from routers.fixed import FixedRouter

PATIENT = settings(deadline=None, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
ALL = ("a", "b", "c")


def test_always_the_same_expert() -> None:
    router: Router = FixedRouter("b")
    route = router.route("anything", ALL)
    assert (route.experts, route.router, route.aggregator, route.category) == (("b",), "fixed", "single", None)
    assert route.reason == "fixed choice: b answers"


def test_keywords_go_first_in_their_order() -> None:
    router = FixedRouter("a", {"SQL": "b", "join": "c"})
    assert router.route("some sql with a JOIN", ALL).experts == ("b",)
    assert router.route("join us", ALL).experts == ("c",)
    assert router.route("hello", ALL).experts == ("a",)
    assert router.route("join us", ALL).reason == "the prompt says 'join': c answers"


def test_an_expert_that_is_no_candidate_is_passed_over() -> None:
    router = FixedRouter("a", {"sql": "b"})
    assert router.route("sql", ["c", "a"]).experts == ("a",)
    assert "b is not available" in router.route("sql", ["c", "a"]).reason
    assert router.route("sql", ["c"]).experts == ("c",)
    assert FixedRouter().route("sql", ["c", "a"]).experts == ("c",)


def test_the_reason_says_who_was_passed_over() -> None:
    route = FixedRouter("a", {"sql": "b"}).route("sql", ["c", "d"], k=2)
    assert route.reason == (
        "the prompt says 'sql': b is not available; fixed choice: a is not available; c is the first candidate; "
        "also asked: d"
    )
    assert FixedRouter().route("sql", ["c", "a"]).reason == "c is the first candidate"


def test_several_choices_vote_with_equal_weights() -> None:
    route = FixedRouter("b").route("x", ALL, k=3)
    assert route.experts == ("b", "a", "c")
    assert [choice.weight for choice in route.choices] == pytest.approx([1 / 3] * 3)
    assert route.aggregator == "vote"
    assert FixedRouter("b", aggregator="single").route("x", ALL, k=2).aggregator == "single"


@PATIENT
@given(st.lists(st.sampled_from("abcd"), min_size=1), st.integers(1, 5), st.text())
def test_every_route_keeps_the_promises_of_the_interface(candidates: list[str], k: int, prompt: str) -> None:
    route = FixedRouter("a", {"x": "b"}).route(prompt, candidates, k)
    assert set(route.experts) <= set(candidates)
    assert len(route.experts) == len(set(route.experts)) == min(k, len(set(candidates)))
    assert sum(choice.weight for choice in route.choices) == pytest.approx(1)


def test_its_scores_say_the_order_of_preference() -> None:
    router = FixedRouter("a", {"sql": "b", "join": "a", "rows": "c"})
    assert router.experts == ALL
    assert router.predict(["hello", "sql rows", "join"]).tolist() == [[1, 0, 0], [1 / 3, 1, 1 / 2], [1, 0, 0]]
    assert FixedRouter().predict(["x"]).shape == (1, 0)


def test_many_prompts_are_routed_one_by_one() -> None:
    router = FixedRouter("a", {"sql": "b"})
    assert [route.experts for route in router.route_many(["sql", "chat"], ALL)] == [("b",), ("a",)]


def test_no_candidate_and_no_k_are_errors() -> None:
    with pytest.raises(NoCandidate, match="every candidate was excluded"):
        FixedRouter("a").route("x", [])
    with pytest.raises(NoCandidate, match="every candidate was excluded"):
        FixedRouter("a").route_many([], [])
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        FixedRouter("a").route("x", ALL, k=0)


def test_a_keyword_that_every_prompt_has_is_refused() -> None:
    for keyword in ("", " "):
        with pytest.raises(ValueError, match="a keyword must have a letter or a sign"):
            FixedRouter("a", {keyword: "b"})
