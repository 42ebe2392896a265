"""Step 7 of a request that several experts answer: the aggregator, and the calls that it gets its drafts from."""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, get_args

import structlog

from aggregators.base import Aggregator, BrokenOff, Draft, Messages, NoDraft, Part, Piece, Request, Seat, Verdict
from orchestrator.events import Answered, Ask, DraftText, Routed
from orchestrator.ledger import Ledger, public
from workers.base import Delta, Event, Failure, FailureCode, Finish, Sampling
from workers.tracing import names

log = structlog.stdlib.get_logger(__name__)


def request_of(ask: Ask, routed: Routed) -> Request:
    """The request as aggregators know it. Its seed is the caller's, else one made from the request's id."""
    route, seed = routed.route, ask.sampling.seed
    return Request(
        id=ask.request_id,
        messages=ask.messages,
        prompt=ask.prompt,
        category=route.category,
        seats=tuple(Seat(choice.expert, choice.weight) for choice in route.choices),
        candidates=tuple(filter(None, dict.fromkeys((*route.experts, *routed.candidates, routed.writer)))),
        deadline=ask.deadline,
        seed=zlib.crc32(ask.request_id.encode()) if seed is None else seed,
        patience=route.patience,
    )


async def several(
    aggregator: Aggregator, request: Request, ledger: Ledger
) -> AsyncGenerator[Delta | Answered | Failure, None]:
    """Deltas, then one Answered or Failure. Closing it aborts every call."""
    drafts = RouteDrafts(request, ledger)
    span = ledger.span = ledger.span.child(
        names.aggregate(aggregator.name), attributes={names.AGGREGATOR: aggregator.name}
    )
    left = False
    end: Verdict | Failure = Failure("internal", f"aggregator {aggregator.name} ended without a verdict")
    try:
        async with aclosing(aggregator.aggregate(request, drafts, OwnCalls(request.id, ledger))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield Delta(piece.text)
                else:
                    end = piece
    except NoDraft as error:
        end = Failure(_code(error.drafts), f"every expert of the route failed: {error}")
    except BrokenOff as error:
        end = Failure(_code((error.draft,)), str(error))
    except (GeneratorExit, asyncio.CancelledError):
        left = True
        raise
    finally:
        await drafts.aclose()
        if isinstance(end, Verdict):
            span.set({names.USED: end.used})
        elif left:
            span.set({names.ERROR_TYPE: names.CANCELLED})
        else:
            span.fail(end.code)
        span.end()
    yield end if isinstance(end, Failure) else _answered(end, ledger, drafts.said)


def _answered(verdict: Verdict, ledger: Ledger, drafts: tuple[DraftText, ...]) -> Answered:
    return Answered(
        verdict.finish_reason,
        ledger.calls,
        verdict.winner,
        verdict.used,
        verdict.failed,
        verdict.votes,
        verdict.scores,
        verdict.note,
        drafts=drafts,
    )


def _code(failed: Sequence[Draft]) -> FailureCode:
    """The kind of the first one's failure."""
    code = failed[0].code if failed else None
    return next((known for known in get_args(FailureCode) if known == code), "internal")


class RouteDrafts:
    """Implements `aggregators.base.Drafts`: a task for each seat that was asked.

    It is its own iterator. `_unread` has what watched seats have said since it was last read, `_open` the seats that
    were asked and whose Draft has not been read.
    """

    def __init__(self, request: Request, ledger: Ledger) -> None:
        self._request, self._ledger = request, ledger
        self._deadline = float("inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._open: set[int] = set()
        self._said: list[list[str]] = [[] for _ in request.seats]
        self._unread: dict[int, list[str]] = {}
        self._ended: deque[Draft] = deque()
        self._news = asyncio.Event()

    @property
    def said(self) -> tuple[DraftText, ...]:
        """By those that were asked, so far."""
        asked = zip(self._request.seats, self._said[: len(self._tasks)], strict=False)
        return tuple(DraftText(seat.expert, "".join(words)) for seat, words in asked)

    def ask(self, count: int) -> None:
        for rank in range(len(self._tasks), min(count, len(self._request.seats))):
            self._open.add(rank)
            self._tasks.append(asyncio.create_task(self._run(rank)))

    def watch(self, rank: int) -> None:
        if rank not in self._unread:
            self._unread[rank] = list(self._said[rank])
            self._news.set()

    def until(self, deadline: float) -> None:
        self._deadline = deadline

    def cancel(self, rank: int) -> None:
        if rank < len(self._tasks):
            self._open.discard(rank)
            self._tasks[rank].cancel()
            self._news.set()

    async def aclose(self) -> None:
        for rank in range(len(self._tasks)):
            self.cancel(rank)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __aiter__(self) -> "RouteDrafts":
        return self

    async def __anext__(self) -> Part | Draft:
        while self._open:
            for rank, unread in self._unread.items():
                if unread and rank in self._open:
                    self._unread[rank] = []
                    return Part(rank, "".join(unread))
            while self._ended:
                draft = self._ended.popleft()
                if draft.rank in self._open:
                    self._open.discard(draft.rank)
                    return draft
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    async def _run(self, rank: int) -> None:
        seat, said = self._request.seats[rank], self._said[rank]
        end: Event = Failure("internal", "the call ended without an end")
        try:
            async with aclosing(self._ledger.call(seat.expert, "draft", deadline=self._deadline)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        said.append(event.text)
                        if rank in self._unread:
                            self._unread[rank].append(event.text)
                            self._news.set()
                    else:
                        end = event
        except Exception:  # a fault of the service costs one draft, as a fault of the worker does
            log.exception("draft failed", request_id=self._request.id, expert=seat.expert)
        finally:
            if rank in self._open:  # else it was cancelled
                self._ended.append(_draft(end, Draft(seat.expert, rank, seat.weight), said, self._request.id))
                self._news.set()


class OwnCalls:
    """Implements `aggregators.base.Experts`."""

    def __init__(self, request_id: str, ledger: Ledger) -> None:
        self._request_id, self._ledger = request_id, ledger

    async def generate(
        self,
        expert: str,
        messages: Messages,
        *,
        role: str,
        is_answer: bool = False,
        max_tokens: int | None = None,
        temperature: float | None = None,
        deadline: float = float("inf"),
    ) -> AsyncGenerator[Part | Draft, None]:
        sampling = None if is_answer else Sampling(temperature, max_tokens=max_tokens)
        said: list[str] = []
        async with aclosing(
            self._ledger.call(expert, role, messages=messages, sampling=sampling, deadline=deadline)
        ) as events:
            async for event in events:
                if isinstance(event, Delta):
                    said.append(event.text)
                    yield Part(0, event.text)
                else:
                    yield _draft(event, Draft(expert, 0, 1.0), said, self._request_id)


def _draft(end: Event, draft: Draft, said: Sequence[str], request_id: str) -> Draft:
    """`draft` with what its call said, or with what it failed with."""
    if isinstance(end, Finish):
        reason: Literal["stop", "length"] = "length" if end.reason == "length" else "stop"
        return replace(draft, text="".join(said), finish_reason=reason)
    assert isinstance(end, Failure)
    log.warning("call failed", request_id=request_id, expert=draft.expert, code=end.code)
    return replace(draft, error=public(end), code=end.code)
