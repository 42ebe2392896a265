"""Drafts and requests that the tests of the aggregators share."""

from collections.abc import Sequence
from typing import Any

from aggregators.base import Aggregator, Draft, Piece, Request, Seat, Verdict
from aggregators.fake import Scripted
from aggregators.given import Given


def draft(rank: int, weight: float, text: str = "", error: str | None = None) -> Draft:
    return Draft(f"e{rank}", rank, weight, text, error=error, code=error and error.partition(":")[0])


def request_for(drafts: Sequence[Draft], **fields: Any) -> Request:
    """One whose seats have given these drafts, in whatever order."""
    ranked = sorted(drafts, key=lambda draft: draft.rank)
    seats = tuple(Seat(draft.expert, draft.weight) for draft in ranked)
    given: dict[str, Any] = {
        "messages": ({"role": "user", "content": "the question"},),
        "category": None,
        "candidates": tuple(seat.expert for seat in seats),
        **fields,
    }
    given["prompt"] = given["messages"][-1]["content"]
    return Request("req-1", seats=seats, **given)


async def run(
    aggregator: Aggregator, drafts: Sequence[Draft], experts: Scripted | None = None, **fields: Any
) -> tuple[str, Verdict, Given]:
    """(text, verdict, what was taken of the drafts). fields: of the request."""
    experts, arrivals = experts or Scripted(), Given(drafts)
    events = [event async for event in aggregator.aggregate(request_for(drafts, **fields), arrivals, experts)]
    *pieces, verdict = events
    assert isinstance(verdict, Verdict)
    assert arrivals.closed
    assert experts.open == 0
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), verdict, arrivals


def run_now(
    aggregator: Aggregator, drafts: Sequence[Draft], experts: Scripted | None = None, **fields: Any
) -> tuple[str, Verdict, Given]:
    """The same without an event loop: nothing in here waits, so one step of the coroutine is all of it."""
    coroutine = run(aggregator, drafts, experts, **fields)
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: tuple[str, Verdict, Given] = done.value
        return result
    raise AssertionError("the aggregator waited for something else than its drafts and calls")
