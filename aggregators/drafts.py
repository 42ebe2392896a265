"""What every aggregator does with drafts: wait for them, leave them properly, set the failed ones aside."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from aggregators.base import Draft, Drafts, NoDraft, Request


@asynccontextmanager
async def leaving(drafts: Drafts) -> AsyncGenerator[None, None]:
    """Closes `drafts` at the end of the block, which cancels the experts that still run."""
    try:
        yield
    finally:
        await drafts.aclose()


async def all_of(request: Request, drafts: Drafts, until: float) -> list[Draft]:
    """The drafts of all seats, best rank first; late ones, by `until` (Unix s), as failed."""
    drafts.until(until)
    drafts.ask(len(request.seats))
    async with leaving(drafts):
        seen = [draft async for draft in drafts if isinstance(draft, Draft)]
    return sorted(seen, key=lambda draft: draft.rank)


def usable(seen: Sequence[Draft]) -> list[Draft]:
    """The drafts that are there, best rank first. Raises NoDraft if there is none."""
    ranked = sorted(seen, key=lambda draft: draft.rank)
    there = [draft for draft in ranked if draft.error is None]
    if not there:
        raise NoDraft(tuple(ranked))
    return there


def best(there: Sequence[Draft]) -> Draft:
    """The heaviest; of equal ones that with the best rank."""
    return max(there, key=lambda draft: (draft.weight, -draft.rank))


def able(request: Request, seen: Sequence[Draft]) -> list[str]:
    """The candidates that have not just failed, for calls of an aggregator's own. Not empty while there is a draft."""
    broken = {draft.expert for draft in seen if draft.error is not None}
    broken -= {draft.expert for draft in seen if draft.error is None}
    return [expert for expert in request.candidates if expert not in broken]


def failed(seen: Sequence[Draft]) -> dict[str, str]:
    """Expert -> error of the drafts that are missing, best rank first."""
    return {d.expert: d.error for d in sorted(seen, key=lambda draft: draft.rank) if d.error is not None}


def missing(errors: Mapping[str, str], took_part: int, asked: int) -> str:
    """The part of a note that names the failed: "a and b failed; 1 of 3 drafts took part", or nothing."""
    if not errors:
        return ""
    *others, last = errors
    names = f"{', '.join(others)} and {last}" if others else last
    return f"{names} failed; {took_part} of {asked} drafts took part"


def sentence(*parts: str) -> str:
    """The parts that say something, as one note."""
    return "; ".join(filter(None, parts))
