"""The answer is the draft of the best-ranked expert that has one."""

from collections.abc import AsyncGenerator

from aggregators.base import BrokenOff, Draft, Drafts, Experts, Part, Piece, Request, Verdict
from aggregators.drafts import failed, leaving, missing, usable


class Single:
    """Implements `aggregators.base.Aggregator`.

    The seats are asked one after the other, each after those before it have failed: the rest is never asked.

    stream_first: an expert's tokens are sent as they come. So the next one takes over only from an expert that fails
    before its first token; later the answer breaks off with an error. Without it whole drafts are waited for, and the
    next one always takes over.
    """

    name = "single"

    def __init__(self, *, stream_first: bool = True) -> None:
        self._stream_first = stream_first

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        seen: list[Draft] = []
        async with leaving(drafts):
            for rank in range(len(request.seats)):
                if self._stream_first:
                    drafts.watch(rank)
                drafts.ask(rank + 1)
                has_spoken = False
                async for event in drafts:
                    if isinstance(event, Part):
                        has_spoken = True
                        yield Piece(event.text)
                    else:
                        seen.append(event)
                if has_spoken and seen[-1].error is not None:
                    raise BrokenOff(seen[-1])
                if seen[-1].error is None:
                    break
        best = usable(seen)[0]
        if best.text and not self._stream_first:
            yield Piece(best.text)
        errors = failed(seen)
        note = missing(errors, 1, len(seen))
        yield Verdict(best.expert, best.finish_reason, used=(best.expert,), failed=errors, note=note)
