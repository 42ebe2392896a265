"""Weighted majority over short answers (self-consistency, Wang et al., arXiv 2203.11171, between experts)."""

from collections.abc import AsyncGenerator

from aggregators.answers import extract
from aggregators.ballot import Ballot
from aggregators.base import Draft, Drafts, Experts, Part, Piece, Request, Undecided, Verdict
from aggregators.drafts import failed, leaving, missing, sentence, usable


class Vote:
    """Implements `aggregators.base.Aggregator`.

    Every draft votes with its route weight for the answer that `extract` finds in it; a draft without such an answer
    has no vote. Who wins and when that is decided says `aggregators.ballot`. The text is that of the best-ranked draft
    among the winning votes. No vote at all: the best-ranked draft.

    All seats are asked at once, and the experts still running are cancelled when nothing can change the winner. In
    waves as few are asked as may decide the vote, then more where they did not: fewer calls, and longer to wait where
    the first ones differ. With the request's patience below 1 the vote may end before it is certain.

    Winner and text do not depend on the order in which drafts arrive; `used` and `votes` do, for they tell what came
    in. Verdict: `winner` is the expert whose text it is; `used` are all whose draft came in, with a vote or without.

    waves: see above. or_raise: raises Undecided where there is no vote at all.
    """

    name = "vote"

    def __init__(self, *, waves: bool = False, or_raise: bool = False) -> None:
        self._waves, self._or_raise = waves, or_raise

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        weights = [seat.weight for seat in request.seats]
        patience = request.patience if self._waves else 1.0
        seen: list[Draft] = []
        answers: dict[int, str | None] = {}
        ballot = Ballot(weights, answers)
        asked = ballot.wanted(0, patience) if self._waves else len(weights)
        drafts.ask(asked)
        async with leaving(drafts):
            async for draft in drafts:
                if isinstance(draft, Part):
                    continue
                seen.append(draft)
                answers[draft.rank] = extract(draft.text) if draft.error is None else None
                ballot = Ballot(weights, answers)
                if ballot.is_decided(asked, patience):
                    break
                asked = ballot.wanted(asked, patience)
                drafts.ask(asked)
        there = usable(seen)
        if ballot.winner is None and self._or_raise:
            raise Undecided(seen, "no draft has an answer to vote on")
        best = next((draft for draft in there if draft.rank == ballot.winner), there[0])
        if best.text:
            yield Piece(best.text)
        errors, seats = failed(seen), len(weights)
        how = f"vote decided after {len(seen)} of {seats}" if ballot.totals else "no draft has an answer to vote on"
        yield Verdict(
            best.expert,
            best.finish_reason,
            used=tuple(draft.expert for draft in there),
            failed=errors,
            votes=ballot.totals,
            note=sentence(how, missing(errors, len(there), seats)),
        )
