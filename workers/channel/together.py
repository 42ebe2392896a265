"""The stats of several workers of one family, as those of one."""

from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from workers.base import WorkerStats

COUNTED = (
    "swaps",
    "swap_seconds",
    "restarts",
    "loads",
    "moved_bytes",
    "moved_seconds",
    "busy_seconds",
    "swap_hits",
    "prefetched",
    "prefetch_used",
    "request_seconds",
    "wakes",
    "wake_seconds",
    "spans_lost",
)
"""The fields of `WorkerStats` that only rise while an engine and its worker live."""
MOST_GONE = 64
"""So many workers that are gone are remembered: one that was only cut off is not counted twice when it is back."""

_NEAREST = ("device", "remote", "host", "disk")
_Counts = dict[tuple[str, str | None], float]


def together(told: Sequence[WorkerStats]) -> WorkerStats:
    """told: at least one. What is counted is summed; an expert is where it is nearest, and as large as any says; the
    longest wait holds; there is a roster only if all have the same."""
    if len(told) == 1:
        return told[0]
    summed: dict[str, Any] = {"oldest_wait": max(own.oldest_wait for own in told)}
    for field in fields(WorkerStats):
        values = [getattr(own, field.name) for own in told]
        if field.name in ("tiers", "oldest_wait", "image_bytes"):
            continue
        if isinstance(values[0], dict):
            summed[field.name] = _summed(values)
        elif isinstance(values[0], int | float):
            summed[field.name] = sum(values)
    names = {expert: None for own in told for expert in own.tiers}
    return replace(
        told[0],
        **summed,
        image_bytes=largest(own.image_bytes for own in told),
        tiers={name: _nearest(own.tiers[name] for own in told if name in own.tiers) for name in names},
        active=next((own.active for own in told if own.active), None),
        roster=told[0].roster if len({own.roster for own in told}) == 1 else "",
        events=tuple(sorted((event for own in told for event in own.events), key=lambda event: event.at)),
    )


class Totals:
    """What the workers of one family have counted in all: it never falls, whoever of them comes, goes or begins anew.

    Of each worker the increase since it told last is added; a count that fell began anew, and is added as a whole. So
    is that of a worker that is met for the first time.
    """

    def __init__(self) -> None:
        self._total: _Counts = {}
        self._last: dict[Hashable, _Counts] = {}  # by worker, who told last at the end

    def learn(self, worker: Hashable, told: WorkerStats) -> None:
        """worker: the same for as long as its process lives. What it tells is to come in the order of its making."""
        before, now = self._last.pop(worker, {}), _counts(told)
        for name, count in now.items():
            known = before.get(name, 0)
            self._total[name] = self._total.get(name, 0) + (count - known if count >= known else count)
        self._last[worker] = now

    def forget(self, there: Container[Hashable]) -> None:
        """Of the workers that are not there the last MOST_GONE are remembered. What the others counted stays."""
        gone = [worker for worker in self._last if worker not in there]
        for worker in gone[:-MOST_GONE]:
            del self._last[worker]

    def put_into(self, stats: WorkerStats) -> WorkerStats:
        """The same with the totals for its counts."""
        totals: dict[str, Any] = {}
        for (field, key), total in self._total.items():
            if key is None:
                totals[field] = total
            else:
                totals.setdefault(field, {})[key] = total
        return replace(stats, **totals)


def _counts(told: WorkerStats) -> _Counts:
    found: _Counts = {}
    for field in COUNTED:
        value = getattr(told, field)
        if isinstance(value, dict):
            found |= {(field, key): count for key, count in value.items()}
        else:
            found[field, None] = value
    return found


def largest(told: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Name -> the largest of its figures."""
    found: dict[str, int] = {}
    for own in told:
        for name, figure in own.items():
            found[name] = max(figure, found.get(name, 0))
    return found


def _summed(values: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for own in values:
        total.update(own)
    return dict(total)


def _nearest(tiers: Iterable[str]) -> str:
    return min(tiers, key=lambda tier: _NEAREST.index(tier) if tier in _NEAREST else len(_NEAREST))
