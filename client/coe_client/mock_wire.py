"""What the mock service writes: one answer in the form of each protocol, whole or as the events of a stream."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. texts: in the pieces of its stream. calls: OpenAI's `tool_calls`. usage: tokens of prompt and answer.

    model: what was asked for. coe: more of that field. error: instead of an end; lost: neither end nor error.
    """

    model: str
    expert: str | None
    texts: Sequence[str]
    calls: Sequence[Mapping[str, Any]]
    finish_reason: str
    usage: tuple[int, int]
    coe: Mapping[str, Any]
    n: int = 1
    include_usage: bool = False
    error: Mapping[str, Any] | None = None
    lost: bool = False

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def head(self, name: str, kind: str) -> dict[str, Any]:
        return {"id": f"{name}-mock", "object": kind, "created": CREATED, "model": self.expert or self.model}

    def tokens(self) -> dict[str, Any]:
        prompt, completion = self.usage
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def route(self, *, ended: bool) -> dict[str, Any]:
        """The field `coe` as far as it is known: who took part is known at the end."""
        experts = [self.expert] if self.expert else []
        call = {"role": "answer", "usage": self.tokens(), "seconds": 0.1, "cost": None, "error": None}
        known = {
            "request_id": "req-mock",
            "expert": self.expert,
            "experts": experts,
            "category": None,
            "probabilities": {},
            "margin": 1.0,
            "reason": f"{self.expert} was put in by a test",
            "router": "mock",
            "aggregator": "single",
            "used": experts,
            "failed": {},
            "usage_by_expert": {name: self.tokens() for name in experts},
            "calls": [{"expert": name, **call} for name in experts],
            "note": "",
            **self.coe,
        }
        return known if ended else {**known, "used": [], "failed": {}, "usage_by_expert": {}, "calls": []}


def whole(path: str, said: Said) -> dict[str, Any]:
    """The JSON of an answer of this path."""
    if path == "/v1/responses":
        return _response(said, "completed", [item for item, _ in _items(said)], ended=True)
    tail = {"usage": said.tokens(), "coe": said.route(ended=True)}
    ended = {"logprobs": None, "finish_reason": said.finish_reason}
    if path == "/v1/completions":
        texts = [{"index": n, "text": said.text, **ended} for n in range(said.n)]
        return {**said.head("cmpl", "text_completion"), "choices": texts, **tail}
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None if said.calls else said.text}
    message["refusal"] = None
    if said.calls:
        message["tool_calls"] = [*said.calls]
    choices = [{"index": n, "message": message, **ended} for n in range(said.n)]
    return {**said.head("chatcmpl", "chat.completion"), "choices": choices, **tail}


def events(path: str, said: Said) -> Iterator[Mapping[str, Any]]:
    """The events of its stream."""
    if path == "/v1/responses":
        for number, event in enumerate(_response_events(said)):
            yield {"sequence_number": number, **event}
        return
    yield from _chunks(said, is_chat=path != "/v1/completions")


def _chunks(said: Said, *, is_chat: bool) -> Iterator[Mapping[str, Any]]:
    head = said.head("chatcmpl", "chat.completion.chunk") if is_chat else said.head("cmpl", "text_completion")

    def chunk(text: str | None, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
        content = {} if text is None else {"content": text}
        what = {"delta": {**delta, **content}} if is_chat else {"text": text or ""}
        choice = {"index": 0, **what, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "choices": [choice], "usage": None}

    yield {**chunk("", **{"role": "assistant"} if is_chat else {}), "coe": said.route(ended=False)}
    for text in said.texts:
        yield chunk(text)
    for index, call in enumerate(said.calls):
        begun = {**call["function"], "arguments": ""}
        yield chunk(None, tool_calls=[{**call, "index": index, "function": begun}])
        for part in _halves(call["function"]["arguments"]):
            yield chunk(None, tool_calls=[{"index": index, "function": {"arguments": part}}])
    if said.error is not None:
        yield {"error": {"message": "put in by a test", "type": "server_error", "param": None, **said.error}}
    elif not said.lost:
        yield {**chunk(None, said.finish_reason), "coe": said.route(ended=True)}
        if said.include_usage:
            yield {**head, "choices": [], "usage": said.tokens()}


def _response_events(said: Said) -> Iterator[dict[str, Any]]:
    for kind in ("response.created", "response.in_progress"):
        yield {"type": kind, "response": _response(said, "in_progress", [], ended=False)}
    items = _items(said)
    for place, (item, parts) in enumerate(items):
        at = {"item_id": item["id"], "output_index": place}
        is_text = item["type"] == "message"
        empty: dict[str, Any] = {"content": []} if is_text else {"arguments": ""}
        begun = {**item, "status": "in_progress", **empty}
        yield {"type": "response.output_item.added", "output_index": place, "item": begun}
        for part in parts:
            kind = "output_text" if is_text else "function_call_arguments"
            more = {"content_index": 0, "logprobs": []} if is_text else {}
            yield {"type": f"response.{kind}.delta", **at, **more, "delta": part}
        if said.error is None and not said.lost:
            yield {"type": "response.output_item.done", "output_index": place, "item": item}
    if said.error is not None:
        error = {"code": None, "message": "put in by a test", "param": None}
        yield {"type": "error", **error, **{key: value for key, value in said.error.items() if key in error}}
    elif not said.lost:
        response = _response(said, "completed", [item for item, _ in items], ended=True)
        yield {"type": f"response.{response['status']}", "response": response}


def _items(said: Said) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """Output items of a response, each with the pieces that it is streamed in."""
    made: list[tuple[dict[str, Any], Sequence[str]]] = []
    if said.text or not said.calls:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        message = {"id": "msg_mock", "type": "message", "role": "assistant", "content": [part]}
        made.append(({**message, "status": "completed"}, said.texts))
    for index, call in enumerate(said.calls):
        item = {"id": f"fc_mock_{index}", "type": "function_call", "call_id": call["id"], **call["function"]}
        made.append(({**item, "status": "completed"}, _halves(call["function"]["arguments"])))
    return made


def _response(said: Said, status: str, items: list[dict[str, Any]], *, ended: bool) -> dict[str, Any]:
    prompt, completion = said.usage
    used: dict[str, Any] = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
    used |= {"input_tokens_details": {"cached_tokens": 0}}
    is_cut = ended and said.finish_reason == "length"
    return {
        "id": "resp_mock",
        "object": "response",
        "created_at": CREATED,
        "model": said.expert or said.model,
        "status": "incomplete" if is_cut else status,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "error": None,
        "output": items,
        "usage": used if ended else None,
        "coe": said.route(ended=ended),
    }


def _halves(text: str) -> Sequence[str]:
    middle = len(text) // 2
    return text[:middle], text[middle:]
