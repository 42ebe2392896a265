"""Prompts and answers as attributes of spans, after OpenTelemetry's conventions; where traces.content is true."""

import json
from collections.abc import Sequence
from typing import Any

MOST, MOST_IN_ALL = 8192, 65_536
"""Characters of a message, and of all that are given; what is longer is cut, and the oldest go."""


def messages_in(messages: Sequence[dict[str, Any]]) -> str:
    """Of `gen_ai.input.messages`, as JSON."""
    kept: list[dict[str, Any]] = []
    room = MOST_IN_ALL
    for message in reversed(messages):
        text = (message.get("content") or "")[: min(MOST, room)]
        kept.append(_message(message["role"], text))
        room -= len(text)
        if room <= 0:
            break
    return json.dumps(kept[::-1])


def message_out(text: str, reason: str | None) -> str:
    """Of `gen_ai.output.messages`. reason: of its end, None where it was broken off."""
    return json.dumps([{**_message("assistant", text), "finish_reason": reason or "error"}])


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text[:MOST]}]}
