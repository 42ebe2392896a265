"""An evaluation's figures are what they are by hand, and no gain is claimed that may be none."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.evaluation import report
from routers.evaluation.evaluate import Evaluation, cross_evaluate, evaluate
from routers.evaluation.report_html import page
from routers.fitted import fit_labelled
from routers.labelled.data import Labelled
from tests.routers.fitted_parts import EXPERTS, labelled, quick_models

__all__ = ["quick_models"]
pytestmark = pytest.mark.usefixtures("quick_models")


def evaluated(train: Labelled, test: Labelled, **options: Any) -> Evaluation:
    return evaluate(fit_labelled(train, HashEncoder()), test, **options)


def held_out(**options: Any) -> Labelled:
    data = labelled(seed=9, **options)
    return replace(data, prompts=tuple(f"{prompt} again" for prompt in data.prompts))


def test_the_figures_are_those_by_hand() -> None:
    train, test = labelled(), held_out()
    found = report.as_object(evaluated(train, test))
    cook, poet = EXPERTS.index("cook"), EXPERTS.index("poet")
    own = np.where(np.arange(120) % 2 == 0, test.scores[:, cook], test.scores[:, poet])
    best = int(train.means().argmax())
    assert found["n"] == 120
    assert found["random"] == pytest.approx(100 * test.scores.mean(), abs=0.051)
    assert found["best_single_expert"] == EXPERTS[best]
    assert found["best_single"] == pytest.approx(100 * test.scores[:, best].mean(), abs=0.051)
    assert found["two_level"] == found["default"] == found["category_oracle"]
    assert found["two_level"] == pytest.approx(100 * own.mean(), abs=0.051)
    assert found["skill"] == found["best_single"]
    assert found["prompt_oracle"] == pytest.approx(100 * test.scores.max(axis=1).mean(), abs=0.051)
    assert found["gain"]["two_level"] == pytest.approx(found["two_level"] - found["best_single"], abs=0.1)
    low, high = found["interval"]["two_level"]
    assert 0 < low < found["gain"]["two_level"] < high
    assert found["experts"]["idle"] == pytest.approx(100 * test.scores[:, 1].mean(), abs=0.051)
    assert found["cost"]["best_single"] == [2.0, 1.0, 4.0][best]
    assert found["cost"]["default"] == pytest.approx(3.0)
    assert found["cost"]["vote_3"] == pytest.approx(7.0)
    assert found["calibration"]["two_level"]["brier"] < found["calibration"]["skill"]["brier"]
    assert found["categories"]["boil"]["n"] == 60
    assert found["seen_in_fit"] == 0
    assert found["default_model"] == "both"
    json.dumps(found, allow_nan=False)


def test_three_experts_vote_with_their_weights() -> None:
    test = held_out()
    found = report.as_object(evaluated(labelled(), test))
    # 0.9 outweighs 0.3 + 0.3, so the vote is the first choice's answer.
    assert found["vote"] == {"3": found["default"], "5": None}
    assert found["interval"]["vote"]["3"] == found["interval"]["default"]
    assert report.as_object(evaluated(labelled(), replace(test, answers=None)))["vote"] == {"3": None, "5": None}


def test_a_gain_is_claimed_and_one_that_may_be_none_is_refused() -> None:
    claimed = report.as_object(evaluated(labelled(), held_out()))
    expert = claimed["best_single_expert"]
    assert re.fullmatch(
        rf"two-level gains [\d.]+ points over {expert} \(95 % interval [\d.]+ to [\d.]+\)",
        claimed["verdict"]["two_level"],
    )
    assert f"no gain over {expert} is shown" in claimed["verdict"]["skill"]
    chance = report.as_object(evaluated(labelled(gain=False), held_out(gain=False)))
    expert = chance["best_single_expert"]
    assert chance["verdict"]["default"] == f"default is the best single expert: no gain over {expert} is shown"
    assert chance["default"] == chance["best_single"]
    assert chance["interval"]["default"] == [0.0, 0.0]


def test_a_loss_is_told() -> None:
    test = held_out()
    swapped = replace(test, scores=test.scores[:, [2, 1, 0]])  # who was good at one kind is now good at the other
    found = evaluated(labelled(), swapped)
    assert re.match(r"two-level loses [\d.]+ points against", report.verdict(found, "two_level"))


def test_the_best_single_expert_is_that_of_the_fitted_prompts() -> None:
    test = held_out()
    test.scores[:, EXPERTS.index("idle")] = 0.7
    found = report.as_object(evaluated(labelled(), test))
    assert found["best_single_expert"] != "idle"
    assert found["best_in_hindsight"] == {"expert": "idle", "score": 70.0}


def test_only_measured_experts_are_chosen() -> None:
    test = held_out()
    test.scores[::2, EXPERTS.index("cook")] = np.nan
    found = evaluated(labelled(), test)
    for decided in found.decided.values():
        assert test.measured[np.arange(120), decided.chosen].all()
    assert not any(np.isnan(scores).any() for scores in found.methods.values())


def test_a_pair_has_apgr_and_calls_to_the_strong_one() -> None:
    train, test = labelled(), held_out()
    found = report.as_object(evaluated(train, test))
    assert found["pair"] is None
    pair = report.as_object(evaluated(train, test, pair=("poet", "idle")))["pair"]
    assert (pair["strong"], pair["weak"]) == ("poet", "idle")
    assert pair["two_level"]["apgr"] > 0.6 > pair["skill"]["apgr"]
    assert pair["two_level"]["cpt_50"] < pair["two_level"]["cpt_80"] < pair["skill"]["cpt_80"]
    with pytest.raises(ValueError, match="no expert 'bard'; there are: cook, idle, poet"):
        evaluated(train, test, pair=("bard", "idle"))
    with pytest.raises(ValueError, match="must be two; got 'poet' twice"):
        evaluated(train, test, pair=("poet", "poet"))


def test_two_experts_are_a_pair_without_being_named() -> None:
    def two(data: Labelled) -> Labelled:
        scores = data.scores[:, [0, 2]]
        scores[:, 1] = np.maximum(scores[:, 1], scores[:, 0] * (np.arange(len(data)) % 4 < 2))
        return replace(data, experts=("cook", "poet"), scores=scores, answers=None, costs=None)

    found = report.as_object(evaluated(two(labelled()), two(held_out())))
    assert (found["pair"]["strong"], found["pair"]["weak"]) == ("poet", "cook")
    assert found["pair"]["two_level"]["apgr"] > 0.6
    assert found["cost"] is None


def test_prompts_of_the_fit_are_told() -> None:
    found = evaluated(labelled(), labelled())
    assert report.as_object(found)["seen_in_fit"] == 120
    assert report.lines(found)[-1] == (
        "120 of the 120 prompts are among those that the router was fitted on: the figures flatter it"
    )


def test_other_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="the router knows cook, idle, poet; the labelled prompts have cook, idle, x"):
        evaluated(labelled(), replace(held_out(), experts=("cook", "idle", "x")))


def test_cross_validation_judges_each_prompt_by_a_router_that_has_not_seen_it() -> None:
    data = labelled()
    found = cross_evaluate(data, HashEncoder())
    assert found.how == "5-fold cross-validation"
    assert report.as_object(found)["default_model"] == "both"
    # A score that is changed may change what others are routed to, never its own prompt's prediction.
    changed = labelled()
    changed.scores[7] = 1 - changed.scores[7]
    again = cross_evaluate(changed, HashEncoder())
    for name in ("two_level", "skill", "best_single"):
        np.testing.assert_array_equal(again.decided[name].predicted[7], found.decided[name].predicted[7])
    assert not np.array_equal(again.decided["skill"].predicted, found.decided["skill"].predicted)


def test_the_terminal_shows_a_line_for_each_method() -> None:
    lines = report.lines(evaluated(labelled(), held_out()))
    assert lines[0] == "120 prompts, 3 experts, held-out prompts"
    assert lines[2].split() == ["score", "%", "gain", "95", "%", "interval", "cost"]
    names = [line[:15].strip() for line in lines[3:12]]
    assert names == [name for key, name in report.NAMES.items() if key != "vote_5"]
    assert any(line.startswith("two-level gains") for line in lines)


@pytest.mark.parametrize("without", [{}, {"costs": None}, {"categories": None}, {"answers": None}])
def test_the_page_is_whole_escaped_and_loads_nothing(without: dict[str, Any]) -> None:
    train, test = replace(labelled(), **without), replace(held_out(), **without)
    text = page(evaluated(train, test), "<b>a & b</b>")
    assert "<b>" not in text
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in text
    assert not re.search(r"<script|https?://|src=|href=|url\(|@import", text.replace("default-src", ""))
    assert text.count("<svg") == text.count("</svg>") > 5
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text)
    for heading in ("Gap to the oracle", "Quality against cost", "Categories", "Calibration", "Confusion"):
        assert f"<h2>{heading}</h2>" in text
