"""Weighted majority over short answers (self-consistency, Wang et al., arXiv 2203.11171, between experts)."""

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence

from aggregators.answers import extract
from aggregators.base import Draft, Drafts, Experts, Part, Piece, Request, Undecided, Verdict
from aggregators.drafts import failed, leaving, missing, sentence, usable

_SAFE = 1e-6
"""Lead over the remaining weight that ends a vote: far above what adding floats can get wrong."""


class Vote:
    """Implements `aggregators.base.Aggregator`.

    Every draft votes with its route weight for the answer that `extract` finds in it; a draft without such an answer
    has no vote. Most weight wins; a tie goes to the answer with the heaviest single vote, then to that with the best
    rank. The text is that of the best-ranked draft among the winning votes. No vote at all: the best-ranked draft.

    The vote ends early, and the experts still running are cancelled, once two things hold: the weight that is still out
    cannot change the winning answer, and every draft that ranks before the winning answer's best one is in. The second
    is for the text: were it missing, a better-ranked draft with the same answer would give the text if it came early
    and not if it came late. So winner and text do not depend on the order in which drafts arrive; `used` and `votes`
    do, for they tell what came in. The weight that is out is 1 minus what came in, since a route's weights sum to 1.

    Verdict: `winner` is the expert whose text it is; `used` are all whose draft came in, with a vote or without.

    or_raise: raises Undecided where there is no vote at all.
    """

    name = "vote"

    def __init__(self, *, or_raise: bool = False) -> None:
        self._or_raise = or_raise

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        seen: list[Draft] = []
        ballot: dict[str, list[Draft]] = defaultdict(list)
        drafts.ask(len(request.seats))
        async with leaving(drafts):
            async for draft in drafts:
                if isinstance(draft, Part):
                    continue
                seen.append(draft)
                answer = extract(draft.text) if draft.error is None else None
                if answer is not None:
                    ballot[answer].append(draft)
                if _is_decided(ballot, seen):
                    break
        there = usable(seen)
        totals = _count(ballot)
        if not totals and self._or_raise:
            raise Undecided(seen, "no draft has an answer to vote on")
        winners = ballot[next(iter(totals))] if totals else there
        best = min(winners, key=lambda draft: draft.rank)
        if best.text:
            yield Piece(best.text)
        errors, asked = failed(seen), len(request.seats)
        how = f"vote decided after {len(seen)} of {asked}" if totals else "no draft has an answer to vote on"
        yield Verdict(
            best.expert,
            best.finish_reason,
            used=tuple(draft.expert for draft in there),
            failed=errors,
            votes=totals,
            note=sentence(how, missing(errors, len(there), asked)),
        )


def _count(ballot: dict[str, list[Draft]]) -> dict[str, float]:
    """Answer -> total weight, the winner first. Does not depend on the order in which the votes came in."""
    totals = {answer: math.fsum(draft.weight for draft in votes) for answer, votes in ballot.items()}

    def place(answer: str) -> tuple[float, float, int]:
        votes = ballot[answer]
        # Rounded, so that weights which are equal but for the last bit are a tie.
        return -round(totals[answer], 9), -max(draft.weight for draft in votes), min(draft.rank for draft in votes)

    return {answer: totals[answer] for answer in sorted(ballot, key=place)}


def _is_decided(ballot: dict[str, list[Draft]], seen: Sequence[Draft]) -> bool:
    totals = _count(ballot)
    if not totals:
        return False
    leader = next(iter(totals))
    first, second, *_ = [*totals.values(), 0.0]
    out = 1.0 - math.fsum(draft.weight for draft in seen)
    better = range(min(draft.rank for draft in ballot[leader]))
    return first - second > out + _SAFE and {draft.rank for draft in seen}.issuperset(better)
