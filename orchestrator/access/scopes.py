"""What a key with scopes sees of the service: nothing that has the name of an expert that it may not use."""

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.access.grant import Grant
from workers.base import SwapEvent, WorkerStats


def seen_by(grant: Grant, stats: Mapping[str, WorkerStats | str]) -> dict[str, WorkerStats | str]:
    """The workers' stats without other experts, and without families that have none of the key's."""
    if grant.experts is None:
        return dict(stats)
    seen: dict[str, WorkerStats | str] = {}
    for family, worker in stats.items():
        if isinstance(worker, WorkerStats) and any(grant.may_ask(name) for name in worker.tiers):
            seen[family] = replace(
                worker,
                tiers={name: tier for name, tier in worker.tiers.items() if grant.may_ask(name)},
                active=worker.active if worker.active and grant.may_ask(worker.active) else None,
                queued_by_expert={name: n for name, n in worker.queued_by_expert.items() if grant.may_ask(name)},
                events=tuple(filter(None, (event_seen_by(grant, event) for event in worker.events))),
            )
    return seen


def event_seen_by(grant: Grant, event: SwapEvent) -> SwapEvent | None:
    """None if it is of another expert. Why it happened may name one too, so a key with scopes is not told."""
    if grant.experts is None:
        return event
    return replace(event, why="") if grant.may_ask(event.image) else None
