"""One expert writes one answer from the drafts."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from aggregators.base import BrokenOff, Draft, Drafts, Experts, Messages, Part, Piece, Request, Verdict
from aggregators.drafts import able, all_of, best, failed, missing, sentence, usable
from aggregators.prompts import PROMPTS, render
from aggregators.quoting import Quoting
from aggregators.settings import Choose, Settings
from aggregators.stages import asking, by, generate


class Synthesize:
    """Implements `aggregators.base.Aggregator`.

    The writer sees the drafts in the route's order, and its tokens are sent as they come, with the caller's sampling.
    One draft needs no writer. A writer that fails before its first token, or writes nothing: the heaviest draft is the
    answer, and the note says so. One that fails later: BrokenOff.
    """

    name = "synthesize"

    def __init__(self, settings: Settings, choose: Choose) -> None:
        self._settings, self._choose = settings, choose

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return 1

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        seen = await all_of(request, drafts, by(request.deadline, 1, self._settings.reserve_s))
        there, errors = usable(seen), failed(seen)
        used, lost = tuple(draft.expert for draft in there), missing(errors, len(there), len(request.seats))
        how = ""
        if len(there) > 1:
            writer = self._choose("writer", request.category, able(request, seen))
            prompt = partial(written_from, "synthesize", self._settings, request, there)
            has_written, end = False, None
            async with aclosing(
                generate(experts, self._settings, writer, prompt, role="writer", is_answer=True)
            ) as events:
                async for event in events:
                    if isinstance(event, Part):
                        has_written = True
                        yield Piece(event.text)
                    else:
                        end = event
            assert end is not None, "a call ends with a Draft"
            if has_written and end.error is not None:
                raise BrokenOff(end)
            if has_written:
                note = sentence(f"{writer} wrote the answer from {len(there)} drafts", lost)
                yield Verdict(None, end.finish_reason, used=used, failed=errors, note=note)
                return
            why = f"failed ({end.error})" if end.error is not None else "wrote nothing"
            how = f"the writer {writer} {why}; {best(there).expert}'s draft has the most weight"
        winner = best(there)
        if winner.text:
            yield Piece(winner.text)
        yield Verdict(winner.expert, winner.finish_reason, used=used, failed=errors, note=sentence(how, lost))


def written_from(name: str, settings: Settings, request: Request, there: Sequence[Draft], characters: int) -> Messages:
    """The chat that asks for an answer from these drafts. name: of the prompt."""
    quoting = Quoting(request.seed)
    numbers = [str(number) for number in range(1, len(there) + 1)]
    text = render(
        settings.prompts.get(name, PROMPTS[name].text),
        question=quoting.plain(request.prompt),
        drafts=quoting.drafts([draft.text for draft in there], numbers, characters),
    )
    return asking(request, text)
