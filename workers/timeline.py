"""The event log of an engine as spans of time: who had the turn, whose image was on the device, what was loading."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.base import SwapEvent


class Span(NamedTuple):
    """since, until: Unix time in seconds."""

    image: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Spans in the order in which they ended. residencies: of images on the device; loads: under way to it."""

    turns: list[Span] = field(default_factory=list)
    residencies: list[Span] = field(default_factory=list)
    loads: list[Span] = field(default_factory=list)


def timeline(
    events: Iterable[SwapEvent],
    began: float,
    ended: float,
    *,
    active: str | None = None,
    resident: Collection[str] = (),
) -> Timeline:
    """What happened between `began` and `ended`, Unix time in seconds.

    events: of one family, oldest first; those before `began` tell how it was then. active, resident: who has the turn
    and which images are on the device, before all events or after them: it counts for what no event tells, since the
    family woke last. While a family sleeps, nobody of it has the turn and no image is on the device.
    """
    told = Timeline()
    there: dict[str, float] = {}  # image on the device -> since when
    known: set[str] = set()  # images that an event has told of
    holder, since, holder_known = None, 0.0, False
    woke, awake = -math.inf, True

    def add(spans: list[Span], image: str | None, start: float, end: float) -> None:
        if image is not None and max(start, began) < min(end, ended):
            spans.append(Span(image, max(start, began), min(end, ended)))

    for event in events:
        image, at = event.image, event.at
        match event.kind:
            case "swap":
                if not holder_known and (holder := _former(event)) is not None:
                    since = there.get(holder, woke)
                add(told.turns, holder, since, at)
                holder, since, holder_known = image, at, True
            case "loaded":
                add(told.loads, image, at - event.seconds, at)
                there.setdefault(image, at)
                known.add(image)
            case "evicted" | "failed" if event.source == "device":
                add(told.residencies, image, there.pop(image, at if image in known else woke), at)
                known.add(image)
                if holder == image:
                    add(told.turns, holder, since, at)
                    holder = None
            case "slept":
                for resting, arrived in there.items():
                    add(told.residencies, resting, arrived, at)
                add(told.turns, holder, since, at)
                awake = False
            case "woke":
                there = dict.fromkeys(there, at)
                woke = since = at
                awake = True
    if awake:
        if not holder_known and active is not None:
            holder, since = active, there.get(active, woke)
        add(told.turns, holder, since, ended)
        for image in (*there, *(image for image in resident if image not in known)):
            add(told.residencies, image, there.get(image, woke), ended)
    return told


def _former(swap: SwapEvent) -> str | None:
    """Who had the turn before, as `workers.steps.SwapLog` notes it."""
    name = swap.why.removeprefix("after ")
    return name if name not in ("", "None") else None
