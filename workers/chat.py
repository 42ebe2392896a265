"""An expert's own way of chatting: its tokenizer, chat template, stop tokens and generation defaults."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from experts.spec import ExpertSpec
from workers.base import ChatCall, Logprob, Sampling, TokenLogprobs

LEAST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON has not; as OpenAI does."""


class UnusableChat(ValueError):
    """The messages cannot be rendered by the expert's chat template. The message is fit for the caller."""


@dataclass(frozen=True)
class ExpertChat:
    """Renders chats for one expert and decodes what it writes.

    tokenizer: a Hugging Face fast tokenizer; stop_token_ids: tokens that end an answer; generation: the checkpoint's
    ``generation_config.json``; context_length: tokens of prompt and answer together.
    """

    spec: ExpertSpec
    tokenizer: Any
    stop_token_ids: tuple[int, ...]
    generation: dict[str, Any]
    context_length: int

    @classmethod
    def load(cls, spec: ExpertSpec, context_length: int, base: str | None = None) -> Self:
        """From the checkpoint that `spec` names, or from its `base` where an adapter brings no tokenizer of its own.

        Raises OSError or ValueError if the tokenizer is missing or broken; what its libraries raise for a broken file
        is a plain Exception at times.
        """
        from transformers import AutoTokenizer, GenerationConfig

        own = base is None or (Path(spec.source) / "tokenizer_config.json").is_file()
        source = spec.source if own else base
        tokenizer = AutoTokenizer.from_pretrained(source)
        if spec.chat_template is not None:
            tokenizer.chat_template = Path(spec.chat_template).read_text(encoding="utf-8")
        if not tokenizer.chat_template:
            raise ValueError(f"{spec.source} has no chat template; name a Jinja file in 'chat_template'")
        try:
            generation = GenerationConfig.from_pretrained(base or spec.source).to_diff_dict()
        except OSError:
            generation = {}
        ends = generation.get("eos_token_id", tokenizer.eos_token_id)
        stop = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
        longest = min(context_length, spec.context_length or context_length)
        return cls(spec, tokenizer, tuple(sorted(stop)), generation, longest)

    def render(self, call: ChatCall) -> list[int]:
        """Token ids of the prompt. Raises UnusableChat if the template refuses the messages, or knows no tools."""
        if call.text is not None:
            whole: list[int] = self.tokenizer(call.text)["input_ids"]
            return whole
        from jinja2 import TemplateError

        if call.tools and "tools" not in str(self.tokenizer.chat_template):
            raise UnusableChat(f"the chat template of {self.spec.name} knows no tools; name one in 'chat_template'")
        functions = call.tools.functions if call.tools else ()
        tools = [{"type": "function", "function": function} for function in functions] or None
        try:
            text = self.tokenizer.apply_chat_template(
                [_for_template(message) for message in call.messages],
                tools=tools,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UnusableChat(f"the chat template of {self.spec.name} refuses these messages: {error}") from error
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def sampling(self, asked: Sampling, prompt_tokens: int) -> dict[str, Any]:
        """Arguments for vLLM's SamplingParams: what the caller asked, else the spec's, else the checkpoint's default.

        Raises UnusableChat if prompt and answer cannot fit the context.
        """
        room = self.context_length - prompt_tokens
        own = self.spec.sampling
        asked_tokens = asked.max_tokens
        if room < 1 or (asked_tokens is not None and asked_tokens > room):
            asked_for = "" if asked_tokens is None else f" and {asked_tokens} tokens were asked for the answer"
            remedy = "shorten the prompt" if asked_tokens is None else "shorten the prompt or lower max_tokens"
            raise UnusableChat(
                f"the context of {self.spec.name} is {self.context_length} tokens, "
                f"the prompt has {prompt_tokens}{asked_for}: {remedy}"
            )
        arguments: dict[str, Any] = {
            key: self.generation[key]
            for key in ("temperature", "top_p", "top_k", "repetition_penalty")
            if self.generation.get(key) is not None
        }
        for source in (own.model_dump(exclude={"max_tokens", "stop"}), _asked(asked)):
            arguments |= {key: value for key, value in source.items() if value is not None}
        arguments["max_tokens"] = asked_tokens or min(own.max_tokens or room, room)
        return arguments

    def logprobs(
        self, token_ids: Sequence[int], found: Sequence[Mapping[int, Any]], top: int
    ) -> tuple[TokenLogprobs, ...]:
        """found: for each token, id -> vLLM's Logprob, of this token and of the `top` likeliest."""
        return tuple(
            TokenLogprobs(
                self._logprob(token_id, row[token_id]),
                tuple(
                    self._logprob(other, own)
                    for other, own in sorted(row.items(), key=lambda item: item[1].rank)
                    if own.rank <= top
                ),
            )
            for token_id, row in zip(token_ids, found, strict=True)
        )

    def _logprob(self, token_id: int, found: Any) -> Logprob:
        text = self.tokenizer.decode([token_id])
        return Logprob(text, max(found.logprob, LEAST_LOGPROB), text.encode())

    def decoder(self, stop: tuple[str, ...], *, special: bool = False) -> "StreamDecoder":
        """special: special tokens are text too, but for those that end an answer."""
        hidden = frozenset(self.stop_token_ids) if special else None
        return StreamDecoder(self.tokenizer, (*stop, *self.spec.sampling.stop), hidden)


def _for_template(message: dict[str, Any]) -> dict[str, Any]:
    """Arguments of tool calls as objects, which is what templates expect."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"] or "{}")}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _asked(asked: Sampling) -> dict[str, Any]:
    return {
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "repetition_penalty": asked.repetition_penalty,
        "logit_bias": dict(asked.logit_bias) or None,
        "logprobs": asked.logprobs,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
    }


class StopAt:
    """Text as it comes, cut before the first of the stop strings."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can go out: all but an end that may still turn into a stop string."""
        self._held += text
        return self._release(self._stop_begins())

    def flush(self) -> str:
        """The rest, once no more text will come."""
        return self._release(0)

    def _release(self, keep: int) -> str:
        found = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if self.stopped or found:
            cut = 0 if self.stopped else min(found)
            self.stopped = True
            out, self._held = self._held[:cut], ""
            return out
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def _stop_begins(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(text) - 1 for text in self._stop), default=0)
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(text.startswith(self._held[-size:]) for text in self._stop):
                return size
        return 0


class StreamDecoder:
    """Turns token ids into text as they come, and ends at a stop string, which is not part of the text.

    hidden: the tokens without text; None for all special ones.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], hidden: frozenset[int] | None = None) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._hidden = tokenizer.backend_tokenizer, hidden
        self._stream = DecodeStream(skip_special_tokens=hidden is None)
        self._ids: list[int] = []
        self._length = 0
        self._text = StopAt(stop)

    @property
    def stopped(self) -> bool:
        return self._text.stopped

    def push(self, token_ids: list[int]) -> str:
        """New text that can go out; an unfinished character waits for its other bytes."""
        if self._hidden:
            token_ids = [token_id for token_id in token_ids if token_id not in self._hidden]
        pieces = [self._stream.step(self._tokenizer, token_id) for token_id in token_ids]
        self._ids += token_ids
        new = "".join(piece for piece in pieces if piece is not None)
        self._length += len(new)
        return self._text.push(new)

    def flush(self) -> str:
        """The rest of the text, once the answer has ended; bytes of an unfinished character come out as U+FFFD."""
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=self._hidden is None)
        return self._text.push(whole[self._length :]) + self._text.flush()
