"""What policies see of a request and of the service, and what they pass on.

`Excluded`   constraints alone leave nobody: the same request fails again, whenever it is sent
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from routers.base import NoCandidate
from routers.policies.budget import NO_BOUND, Budget

Floats = NDArray[np.float64]
Need = Literal["tools", "image", "audio"]


class Excluded(NoCandidate):
    """Constraints of the request or of its key leave nobody. The message names each of them and whom it removed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request, and the key it came with, ask of the experts that answer it.

    k: how many answer; None = what the policies say.
    allow: no others than these; None = all. deny: none of these.
    force: these take part, in this order, whatever the router thinks; the other places are the router's to fill.
    needs: what an expert must be able to do beside text.
    languages: ISO 639-1 codes, of which an expert must speak one; None = as the prompt is; empty = it does not matter.
    earlier: what the user said before the prompt, the latest first; it tells the language where the prompt does not.
    tokens: estimate of prompt and answer together; 0 = not known. answer: the most tokens of an answer; None = as many
        as the expert's own limit, counted as one in `tokens`.
    budget: the most that the request may cost; an expert that alone may cost more does not answer.
    tenant: experts that the key may use; None = all.
    """

    k: int | None = None
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()
    force: tuple[str, ...] = ()
    needs: frozenset[Need] = frozenset()
    languages: tuple[str, ...] | None = None
    earlier: str = ""
    tokens: int = 0
    answer: int | None = None
    budget: Budget = NO_BOUND
    tenant: frozenset[str] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Estimate of the prompt's."""
        return max(0, self.tokens - (self.answer or 1))


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the service when a request is routed.

    failed: expert -> why it cannot answer. doubtful: expert -> why it may not be able to.
    load_s: expert -> seconds until the engine can compute with it; one that is missing can be computed with at once, or
        nothing was measured yet.
    last: the expert that answered the conversation's last turn; None = the first turn, or not known.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    doubtful: Mapping[str, str] = field(default_factory=dict)
    load_s: Mapping[str, float] = field(default_factory=dict)
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """Why an expert is no candidate. rule: the constraint, or "outage"."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Slate:
    """The candidates of one request in the order of preference. E = number of experts.

    scores: (E,) expected score in [0, 1]. net: (E,) the same less what using the expert costs now; policies compare it.
    notes: what policies changed and why, for people.
    """

    experts: tuple[str, ...]
    scores: Floats
    net: Floats
    notes: tuple[str, ...] = ()

    @classmethod
    def ranked(cls, experts: Sequence[str], scores: Floats) -> "Slate":
        """A slate in a router's order. An expert that the router puts before better ones, for a plan or as the
        fallback, counts as the best of them, so that scores never rise."""
        falling = np.maximum.accumulate(scores[::-1])[::-1]
        return cls(tuple(experts), falling, falling)

    def ordered(self, order: NDArray[np.intp], *notes: str) -> "Slate":
        """The slate in another order. order: (E,) indices; notes: why."""
        experts = tuple(self.experts[i] for i in order)
        return replace(
            self, experts=experts, scores=self.scores[order], net=self.net[order], notes=(*self.notes, *notes)
        )
