"""The stats of several workers of one family, as those of one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from workers.base import WorkerStats

_NEAREST = ("device", "remote", "host", "disk")


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
