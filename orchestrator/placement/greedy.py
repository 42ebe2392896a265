"""The greedy twin of `orchestrator.placement.exact`, for as many experts and workers as there are.

Copies are placed one after the other, the greatest load first, each where it costs least: list scheduling with the
longest processing time first (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969), with the other terms of the
cost added. Where experts live already, they stay, and only what is missing is placed.

Then local search: copies of the fullest worker go elsewhere or are exchanged, then any copy that is better off
elsewhere goes there, as long as the loads that moves take are within the bound (the load rebalancing problem: Aggarwal,
Motwani and Zhu, J. Algorithms 60, 2006). Where there are few copies, some are put elsewhere at random and the search
goes on from there (iterated local search: Lourenco, Martin and Stuetzle 2003). Last, moves that bring less than they
cost are taken back.
"""

import math
import random
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from orchestrator.placement.model import Bools, Floats, PlacementError, Problem, cost

EVEN = 1e-3
"""Weight of the mean square of loads: of two placements with equal peaks the more even one is a step on the way."""
STEPS = 200
"""Most moves away from the fullest worker."""
SWEEPS = 6
"""Most rounds over all copies."""
TRIALS = 8
"""Exchanges that are tried for each copy of the fullest worker: those that leave the lowest peak."""
ALL_PAIRS = 64
"""Up to so many copies every two of them are tried in exchange."""
KICKS, KICKED = 16, 3
"""How often, up to that number, and how many copies are put elsewhere."""
LARGE = 20_000
"""Experts times workers from which there is one start, the one that does better on large instances, in place of two."""
_LEAST = 1e-9


class _State:
    """Who lives where so far, and what another copy would cost."""

    def __init__(self, problem: Problem, x: Bools) -> None:
        self.p, self.w = problem, problem.weights
        experts, workers = problem.held.shape
        self.x = np.zeros((experts, workers), np.bool_)
        self.full = np.zeros(workers)  # load over speed and mean
        self.used = np.zeros(workers)
        self.count = np.zeros((len(problem.size), workers), np.intp)  # experts of each image
        self.near = np.zeros((experts, workers))  # price of living beside those who answer the same requests
        self.nodes = np.zeros((experts, int(problem.node.max()) + 1))
        self.moved = 0.0
        self.rate = problem.share[:, None] / (problem.speed * problem.mean)
        self.per_byte = (self.w.copies / problem.bytes, self.w.spill / problem.bytes)
        self.per_second, self.per_neighbour = self.w.move / problem.time, self.w.spread / problem.several
        self.held_images = problem.images(problem.held)
        self.friends: list[list[tuple[int, float]]] = [[] for _ in range(experts)]
        for a, b, share in problem.pairs:
            price = self.w.apart * share / float(problem.copies[a] * problem.copies[b])
            self.friends[a].append((b, price))
            self.friends[b].append((a, price))
        for e, w in zip(*np.nonzero(x), strict=True):
            self.put(int(e), int(w))

    def put(self, e: int, w: int, by: int = 1) -> None:
        """Places a copy, or with by=-1 takes it away."""
        p, image = self.p, int(self.p.image[e])
        self.x[e, w] = by > 0
        self.full[w] += by * self.rate[e, w]
        self.nodes[e, p.node[w]] += by
        new = self.count[image, w] == (0 if by > 0 else 1)
        self.count[image, w] += by
        self.used[w] += by * (p.own[e] + (p.size[image] if new else 0.0))
        self.moved += by * self._loads(e, w, bool(new))
        for friend, price in self.friends[e]:
            self.near[friend, w] += by * price

    def take(self, e: int, w: int) -> None:
        self.put(e, w, -1)

    def _loads(self, e: int, w: int, new: bool) -> float:
        p, image = self.p, int(self.p.image[e])
        seconds = 0.0 if p.held[e, w] else float(p.own_s[e])
        return seconds + (float(p.size_s[image]) if new and not self.held_images[image, w] else 0.0)

    def prices(self, e: int) -> Floats:
        """(W,): what a further copy of `e` costs there without its load; infinite where it cannot live."""
        p, image = self.p, int(self.p.image[e])
        new = self.count[image] == 0
        more = p.own[e] + p.size[image] * new
        copy, spill = self.per_byte
        over = np.minimum(more, np.maximum(0, self.used + more - p.device))
        seconds = p.own_s[e] * ~p.held[e] + p.size_s[image] * (new & ~self.held_images[image])
        price: Floats = self.near[e] + copy * more + spill * over + self.per_second * seconds
        price += self.per_neighbour * (self.nodes[e, p.node] >= 1)
        shut = self.x[e] | ~p.allowed[e] | (self.used + more > p.room * (1 + _LEAST))
        shut |= self.moved + seconds > p.budget_s + _LEAST
        price[shut] = np.inf
        return price

    def peaks(self, e: int) -> Floats:
        """(W,): the load's price if a further copy lives there."""
        after = self.full + self.rate[e]
        first, second = _two_greatest(self.full)
        others = np.full(len(after), first)
        others[int(self.full.argmax())] = second
        squares = self.full**2
        even = (squares.sum() - squares + after**2) / len(after)
        price: Floats = self.w.balance * (np.maximum(others, after) + EVEN * even)
        return price

    def peak(self) -> float:
        return float(self.w.balance * (self.full.max() + EVEN * (self.full**2).mean()))


