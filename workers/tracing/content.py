"""Prompts and answers as attributes of spans, after OpenTelemetry's conventions; where traces.content is true."""

import json
from collections.abc import Sequence
from typing import Any

MOST = 8192
"""Characters of a message; what is longer is cut."""


def messages_in(messages: Sequence[dict[str, Any]]) -> str:
    """Of `gen_ai.input.messages`, as JSON."""
    return json.dumps([_message(message["role"], message.get("content") or "") for message in messages])


def message_out(text: str, reason: str | None) -> str:
    """Of `gen_ai.output.messages`. reason: of its end, None where it was broken off."""
    return json.dumps([{**_message("assistant", text), "finish_reason": reason or "error"}])


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text[:MOST]}]}
