"""Pipeline events as /v1/completions writes them."""

import time
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import ApiError, from_failure
from orchestrator.events import Answered, Ask, PipelineEvent, Routed
from orchestrator.http.chat import DONE, coe_field, data, usage_field
from orchestrator.http.said import Said, text_logprobs_field
from workers.base import Delta, Failure, TokenLogprobs


class CompletionWriter:
    """Writes one answer. A stream's first chunk has no text and the `coe` field as far as it is known.

    echo: each text begins with that which it continues.
    """

    def __init__(self, ask: Ask, *, include_usage: bool, explain: bool, echo: bool = False) -> None:
        self._ask, self._include_usage, self._explain = ask, include_usage, explain
        self._created = int(time.time())
        self._model = ask.model
        self._routed: Routed | None = None
        self._offsets = [0] * ask.n
        self._heads = [text if echo else "" for text in ask.texts for _ in range(ask.n // len(ask.texts))]

    def whole(self, routed: Routed, said: Said, answered: Answered) -> dict[str, Any]:
        """A `text_completion`."""
        self._model = answered.winner or self._ask.model
        reasons = (answered.finish_reason, *answered.more)
        choices = [
            self._choice(index, self._heads[index] + choice.text, reason, choice.logprobs)
            for index, (choice, reason) in enumerate(zip(said.choices, reasons, strict=True))
        ]
        coe = coe_field(routed, answered, explain=self._explain)
        return {**self._head(), "choices": choices, "usage": usage_field(answered.usage), "coe": coe}

    def write(self, event: PipelineEvent) -> bytes:
        if isinstance(event, Delta):
            return self._chunk([self._choice(event.choice, event.text, None, event.logprobs)])
        if isinstance(event, Failure):
            return self.error(from_failure(event))
        if isinstance(event, Routed):
            self._routed = event
            coe = coe_field(event, explain=self._explain)
            self._model = coe["expert"] or self._ask.model
            first, *rest = [self._choice(index, head, None) for index, head in enumerate(self._heads)]
            echoed = [self._chunk([choice]) for choice in rest if choice["text"]]
            return b"".join((self._chunk([first], coe=coe), *echoed))
        assert self._routed is not None
        coe = coe_field(self._routed, event, explain=self._explain)
        reasons = enumerate((event.finish_reason, *event.more))
        last = self._chunk([self._choice(index, "", reason) for index, reason in reasons], coe=coe)
        if self._include_usage:
            last += data({**self._head(), "choices": [], "usage": usage_field(event.usage)})
        return last + DONE

    def error(self, error: ApiError) -> bytes:
        """An error in the band, where the status has been sent already."""
        return data(error.body(self._ask.request_id)) + DONE

    def _choice(
        self, index: int, text: str, reason: str | None, logprobs: Sequence[TokenLogprobs] = ()
    ) -> dict[str, Any]:
        written = None
        if logprobs:
            written = text_logprobs_field(logprobs, self._offsets[index])
            self._offsets[index] += sum(len(row.chosen.token) for row in logprobs)
        return {"index": index, "text": text, "logprobs": written, "finish_reason": reason}

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        if self._include_usage:
            more["usage"] = None
        return data({**self._head(), "choices": choices, **more})

    def _head(self) -> dict[str, Any]:
        return {
            "id": "cmpl-" + self._ask.request_id.removeprefix("req-"),
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
        }
