"""What `coe experts` shows: a line for each expert, and with --watch how the engine turned from one to another."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workers.base import SwapEvent
from workers.timeline import timeline

WINDOW_S = 60.0
"""Seconds that the timeline shows."""
TURN, RESIDENT, AWAY = "█", "·", " "


def plain(found: Mapping[str, Any]) -> list[str]:
    """A line for each expert of an answer of /v1/experts."""
    width = max((len(expert["name"]) for expert in found["data"]), default=0)
    lines = []
    for expert in found["data"]:
        where = expert["tier"] if expert["state"] == "ready" else expert["state"]
        mark = "*" if expert["active"] else " "
        lines.append(f"{mark} {expert['name']:<{width}}  {where:<8}  {expert['why'] or expert['description']}")
    return lines


def table(
    found: Mapping[str, Any], swaps: Mapping[str, Any], now: float, width: int, height: int | None = None
) -> list[str]:
    """The experts with tier, queue and the last minute; below them the counts of each family.

    found, swaps: answers of /v1/experts and /v1/swaps. width: columns; the timeline takes what names, tiers and queues
    leave, which are never cut for it. height: lines, None = as many as it takes. Where it is too low the experts with
    the turn and those with the longest queues stay, and the last line says how much is not shown.
    """
    experts: list[Mapping[str, Any]] = found["data"]
    counts = [wrap(line, max(width, 1)) for line in map(_counts, found["families"].values()) if line]
    some, few = experts, counts
    room = math.inf if height is None else height - 2
    if len(experts) + sum(map(len, counts)) > room:
        few = _first(counts, max(room - 1 - len(experts), room // 3))
        some = sorted(experts, key=lambda expert: (not expert["active"], -expert["queued"]))
        some = some[: max(0, int(room) - 1 - sum(map(len, few)))]

    tiers = {expert["name"]: expert["tier"] or expert["state"] for expert in experts}
    names, wheres = (max(map(len, texts), default=0) for texts in (tiers, tiers.values()))
    names, wheres = max(names, len("expert")), max(wheres, len("tier"))
    header = f"  {'expert':<{names}}  {'tier':<{wheres}}  queue  "
    bars = _all_bars(found, swaps, now, max(0, width - len(header)))
    lines = [f"last {WINDOW_S:.0f} s: {TURN} has the turn  {RESIDENT} on the device", header.rstrip()]
    for expert in some:
        name, mark = expert["name"], "*" if expert["active"] else " "
        lines.append(f"{mark} {name:<{names}}  {tiers[name]:<{wheres}}  {expert['queued'] or '':>5}  {bars[name]}")
    lines += [line for block in few for line in block]
    hidden = [(len(experts) - len(some), "experts"), (len(counts) - len(few), "families' counts")]
    if told := [f"{number} {what}" for number, what in hidden if number]:
        lines.append(f"not shown: {', '.join(told)}; a taller window shows more")
    return [line.rstrip() for line in lines]


def _first(blocks: Iterable[list[str]], room: float) -> list[list[str]]:
    """As many blocks as have room for all of their lines."""
    taken: list[list[str]] = []
    for block in blocks:
        if sum(map(len, taken)) + len(block) > room:
            break
        taken.append(block)
    return taken


def _all_bars(found: Mapping[str, Any], swaps: Mapping[str, Any], now: float, width: int) -> dict[str, str]:
    """Expert -> its timeline."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for expert in found["data"]:
        members.setdefault(expert["family"], []).append(expert)
    drawn: dict[str, str] = {}
    for family, experts in members.items():
        own = [event for event in swaps["data"] if event["family"] == family]
        events = [SwapEvent(**{key: value for key, value in event.items() if key != "family"}) for event in own]
        drawn |= bars(events, experts, now, width)
    return drawn


def bars(
    events: Sequence[SwapEvent], experts: Sequence[Mapping[str, Any]], now: float, width: int, window: float = WINDOW_S
) -> dict[str, str]:
    """Expert -> one character for each of `width` equal parts of the last `window` seconds, oldest first.

    TURN where it had the turn at some moment of the part, else RESIDENT where its image was on the device, else AWAY.
    events: of one family, oldest first; experts: of it, as /v1/experts gives them.
    """
    began = now - window
    told = timeline(
        events,
        began,
        now,
        active=next((expert["name"] for expert in experts if expert["active"]), None),
        resident=[expert["name"] for expert in experts if expert["tier"] == "device"],
    )
    lines = {expert["name"]: [AWAY] * width for expert in experts}
    for spans, character in ((told.residencies, RESIDENT), (told.turns, TURN)):
        for image, since, until in spans:
            first, end = math.floor((since - began) * width / window), math.ceil((until - began) * width / window)
            if image in lines:
                lines[image][first:end] = character * (min(end, width) - first)
    return {expert: "".join(line) for expert, line in lines.items()}


def _counts(worker: Mapping[str, Any]) -> str:
    """What a family's worker counted, without what there is none of: a remote one neither swaps nor loads."""
    told = []
    workers, wanted = worker.get("workers", 1), worker.get("workers_wanted", 0)
    if wanted not in (0, workers):
        told.append(f"{workers} of {wanted} workers")
    elif workers > 1:
        told.append(f"{workers} workers")
    if swaps := worker.get("swaps"):
        hits = worker["swap_hits"] / swaps
        told.append(f"{swaps} swaps in {worker['swap_seconds']:.2f} s, {hits:.0%} of them to an image on the device")
    if loads := sum(worker.get("loads", {}).values()):
        told.append(f"{loads} loads")
    if wait := worker.get("oldest_wait"):
        told.append(f"oldest wait {wait:.1f} s")
    sizes = {tier: size for tier, size in worker.get("tier_bytes", {}).items() if size}
    if sizes:
        told.append(f"images: {', '.join(f'{tier} {size / 2**30:.1f} GiB' for tier, size in sizes.items())}")
    return f"{worker['family']}: {'; '.join(told)}" if told else ""


def watch(ask: Callable[[str], Mapping[str, Any]], every: float = 1.0, console: Console | None = None) -> None:
    """Shows the table anew each round until Ctrl-C: in place on a terminal, else one below the other.

    ask: a path of the service -> its answer; every: seconds between rounds.
    """
    console = console or Console()
    in_place = console.is_terminal and not console.is_dumb_terminal

    def look() -> Text:
        lines = table(
            ask("/v1/experts"), ask("/v1/swaps"), time.time(), console.width, console.height if in_place else None
        )
        return Text("\n".join(lines), no_wrap=True, overflow="ignore")

    if not in_place:
        while True:
            console.print(look(), soft_wrap=True, end="\n\n")
            time.sleep(every)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(look(), refresh=True)
            time.sleep(every)
