"""The skill router: prompt -> skills -> experts (Symbolic-MoE, arXiv 2503.05641). See docs/skills.md.

    prompt --encoder or tagger--> skills --profile[skill, expert]--> expected score of each expert
                                                                        |
                               P(expert) ~ local * global, the best k that are not trimmed --> choices

Fitting is in `fit`, what is known in `model`, files in `file`; deciding needs numpy and the source of skills only.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from routers.base import Choice, Route, distinct
from routers.encoders.base import Encoder
from routers.labelled.data import Labelled
from routers.skill.file import read, write
from routers.skill.fit import fit
from routers.skill.model import FittedSkills
from routers.skill.recruit import recruit
from routers.skill.tags import TagError, Tagger
from routers.skill.vocabulary import Floats, Tags

__all__ = ["SkillRouter"]

BATCH = 256


class SkillRouter:
    """Implements `routers.evaluation.decisions.Model`. Made by `fit_labelled` or `load`; thread-safe.

    The weights of k choices are their shares of P(expert). Trimmed experts come after all others, and candidates
    without a profile after these; neither weighs more than what stands before it.
    """

    name = "skill"

    def __init__(
        self, fitted: FittedSkills, encoder: Encoder, tag: Tagger | None = None, aggregator: str = "vote"
    ) -> None:
        """tag: names the keywords of prompts; needed if and only if the router was fitted with one.
        aggregator: what makes one answer of the drafts when a route has several choices.
        Raises ValueError.
        """
        if (fitted.source == "tagger") != (tag is not None):
            does = "needs" if tag is None else "does not take"
            raise ValueError(f"a skill router whose skills come from the {fitted.source} {does} a `tag`")
        self._fitted = fitted
        self._encoder = encoder
        self._tag = tag
        self._aggregator = aggregator
        self._learning = threading.Lock()

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts with a profile, trimmed ones too; sorted."""
        return self._fitted.profiles.experts

    @property
    def skills(self) -> tuple[str, ...]:
        """The names of all skills."""
        return self._fitted.skills.names

    @property
    def trimmed(self) -> tuple[str, ...]:
        """Experts that were hardly ever selected on the fitted prompts: they answer only where no other can."""
        return self._fitted.trimmed

    @property
    def figures(self) -> dict[str, float]:
        """What was chosen by cross-validation when the router was fitted, and what was seen on held-out prompts."""
        return dict(self._fitted.figures)

    def predict(self, prompts: Sequence[str]) -> Floats:
        """(n, E), the expected score of each expert, calibrated on held-out prompts, in [0, 1]. Raises TagError."""
        fitted = self._fitted
        parts = [fitted.predict(self._tags(prompts[at : at + BATCH])) for at in range(0, len(prompts), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(fitted.profiles.experts)))

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`. A prompt for which the tagger fails is routed as one without a known skill."""
        return self.route_scored(prompts, candidates, k)[0]

    def route_scored(self, prompts: Sequence[str], candidates: Sequence[str], k: int) -> tuple[list[Route], Floats]:
        """`route_many`, and what it expects (n, E) of each expert, for the price of one."""
        fitted = self._fitted
        pool = _Pool(fitted, distinct(candidates, k))
        routes: list[Route] = []
        scores = [np.zeros((0, len(fitted.profiles.experts)))]
        for start in range(0, len(prompts), BATCH):
            tags, faults = self._tags_or_faults(prompts[start : start + BATCH])
            predicted = fitted.predict(tags)
            scores.append(predicted)
            shares = fitted.relevance(predicted)
            for i, fault in enumerate(faults):
                choices, margin = pool.choose(shares[i], k)
                first, own = choices[0].expert, tags.rows(np.array([i]))
                skills = fitted.points(first, own)
                said = [fault] if fault else []
                said.append(fitted.told(first, skills, own, predicted[i]))
                if len(choices) > 1:
                    said.append(f"also asked: {', '.join(choice.expert for choice in choices[1:])}")
                routes.append(
                    Route(
                        choices=choices,
                        reason="; ".join(said),
                        router=self.name,
                        margin=margin,
                        aggregator=self._aggregator if len(choices) > 1 else "single",
                        skills=skills,
                    )
                )
        return routes, np.concatenate(scores)

    def explain(self, prompt: str) -> str:
        """What speaks for the best expert, such as "ada: algebra +12, probability +5, in general +3; expected score 64,
        the mean of 9 experts is 51". Points are hundredths of a score, by which the expert leads that mean."""
        return self.route(prompt, self.experts).reason

    def add_expert(self, name: str, prompts: Sequence[str], scores: Sequence[float]) -> None:
        """Gives one more expert a profile, from its scores in [0, 1] on some prompts. Nothing of the others changes.

        Raises ValueError, TagError.
        """
        values = np.asarray(scores, np.float64)
        if len(prompts) != len(values) or not len(values) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{name} needs prompts with a score in [0, 1] each; got {len(prompts)} and {list(scores)[:5]}"
            )
        tags = self._tags(prompts)
        with self._learning:
            if name in self.experts:
                raise ValueError(f"{name} has a profile already: tell its scores by `observe`")
            self._fitted = replace(self._fitted, profiles=self._fitted.profiles.joined(name, tags, values))

    def observe(self, prompt: str, expert: str, score: float) -> None:
        """Learns from one score in [0, 1] of one expert. Takes no more memory. Raises ValueError, TagError."""
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be in [0, 1], got {score}")
        tags = self._tags([prompt])
        with self._learning:
            if expert not in self.experts:
                raise ValueError(f"{expert} has no profile yet: give it one by `add_expert`")
            self._fitted.profiles.observe(tags, self.experts.index(expert), score)

    def _tags(self, prompts: Sequence[str]) -> Tags:
        skills = self._fitted.skills
        if self._tag is None:
            return skills.match(self._encoder.encode(prompts), prompts)
        return skills.vocabulary.match_keywords(self._tag(prompts), self._encoder)

    def _tags_or_faults(self, prompts: Sequence[str]) -> tuple[Tags, list[str]]:
        """The skills of the prompts, and why the tagger failed: "" if it did not, else the prompt has no skills."""
        if self._tag is None:
            return self._tags(prompts), [""] * len(prompts)
        keywords: list[list[str]] = []
        faults: list[str] = []
        for prompt in prompts:
            try:
                keywords += self._tag([prompt])
                faults.append("")
            except TagError as error:
                keywords.append([])
                faults.append(str(error))
        return self._fitted.skills.vocabulary.match_keywords(keywords, self._encoder), faults

    @classmethod
    def fit_labelled(
        cls,
        data: Labelled,
        encoder: Encoder,
        *,
        seed: int = 0,
        vocabulary: Sequence[str] | None = None,
        tag: Tagger | None = None,
        aggregator: str = "vote",
    ) -> Self:
        """Learns a router; the same input and seed give the same one.

        data: all that it may see.
        vocabulary: names of skills; None = found from the prompts, or gathered from the keywords of `tag`.
        tag: names the keywords of prompts, at each decision too; None = the skills nearest to a prompt's embedding.
        Raises ValueError, TagError.
        """
        return cls(fit(data, encoder, seed=seed, vocabulary=vocabulary, tag=tag), encoder, tag, aggregator)

    def save(self, folder: Path) -> None:
        """Writes `router.json` and `router.npz` into `folder`, which is made if need be."""
        with self._learning:
            write(self._fitted, folder)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, tag: Tagger | None = None, aggregator: str = "vote") -> Self:
        """The router that `save` wrote. Raises RouterFileError, and ValueError as the constructor does."""
        return cls(read(folder, encoder), encoder, tag, aggregator)


class _Pool:
    """The candidates of some routes."""

    def __init__(self, fitted: FittedSkills, candidates: Collection[str]) -> None:
        """candidates: each once."""
        experts = fitted.profiles.experts
        columns = {expert: column for column, expert in enumerate(experts)}
        self._experts = experts
        self._known = np.array([columns[expert] for expert in candidates if expert in columns], np.intp)
        self._unknown = [expert for expert in candidates if expert not in columns]
        self._last = np.isin(experts, fitted.trimmed)

    def choose(self, shares: Floats, k: int) -> tuple[tuple[Choice, ...], float]:
        """The best k by P(expert), and the lead of the first over the second, in [0, 1]."""
        order, weights = recruit(shares, self._last, self._known, max(k, 2))
        margin = float(weights[0] - weights[1]) if len(order) > 1 else 1.0
        names = [self._experts[m] for m in order[:k]]
        names += self._unknown[: k - len(names)]
        least = weights[-1] if len(order) else 1.0
        weights = np.append(weights[:k], np.full(len(names) - len(order[:k]), least))
        weights /= weights.sum()
        return tuple(Choice(name, float(weight)) for name, weight in zip(names, weights, strict=True)), margin
