"""A chat as the tests of the API ask it, and how they read the stream of its answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

from openai.types.chat import ChatCompletionChunk

USER: Any = {"role": "user", "content": "some sql please"}
CHAT: dict[str, Any] = {"model": "auto", "messages": [USER]}


async def chunks_of(stream: AsyncIterator[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def frames(body: str) -> list[Any]:
    """The events of a stream; comments and [DONE] as they are."""
    parts = body.split("\n\n")
    assert parts.pop() == ""
    bare = [part.removeprefix("data: ") for part in parts]
    return [part if part.startswith((":", "[")) else json.loads(part) for part in bare]
