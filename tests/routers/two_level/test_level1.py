"""Is a prompt known at all? Distances, entropies and their limits."""

import numpy as np
import pytest

from routers.encoders.base import Vectors
from routers.encoders.style import STYLE
from routers.two_level.level1 import Density, Limit, strangers
from routers.two_level.level1_fit import Doubt, fit_density, fit_level1

DIM = 6
RNG = np.random.default_rng(0)


def around(centre: int, n: int, spread: float = 0.1) -> Vectors:
    points = spread * RNG.standard_normal((n, DIM)) + np.eye(DIM)[centre]
    rows: Vectors = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return rows


def plain(n: int) -> Vectors:
    """Styles that vary little."""
    rows: Vectors = (1 + 0.1 * RNG.standard_normal((n, STYLE))).astype(np.float32)
    return rows


@pytest.fixture(scope="module")
def density() -> Density:
    x = np.concatenate([around(0, 300), around(1, 300)])
    return fit_density(x, plain(600), np.repeat([0, 1], 300))


def test_a_known_prompt_is_about_one_from_its_centre(density: Density) -> None:
    for centre in (0, 1):
        assert density.distance(around(centre, 300), plain(300)).mean() == pytest.approx(1, abs=0.25)


def test_what_is_about_something_else_is_far_and_so_is_what_is_written_otherwise(density: Density) -> None:
    known = density.distance(around(0, 300), plain(300)).max()
    assert density.distance(around(2, 50), plain(50)).min() > known
    odd = plain(50)
    odd[:, : STYLE // 2] += 1
    assert density.distance(around(0, 50), odd).min() > known


def test_a_direction_in_which_all_prompts_vary_counts_less() -> None:
    x = around(0, 400, spread=0.02)
    x[:, 1] += RNG.uniform(-0.4, 0.4, 400).astype(np.float32)
    wide = fit_density(x, plain(400), np.zeros(400, np.intp))
    along, across = np.eye(DIM, dtype=np.float32)[[0, 0]] + 0.3 * np.eye(DIM, dtype=np.float32)[[1, 2]]
    near, far = wide.distance(np.stack([along, across]), np.ones((2, STYLE), np.float32))
    assert near < far / 2


def test_prompts_that_are_all_alike_are_no_trouble() -> None:
    one, other = around(0, 1), around(3, 1)
    looks = np.ones((10, STYLE), np.float32)
    same = fit_density(np.tile(one, (10, 1)), looks, np.zeros(10, np.intp))
    near, far = same.distance(np.concatenate([one, other]), looks[:2])
    assert near == pytest.approx(0, abs=1e-3)
    assert np.isfinite(far)
    assert far > 1


def test_prompts_without_a_category_are_known_too() -> None:
    x = np.concatenate([around(0, 100), around(1, 100), around(2, 30)])
    density = fit_density(x, plain(230), np.repeat([0, 1, -1], [100, 100, 30]))
    assert density.distance(around(2, 50), plain(50)).mean() < 2


def test_a_later_category_is_as_near_to_its_own_prompts_as_the_others_are_to_theirs(density: Density) -> None:
    before = density.distance(around(3, 200, spread=0.3), plain(200))
    wider = density.with_centre(around(3, 20, spread=0.3), plain(20), typical=1.0)
    after = wider.distance(around(3, 200, spread=0.3), plain(200))
    assert np.median(before) > 2 > np.median(after)
    known = around(0, 50), plain(50)
    assert wider.distance(*known) == pytest.approx(density.distance(*known))


# Limits


def test_a_stranger_is_far_or_unsure_or_rather_both() -> None:
    of_entropy, of_distance = Limit(0.1, 0.5), Limit(1.0, 2.0)
    entropy = np.array([0.0, 0.1, 0.52, 0.1, 0.40, 0.30, 0.2])
    distance = np.array([0.0, 2.1, 1.00, 1.9, 1.70, 1.90, 1.2])
    far, unsure = strangers(entropy, distance, of_entropy, of_distance)
    assert far.tolist() == [False, True, False, False, False, True, False]
    assert unsure.tolist() == [False, False, True, False, True, False, False]


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0), (-1.0, 1.0)])
def test_limits_that_make_no_sense_are_told(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a limit must be finite and over what is typical; got"):
        Limit(*wrong)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
def test_as_many_held_out_prompts_are_strangers_as_is_allowed(share: float) -> None:
    x, y = np.concatenate([around(0, 200), around(1, 200)]), np.repeat([0, 1], 200)
    every = np.arange(400)
    folds = [(every[every % 5 != fold], every[every % 5 == fold]) for fold in range(5)]
    counted = np.ones(400, np.bool_)
    level1, _ = fit_level1(x, plain(400), y, counted, counted, folds, Doubt(share))
    taken = level1.figures["held_out_false_fallback"]
    assert share - 0.01 <= taken <= share
    assert level1.figures["held_out_far"] + level1.figures["held_out_unsure"] == pytest.approx(taken)
