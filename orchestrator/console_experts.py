"""What `coe experts` shows: a line for each expert, and with --watch how the engine turned from one to another."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

WINDOW_S = 60.0
"""Seconds that the timeline shows."""
ACTIVE, RESIDENT, AWAY = "█", "·", " "


def timeline(
    events: Sequence[Mapping[str, Any]], experts: Mapping[str, str], now: float, width: int, window: float = WINDOW_S
) -> dict[str, str]:
    """Expert -> one character for each of `width` equal parts of the last `window` seconds, oldest first.

    ACTIVE where the engine computed with it at some moment of the part, else RESIDENT where its image was on the
    device, else AWAY. events: of one family, as /v1/swaps gives them, oldest first; experts: name -> its tier now.
    """
    part = window / width
    began = now - window
    lines = {expert: [RESIDENT if tier == "device" else AWAY] * width for expert, tier in experts.items()}

    def mark(expert: str, since: float, until: float, character: str) -> None:
        first, last = int((max(since, began) - began) / part), int((min(until, now) - began) / part)
        if expert in lines and until > began:
            lines[expert][first : last + 1] = character * (min(last, width - 1) - first + 1)

    active: tuple[str, float] | None = None
    turns: list[tuple[str, float, float]] = []
    for event in events:
        image, at = event["image"], event["at"]
        if event["kind"] == "swap":
            if active is not None:
                turns.append((*active, at))
            active = (image, at)
        elif event["kind"] == "loaded":
            mark(image, began, at, AWAY)  # before that it was not there
            mark(image, at, now, RESIDENT)
        elif event["kind"] == "evicted":
            mark(image, at, now, AWAY)
    if active is not None:
        turns.append((*active, now))
    for turn in turns:
        mark(*turn, ACTIVE)
    return {expert: "".join(line[:width]) for expert, line in lines.items()}


def plain(found: Mapping[str, Any]) -> list[str]:
    """A line for each expert of an answer of /v1/experts."""
    width = max((len(expert["name"]) for expert in found["data"]), default=0)
    lines = []
    for expert in found["data"]:
        where = expert["tier"] if expert["state"] == "ready" else expert["state"]
        mark = "*" if expert["active"] else " "
        lines.append(f"{mark} {expert['name']:<{width}}  {where:<8}  {expert['why'] or expert['description']}")
    return lines


def table(found: Mapping[str, Any], swaps: Mapping[str, Any], now: float, width: int = 48) -> Group:
    """The experts with tier, queue and the last minute; below each family its counts."""
    shown = Table(box=None, pad_edge=False)
    for name in ("expert", "tier"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("queue", justify="right")
    shown.add_column(f"last {WINDOW_S:.0f} s: {ACTIVE} computes  {RESIDENT} on the device", no_wrap=True)
    for family in found["families"]:
        members = [expert for expert in found["data"] if expert["family"] == family]
        events = [event for event in swaps["data"] if event["family"] == family]
        tiers = {expert["name"]: expert["tier"] or expert["state"] for expert in members}
        lines = timeline(events, tiers, now, width)
        for expert in members:
            name = f"[bold]{expert['name']}[/bold]" if expert["active"] else expert["name"]
            shown.add_row(name, tiers[expert["name"]], str(expert["queued"] or ""), lines[expert["name"]])
    return Group(shown, *(_counts(worker) for worker in found["families"].values() if "swaps" in worker))


def _counts(worker: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{tier} {size / 2**30:.1f} GiB" for tier, size in worker["tier_bytes"].items() if size)
    held = f"; images: {sizes}" if sizes else ""
    loads = sum(worker["loads"].values())
    hits = worker["swap_hits"] / worker["swaps"] if worker["swaps"] else 1.0
    return (
        f"{worker['family']}: {worker['swaps']} swaps in {worker['swap_seconds']:.2f} s, {hits:.0%} of them to an "
        f"image on the device; {loads} loads; oldest wait {worker['oldest_wait']:.1f} s{held}"
    )


def watch(ask: Callable[[str], Mapping[str, Any]], every: float = 1.0) -> None:
    """Shows the table until Ctrl-C. ask: a path of the service -> its answer."""
    with Live(console=Console(), auto_refresh=False, screen=False) as live:
        while True:
            live.update(table(ask("/v1/experts"), ask("/v1/swaps"), time.time()), refresh=True)
            time.sleep(every)
