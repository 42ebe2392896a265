"""What is kept of every request: metrics, one line in the log, and the decision record in the store."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import structlog

from orchestrator.ensembles import is_ensemble
from orchestrator.errors import CLIENT_GONE, from_exception
from orchestrator.events import AUTO, Answered, Ask, PipelineEvent, Routed, usage_by_expert
from orchestrator.groups import Groups
from orchestrator.ledger import Ledger
from orchestrator.metrics import NO_CATEGORY, NO_EXPERT, Metrics
from orchestrator.store import DECISION_TTL_S, MAX_DECISIONS, Store, StoreUnavailable
from routers.ask import ask as text_of
from routers.base import Route
from workers.base import Delta, Usage
from workers.tracing import names

_ROUTE = tuple(field.name for field in fields(Route))
MAX_UNWRITTEN = 1000
"""Decision records that may wait for a slow Redis; more are dropped and counted."""
NAMED = "named"
"""The router of a request whose caller has decided."""
MAX_PROMPT = 8192
"""Characters of a prompt that are stored: as many as encoders read, see `routers.encoders.base`."""
QUOTING = frozenset(("invalid_request",))
"""Failures whose messages come from templates, forms and engines that may quote what they refuse."""
ROUTED = "routed"
"""The outcome of a decision alone, without an answer."""
Kind = Literal["answer", "decision", "embedding"]
"""What a request is for; `decision`: which expert would answer, and nothing more."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which decision records are kept. most: so many, for ttl_s seconds each. content: with what the router
    read and the answers that were voted for."""

    most: int = MAX_DECISIONS
    ttl_s: float = DECISION_TTL_S
    content: bool = False


KEPT = Kept()


class Recorder:
    """Keeps records. The store is written to in the background: no answer waits for it or fails with it."""

    def __init__(self, store: Store, metrics: Metrics, kept: Kept = KEPT) -> None:
        self._store, self._metrics, self._kept = store, metrics, kept
        self._unwritten: Groups[dict[str, Any]] = Groups(self._write, MAX_UNWRITTEN)
        self._store_is_away = False

    @contextmanager
    def of(self, ask: Ask, waited: float, kind: Kind = "answer") -> "Iterator[Record]":
        """The record of one request, kept when the block is left, however it is left. waited: seconds before it."""
        record = Record(ask, waited, kind)
        try:
            yield record
        except Exception as error:
            record.outcome = from_exception(error).cause
            raise
        finally:
            self._keep(record)

    def _keep(self, record: "Record") -> None:
        """Metrics and log at once; the store without waiting for it."""
        seconds, ask = time.perf_counter() - record.began, record.ask
        self._count_calls(record)
        if ask.draft_of:
            return
        self._count(record, seconds)
        ask.span.set({names.EXPERT: record.expert})
        if record.outcome not in ("ok", ROUTED):
            ask.span.fail(record.outcome)
        log.info("request", **record.line(seconds))
        if record.routed is not None:
            self._store_soon(record.decision(seconds if record.kind == "answer" else None), ask)

    def _count_calls(self, record: "Record") -> None:
        """Drafts that are made for a request before it count here and now, and not again with it."""
        ask, key_class = record.ask, record.ask.grant.priority
        for call in record.ledger.calls if record.ledger else ():
            if ask.draft_of:
                call = replace(call, role="draft")
            if call.role != "draft" or call.expert not in ask.drafted:
                self._metrics.count_call(call, record.route, key_class)

    def _count(self, record: "Record", seconds: float) -> None:
        metrics, expert, key_class = self._metrics, record.expert, record.ask.grant.priority
        metrics.requests.labels(expert, record.route, record.outcome, key_class).inc()
        metrics.admitted.labels(key_class).observe(record.waited)
        if record.read:
            metrics.tokens.labels(expert, "prompt", record.route, key_class).inc(record.read)
        if record.kind == "answer":
            metrics.seconds.labels(expert).observe(seconds)
        if record.first_token is not None:
            metrics.first_token.labels(expert).observe(record.first_token)
        if record.routed is not None and record.routed.route.router != NAMED:
            chosen = record.routed.route
            metrics.routed.labels(chosen.router, chosen.category or NO_CATEGORY).inc()
            if chosen.probabilities:
                metrics.margin.labels(chosen.router).observe(chosen.margin)
        if record.answered and record.routed and record.ledger and record.ledger.drafted is not None:
            aggregated = time.perf_counter() - record.ledger.drafted
            metrics.aggregated.labels(record.routed.route.aggregator).observe(aggregated)

    def _store_soon(self, decision: dict[str, Any], ask: Ask) -> None:
        if self._kept.content:
            decision["prompt"] = text_of(ask.messages)[:MAX_PROMPT]
        else:
            decision = wordless(decision)
        if not self._unwritten.add(decision):
            self._metrics.records_lost.inc()

    async def _write(self, decisions: list[dict[str, Any]]) -> None:
        try:
            await self._store.record(decisions, self._kept.most, self._kept.ttl_s)
        except StoreUnavailable as error:
            self._metrics.records_lost.inc(len(decisions))
            if not self._store_is_away:
                log.warning("decision records are not stored until Redis is back", why=str(error))
            self._store_is_away = True
        else:
            self._store_is_away = False

    async def catch_up(self) -> None:
        """Waits until the decision records of all answers so far are stored, or lost."""
        await self._unwritten.catch_up()

    async def drain(self) -> None:
        """Waits for the decision records that are still to be written."""
        await self._unwritten.drain()


class Record:
    """What is kept of a request: the decision and how it went.

    waited: seconds for admission, before its own began. first_token: seconds to it, None where nobody looks on. read:
    tokens that the service itself has read of it, as those of texts to be embedded.
    """

    def __init__(self, ask: Ask, waited: float, kind: Kind) -> None:
        self.ask, self.waited, self.kind = ask, waited, kind
        self.read = 0
        self.began = time.perf_counter()
        self.routed: Routed | None = None
        self.answered: Answered | None = None
        self.ledger: Ledger | None = None
        self.first_token: float | None = None
        self.outcome = CLIENT_GONE  # unless an end is seen

    def see(self, event: PipelineEvent) -> None:
        if isinstance(event, Delta):
            if self.ask.stream and self.first_token is None:  # else workers hold pieces back
                self.first_token = time.perf_counter() - self.began
        elif isinstance(event, Routed):
            self.routed = event
        elif isinstance(event, Answered):
            self.answered, self.outcome = event, "ok"
        else:
            self.outcome = event.code

    @property
    def route(self) -> str:
        """How it came to its expert, if to any: bounded as a label."""
        if self.kind != "answer":
            return self.kind
        model = self.ask.draft_of or self.ask.model
        return "auto" if model == AUTO else "ensemble" if is_ensemble(model) else "named"

    @property
    def expert(self) -> str:
        """The expert that answered alone, else the first that was chosen: bounded as a label."""
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
            "route": self.route,
            "outcome": self.outcome,
            "experts": routed.route.experts if routed else (),
            "category": routed.route.category if routed else None,
            "seconds": seconds,
            "first_token_seconds": self.first_token,
            "router_seconds": routed.seconds if routed else None,
            "prompt_tokens": self.read + sum(usage.prompt_tokens for usage in usages),
            "completion_tokens": sum(usage.completion_tokens for usage in usages),
        }

    def decision(self, seconds: float | None) -> dict[str, Any]:
        """The decision record, for orjson. Times in seconds, None where nothing was generated; `at` is the Unix time of
        the end, `key` the lineage of the caller's. Votes and errors may quote prompt and answers: see `wordless`."""
        ask = self.ask
        decision: dict[str, Any] = {
            "request_id": ask.request_id,
            "at": time.time(),
            "model": ask.model if self.routed else None,  # as yet unchecked otherwise
            "outcome": self.outcome,
            "key": ask.caller,
            "key_name": ask.caller_name,
            "stream": ask.stream,
            "trace_id": ask.span.trace,
            "admission_seconds": self.waited,
            "seconds": seconds,
            "first_token_seconds": self.first_token,
        }
        if self.routed:
            routed, route = self.routed, self.routed.route
            decision |= {name: getattr(route, name) for name in _ROUTE} | {
                "router_seconds": routed.seconds,
                "candidates": routed.candidates,
                "removed": routed.removed,
                "notes": routed.notes,
            }
        if answered := self.answered:
            decision |= {
                "winner": answered.winner,
                "used": answered.used,
                "failed": answered.failed,
                "votes": answered.votes,
                "scores": answered.scores,
                "note": answered.note,
            }
        if self.ledger:
            decision["calls"] = self.ledger.calls
            decision["usage"] = self.usage_by_expert
        return decision


def wordless(decision: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what may quote prompt or answers.

    Votes are for "answer 1", the heaviest, "answer 2" and so on. Of an error in QUOTING its kind alone is left.
    """
    found = dict(decision)
    told: set[str] = set()
    if votes := found.get("votes"):
        heaviest = sorted(votes.values(), reverse=True)
        found["votes"] = {f"answer {number}": weight for number, weight in enumerate(heaviest, 1)}
    if failed := found.get("failed"):
        told |= set(failed.values())
        found["failed"] = {expert: _kind(error) for expert, error in failed.items()}
    if calls := found.get("calls"):
        told |= {call.error for call in calls if call.error}
        found["calls"] = [replace(call, error=call.error and _kind(call.error)) for call in calls]
    if note := found.get("note"):
        for error in sorted(told, key=len, reverse=True):  # one may be the beginning of another
            note = note.replace(error, _kind(error))
        found["note"] = note
    return found


def _kind(error: str) -> str:
    kind = error.partition(":")[0]
    return kind if kind in QUOTING else error
