"""A LangChain chat model without a model, for remote experts in services of tests."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

SCORE = "<1 to 10>"
"""What a judge's form has where a score belongs."""


class Canned(BaseChatModel):
    """Says `says`, a word every `delay` seconds; asked to judge, it gives every draft 7 of 10. A token is a word."""

    says: str
    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "canned"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._answer(messages)))])

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        words = self._answer(messages).split(" ")
        for index, word in enumerate(words):
            await asyncio.sleep(self.delay)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word if index == 0 else f" {word}"))
        read = sum(len(str(message.content).split()) for message in messages)
        usage = UsageMetadata(input_tokens=read, output_tokens=len(words), total_tokens=read + len(words))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage))

    def _answer(self, messages: list[BaseMessage]) -> str:
        asked = str(messages[-1].content)
        return asked.rpartition("\n")[2].replace(SCORE, "7") if SCORE in asked else self.says
