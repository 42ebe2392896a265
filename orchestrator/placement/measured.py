"""What workers tell of themselves, as the planner needs it. What none has measured yet is assumed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.placement.model import CoSelection, Demand
from workers.base import WorkerStats
from workers.channel.together import largest

TOKENS_A_SECOND = 100.0
"""Of a worker that is busy all the time, before one has computed anything."""
BYTES_A_SECOND = 1e9
"""At which images are loaded, before one was: from a local disk."""

Asked = Mapping[str, tuple[int, int]]
"""Expert -> calls that came and tokens of answers that ended, since a worker's start."""


def sized(known: Sequence[Demand], told: Sequence[WorkerStats]) -> tuple[Demand, ...]:
    """The same experts with the bytes of their images, or of adapters' own weights, and the seconds to load them.

    An expert of whose size no worker tells keeps what it has.
    """
    sizes, pace = largest(own.image_bytes for own in told), _seconds_a_byte(told)
    found = (replace(own, bytes=float(sizes.get(own.expert) or own.bytes)) for own in known)
    return tuple(replace(own, load_s=own.bytes * pace) for own in found)


def _seconds_a_byte(told: Sequence[WorkerStats]) -> float:
    """Of loads from disk; if there was none, of those from host memory."""
    for tier in ("disk", "host"):
        if moved := sum(own.moved_bytes.get(tier, 0) for own in told):
            return sum(own.moved_seconds.get(tier, 0.0) for own in told) / moved
    return 1 / BYTES_A_SECOND


def room(told: Mapping[str, WorkerStats], tier: str, otherwise: float) -> float:
    """Bytes that a worker has for images in a tier. told: its families, of which those on a shared device take turns:
    so it is that of the one that has most. otherwise: where it does not tell."""
    return max((own.room_bytes[tier] for own in told.values() if tier in own.room_bytes), default=otherwise)


def worked(asked: Asked, told: Mapping[str, WorkerStats]) -> tuple[int, float]:
    """Tokens that a worker has made, and seconds that it took for them, as far as it tells."""
    return sum(tokens for _, tokens in asked.values()), sum(own.busy_seconds for own in told.values())


def selected_together(
    counts: Iterable[Mapping[str, Mapping[str, int]]], configured: Sequence[CoSelection]
) -> tuple[CoSelection, ...]:
    """Who answers the same requests, and how often. counts: of each worker (`workers.channel.frames.Stats.pairs`)."""
    found = defaultdict[tuple[str, str], float](float)
    for pair in configured:
        found[_ordered(pair.first, pair.second)] += pair.rate
    for own in counts:
        for one, others in own.items():
            for other, number in others.items():
                found[_ordered(one, other)] += number
    return tuple(CoSelection(one, other, rate) for (one, other), rate in found.items())


def _ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
