"""Votes without asking anyone: stored answers, counted as the `vote` aggregator counts drafts."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Normalise = Callable[[str], str | None]
"""An answer's text to what is counted: equal answers give equal texts, None has no vote."""

_DECIMALS = 9
"""Weights that differ in the last bits are a tie, as in the aggregator."""
_SAFE = 1e-6
"""Lead over what is out that ends a vote, as in the aggregator."""


def coded(answers: NDArray[np.object_], normalise: Normalise) -> NDArray[np.intp]:
    """(n, E) of str or None -> (n, E): equal numbers for equal answers, -1 for none that counts."""
    codes: dict[str, int] = {}
    of_text: dict[str | None, int] = {None: -1}
    texts: list[str | None] = answers.ravel().tolist()
    for text in texts:
        if text is not None and text not in of_text:
            answer = normalise(text)
            of_text[text] = -1 if answer is None else codes.setdefault(answer, len(codes))
    return np.array([of_text[text] for text in texts], np.intp).reshape(answers.shape)


def winners(codes: NDArray[np.intp], choices: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """The expert whose answer wins each vote: (n,) columns of `codes`.

    codes: (n, E) of `coded`. choices: (n, k) columns, the best first; weights: (n, k), 0 where a choice has no vote.
    Most weight wins; a tie goes to the answer with the heaviest single vote, then to the best rank. The winner is the
    best-ranked expert that gave the winning answer; the first choice if nobody gave an answer that counts.
    """
    votes = np.take_along_axis(codes, choices, axis=1)
    same = (votes[:, :, None] == votes[:, None, :]) & (votes[:, None, :] >= 0)
    given = same * weights[:, None, :]
    total = np.where(votes >= 0, np.round(given.sum(axis=2), _DECIMALS), -1.0)
    heaviest = np.where(total == total.max(axis=1, keepdims=True), given.max(axis=2), -1.0)
    best = (heaviest == heaviest.max(axis=1, keepdims=True)).argmax(axis=1)
    chosen: NDArray[np.intp] = np.take_along_axis(choices, best[:, None], axis=1)[:, 0]
    return chosen


def in_waves(
    codes: NDArray[np.intp], choices: NDArray[np.intp], weights: NDArray[np.float64], patience: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The winner of each vote that ends early, a column of `codes`, and how many choices were asked: both (n,).

    codes, choices, weights: as for `winners`. patience: see `routers.base.Route`. The rule is that of
    `aggregators.ballot`, one choice after the other.
    """
    n, k = choices.shape
    votes = np.take_along_axis(codes, choices, axis=1)
    same = (votes[:, :, None] == votes[:, None, :]) & (votes[:, None, :] >= 0)
    won, calls = winners(codes, choices, weights), np.full(n, k)
    for count in reversed(range(1, k)):  # from the end: the earliest stop stands
        asked = slice(0, count)
        total = np.where(votes[:, asked] >= 0, (same[:, asked, asked] * weights[:, None, asked]).sum(axis=2), 0.0)
        leader = np.take_along_axis(votes, total.argmax(axis=1)[:, None], axis=1)
        second = np.where(votes[:, asked] == leader, 0.0, total).max(axis=1)
        out = weights[:, count:].sum(axis=1)
        stop = total.max(axis=1) - second > (patience if count > 1 else 1.0) * out + _SAFE
        won[stop] = winners(codes[stop], choices[stop, asked], weights[stop, asked])
        calls[stop] = count
    return won, calls
