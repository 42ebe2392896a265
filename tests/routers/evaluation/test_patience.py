"""The patience of votes: as little as costs nothing on held-out prompts."""

from pathlib import Path

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.evaluation.decisions import Decided
from routers.evaluation.patience import LEAST_PROMPTS, PATIENCES, least_patience
from routers.fitted import FittedRouter, fit_labelled
from routers.labelled.data import Labelled
from tests.routers.fitted_parts import labelled, quick_models

__all__ = ["quick_models"]

WEIGHTS = np.array([0.25, 0.25, 0.2, 0.2, 0.1])


def world(rows: list[str], copies: int) -> tuple[Labelled, Decided]:
    """Prompts whose right answer is A; a row is what five experts say, all of whom are asked."""
    answers = np.array([list(row) for row in rows * copies], object)
    n = len(answers)
    data = Labelled(
        ids=tuple(map(str, range(n))),
        prompts=tuple(map(str, range(n))),
        experts=("a", "b", "c", "d", "e"),
        scores=(answers == "A").astype(np.float64),
        answers=answers,
        gold=("A",) * n,
    )
    asked, weights = np.tile(np.arange(5), (n, 1)), np.tile(WEIGHTS, (n, 1))
    nobody = np.zeros(n, np.intp)
    return data, Decided(nobody, data.scores, (None,) * n, {5: asked}, {5: weights}, {5: nobody})


def test_where_the_first_two_are_never_overruled_they_are_enough() -> None:
    assert least_patience(*world(["AABCD", "AAABB", "BBACD"], 200)) == min(PATIENCES)


def test_where_the_others_overrule_the_first_two_they_are_asked() -> None:
    """Two of equal weight lead by 0.5 with 0.5 out: certain it is not, and here the vote is still open."""
    data, decided = world(["BBAAA", "AABBC"], 200)
    decided.weights[5][:] = [0.24, 0.24, 0.2, 0.2, 0.12]
    assert least_patience(data, decided) > 0.48 / 0.52


def test_a_few_prompts_prove_nothing() -> None:
    rows = ["AABCD", "AAABB", "BBACD"]
    data, decided = world(rows, (LEAST_PROMPTS - 1) // len(rows))
    assert least_patience(data, decided) == 1.0


@pytest.mark.usefixtures("quick_models")
def test_a_fitted_router_s_routes_have_it_here_and_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routers.fitted_choice.least_patience", lambda data, decided, normalise: 0.65)
    router = fit_labelled(labelled(), HashEncoder())
    assert router.route("boil tea", k=3).patience == 0.65
    router.save(tmp_path / "router")
    again = FittedRouter.load(tmp_path / "router", HashEncoder())
    assert again.route("boil tea", k=3).patience == 0.65
