"""What is kept of every request: metrics, one line in the log, and the decision record in the store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import structlog

from orchestrator.ensembles import is_ensemble
from orchestrator.errors import from_exception
from orchestrator.events import AUTO, Answered, Ask, PipelineEvent, Routed, usage_by_expert
from orchestrator.groups import Groups
from orchestrator.ledger import Ledger
from orchestrator.metrics import NO_EXPERT, Metrics
from orchestrator.store import Store, StoreUnavailable
from routers.base import Route
from workers.base import Delta, Usage

_ROUTE = tuple(field.name for field in fields(Route))
MAX_UNWRITTEN = 1000
"""Decision records that may wait for a slow Redis; more are dropped and counted."""

log = structlog.stdlib.get_logger(__name__)


class Recorder:
    """Keeps records. The store is written to in the background: no answer waits for it or fails with it."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._unwritten: Groups[dict[str, Any]] = Groups(self._write, MAX_UNWRITTEN)
        self._store_is_away = False

    @contextmanager
    def of(self, ask: Ask) -> "Iterator[Record]":
        """The record of one request, kept when the block is left, however it is left."""
        record = Record(ask)
        try:
            yield record
        except Exception as error:
            record.outcome = from_exception(error).cause
            raise
        finally:
            self._keep(record)

    def _keep(self, record: "Record") -> None:
        """Metrics and log at once; the store without waiting for it."""
        expert, seconds = record.expert, time.perf_counter() - record.began
        model = record.ask.model
        route = "auto" if model == AUTO else "ensemble" if is_ensemble(model) else "named"
        self._metrics.requests.labels(expert, route, record.outcome).inc()
        self._metrics.seconds.labels(expert).observe(seconds)
        if record.first_token is not None:
            self._metrics.first_token.labels(expert).observe(record.first_token)
        for name, usage in record.usage_by_expert.items():
            self._metrics.count_usage(name, usage)
        log.info("request", **record.line(seconds))
        if record.routed is not None and not self._unwritten.add(record.decision(seconds)):
            self._metrics.records_lost.inc()

    async def _write(self, decisions: list[dict[str, Any]]) -> None:
        try:
            await self._store.record(decisions)
        except StoreUnavailable as error:
            self._metrics.records_lost.inc(len(decisions))
            if not self._store_is_away:
                log.warning("decision records are not stored until Redis is back", why=str(error))
            self._store_is_away = True
        else:
            self._store_is_away = False

    async def drain(self) -> None:
        """Waits for the decision records that are still to be written."""
        await self._unwritten.drain()


class Record:
    """What is kept of a request: the decision and how it went, without a word of prompt or answer."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.began = time.perf_counter()
        self.routed: Routed | None = None
        self.answered: Answered | None = None
        self.ledger: Ledger | None = None
        self.first_token: float | None = None
        self.outcome = "client_gone"  # unless an end is seen

    def see(self, event: PipelineEvent) -> None:
        if isinstance(event, Delta):
            if self.first_token is None:
                self.first_token = time.perf_counter() - self.began
        elif isinstance(event, Routed):
            self.routed = event
        elif isinstance(event, Answered):
            self.answered, self.outcome = event, "ok"
        else:
            self.outcome = event.code

    @property
    def expert(self) -> str:
        """The expert that answered, or would have: bounded as a label."""
        if self.answered and self.answered.winner:
            return self.answered.winner
        return self.routed.route.experts[0] if self.routed else NO_EXPERT

    @property
    def usage_by_expert(self) -> dict[str, Usage]:
        """Of every call that told its usage, also where no answer came of it."""
        return usage_by_expert(self.ledger.calls) if self.ledger else {}

    def line(self, seconds: float) -> dict[str, Any]:
        """What the log says of the request; the rest is in the decision record."""
        routed, usages = self.routed, self.usage_by_expert.values()
        return {
            "request_id": self.ask.request_id,
            "model": self.ask.model if routed else None,  # as yet unchecked otherwise
            "outcome": self.outcome,
            "experts": routed.route.experts if routed else (),
            "category": routed.route.category if routed else None,
            "seconds": seconds,
            "first_token_seconds": self.first_token,
            "router_seconds": routed.seconds if routed else None,
            "prompt_tokens": sum(usage.prompt_tokens for usage in usages),
            "completion_tokens": sum(usage.completion_tokens for usage in usages),
        }

    def decision(self, seconds: float) -> dict[str, Any]:
        """The decision record, for orjson. Times in seconds; `at` is the Unix time of the end."""
        decision: dict[str, Any] = {
            "request_id": self.ask.request_id,
            "at": time.time(),
            "model": self.ask.model if self.routed else None,  # as yet unchecked otherwise
            "outcome": self.outcome,
            "seconds": seconds,
            "first_token_seconds": self.first_token,
        }
        if self.routed:
            route = self.routed.route
            decision |= {name: getattr(route, name) for name in _ROUTE} | {"router_seconds": self.routed.seconds}
        if self.answered:
            decision |= {
                "winner": self.answered.winner,
                "used": self.answered.used,
                "failed": self.answered.failed,
                "note": self.answered.note,
            }
        if self.ledger:
            decision["calls"] = self.ledger.calls
            decision["usage"] = self.usage_by_expert
        return decision
