"""A router without a model, for services whose one expert is known and for tests: a fixed expert, or one by keyword."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from routers.base import Choice, Route, distinct


class FixedRouter:
    """Implements `routers.base.Router`.

    expert: the first choice; None = the first candidate.
    keywords: keyword -> expert, tried in order before `expert`. A keyword counts wherever the prompt has it, inside a
        word too; letter case does not count.
    aggregator: what makes one answer of the drafts when a route has several choices.

    An expert that is no candidate is passed over, at last for the first candidate, and the reason says so. Further
    choices are the other candidates in their order. All weights are equal, so a vote between them is by count.
    Raises ValueError for an empty keyword, which every prompt would have.
    """

    name = "fixed"

    def __init__(
        self, expert: str | None = None, keywords: Mapping[str, str] | None = None, aggregator: str = "vote"
    ) -> None:
        self._expert = expert
        self._keywords = {keyword.casefold(): found for keyword, found in (keywords or {}).items()}
        self._aggregator = aggregator
        if not all(keyword.strip() for keyword in self._keywords):
            raise ValueError(f"a keyword must have a letter or a sign; got {list(self._keywords)}")

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that it may prefer, sorted."""
        return tuple(sorted({*self._keywords.values(), *([self._expert] if self._expert is not None else [])}))

    def predict(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """(n, E) scores that say no more than the order of preference: 1, 1/2, 1/3, ...; 0 for the others.

        Nothing was measured. The gaps are so wide that no policy puts another expert before the one that was fixed.
        """
        experts = self.experts
        scores = np.zeros((len(prompts), len(experts)))
        for row, prompt in zip(scores, prompts, strict=True):
            wanted = dict.fromkeys(expert for _, expert in self._wanted(prompt))
            for place, expert in enumerate(wanted):
                row[experts.index(expert)] = 1 / (place + 1)
        return scores

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`. Raises ValueError for k < 1."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`."""
        allowed = list(distinct(candidates, k))
        return [self._decide(prompt, allowed, k) for prompt in prompts]

    def _decide(self, prompt: str, allowed: Sequence[str], k: int) -> Route:
        said: list[str] = []
        first = allowed[0]
        for why, expert in self._wanted(prompt):
            if expert in allowed:
                said.append(f"{why}: {expert} answers")
                first = expert
                break
            said.append(f"{why}: {expert} is not available")
        else:
            said.append(f"{first} is the first candidate")
        chosen = [first, *(expert for expert in allowed if expert != first)][:k]
        if len(chosen) > 1:
            said.append(f"also asked: {', '.join(chosen[1:])}")
        return Route(
            choices=tuple(Choice(expert, 1 / len(chosen)) for expert in chosen),
            reason="; ".join(said),
            router=self.name,
            aggregator=self._aggregator if len(chosen) > 1 else "single",
        )

    def _wanted(self, prompt: str) -> Iterator[tuple[str, str]]:
        """(why, expert), the most wanted first."""
        folded = prompt.casefold()
        for keyword, expert in self._keywords.items():
            if keyword in folded:
                yield f"the prompt says {keyword!r}", expert
        if self._expert is not None:
            yield "fixed choice", self._expert
