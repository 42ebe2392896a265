"""Pipeline events as /v1/responses writes them: a response with items, or a stream of events that build it up."""

import time
from typing import Any

import orjson

from orchestrator.errors import ApiError, from_failure
from orchestrator.events import Answered, Ask, PipelineEvent, Routed
from orchestrator.http.chat import coe_field
from orchestrator.http.said import Call, Choice, Said
from orchestrator.http.wire_responses import ResponseRequest
from workers.base import CallPart, Delta, Failure, Usage


class ResponseWriter:
    """Writes one response. Its items are the text, if there is any, and then each call of a function."""

    def __init__(self, ask: Ask, body: ResponseRequest) -> None:
        self._ask, self._body = ask, body
        self._created = int(time.time())
        self._model = ask.model
        self._routed: Routed | None = None
        self._sequence = 0
        self._said = Choice()
        self._items: list[dict[str, Any]] = []
        """Of a stream: those that are whole."""
        self._open: str | None = None
        """The item that is being written: "text" or "call"."""
        self._begins = 0
        """Characters before its text."""

    @property
    def _key(self) -> str:
        return self._ask.request_id.removeprefix("req-")

    def whole(self, routed: Routed, said: Said, answered: Answered) -> dict[str, Any]:
        """A finished `response`."""
        [choice] = said.choices
        items = [] if not choice.text and choice.calls else [self._message(choice.text)]
        items += [self._call(index, call) for index, call in enumerate(choice.calls)]
        return self._finished(routed, answered, items)

    def write(self, event: PipelineEvent) -> bytes:
        if isinstance(event, Delta):
            self._said.add(event)
            return self._text(event.text) + b"".join(self._part(part) for part in event.calls)
        if isinstance(event, Failure):
            return self.error(from_failure(event))
        if isinstance(event, Routed):
            self._routed = event
            self._model = event.route.experts[0] if len(event.route.experts) == 1 else self._ask.model
            response = {**self._response("in_progress", [], None), "coe": coe_field(event, explain=self._explain)}
            return self._event("response.created", response=response) + self._event(
                "response.in_progress", response=response
            )
        assert self._routed is not None
        head = b"" if self._items or self._open else self._begin_text()
        end = head + self._close("incomplete" if event.finish_reason == "length" else "completed")
        response = self._finished(self._routed, event, self._items)
        return end + self._event(f"response.{response['status']}", response=response)

    def error(self, error: ApiError) -> bytes:
        """The error, and the response as failed, where the status has been sent already."""
        told = error.body(self._ask.request_id)["error"]
        failed = {
            **self._response("failed", self._items, None),
            "error": {"code": told["code"] or "server_error", "message": told["message"]},
        }
        said = {"code": told["code"], "message": told["message"], "param": told["param"]}
        return self._event("error", **said) + self._event("response.failed", response=failed)

    # The stream's items

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        begun = b"" if self._open == "text" else self._close() + self._begin_text()
        return begun + self._event(
            "response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=[]
        )

    def _begin_text(self) -> bytes:
        self._open, self._begins = "text", len("".join(self._said.texts[:-1]))
        item = {**self._message(""), "id": self._place()["item_id"], "status": "in_progress", "content": []}
        return self._event("response.output_item.added", output_index=len(self._items), item=item) + self._event(
            "response.content_part.added", **self._place(), content_index=0, part=_part("")
        )

    def _part(self, part: CallPart) -> bytes:
        begun = b""
        if part.name is not None:
            begun, self._open = self._close(), "call"
            item = {**self._call(part.index, Call(part.id or "", part.name)), "status": "in_progress"}
            begun += self._event("response.output_item.added", output_index=len(self._items), item=item)
        if not part.arguments:
            return begun
        return begun + self._event("response.function_call_arguments.delta", **self._place(), delta=part.arguments)

    def _close(self, status: str = "completed") -> bytes:
        """Ends the item that is being written."""
        kind, self._open, place = self._open, None, self._place()
        if kind is None:
            return b""
        if kind == "text":
            text = self._said.text[self._begins :]
            item = {**self._message(text), "id": place["item_id"], "status": status}
            done = self._event("response.output_text.done", **place, content_index=0, text=text, logprobs=[])
            done += self._event("response.content_part.done", **place, content_index=0, part=_part(text))
        else:
            index = sum(item["type"] == "function_call" for item in self._items)
            call = self._said.calls[index]
            item = {**self._call(index, call), "status": status}
            done = self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.written)
        output_index = len(self._items)
        self._items.append(item)
        return done + self._event("response.output_item.done", output_index=output_index, item=item)

    def _place(self) -> dict[str, Any]:
        calls = sum(item["type"] == "function_call" for item in self._items)
        texts = len(self._items) - calls
        message = f"msg_{self._key}" + (f"_{texts}" if texts else "")
        return {
            "item_id": f"fc_{self._key}_{calls}" if self._open == "call" else message,
            "output_index": len(self._items),
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"

    # The response

    @property
    def _explain(self) -> bool:
        return self._body.coe.explain

    def _message(self, text: str) -> dict[str, Any]:
        return {
            "id": f"msg_{self._key}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [_part(text)],
        }

    def _call(self, index: int, call: Call) -> dict[str, Any]:
        return {
            "id": f"fc_{self._key}_{index}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.written,
        }

    def _finished(self, routed: Routed, answered: Answered, items: list[dict[str, Any]]) -> dict[str, Any]:
        self._model = answered.winner or self._ask.model
        is_cut = answered.finish_reason == "length"
        if is_cut:  # it is the last item that was cut: half a call of a function must not be taken for one
            items = [*items[:-1], {**items[-1], "status": "incomplete"}]
        response = self._response("incomplete" if is_cut else "completed", items, answered.usage)
        return {**response, "coe": coe_field(routed, answered, explain=self._explain)}

    def _response(self, status: str, items: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
        body = self._body
        return {
            "id": f"resp_{self._key}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": self._model,
            "output": [*items],
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": body.text_.model_dump(by_alias=True, exclude_none=True),
            "tool_choice": _choice_field(body),
            "tools": [{"strict": False, **tool.model_dump(exclude_none=True)} for tool in body.tools],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": _usage(usage) if usage else None,
            "user": body.user,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _choice_field(body: ResponseRequest) -> Any:
    choice = body.tool_choice or "auto"
    return choice if isinstance(choice, str) else choice.model_dump()


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
