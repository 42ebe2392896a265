"""Step 7 of a request that one expert answers: once, or several times over, or with the rest of several texts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from orchestrator.events import Answered, Ask
from orchestrator.ledger import Ledger
from workers.base import Delta, Event, Failure, Finish, FinishReason, Sampling

OF_THE_TEXT = frozenset(("prompt_too_long", "invalid_request"))
"""Failures that tell of what was to be continued."""

log = structlog.stdlib.get_logger(__name__)


async def one(expert: str, ledger: Ledger) -> AsyncGenerator[Delta | Answered | Failure, None]:
    """Deltas, then one Answered or Failure. Closing it aborts the call."""
    async with aclosing(ledger.call(expert, "answer")) as events:
        async for event in events:
            if isinstance(event, Finish):
                yield Answered(event.reason, ledger.calls, winner=expert, used=(expert,))
            else:
                yield event


async def many(expert: str, ledger: Ledger, ask: Ask) -> AsyncGenerator[Delta | Answered | Failure, None]:
    """The same for all answers at a time, as calls of their own: the engine computes their prompt once. With a seed,
    each has the one after that of the answer before, and those to another text begin anew. The first failure is that of
    all, and ends the others.
    """
    n, each = ask.n, ask.n // max(1, len(ask.texts))
    news: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue()
    tasks = []
    for choice in range(n):
        text = ask.texts[choice // each] if ask.texts else None
        own = _with_seed(ask.sampling, choice % each)
        tasks.append(asyncio.create_task(_follow(expert, ledger, choice, own, text, news)))
    reasons: dict[int, FinishReason] = {}
    failure: Failure | None = None
    try:
        while failure is None and len(reasons) < n:
            choice, event = await news.get()
            if isinstance(event, Delta):
                yield replace(event, choice=choice)
            elif isinstance(event, Finish):
                reasons[choice] = event.reason
            elif isinstance(event, Failure) and len(ask.texts) > 1 and event.code in OF_THE_TEXT:
                failure = replace(event, message=f"prompt[{choice // each}]: {event.message}")
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


def _with_seed(sampling: Sampling, later: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + later)


async def _follow(
    expert: str,
    ledger: Ledger,
    choice: int,
    sampling: Sampling,
    text: str | None,
    news: "asyncio.Queue[tuple[int, Event | None]]",
) -> None:
    """Puts a call's events into `news`, and None behind the last one."""
    try:
        async with aclosing(ledger.call(expert, "answer", sampling=sampling, text=text)) as events:
            async for event in events:
                news.put_nowait((choice, event))
    except Exception:  # a fault of the service is that answer's failure, and not lost
        log.exception("answer failed", expert=expert, choice=choice)
    finally:
        news.put_nowait((choice, None))
