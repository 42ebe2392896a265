"""The second stage: taken in where prompts of one category differ, refused where they do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from routers.encoders import lexical
from routers.encoders.hashed import HashEncoder
from routers.labelled.data import Labelled
from routers.two_level.router import TwoLevelRouter
from routers.two_level.second_stage import Neighbours
from routers.two_level.second_stage_fit import centred_loss, routed
from tests.routers.two_level.world import NAMES, THINGS

EXPERTS = ("counter", "talker")


def world(seed: int, signal: float) -> Labelled:
    """One category; the counter is right where there are numbers, the talker where there are none."""
    rng = np.random.default_rng(seed)
    prompts, scores = [], []
    for i in range(260):
        name, thing, numbers = NAMES[i % 12], THINGS[i % 10], rng.random() < 0.5
        tail = f"{rng.integers(10, 99)} + {rng.integers(10, 99)} = ?" if numbers else "and the old song of the sea"
        prompts.append(f"{name} tells of {thing} {tail}")
        chance = np.array([0.5 + signal, 0.5 - signal]) if numbers else np.array([0.5 - signal, 0.5 + signal])
        scores.append(rng.random(2) < chance)
    return Labelled(
        ids=tuple(map(str, range(len(prompts)))),
        prompts=tuple(prompts),
        experts=EXPERTS,
        scores=np.array(scores, np.float64),
        categories=("tales",) * len(prompts),
    )


def test_a_second_stage_that_helps_is_taken_in_and_kept_in_the_files(tmp_path: Path) -> None:
    router = TwoLevelRouter.fit_labelled(world(0, 0.4), HashEncoder())
    assert router.figures["second_stage_taken"] == 1
    assert router.figures["second_stage_loss_after"] < router.figures["second_stage_loss_before"]
    fresh = world(1, 0.4)
    predicted = router.predict(fresh.prompts)
    assert routed(predicted, fresh.scores).mean() > fresh.means().max() + 0.2
    router.save(tmp_path)
    assert (TwoLevelRouter.load(tmp_path, HashEncoder()).predict(fresh.prompts) == predicted).all()


def test_a_second_stage_that_does_not_help_is_refused() -> None:
    router = TwoLevelRouter.fit_labelled(world(0, 0.0), HashEncoder())
    assert router.figures["second_stage_taken"] == 0
    predicted = router.predict(world(1, 0.0).prompts)
    assert np.ptp(predicted, axis=0).max() < 1e-9  # one category, one row


def test_many_experts_are_predicted_by_their_main_directions() -> None:
    data = world(0, 0.4)
    copies = np.repeat(data.scores, 40, axis=1)
    many = replace(data, experts=tuple(f"expert {i:02}" for i in range(80)), scores=copies)
    router = TwoLevelRouter.fit_labelled(many, HashEncoder())
    fresh = world(1, 0.4)
    assert routed(router.predict(fresh.prompts)[:, [0, 40]], fresh.scores).mean() > fresh.means().max() + 0.2


def test_neighbours_are_damped_towards_the_category() -> None:
    residuals = np.array([[0.4], [0.4], [-0.8]], np.float32)
    similar = np.array([[0.9, 0.9, -1.0]], np.float32)
    assert np.allclose(Neighbours(residuals, 2, 0.1, 0.0).predict(similar), 0.4)
    assert np.allclose(Neighbours(residuals, 2, 0.1, 2.0).predict(similar), 0.2)


def test_what_all_experts_share_is_no_loss() -> None:
    scores = np.array([[1.0, 0.0, np.nan], [0.5, 0.5, 0.5]])
    assert np.allclose(centred_loss(np.array([[0.7, -0.3, 9.0], [0.1, 0.1, 0.1]]), scores), 0)
    assert centred_loss(np.array([[0.5, 0.5, 0.0], [0.1, 0.1, 0.1]]), scores)[0] > 0


def test_lexical_features_are_stable_and_see_words_and_form() -> None:
    at, counts = lexical.buckets("The cat saw the cat")
    again, _ = lexical.buckets("the CAT saw the cat")
    assert (at == again).all()
    assert (np.diff(at) > 0).all()
    assert at.max() < lexical.BUCKETS
    assert counts.max() > 1  # a word that is there twice
    plain, choice = lexical.form("what is it"), lexical.form("what is 3 + 4?\n(A) 7\n(B) 12")
    assert plain.shape == choice.shape == (lexical.FORM,)
    assert np.isfinite(plain).all()
    assert not np.allclose(plain, choice)
    for odd in ("", "\ud800", "🙂", "a" * 9000):
        assert np.isfinite(lexical.form(odd)).all()
        lexical.buckets(odd)
