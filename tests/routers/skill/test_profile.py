"""Profiles: what is learned from scores, with how much doubt, by whom, and what stays as it is."""

from copy import deepcopy

import numpy as np
import pytest

from routers.skill.profile import Profiles, Shrinkage, ridge
from routers.skill.vocabulary import Floats, Tags

EXPERTS = ("ada", "bob", "cy")
LIGHT = Shrinkage(field=1.0, profile=1.0, minimum=2.0)


def one_each(skills: list[int]) -> Tags:
    """Each prompt has one skill."""
    return Tags(np.array(skills)[:, None], np.ones((len(skills), 1)))


def random_tags(n: int, skills: int, width: int, seed: int = 0) -> Tags:
    rng = np.random.default_rng(seed)
    skill = np.array([rng.choice(skills, width, replace=False) for _ in range(n)])
    return Tags(skill, rng.dirichlet(np.ones(width), n))


def dense(tags: Tags, skills: int) -> Floats:
    a = np.zeros((len(tags), skills))
    np.put_along_axis(a, tags.skill, tags.strength, axis=1)
    return a


def test_ridge_is_the_closed_form_for_each_expert_on_its_own_prompts() -> None:
    rng = np.random.default_rng(1)
    tags = random_tags(80, skills=12, width=3)
    targets, weights = rng.normal(size=(80, 2)), (rng.random((80, 2)) < 0.7).astype(float)
    got = ridge(tags, 12, targets, weights, penalty=2.0)
    a = dense(tags, 12)
    for m in range(2):
        w = np.diag(weights[:, m])
        want = np.linalg.solve(a.T @ w @ a + 2.0 * np.eye(12), a.T @ w @ targets[:, m])
        np.testing.assert_allclose(got[:, m], want, atol=5e-3)


def scores_of(skills: list[int], table: list[list[float]]) -> Floats:
    return np.array([table[skill] for skill in skills], float)


def test_field_and_profile_stand_apart() -> None:
    """Skill 0 is easy for all; only in skill 1 are the experts different."""
    skills = [0, 1] * 200
    profiles = Profiles.fit(EXPERTS, one_each(skills), 2, scores_of(skills, [[1, 1, 1], [1, 0, 0]]), LIGHT)
    np.testing.assert_allclose(profiles.level, [1.0, 0.5, 0.5])
    np.testing.assert_allclose(profiles.field, [1 / 3, -1 / 3], atol=0.01)
    np.testing.assert_allclose(profiles.profile[1], [1 / 3, -1 / 6, -1 / 6], atol=0.01)
    np.testing.assert_allclose(profiles.expected(one_each([0, 1])), [[1, 1, 1], [1, 0, 0]], atol=0.01)


def test_a_skill_seen_seldom_says_little_and_below_the_minimum_nothing() -> None:
    skills = [0] * 60 + [1] * 6 + [2]
    scores = scores_of(skills, [[0, 1, 0], [1, 0, 0], [1, 0, 0]])
    heavy = Profiles.fit(EXPERTS, one_each(skills), 3, scores, Shrinkage(5.0, 20.0, 2.0))
    light = Profiles.fit(EXPERTS, one_each(skills), 3, scores, LIGHT)
    assert 0 < heavy.profile[1, 0] < light.profile[1, 0]
    assert (heavy.profile[2] == 0).all()
    assert (light.items[:, 0] == [60, 6, 1]).all()


def test_skills_that_always_come_together_share_one_effect() -> None:
    both = Tags(np.tile([0, 1], (100, 1)), np.full((100, 2), 0.5))
    apart = one_each([2] * 100)
    tags = Tags(
        np.concatenate([both.skill, np.tile([2, 2], (100, 1))]),
        np.concatenate([both.strength, np.tile([1.0, 0.0], (100, 1))]),
    )
    scores = scores_of([0] * 100 + [1] * 100, [[1, 0, 0], [0, 1, 0]])
    profiles = Profiles.fit(EXPERTS, tags, 3, scores, LIGHT)
    assert profiles.profile[0, 0] == pytest.approx(profiles.profile[1, 0])
    np.testing.assert_allclose(profiles.expected(both)[0], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(profiles.expected(apart)[0], [0, 1, 0], atol=0.05)


def test_an_expert_that_saw_only_hard_prompts_is_not_taken_for_a_weak_one() -> None:
    easy, hard = [0] * 100, [1] * 100
    scores = scores_of(easy + hard, [[1, 1, 1], [0.3, 0.1, 0.1]])
    scores[:100, 0] = np.nan
    profiles = Profiles.fit(EXPERTS, one_each(easy + hard), 2, scores, LIGHT)
    assert profiles.level.argmax() == 0
    assert (profiles.items[:, 0] == [0, 100]).all()
    assert profiles.profile[0, 0] == 0


def base(seed: int = 0) -> tuple[Tags, Profiles]:
    tags = random_tags(300, skills=6, width=2, seed=seed)
    scores = np.random.default_rng(seed).random((300, 3))
    return tags, Profiles.fit(EXPERTS, tags, 6, scores, LIGHT)


def test_a_new_expert_joins_and_the_others_stay_as_they_are() -> None:
    tags, before = base()
    after = before.joined("dee", tags.rows(np.arange(40)), np.ones(40))
    assert after.experts == (*EXPERTS, "dee")
    for name in ("level", "profile", "items", "total"):
        np.testing.assert_array_equal(getattr(after, name)[..., :3], getattr(before, name))
    assert (after.expected(tags)[:, 3] > before.expected(tags).max(axis=1)).all()


def test_a_new_expert_s_level_does_not_depend_on_how_hard_its_prompts_were() -> None:
    skills = [0, 1] * 200
    profiles = Profiles.fit(EXPERTS, one_each(skills), 2, scores_of(skills, [[0.9] * 3, [0.1] * 3]), LIGHT)
    levels = [
        profiles.joined("dee", one_each([s] * 20), np.full(20, mean)).level[3] for s, mean in ((0, 0.9), (1, 0.1))
    ]
    assert levels[0] == pytest.approx(levels[1], abs=0.02)
    assert levels[0] == pytest.approx(0.5, abs=0.02)


def test_an_observation_moves_what_it_concerns_and_nothing_else() -> None:
    _, profiles = base()
    before = deepcopy(profiles)
    tags = Tags(np.array([[1, 4, 0]]), np.array([[0.7, 0.3, 0.0]]))
    profiles.observe(tags, expert=1, score=1.0)
    moved = profiles.profile != before.profile
    assert moved[[1, 4], 1].all()
    assert moved.sum() == 2
    assert profiles.level[1] > before.level[1]
    assert (profiles.items - before.items).sum() == pytest.approx(0.7**2 + 0.3**2)


def test_many_observations_are_followed_also_by_an_expert_that_changed() -> None:
    _, profiles = base()
    tags = one_each([2])
    shape = profiles.profile.shape
    for score in (1.0, 0.0):
        for _ in range(3000):
            profiles.observe(tags, expert=0, score=score)
        assert profiles.expected(tags)[0, 0] == pytest.approx(score, abs=0.05)
    assert profiles.profile.shape == shape


def test_an_entry_below_the_minimum_waits_for_more_observations() -> None:
    _, profiles = base()
    new = profiles.joined("dee", one_each([0] * 10), np.full(10, 0.5))
    new.observe(one_each([3]), expert=3, score=1.0)
    assert new.profile[3, 3] == 0
    for _ in range(3):
        new.observe(one_each([3]), expert=3, score=1.0)
    assert new.profile[3, 3] > 0
