"""One fault after the other on a service under load, and what came of each."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.faults.kinds import Kind, NotHit
from benchmarks.faults.ledger import Row, Tally
from benchmarks.faults.load import Record
from benchmarks.faults.world import NotUp, World

WHOLE_S = 300.0
"""Seconds within which the service has to be whole again, also on a machine that has much else to do."""
OVERLAP = 0.2
"""So often a light fault is followed by another one before the service is whole again."""
REST_S = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: its name. hit: what was hit. at, undone, over: monotonic seconds; over: when the service was whole again.
    waited: was that waited for, or did the next one follow? problem: why it did not come about, or was not overcome."""

    kind: str
    hit: str
    at: float
    undone: float
    over: float
    waited: bool = True
    problem: str | None = None


def drawn(kinds: Sequence[Kind], number: int, rng: random.Random) -> list[Kind]:
    """So many, by their weights; where none has one, as if all were alike."""
    weights = [kind.weight for kind in kinds]
    return rng.choices(kinds, weights if any(weights) else None, k=number)


def run(
    world: World, kinds: Sequence[Kind], rng: random.Random, minutes: float, say: Callable[[str], None]
) -> list[Fault]:
    """Brings about one after the other, until so many minutes have passed. Ends with one that is not overcome."""
    until, done = time.monotonic() + 60 * minutes, list[Fault]()
    pending: list[Fault] = []
    for number, kind in enumerate(kinds):
        if time.monotonic() > until:
            say(f"{minutes:g} minutes are over: {len(kinds) - number} of {len(kinds)} faults are left out")
            break
        follows = number + 1 < len(kinds) and kind.light and kinds[number + 1].light and rng.random() < OVERLAP
        fault = _bring_about(world, kind, rng, waits=not follows)
        pending.append(fault)
        if fault.waited or fault.problem:
            done += [_over_at(own, fault.over) for own in pending]
            pending = []
        say(f"{number + 1:4} {kind.name:13} {fault.over - fault.at:6.1f} s  {fault.hit}  {fault.problem or ''}")
        if fault.problem:
            break
    return done + pending


def _over_at(fault: Fault, over: float) -> Fault:
    return Fault(fault.kind, fault.hit, fault.at, fault.undone, over, fault.waited, fault.problem)


def _bring_about(world: World, kind: Kind, rng: random.Random, *, waits: bool) -> Fault:
    at, hit, undone = time.monotonic(), "", 0.0
    problem = None
    try:
        with kind.begin(world, rng) as hit:
            _rest(world, kind.lasts_s)
        undone = time.monotonic()
        if waits:
            world.until_whole(WHOLE_S)
    except (NotHit, NotUp) as error:
        problem = str(error)
    over = time.monotonic()
    _rest(world, REST_S)
    return Fault(kind.name, hit, at, undone or over, over, waits, problem)


def _rest(world: World, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        world.tend()
        time.sleep(min(0.2, left))


# What came of it


@dataclass(frozen=True)
class Summary:
    """Of all faults of a kind. tally: of the requests under way during any of them. whole_s: to a service that is
    whole, of those for which that was waited; trouble_s: to the end of the last request that was not answered right, 0
    if none."""

    kind: str
    faults: int
    tally: Tally
    whole_s: tuple[float, ...]
    trouble_s: tuple[float, ...]


def summaries(faults: Sequence[Fault], rows: Sequence[Row]) -> Iterator[Summary]:
    """In the order in which the kinds first came."""
    for name in dict.fromkeys(fault.kind for fault in faults):
        own = [fault for fault in faults if fault.kind == name]
        under_way = {id(row): row for fault in own for row in during(fault, rows)}
        tallies = [Tally.of(during(fault, rows)) for fault in own]
        trouble = [(tally.last_trouble or fault.at) - fault.at for fault, tally in zip(own, tallies, strict=True)]
        whole = tuple(fault.over - fault.at for fault in own if fault.waited)
        yield Summary(name, len(own), Tally.of(list(under_way.values())), whole, tuple(trouble))


def during(fault: Fault, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.asked.at <= fault.over and row.heard.at >= fault.at]


def table_rows(found: Sequence[Summary]) -> list[tuple[object, ...]]:
    """kind, faults, requests, answered, errors, silent, wrong, seconds to whole (median, worst), of trouble (worst)."""
    rows: list[tuple[object, ...]] = []
    for own in found:
        tally = own.tally
        number = tally.right + tally.errors + tally.silent + tally.wrong
        whole = (median(own.whole_s), max(own.whole_s)) if own.whole_s else ("-", "-")
        rows.append(
            (
                own.kind,
                own.faults,
                number,
                tally.right,
                tally.errors,
                tally.silent,
                tally.wrong,
                *whole,
                max(own.trouble_s),
            )
        )
    return rows


HEADER = ("fault", "faults", "requests", "right", "errors", "silent", "wrong", "whole s", "worst s", "trouble s")


def figures(faults: Sequence[Fault], record: Record, not_done: Mapping[str, str]) -> dict[str, Any]:
    """All that is told as JSON."""
    tally, lines = Tally.of(record.rows), record.lines
    by_client = {
        client: Tally.of([row for row in record.rows if row.asked.client == client])
        for client in sorted({row.asked.client for row in record.rows})
    }
    return {
        "faults": sum(fault.problem is None for fault in faults),
        "silent_losses": tally.silent,
        "wrong_expert": tally.wrong + len(lines.wrong),
        "batch_lost": len(lines.lost),
        "batch_doubled": len(lines.doubled),
        "requests": len(record.rows),
        "slowest_s": round(max((row.heard.at - row.asked.at for row in record.rows), default=0.0), 1),
        "answered": tally.right,
        "errors": dict(tally.codes),
        "by_client": {client: {"answered": own.right, "errors": dict(own.codes)} for client, own in by_client.items()},
        "batches": record.batches,
        "batch_lines": lines.answered + lines.errors.total(),
        "batch_errors": dict(lines.errors),
        "batches_unfinished": record.unfinished,
        "not_done": dict(not_done),
        "problems": [f"{fault.kind}: {fault.problem}" for fault in faults if fault.problem] + record.troubles,
        "examples": [f"{row.end}: {row.asked.client}, {row.why}" for row in record.rows if row.end in BAD][:20],
        "kinds": {
            own.kind: {
                "faults": own.faults,
                "answered": own.tally.right,
                "errors": dict(own.tally.codes),
                "silent": own.tally.silent,
                "wrong": own.tally.wrong,
                "whole_s": [round(seconds, 1) for seconds in own.whole_s],
                "trouble_s": [round(seconds, 1) for seconds in own.trouble_s],
            }
            for own in summaries(faults, record.rows)
        },
        "hits": dict(Counter(fault.kind for fault in faults if fault.hit)),
    }


BAD = ("silent", "wrong")
