"""The share of changed prompts that keep their experts."""

from collections.abc import Sequence

import numpy as np
import pytest

from routers.base import Choice, Route
from routers.evaluation.robustness import kept

EXPERTS = ("a", "b", "c")
PROMPTS = ["a one", "b two", "c three", "a four"]


class FirstLetter:
    """The expert of the first letter with three quarters of the weight, then the next one."""

    name = "first-letter"

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        first = candidates.index(prompt[0])
        chosen = [candidates[(first + i) % len(candidates)] for i in range(k)]
        weights = [1.0] if k == 1 else [0.75, *[0.25 / (k - 1)] * (k - 1)]
        return Route(tuple(map(Choice, chosen, weights)), reason="", router=self.name)

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        return [self.route(prompt, candidates, k) for prompt in prompts]


def test_unchanged_prompts_do_not_count() -> None:
    figures = kept(FirstLetter(), PROMPTS, ["a 1", "c 2", "c three", "a four"], EXPERTS)
    assert (figures.changed, figures.same) == (2, 0.5)
    assert figures.by_chance == 0.5
    assert np.isnan(figures.score)


def test_a_set_has_no_order() -> None:
    # {a, b} stays with a first or second; {a, b} -> {b, c} and {c, a} does not.
    assert kept(FirstLetter(), ["a x"], ["b x"], EXPERTS, k=2).same == 0
    assert kept(FirstLetter(), ["a x"], ["b x"], EXPERTS, k=3).same == 1


def test_chance_is_that_of_two_random_prompts() -> None:
    after = [prompt + "!" for prompt in PROMPTS]
    figures = kept(FirstLetter(), PROMPTS, after, EXPERTS)
    assert figures.same == 1
    assert figures.by_chance == pytest.approx(0.5**2 + 2 * 0.25**2)


def test_scores_are_weighted_by_the_route_and_unmeasured_ones_left_out() -> None:
    scores = np.array([[1.0, 0.0, 0.5], [np.nan, np.nan, 1.0]])
    figures = kept(FirstLetter(), ["a x", "b x"], ["b x", "a x"], EXPERTS, k=2, scores=scores)
    # Before: a, b of the first (0.75 and 0); b, c of the second, where c alone was measured. After: b, c; a, b.
    assert figures.score_before == pytest.approx((0.75 + 1) / 2)
    assert figures.score == pytest.approx(0.25 * 0.5)


def test_the_router_reads_what_the_service_reads() -> None:
    figures = kept(FirstLetter(), ["a x"], ["> a x"], EXPERTS, read=lambda text: text.lstrip("> "))
    assert (figures.changed, figures.same) == (1, 1)


def test_nothing_changed_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        kept(FirstLetter(), PROMPTS, PROMPTS, EXPERTS)
