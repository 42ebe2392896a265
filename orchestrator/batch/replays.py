"""Drafts that were made before: the calls of a request for them are answered at once, all others go to the workers.

A batch makes the drafts of lines that several experts answer expert by expert, and then one answer of them. What makes
it is the pipeline as for any request; only that its drafts are there already.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestrator.calls import Workers
from workers.base import ChatCall, Delta, Event, Failure, Finish, FinishReason, Usage, WorkerStats


@dataclass(frozen=True, slots=True)
class Draft:
    """What an expert said, or why it did not."""

    text: str = ""
    reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None


class Replays:
    """Implements `orchestrator.calls.Workers` around other workers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._known: dict[str, tuple[tuple[dict[str, Any], ...], Mapping[str, Draft]]] = {}

    @contextmanager
    def of(self, request_id: str, messages: tuple[dict[str, Any], ...], drafts: Mapping[str, Draft]) -> Iterator[None]:
        """While the block runs, the calls of that request with its own messages are answered by these drafts."""
        self._known[request_id] = (messages, drafts)
        try:
            yield
        finally:
            del self._known[request_id]

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        messages, drafts = self._known.get(call.request_id, ((), {}))
        draft = drafts.get(call.expert) if call.messages == messages else None
        if draft is None:
            async with aclosing(self._workers.generate(call)) as events:
                async for event in events:
                    yield event
            return
        if draft.text:
            yield Delta(draft.text, draft.usage)
        yield draft.failure or Finish(draft.reason, call.expert, draft.usage)

    async def stats(self) -> dict[str, WorkerStats | str]:
        return await self._workers.stats()
