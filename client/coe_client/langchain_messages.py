"""LangChain's messages and this package's, one made of the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    InvalidToolCall,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from coe_client.answers import Answer, ToolCall, Usage
from coe_client.chunks import Chunk


def messages_of(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """LangChain's messages as OpenAI's."""
    made: list[dict[str, Any]] = []
    for message in messages:
        # One message may become two: the results of tools stand in a user's message in some dialects.
        converted: list[dict[str, Any]] = convert_to_openai_messages([message])
        for one in converted:
            if isinstance(message, AIMessage):
                # What else an assistant's content holds, such as its calls a second time, is not for sending back.
                one["content"] = message.text or (None if one.get("tool_calls") else "")
            elif isinstance(message, ToolMessage):
                one.pop("name", None)  # OpenAI has none there: the id says which call it answers
        if isinstance(message, AIMessage) and message.invalid_tool_calls:
            calls = [_wrong_call(call) for call in message.invalid_tool_calls]
            converted[0]["tool_calls"] = [*converted[0].get("tool_calls", ()), *calls]
        made += converted
    return made


def result_of(answer: Answer) -> ChatResult:
    """An answer as LangChain's: a generation for each choice, tokens with the first one."""
    generations = []
    for place, choice in enumerate(answer.choices):
        calls, wrong = _calls(choice.tool_calls)
        metadata = _metadata(answer, choice.finish_reason, choice.logprobs)
        message = AIMessage(
            content=choice.text,
            id=answer.id or None,
            tool_calls=calls,
            invalid_tool_calls=wrong,
            usage_metadata=_usage(answer.usage) if place == 0 else None,
            response_metadata=metadata,
            additional_kwargs={"refusal": choice.refusal} if choice.refusal else {},
        )
        info = {"finish_reason": choice.finish_reason}
        generations.append(ChatGeneration(message=message, generation_info=info))
    return ChatResult(generations=generations)


def chunk_of(chunk: Chunk) -> ChatGenerationChunk | None:
    """The text and the pieces of tool calls that a chunk brings; None if it has neither."""
    if not chunk.text and not chunk.tool_calls:
        return None
    pieces = [
        tool_call_chunk(name=piece.name, args=piece.arguments, id=piece.id, index=piece.index)
        for piece in chunk.tool_calls
    ]
    message = AIMessageChunk(content=chunk.text, tool_call_chunks=pieces, id=chunk.raw.get("id"))
    return ChatGenerationChunk(message=message)


def last_chunk_of(answer: Answer) -> ChatGenerationChunk:
    """What is said once, at the end: when chunks are added up, text that came twice would be doubled."""
    message = AIMessageChunk(
        content="",
        id=answer.id or None,
        usage_metadata=_usage(answer.usage),
        response_metadata=_metadata(answer, answer.finish_reason, answer.logprobs),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": answer.finish_reason})


def _metadata(answer: Answer, finish_reason: str | None, logprobs: Mapping[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "model_name": answer.model,
        "model_provider": "coe",
        "finish_reason": finish_reason,
        "request_id": answer.request_id,
        "route": answer.route.model_dump(mode="json") | {"cost": answer.cost} if answer.route else None,
    }
    return metadata | ({"logprobs": logprobs} if logprobs else {})


def _usage(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )


def _calls(calls: Sequence[ToolCall]) -> tuple[list[LangChainToolCall], list[InvalidToolCall]]:
    """Tool calls, and those whose arguments are no JSON object."""
    right: list[LangChainToolCall] = []
    wrong: list[InvalidToolCall] = []
    for call in calls:
        try:
            arguments = call.parsed
            if not isinstance(arguments, dict):
                raise ValueError("the arguments are no JSON object")
            right.append({"type": "tool_call", "id": call.id, "name": call.name, "args": arguments})
        except ValueError as error:
            wrong.append(
                InvalidToolCall(
                    type="invalid_tool_call", id=call.id, name=call.name, args=call.arguments, error=str(error)
                )
            )
    return right, wrong


def _wrong_call(call: InvalidToolCall) -> dict[str, Any]:
    """As the model wrote it, so that it can see its mistake."""
    function = {"name": call["name"] or "", "arguments": call["args"] or ""}
    return {"id": call["id"] or "", "type": "function", "function": function}
