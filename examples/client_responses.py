"""OpenAI's newer protocol: the model calls a function of this program, and its last answer is watched as it comes."""

from typing import Any

from coe_client import Coe

parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
weather = {"type": "function", "name": "weather", "description": "The weather in a city", "parameters": parameters}
conversation: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Rome?"}]

with Coe() as coe:
    while True:
        with coe.responses_stream(conversation, tools=[weather]) as stream:
            for text in stream.texts():
                print(text, end="", flush=True)
        answer = stream.answer
        if not answer.tool_calls:
            break
        conversation += answer.items
        for call in answer.tool_calls:
            print(f"{call.name}({call.parsed})")
            output = {"type": "function_call_output", "call_id": call.id, "output": "sunny, 22 degrees"}
            conversation.append(output)

print(f"\n[{answer.model}] {answer.finish_reason}")
