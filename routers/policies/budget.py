"""What a request may cost: the most calls of experts, and the most money where experts have prices."""

from dataclasses import dataclass
from typing import TypeVar

from experts.spec import ExpertSpec

Number = TypeVar("Number", int, float)

ANSWER_TOKENS = 1024
"""Tokens that an answer counts for where neither the request nor the expert has a limit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """calls: of experts, those that judge and write included. usd: US dollars, by `ExpertSpec.price`. None = no
    bound."""

    calls: int | None = None
    usd: float | None = None

    def within(self, other: "Budget") -> "Budget":
        """The tighter bound of both."""
        return Budget(_least(self.calls, other.calls), _least(self.usd, other.usd))


NO_BOUND = Budget()


def most_usd(spec: ExpertSpec, prompt: int, answer: int | None) -> float:
    """What a call of that expert costs at most, in US dollars.

    prompt: its tokens. answer: the most tokens that the request wants; None = as many as the expert's own limit.
    """
    return (prompt * spec.price.input + answer_tokens(spec, answer) * spec.price.output) / 1e6


def answer_tokens(spec: ExpertSpec, wanted: int | None) -> int:
    """The most tokens of an answer of that expert. wanted: by the request; None = the expert's own limit."""
    return wanted or spec.sampling.max_tokens or ANSWER_TOKENS


def _least(one: Number | None, two: Number | None) -> Number | None:
    return min((bound for bound in (one, two) if bound is not None), default=None)
