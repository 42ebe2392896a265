"""A stream of `responses`: events to typed ones, and all of them to the answer. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coe_client.answers import Answer, Route, Usage, answer_from_response, usage_of_response
from coe_client.chunks import ToolCallPart
from coe_client.reading import Said

ENDS = ("response.completed", "response.incomplete")
FAILS = ("error", "response.failed")
AGAIN = frozenset(
    {
        "batch_expired",
        "concurrent_exceeded",
        "deadline_exceeded",
        "engine_died",
        "engine_starting",
        "expert_unavailable",
        "fatal_line",
        "internal_error",
        "no_expert",
        "overloaded",
        "rate_limit_exceeded",
        "requests_per_day_exceeded",
        "requests_per_minute_exceeded",
        "server_error",
        "storage_full",
        "store_unavailable",
        "tokens_per_day_exceeded",
        "tokens_per_minute_exceeded",
        "too_many_batches",
        "too_many_connections",
        "usd_per_day_exceeded",
        "usd_per_minute_exceeded",
    }
)
"""Codes of errors that may not happen again. Errors in this protocol have no type that would say so."""


@dataclass(frozen=True, slots=True)
class ResponseEvent:
    """One event of a stream.

    type: OpenAI's name of it. text: the piece of the answer that it brings. tool_calls: pieces of calls of functions.
    item: the output item that begins or is done with it. output_index: of the item that it is about.
    route: who answers, in the first event; with calls and costs, in the last. usage: in the last.
    """

    type: str
    text: str
    tool_calls: tuple[ToolCallPart, ...]
    item: Mapping[str, Any] | None
    output_index: int | None
    route: Route | None
    usage: Usage | None
    raw: Mapping[str, Any]


class ResponseEvents:
    """The `Pieces` of responses."""

    def __init__(self) -> None:
        self.ended = False
        self._response: Mapping[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, list[str]] = {}
        """Output index -> what has come of an item's text or arguments."""

    def error(self, raw: Mapping[str, Any]) -> Said | None:
        kind = raw.get("type")
        if kind not in FAILS and not raw.get("error"):
            return None
        told: Any = raw
        if kind == "response.failed":
            response = raw.get("response")
            told = response.get("error") if isinstance(response, Mapping) else None
        elif raw.get("error"):  # the shape of the other protocols, from a proxy on the way
            told = raw["error"]
        error = dict(told) if isinstance(told, Mapping) else {"message": str(told or kind)}
        if error.get("type") in FAILS:  # that is the event's, not the error's
            del error["type"]
        return Said(error, error.get("code") in AGAIN)

    def add(self, raw: Mapping[str, Any]) -> ResponseEvent:
        kind, place, item = raw.get("type"), raw.get("output_index"), raw.get("item")
        if not isinstance(kind, str):
            raise ValueError("an event has no 'type'")
        response = raw.get("response") if kind.startswith("response.") else None
        if response is not None:
            answer_from_response(response)  # raises for what is none
            self._response = response
        elif kind in ENDS:
            raise ValueError(f"an event of the type {kind} has no 'response'")
        text, calls = "", tuple[ToolCallPart, ...]()
        if isinstance(place, int):
            text, calls = self._piece(kind, place, item, raw)
        event = ResponseEvent(
            type=kind,
            text=text,
            tool_calls=calls,
            item=item,
            output_index=place,
            route=Route.model_validate(response["coe"]) if response and response.get("coe") else None,
            usage=Usage.model_validate(used) if (used := usage_of_response((response or {}).get("usage"))) else None,
            raw=raw,
        )
        self.ended = kind in ENDS
        return event

    def answer(self, request_id: str | None) -> Answer:
        raw = self._response
        if not self.ended:
            raw = {"object": "response", **raw, "output": [self._item(place) for place in sorted(self._items)]}
        return answer_from_response(raw, request_id)

    def _piece(self, kind: str, place: int, item: Any, raw: Mapping[str, Any]) -> tuple[str, tuple[ToolCallPart, ...]]:
        """The text, and the piece of a call, that an event about one output item brings."""
        if kind in ("response.output_item.added", "response.output_item.done"):
            begins = place not in self._items
            answer_from_response({"output": [item]})
            self._items[place] = {**item}
            if kind.endswith("done"):
                self._pieces.pop(place, None)
            elif begins and item.get("type") == "function_call":
                return "", (ToolCallPart(self._call(place), item.get("call_id"), item.get("name"), ""),)
        elif kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            delta = raw.get("delta")
            if not isinstance(delta, str) or place not in self._items:
                raise ValueError(f"an event of the type {kind} has no text, or is about an item that did not begin")
            self._pieces.setdefault(place, []).append(delta)
            if kind.endswith("text.delta"):
                return delta, ()
            return "", (ToolCallPart(self._call(place), None, None, delta),)
        return "", ()

    def _call(self, place: int) -> int:
        """Which of the calls the item at this place is."""
        return sum(item.get("type") == "function_call" for at, item in self._items.items() if at < place)

    def _item(self, place: int) -> dict[str, Any]:
        item = self._items[place]
        if place not in self._pieces:
            return item
        came = "".join(self._pieces[place])
        if item.get("type") == "function_call":
            return {**item, "arguments": came}
        return {**item, "content": [{"type": "output_text", "text": came, "annotations": []}]}
