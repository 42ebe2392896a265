"""What every aggregator does with drafts: leave them properly, set the failed ones aside."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aggregators.base import Draft, NoDraft


@asynccontextmanager
async def leaving(drafts: AsyncIterator[Draft]) -> AsyncGenerator[None, None]:
    """Closes `drafts` at the end of the block, which cancels the experts that still run.

    Leaving a loop over an async generator does not do that: it would live on until it is collected.
    """
    try:
        yield
    finally:
        if isinstance(drafts, AsyncGenerator):
            await drafts.aclose()


def usable(seen: Sequence[Draft]) -> list[Draft]:
    """The drafts that are there, best rank first. Raises NoDraft if there is none."""
    ranked = sorted(seen, key=lambda draft: draft.rank)
    there = [draft for draft in ranked if draft.error is None]
    if not there:
        raise NoDraft(tuple(ranked))
    return there


def failed(seen: Sequence[Draft]) -> dict[str, str]:
    """Expert -> error of the drafts that are missing, best rank first."""
    return {d.expert: d.error for d in sorted(seen, key=lambda draft: draft.rank) if d.error is not None}
