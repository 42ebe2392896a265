"""Which few questions a new expert is asked."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.profile_sample import choose


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=80), st.data())
def test_k_different_questions_and_one_of_each_category_at_least(categories: list[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(len(set(categories)), len(categories) + 5))
    known = np.random.default_rng(0).random((len(categories), 3)).round()
    chosen = choose(categories, known, k, seed=data.draw(st.integers(0, 99)))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(k, len(categories))
    assert {categories[index] for index in chosen} == set(categories)


def test_categories_get_their_share() -> None:
    categories = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    chosen = choose(categories, np.empty((100, 0)), 20)
    assert Counter(categories[index] for index in chosen) == {"a": 12, "b": 6, "c": 2}


def test_a_remainder_goes_where_the_known_experts_disagree() -> None:
    categories = ["a"] * 10 + ["b"] * 10
    known = np.ones((20, 2))
    for place, disagreed in ((0, "a"), (10, "b")):
        scores = known.copy()
        scores[place : place + 10, 1] = 0
        chosen = choose(categories, scores, 5)
        assert Counter(categories[index] for index in chosen)[disagreed] == 3


def test_easy_and_hard_questions_come_as_they_are_in_the_whole() -> None:
    known = np.repeat([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [50, 30, 20], axis=0)
    for seed in range(20):
        chosen = choose(["a"] * 100, known, 10, seed)
        assert Counter(known[chosen].sum(axis=1)) == {0.0: 5, 1.0: 3, 2.0: 2}


def test_every_question_has_the_same_chance() -> None:
    known = np.random.default_rng(5).random((40, 4)).round()
    drawn = Counter(index for seed in range(2000) for index in choose(["a"] * 40, known, 10, seed))
    assert len(drawn) == 40
    assert max(abs(drawn[index] / 2000 - 0.25) for index in drawn) < 0.06


def test_the_estimate_is_nearer_than_a_random_draws() -> None:
    rng = np.random.default_rng(6)
    ease = rng.random(400)
    known = (rng.random((400, 6)) < ease[:, None]).astype(float)
    new = (rng.random(400) < ease).astype(float)  # as good as they are, on the same questions
    ours = [new[choose(["a"] * 400, known, 40, seed)].mean() - new.mean() for seed in range(300)]
    random = [new[rng.choice(400, 40, replace=False)].mean() - new.mean() for _ in range(300)]
    assert np.square(ours).mean() < 0.8 * np.square(random).mean()
    assert abs(np.mean(ours)) < 0.01


def test_too_few_for_the_categories() -> None:
    with pytest.raises(ValueError, match="1 questions are too few for 2 categories"):
        choose(["a", "b"], np.empty((2, 0)), 1)
