"""One aggregator, and another one where the first finds no answer: a vote, and a judge where nothing can be counted."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from aggregators.base import Aggregator, Drafts, Experts, Piece, Request, Undecided, Verdict
from aggregators.drafts import sentence
from aggregators.given import Given
from aggregators.stages import by


class Cascade:
    """Implements `aggregators.base.Aggregator`.

    first: one that raises Undecided where its rule finds nothing. otherwise: gets the same drafts, and makes the rest
    of the calls. reserve_s: seconds that are kept for it, see `aggregators.stages`.
    """

    name = "cascade"

    def __init__(self, first: Aggregator, otherwise: Aggregator, reserve_s: float | None) -> None:
        self._first, self._otherwise, self._reserve_s = first, otherwise, reserve_s

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return self._first.calls(drafts) + self._otherwise.calls(drafts)

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        drafts.until(by(request.deadline, 1, self._reserve_s))
        try:
            async with aclosing(self._first.aggregate(request, drafts, experts)) as events:
                async for event in events:
                    yield event
            return
        except Undecided as undecided:
            seen, why = undecided.drafts, undecided.why
        async with aclosing(self._otherwise.aggregate(request, Given(seen), experts)) as events:
            async for event in events:
                yield replace(event, note=sentence(why, event.note)) if isinstance(event, Verdict) else event
