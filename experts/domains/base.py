"""What a domain of the starter pool is: questions to learn from, questions held out, and an exact scorer."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["template", "human"]


@dataclass(frozen=True)
class Question:
    """One question of a domain.

    prompt: what the user types, whole (there is no system message).
    answer: what a perfect expert answers; the target of training.
    source: "template" if generated, "human" if written by hand as a person types (held-out only).
    check: what the scorer needs beyond the answer (a database schema, strings to match), JSON-serialisable.
    """

    prompt: str
    answer: str
    source: Source = "template"
    check: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Domain:
    """A domain: one specialist is trained for it and it is one category of the starter router.

    name: lower-case identifier; the specialist is called ``smol-<name>``.
    summary: one line for people: what to ask this expert.
    train: (rng, n) -> n distinct questions for training, the same for the same rng state.
    held_out: (rng, n) -> n distinct questions whose templates, names and wordings no training question has;
        all hand-written ones come first, generated ones fill up.
    score: (question, output) -> is the output right? Exact after a normalisation that the module states.
    max_tokens: generation limit that every right answer fits in.
    examples: how many training questions its specialist is trained on.
    """

    name: str
    summary: str
    train: Callable[[random.Random, int], list[Question]]
    held_out: Callable[[random.Random, int], list[Question]]
    score: Callable[[Question, str], bool]
    max_tokens: int = 64
    examples: int = 4096