def _two_greatest(values: Floats) -> tuple[float, float]:
    if len(values) == 1:
        return float(values[0]), 0.0
    second, first = np.partition(values, -2)[-2:]
    return float(first), float(second)


def solve(problem: Problem, *, stay: bool = False) -> Bools:
    """Who lives where, (E, W). stay: nobody moves, only what is missing is placed.

    Raises PlacementError where the memory of the workers is not enough.
    """
    held, large = _without_surplus(problem), problem.held.size > LARGE
    starts = [(held, False)] if large else [(held, False), (held, True)]
    if held.any() and math.isinf(problem.budget_s) and not stay and not large:
        starts.append((np.zeros_like(held), False))
    found = []
    for start, balanced in starts:
        state = _State(problem, start)
        _fill(state, balanced)
        if stay:
            _improve_all(state, state.x & ~start)
        else:
            _search(state)
            state = _kicked(state)
            _take_back(state)
        found.append(state.x)
    return min(found, key=lambda x: cost(problem, x))


def _without_surplus(problem: Problem) -> Bools:
    """Who stays: copies beyond those wanted go, from the fullest workers first."""
    x = problem.kept
    for e in np.flatnonzero(x.sum(axis=1) > problem.copies):
        while x[e].sum() > problem.copies[e]:
            full = (problem.share @ x) / problem.speed
            x[e, int(np.where(x[e], full, -1.0).argmax())] = False
    return x


def _fill(state: _State, balanced: bool) -> None:
    """Places what is missing. balanced: on the emptiest worker unless another term says otherwise; else load is free up
    to the peak that cannot be avoided, and the other terms come first."""
    p = state.p
    unavoidable = max(1.0, float(np.where(p.allowed, state.rate, np.inf).min(axis=1).max()))
    for e in sorted(range(len(p.demands)), key=lambda e: (-p.share[e], -p.size[p.image[e]], e)):
        for _ in range(int(p.copies[e] - state.x[e].sum())):
            after = state.full + state.rate[e]
            load = after if balanced else np.maximum(after, max(unavoidable, float(state.full.max()))) + EVEN * after
            price = state.prices(e) + state.w.balance * load
            w = int(price.argmin())
            if not math.isfinite(price[w]):
                raise PlacementError(_no_room(p, e))
            state.put(e, w)


def _no_room(problem: Problem, e: int) -> str:
    own = problem.demands[e]
    return (
        f"no worker of the family {own.family!r} has room for {own.expert} ({own.bytes:,.0f} bytes): give the workers "
        "more memory for images, or more workers, or lower its `least`"
    )


def _search(state: _State) -> None:
    for _ in range(SWEEPS):
        better = False
        for _ in range(STEPS):
            if not (_relieve(state) or _exchange(state)):
                break
            better = True
        better |= _improve_all(state, state.x)
        if not better and not _exchange_any(state):
            return


def _kicked(state: _State) -> _State:
    """The best of what the search finds from places near the one that it has found."""
    p, dice = state.p, random.Random(0)
    if state.x.sum() > ALL_PAIRS or state.x.shape[1] == 1:
        return state
    best, least = state, cost(p, state.x)
    for _ in range(KICKS):
        other = _State(p, best.x)
        for _ in range(KICKED):
            e, a = dice.choice(np.argwhere(other.x).tolist())
            other.take(e, a)
            able = np.flatnonzero(np.isfinite(other.prices(e))).tolist()
            other.put(e, dice.choice(able or [a]))
        _search(other)
        if (price := cost(p, other.x)) < least - _LEAST:
            best, least = other, price
    return best


