"""Layers (mixture of agents, Wang et al., arXiv 2406.04692): every seat rewrites with all drafts in view."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from aggregators.base import Aggregator, Draft, Drafts, Experts, Piece, Request, Seat, Verdict
from aggregators.drafts import all_of, failed, missing, sentence, usable
from aggregators.given import Given
from aggregators.settings import MAX_LAYERS, Settings
from aggregators.stages import by, say, together
from aggregators.synthesize import written_from


class Refine:
    """Implements `aggregators.base.Aggregator`.

    After the layers `end` makes one answer of the last texts. A rewrite that fails leaves the seat's text before it; so
    no layer loses a draft. One draft needs no layers and no end.
    """

    name = "refine"

    def __init__(self, settings: Settings, end: Aggregator) -> None:
        if not 1 <= settings.layers <= MAX_LAYERS:
            raise ValueError(f"layers must be 1 to {MAX_LAYERS}, got {settings.layers}")
        self._settings, self._end = settings, end

    def calls(self, drafts: int) -> int:
        """See `Aggregator.calls`."""
        return drafts * self._settings.layers + self._end.calls(drafts)

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        """See `Aggregator.aggregate`."""
        layers, reserve = self._settings.layers, self._settings.reserve_s
        seen = await all_of(request, drafts, by(request.deadline, layers + 1, reserve))
        there, errors = usable(seen), failed(seen)
        lost = missing(errors, len(there), len(request.seats))
        if len(there) == 1:
            if there[0].text:
                yield Piece(there[0].text)
            yield Verdict(there[0].expert, there[0].finish_reason, (there[0].expert,), errors, note=lost)
            return
        total = sum(draft.weight for draft in there) or 1.0
        texts = [replace(draft, rank=rank, weight=draft.weight / total) for rank, draft in enumerate(there)]
        kept = 0
        for layer in range(1, layers + 1):
            until = by(request.deadline, layers + 1 - layer, reserve)
            written = await self._layer(request, texts, experts, f"layer {layer}", until)
            kept += sum(new is old for new, old in zip(written, texts, strict=True))
            texts = written
        seats = tuple(Seat(draft.expert, draft.weight) for draft in texts)
        how = f"{layers} layer{'s' if layers > 1 else ''} of rewriting" + (f", {kept} failed" if kept else "")
        async with aclosing(self._end.aggregate(replace(request, seats=seats), Given(texts), experts)) as events:
            async for event in events:
                if isinstance(event, Verdict):
                    event = replace(event, failed=errors, note=sentence(how, event.note, lost))
                yield event

    async def _layer(
        self, request: Request, texts: Sequence[Draft], experts: Experts, role: str, until: float
    ) -> list[Draft]:
        prompt = partial(written_from, "refine", self._settings, request, texts)
        written = await together(
            say(experts, self._settings, draft.expert, prompt, role=role, is_answer=True, deadline=until)
            for draft in texts
        )
        return [
            old if new.error is not None or not new.text else replace(new, rank=old.rank, weight=old.weight)
            for new, old in zip(written, texts, strict=True)
        ]
