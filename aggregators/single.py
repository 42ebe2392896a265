"""The answer is the draft of the best-ranked expert that has one."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from aggregators.base import Draft, Piece, Verdict
from aggregators.drafts import failed, leaving, usable


class Single:
    """Implements `aggregators.base.Aggregator`.

    The first draft to finish is not taken for the best one: a draft wins when every better-ranked one has failed. The
    others are then left, which cancels them.
    """

    name = "single"

    async def aggregate(self, prompt: str, drafts: AsyncIterator[Draft]) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        seen: list[Draft] = []
        async with leaving(drafts):
            async for draft in drafts:
                seen.append(draft)
                if _is_settled(seen):
                    break
        best = usable(seen)[0]
        if best.text:
            yield Piece(best.text)
        yield Verdict(best.expert, best.finish_reason, used=(best.expert,), failed=failed(seen))


def _is_settled(seen: Sequence[Draft]) -> bool:
    there = [draft.rank for draft in seen if draft.error is None]
    return bool(there) and {draft.rank for draft in seen}.issuperset(range(min(there)))
