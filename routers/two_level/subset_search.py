"""The best subset of a given size, by branch and bound: from the greedy one to the best one, as far as patience goes.

Each node has members that are in and items that may follow. A bound that no subset below the node can exceed cuts it
off; MoE^2 (arXiv 2501.09410) searches its sets of experts so, with limits on what a set may use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Subset = tuple[int, ...]
Value = Callable[[Subset], float]


def everything_fits(subset: Subset) -> bool:
    """No limits."""
    return True


@dataclass(slots=True)
class _Search:
    size: int
    value: Value
    bound: Callable[[Subset, Subset], float]
    fits: Callable[[Subset], bool]
    patience: int
    best: Subset = ()
    reached: float = float("-inf")
    known: dict[Subset, float] = field(default_factory=dict)

    def worth(self, subset: Subset) -> float:
        key = tuple(sorted(subset))
        if key not in self.known:
            self.known[key] = self.value(key)
            self.patience -= 1
        return self.known[key]

    def keep(self, subset: Subset) -> None:
        if self.worth(subset) > self.reached:
            self.best, self.reached = tuple(sorted(subset)), self.worth(subset)

    def greedy(self, items: Subset) -> None:
        """The subset that grows by the item that helps most."""
        chosen: Subset = ()
        while len(chosen) < self.size:
            open_to = [item for item in items if item not in chosen and self.fits((*chosen, item))]
            if not open_to:
                return
            chosen = (*chosen, max(open_to, key=lambda item: self.worth((*chosen, item))))
        self.keep(chosen)

    def branch(self, chosen: Subset, rest: Subset) -> None:
        """All subsets that hold `chosen` and fill up from `rest`."""
        if len(chosen) == self.size:
            self.keep(chosen)
            return
        for place, item in enumerate(rest):
            after = rest[place + 1 :]
            if len(chosen) + 1 + len(after) < self.size or self.patience <= 0:
                return
            if self.bound(chosen, rest[place:]) <= self.reached:
                return  # nor can any subset of fewer items
            if self.fits((*chosen, item)):
                self.branch((*chosen, item), after)


def best_subset(
    items: Sequence[int],
    size: int,
    value: Value,
    bound: Callable[[Subset, Subset], float],
    fits: Callable[[Subset], bool] = everything_fits,
    patience: int = 10_000,
) -> Subset | None:
    """`size` of `items`, sorted, of the largest value; None if no such subset fits.

    items: the most promising first, which cuts more.
    value: of a subset, sorted; called with smaller ones too.
    bound: (chosen, rest) -> at least the value of every subset of `size` that holds `chosen` and more of `rest`.
    fits: must hold for all parts of a subset that it holds for, as with limits on sums and maxima.
    patience: evaluations of `value` after which the best so far must do; with enough of it the result is exact.
    """
    search = _Search(size, value, bound, fits, patience)
    search.greedy(tuple(items))
    search.branch((), tuple(items))
    return search.best or None
