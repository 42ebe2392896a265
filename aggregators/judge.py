"""Best of k: an expert scores the drafts, or compares them two at a time, and the best one is the answer."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal

from aggregators import judgement
from aggregators.base import Draft, Drafts, Experts, Messages, Piece, Request, Undecided, Verdict
from aggregators.drafts import able, all_of, best, failed, missing, sentence, usable
from aggregators.prompts import PROMPTS, render
from aggregators.quoting import Quoting
from aggregators.rubric import Rubric
from aggregators.settings import Choose, Settings
from aggregators.stages import by, conversation, say, together

Kind = Literal["judge", "compare"]
PAIR = ("A", "B")
"""What the drafts of a comparison are called."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """winner: None where the judge was of no use. how: for people. scores: expert -> 1 to 10."""

    winner: Draft | None
    how: str
    scores: dict[str, float] = field(default_factory=dict)


class Judge:
    """Implements `aggregators.base.Aggregator`.

    Scores: in one call the judge gives every draft a number in every dimension of the category's rubric; the rubric
    makes one score of them. The order of the drafts is drawn by the request's seed, for judges like what stands first.
    Equal scores: the draft with more weight, then the better rank.

    Pairs, for small models that cannot keep several drafts apart: the heaviest draft meets the others in turn, each
    time in both orders. It gives way only to one that wins both, so a judge that likes a place changes nothing.

    One draft, or drafts that are all the same, need no judge. A judge that fails, or whose reply is no judgement of
    every draft: the heaviest draft is the answer, and the note says so; with or_raise Undecided.
    """

    name = "judge"

    def __init__(self, settings: Settings, choose: Choose, *, or_raise: bool = False) -> None:
        self._settings, self._choose, self._or_raise = settings, choose, or_raise

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return 2 * (drafts - 1) if self._settings.is_pairwise else 1

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        seen = await all_of(request, drafts, by(request.deadline, 1, self._settings.reserve_s))
        there, errors = usable(seen), failed(seen)
        if len({draft.text for draft in there}) == 1:
            same = "" if len(there) == 1 else "all drafts are the same"
            judged = _Judged(there[0], same)
        else:
            judge = self._choose("judge", request.category, able(request, seen))
            judged = await (self._compared if self._settings.is_pairwise else self._scored)(
                request, there, experts, judge
            )
        if judged.winner is None and self._or_raise:
            raise Undecided(seen, judged.how)
        winner, how = judged.winner, judged.how
        if winner is None:
            winner = best(there)
            how = f"{how}; {winner.expert}'s draft has the most weight"
        if winner.text:
            yield Piece(winner.text)
        yield Verdict(
            winner.expert,
            winner.finish_reason,
            used=tuple(draft.expert for draft in there),
            failed=errors,
            scores=judged.scores,
            note=sentence(how, missing(errors, len(there), len(request.seats))),
        )

    async def _scored(self, request: Request, there: Sequence[Draft], experts: Experts, judge: str) -> _Judged:
        rubric, shown = rubric_of(self._settings, request.category), list(there)
        Random(f"order {request.seed}").shuffle(shown)
        names = [str(number) for number in range(1, len(shown) + 1)]
        reply = await say(
            experts,
            self._settings,
            judge,
            partial(judged_by, "judge", self._settings, request, [draft.text for draft in shown], names),
            role="judge",
            max_tokens=tokens_of("judge", self._settings, rubric, len(names)),
            temperature=0.0,
        )
        if reply.error is not None:
            return _Judged(None, f"the judge {judge} failed ({reply.error})")
        scores = judgement.scores(reply.text, names, rubric, [draft.text for draft in there])
        if scores is None:
            return _Judged(None, f"the judge {judge} gave no scores that can be used")
        by_rank = {draft.rank: rubric.total(scores[name]) for draft, name in zip(shown, names, strict=True)}
        winner = max(there, key=lambda draft: (round(by_rank[draft.rank], 9), draft.weight, -draft.rank))
        how = f"judge {judge} chose {winner.expert}'s draft: {by_rank[winner.rank]:.1f} of 10"
        return _Judged(winner, how, {draft.expert: by_rank[draft.rank] for draft in reversed(there)})

    async def _compared(self, request: Request, there: Sequence[Draft], experts: Experts, judge: str) -> _Judged:
        champion, rubric = best(there), rubric_of(self._settings, request.category)
        useful = 0
        for rival in there:
            if rival.text == champion.text:
                continue
            pairs = ((champion, rival), (rival, champion))
            replies = await together(
                say(
                    experts,
                    self._settings,
                    judge,
                    partial(judged_by, "compare", self._settings, request, [draft.text for draft in pair], PAIR),
                    role="judge",
                    max_tokens=tokens_of("compare", self._settings, rubric, 2),
                    temperature=0.0,
                )
                for pair in pairs
            )
            choices = [None if reply.error else judgement.preference(reply.text) for reply in replies]
            useful += sum(choice is not None for choice in choices)
            if choices == ["B", "A"]:
                champion = rival
        if not useful:
            return _Judged(None, f"the judge {judge} gave no choice that can be used")
        return _Judged(champion, f"judge {judge} chose {champion.expert}'s draft in comparisons of two")


def rubric_of(settings: Settings, category: str | None) -> Rubric:
    """What is judged in a category."""
    return settings.rubrics.get(category or "", settings.rubric)


def tokens_of(kind: Kind, settings: Settings, rubric: Rubric, drafts: int) -> int:
    """That a judge may say to so many drafts."""
    needed = 16 if kind == "compare" else 64 + drafts * (8 + 12 * len(rubric.dimensions))
    return settings.judge_tokens or needed


def judged_by(
    kind: Kind, settings: Settings, request: Request, texts: Sequence[str], names: Sequence[str], characters: int
) -> Messages:
    """The chat that asks for a judgement of these texts, called by `names`. kind: of the prompt."""
    rubric, quoting = rubric_of(settings, request.category), Quoting(request.seed)
    form = {each: dict.fromkeys((dimension.name for dimension in rubric.dimensions), "?") for each in names}
    text = render(
        settings.prompts.get(kind, PROMPTS[kind].text),
        question=quoting.plain(conversation(request)),
        drafts=quoting.drafts(texts, names, characters),
        dimensions="\n".join(f"- {dimension.name}: {dimension.question}" for dimension in rubric.dimensions),
        form=json.dumps(form).replace('"?"', "<1 to 10>"),
    )
    return [{"role": "user", "content": text}]
