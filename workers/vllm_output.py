"""From the outputs of one vLLM request to a Delta for each step that says something, and the reason of the end."""

from typing import TYPE_CHECKING, Any

from workers.base import CallPart, ChatCall, Delta, Phases, Usage
from workers.chat import ExpertChat
from workers.steps import TIMES_KEY, phases
from workers.tool_calls import Parsed, Reader, reader

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput


class Answer:
    """What one request has said so far. reason: vLLM's reason of its end, None before it.

    An expert has its own end tokens and vocabulary, so text, ends and tool calls are made here, not by vLLM.
    """

    def __init__(self, chat: ExpertChat, call: ChatCall, prompt_tokens: int) -> None:
        self._chat, self._top = chat, call.sampling.logprobs
        self._reader: Reader | None = (
            reader(call.tools, chat.spec.tool_parser, chat.tokenizer) if call.tools is not None else None
        )
        self._decoder = chat.decoder(call.sampling.stop, special=isinstance(self._reader, Parsed))
        self.usage = Usage(prompt_tokens)
        self.reason: str | None = None
        self._first: dict[str, float] | None = None  # where its seconds had gone by the first output
        self._last: dict[str, float] = {}

    @property
    def phases(self) -> Phases | None:
        """Where its seconds went; None if the scheduler did not tell."""
        return None if self._first is None else phases(self._first, self._last)

    def push(self, output: "RequestOutput") -> Delta | None:
        """What the step says; None for nothing yet."""
        step = output.outputs[0]
        if times := (output.kv_transfer_params or {}).get(TIMES_KEY):
            self._first, self._last = self._first or times, times
        token_ids = list(step.token_ids)
        self.usage = Usage(
            self.usage.prompt_tokens,
            self.usage.completion_tokens + len(token_ids),
            max(self.usage.cached_tokens, output.num_cached_tokens or 0),
        )
        text = self._decoder.push(token_ids)
        if self._decoder.stopped:
            self.reason = "stop"
        elif output.finished:
            text += self._decoder.flush()
            self.reason = step.finish_reason
        calls: tuple[CallPart, ...] = ()
        if self._reader is not None and text:
            text, calls = self._reader.push(text, token_ids)
        if self._reader is not None and self.reason is not None:
            rest, more = self._reader.flush()
            text, calls = text + rest, (*calls, *more)
        if self.reason == "stop" and self._reader is not None and self._reader.called:
            self.reason = "tool_calls"
        found: Any = step.logprobs if self._top is not None else None
        logprobs = self._chat.logprobs(token_ids, found, self._top or 0) if found else ()
        return Delta(text, self.usage, calls, logprobs) if text or calls or logprobs else None
