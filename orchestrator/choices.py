"""Step 7 of a request that one expert answers: once, or several times over."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from orchestrator.events import Answered
from orchestrator.ledger import Ledger
from workers.base import Delta, Event, Failure, Finish, FinishReason, Sampling

log = structlog.stdlib.get_logger(__name__)


async def one(expert: str, ledger: Ledger) -> AsyncGenerator[Delta | Answered | Failure, None]:
    """Deltas, then one Answered or Failure. Closing it aborts the call."""
    async with aclosing(ledger.call(expert, "answer")) as events:
        async for event in events:
            if isinstance(event, Finish):
                yield Answered(event.reason, ledger.calls, winner=expert, used=(expert,))
            else:
                yield event


async def many(
    expert: str, ledger: Ledger, n: int, sampling: Sampling
) -> AsyncGenerator[Delta | Answered | Failure, None]:
    """The same for n answers at a time, as calls of their own: the engine computes their prompt once. With a seed, each
    has the one after that of the answer before. The first failure is that of all, and ends the others.
    """
    news: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue()
    tasks = [asyncio.create_task(_follow(expert, ledger, choice, sampling, news)) for choice in range(n)]
    reasons: dict[int, FinishReason] = {}
    failure: Failure | None = None
    try:
        while failure is None and len(reasons) < n:
            choice, event = await news.get()
            if isinstance(event, Delta):
                yield replace(event, choice=choice)
            elif isinstance(event, Finish):
                reasons[choice] = event.reason
            elif choice not in reasons:
                failure = event or Failure("internal", f"the call of {expert} ended without an end")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        yield failure
    else:
        first, *more = (reasons[choice] for choice in range(n))
        yield Answered(first, ledger.calls, winner=expert, used=(expert,), more=tuple(more))


async def _follow(
    expert: str, ledger: Ledger, choice: int, sampling: Sampling, news: "asyncio.Queue[tuple[int, Event | None]]"
) -> None:
    """Puts a call's events into `news`, and None behind the last one."""
    own = sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + choice)
    try:
        async with aclosing(ledger.call(expert, "answer", sampling=own)) as events:
            async for event in events:
                news.put_nowait((choice, event))
    except Exception:  # a fault of the service is that answer's failure, and not lost
        log.exception("answer failed", expert=expert, choice=choice)
    finally:
        news.put_nowait((choice, None))
