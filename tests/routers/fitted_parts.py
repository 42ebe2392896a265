"""A model that is quick to fit, and labelled prompts on which it does well or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from routers import fitted, fitted_choice
from routers.base import Route
from routers.best_single import BestSingle
from routers.encoders.base import Encoder
from routers.evaluation.decisions import Model
from routers.fitted_file import ModelName
from routers.labelled.data import Labelled

EXPERTS = ("cook", "idle", "poet")
WORDS = {"boil": "cook", "rhyme": "poet"}


class FirstWord:
    """Implements `routers.evaluation.decisions.Model`: the mean scores of the prompts with the same first word."""

    name = "first-word"

    def __init__(self, experts: Sequence[str], means: dict[str, list[float]], encoder: Encoder) -> None:
        self._experts, self._means, self._encoder = tuple(experts), means, encoder

    @property
    def experts(self) -> tuple[str, ...]:
        return self._experts

    def predict(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        self._encoder.encode(prompts)
        return np.array([self._row(prompt) for prompt in prompts]).reshape(len(prompts), -1)

    def _row(self, prompt: str) -> list[float]:
        return self._means.get(prompt.split()[0], self._means[""])

    def explain(self, prompt: str) -> str:
        return f"begins with {prompt.split()[0]}"

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        return [BestSingle(self.experts, self._row(p)).route(p, candidates, k) for p in prompts]

    def route_scored(
        self, prompts: Sequence[str], candidates: Sequence[str], k: int
    ) -> tuple[list[Route], NDArray[np.float64]]:
        return self.route_many(prompts, candidates, k), self.predict(prompts)

    @classmethod
    def fit_labelled(cls, data: Labelled, encoder: Encoder, *, seed: int = 0) -> Self:
        first = np.array([prompt.split()[0] for prompt in data.prompts])
        means = {word: data.rows(np.flatnonzero(first == word)).means().tolist() for word in sorted(set(first))}
        return cls(data.experts, {**means, "": data.means().tolist()}, encoder)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "means.json").write_text(json.dumps([self._experts, self._means]))

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Self:
        experts, means = json.loads((folder / "means.json").read_text())
        return cls(experts, means, encoder)


class Blind(FirstWord):
    """Sees no difference between prompts."""

    @classmethod
    def fit_labelled(cls, data: Labelled, encoder: Encoder, *, seed: int = 0) -> Self:
        return cls(data.experts, {"": data.means().tolist()}, encoder)


class Contrary(FirstWord):
    """Sure of the wrong expert."""

    def _row(self, prompt: str) -> list[float]:
        return [2 * (1 - mean) for mean in super()._row(prompt)]


@pytest.fixture
def quick_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two-level sees the first word, skill sees nothing."""
    quick: dict[ModelName, type[Model]] = {"two_level": FirstWord, "skill": Blind}
    for module in (fitted, fitted_choice):
        monkeypatch.setattr(module, "models", lambda: quick)


def labelled(n: int = 120, *, gain: bool = True, seed: int = 0) -> Labelled:
    """n prompts of two kinds. With `gain` each kind has an expert of its own; else all scores are chance."""
    rng = np.random.default_rng(seed)
    words = [list(WORDS)[i % 2] for i in range(n)]
    good = np.array([[0.9 if gain and WORDS[word] == expert else 0.3 for expert in EXPERTS] for word in words])
    scores = (rng.random(good.shape) < good).astype(float)
    answers = np.where(scores > 0, "A", rng.choice(["B", "C"], good.shape)).astype(object)
    return Labelled(
        ids=tuple(f"p{i}" for i in range(n)),
        prompts=tuple(f"{word} number {i}" for i, word in enumerate(words)),
        experts=EXPERTS,
        scores=scores,
        categories=tuple(words),
        costs=np.tile([2.0, 1.0, 4.0], (n, 1)),
        answers=answers,
        gold=("A",) * n,
    )