def _relieve(state: _State) -> bool:
    """Moves one copy away from the fullest worker, the one that gains most."""
    a = int(state.full.argmax())
    best, choice = -_LEAST, None
    for e in map(int, np.flatnonzero(state.x[:, a])):
        gain, b = _elsewhere(state, e, a)
        if gain < best:
            best, choice = gain, (e, b)
    if choice is None:
        return False
    e, b = choice
    state.take(e, a)
    state.put(e, b)
    return True


def _improve_all(state: _State, copies: Bools) -> bool:
    """Moves each of these copies to where it is better off. Did any move?"""
    moved = False
    for e, a in zip(*map(np.ndarray.tolist, np.nonzero(copies)), strict=True):
        gain, b = _elsewhere(state, e, a)
        if gain < -_LEAST:
            state.take(e, a)
            state.put(e, b)
            moved = True
    return moved


def _elsewhere(state: _State, e: int, a: int) -> tuple[float, int]:
    """What changes if this copy of `e` moves from `a` to where it is best off, and where that is."""
    state.take(e, a)
    price = state.prices(e) + state.peaks(e)
    state.put(e, a)
    b = int(price.argmin())
    return float(price[b] - price[a]), b


def _exchange(state: _State) -> bool:
    """Exchanges a copy of the fullest worker with a smaller one of another, if that pays."""
    p, a = state.p, int(state.full.argmax())
    there, where = np.nonzero(state.x)
    for e in sorted(map(int, np.flatnonzero(state.x[:, a])), key=lambda e: -state.rate[e, a]):
        fits = (where != a) & ~state.x[e, where] & ~state.x[there, a] & p.allowed[e, where] & p.allowed[there, a]
        at_a = state.full[a] - state.rate[e, a] + state.rate[there, a]
        at_b = state.full[where] + state.rate[e, where] - state.rate[there, where]
        peak = np.where(fits, np.maximum(at_a, at_b), np.inf)
        lower = np.flatnonzero(peak < state.full[a] - _LEAST)
        for i in lower[np.argsort(peak[lower], kind="stable")][:TRIALS]:
            if _swapped(state, e, a, int(there[i]), int(where[i])):
                return True
    return False


def _exchange_any(state: _State) -> bool:
    """Exchanges any two copies, if there are few and it pays."""
    copies = [(int(e), int(w)) for e, w in zip(*np.nonzero(state.x), strict=True)]
    if len(copies) > ALL_PAIRS:
        return False
    return any(
        _swapped(state, e, a, f, b)
        for (e, a), (f, b) in combinations(copies, 2)
        if a != b and not state.x[e, b] and not state.x[f, a]
    )


def _swapped(state: _State, e: int, a: int, f: int, b: int) -> bool:
    """Lets `e` of `a` and `f` of `b` change places, if that pays."""
    before = state.peak()
    state.take(f, b)
    out = float(state.prices(f)[b])
    state.take(e, a)
    out += float(state.prices(e)[a])
    into = float(state.prices(e)[b])
    if math.isfinite(into):
        state.put(e, b)
        into += float(state.prices(f)[a])
        if math.isfinite(into):
            state.put(f, a)
            if state.peak() + into < before + out - _LEAST:
                return True
            state.take(f, a)
        state.take(e, b)
    state.put(e, a)
    state.put(f, b)
    return False


def _take_back(state: _State) -> None:
    """Copies that have moved go back, where what that costs is less than the load of their image."""
    p = state.p
    if not p.held.any():
        return
    for e, b in _moves(state):
        homes = np.flatnonzero(p.held[e] & ~state.x[e])
        before = cost(p, state.x)
        options = []
        for a in map(int, homes):
            state.take(e, b)
            if math.isfinite(state.prices(e)[a]):
                state.put(e, a)
                options.append((cost(p, state.x), a))
                state.take(e, a)
            state.put(e, b)
        if options and min(options)[0] <= before + _LEAST:
            state.take(e, b)
            state.put(e, min(options)[1])


def _moves(state: _State) -> Iterator[tuple[int, int]]:
    """(expert, worker) of the copies that were not there before and could be where they were, the least load first."""
    p = state.p
    new = [(int(e), int(w)) for e, w in zip(*np.nonzero(state.x & ~p.held), strict=True)]
    return iter(sorted(new, key=lambda pair: float(p.share[pair[0]])))
