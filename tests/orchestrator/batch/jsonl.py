"""Inputs and outputs of batches, as text."""

import json
from collections.abc import Iterable
from typing import Any

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"


def chat(custom_id: str, content: str = "hello", model: str = "auto", **more: Any) -> str:
    """A line that asks for a chat."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    return line(custom_id, body)


def line(custom_id: str, body: Any, url: str = CHAT, method: str = "POST") -> str:
    return json.dumps({"custom_id": custom_id, "method": method, "url": url, "body": body})


def file(lines: Iterable[str]) -> bytes:
    return "".join(f"{own}\n" for own in lines).encode()


def rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(own) for own in content.splitlines()]


def said(row: dict[str, Any]) -> str:
    """What the answer of an output's line says."""
    text: str = row["response"]["body"]["choices"][0]["message"]["content"]
    return text
