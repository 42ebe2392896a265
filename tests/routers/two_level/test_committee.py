"""Committees: who votes together and with which weights, learned from the answers of labelled prompts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.labelled.data import Labelled
from routers.labelled.replay import coded, winners
from routers.two_level.committee import worth
from routers.two_level.committee_fit import Ballots, learn_weights
from routers.two_level.router import TwoLevelRouter
from tests.routers.two_level.world import prompts_of

EXPERTS = ("echo a", "echo b", "fair", "good", "other")


def world(n: int = 240, seed: int = 0) -> Labelled:
    """Two echoes make the same mistakes, so that one of them is one too many; the others err alone."""
    rng = np.random.default_rng(seed)
    prompts = [*prompts_of("law"), *prompts_of("chemistry")][:n]
    gold = rng.choice(list("ABCDE"), n)
    answers = np.empty((n, len(EXPERTS)), object)
    echo = np.where(rng.random(n) < 0.6, gold, rng.choice(list("ABCDE"), n))
    answers[:, 0], answers[:, 1] = echo, echo
    for column, skill in ((2, 0.5), (3, 0.66), (4, 0.5)):
        answers[:, column] = np.where(rng.random(n) < skill, gold, rng.choice(list("ABCDE"), n))
    answers[::17, 2] = None
    return Labelled(
        ids=tuple(map(str, range(n))),
        prompts=tuple(prompts),
        experts=EXPERTS,
        scores=(answers == gold[:, None]).astype(np.float64),
        categories=tuple("law" if i < 120 else "chemistry" for i in range(n)),
        answers=answers,
        gold=tuple(gold.tolist()),
    )


@pytest.fixture(scope="module")
def router() -> TwoLevelRouter:
    return TwoLevelRouter.fit_labelled(world(), HashEncoder())


def accuracy(router: TwoLevelRouter, data: Labelled, k: int) -> float:
    routes = router.route_many(data.prompts, data.experts, k)
    assert data.answers is not None
    choices = np.array([[data.experts.index(expert) for expert in route.experts] for route in routes])
    weights = np.array([[choice.weight for choice in route.choices] for route in routes])
    won = winners(coded(data.answers, str.strip), choices, weights)
    return float(data.scores[np.arange(len(won)), won].mean())


def test_experts_that_err_together_do_not_sit_together(router: TwoLevelRouter) -> None:
    for prompt in (
        "may the court hear silver in the appeal of Anna",
        "which acid dissolves bronze in the flask of Karin",
    ):
        route = router.route(prompt, EXPERTS, 3)
        assert len(set(route.experts) & {"echo a", "echo b"}) <= 1
        assert "vote best together" in route.reason
        weights = [choice.weight for choice in route.choices]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(1)


def test_a_committee_beats_the_three_best_with_the_weights_of_their_scores(router: TwoLevelRouter) -> None:
    data = world()
    blind = TwoLevelRouter.fit_labelled(replace(data, answers=None, gold=None), HashEncoder())
    fresh = world(seed=9)
    assert accuracy(router, fresh, 3) > accuracy(blind, fresh, 3)
    assert accuracy(router, fresh, 3) > fresh.means().max()


def test_a_missing_member_is_replaced_without_fitting_again(router: TwoLevelRouter) -> None:
    prompt = "may the court hear silver in the appeal of Anna"
    gone = router.route(prompt, EXPERTS, 3).experts[0]
    left = [expert for expert in EXPERTS if expert != gone]
    route = router.route(prompt, left, 3)
    assert len(route.experts) == 3
    assert gone not in route.experts
    assert sum(choice.weight for choice in route.choices) == pytest.approx(1)


def test_more_experts_than_vote_well_are_filled_up(router: TwoLevelRouter) -> None:
    route = router.route("may the court hear silver in the appeal of Anna", [*EXPERTS, "stranger"], 6)
    assert sorted(route.experts) == sorted([*EXPERTS, "stranger"])
    assert route.experts[-1] == "stranger"


def test_one_expert_is_the_best_one_not_the_heaviest_voter(router: TwoLevelRouter) -> None:
    assert router.route("may the court hear silver in the appeal of Anna", EXPERTS).aggregator == "single"


def test_committees_come_back_from_their_files(router: TwoLevelRouter, tmp_path: Path) -> None:
    router.save(tmp_path)
    again = TwoLevelRouter.load(tmp_path, HashEncoder())
    prompts = world().prompts
    for k in (2, 3, 4, 5):
        assert again.route_many(prompts, EXPERTS, k) == router.route_many(prompts, EXPERTS, k)


def test_answers_that_say_nothing_leave_the_votes_to_the_scores() -> None:
    data = world()
    silent = replace(data, answers=np.full(data.scores.shape, None, object))
    route = TwoLevelRouter.fit_labelled(silent, HashEncoder()).route(data.prompts[0], EXPERTS, 3)
    assert "vote best together" not in route.reason
    assert len(route.experts) == 3


def test_learned_weights_share_the_say_of_those_that_always_agree() -> None:
    data = world(seed=3)
    assert data.answers is not None
    codes = coded(data.answers, str.strip)
    weights = learn_weights(Ballots(codes, data.scores > 0.5), np.ones((len(codes), 1)), 0.0)[0]
    assert weights[0] + weights[1] < 2 * weights[3]
    assert weights[0] == pytest.approx(weights[1], abs=0.05)


def test_ballots_are_counted_as_the_aggregator_counts_them() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(-1, 4, (300, 4))
    right = codes == 2
    weights = np.sort(rng.random((300, 4)))[:, ::-1]
    won = winners(codes, np.tile(np.arange(4), (300, 1)), weights)
    assert (Ballots(codes, right).won(weights) == right[np.arange(300), won]).all()


def test_the_worth_of_a_word_grows_with_the_score_and_stays_finite() -> None:
    values = worth(np.array([0.0, 0.3, 0.9, 1.0]))
    assert values[0] == 0
    assert (np.diff(values) > 0).all()
    assert np.isfinite(values).all()
