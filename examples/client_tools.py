"""Let the model use a tool: it asks for it, this program runs it, and the model goes on with what came out."""

from coe_client import Coe

parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
weather = {"name": "weather", "description": "The weather in a city", "parameters": parameters}
messages: list[dict[str, object]] = [{"role": "user", "content": "What is the weather in Rome?"}]

with Coe() as coe:
    while (answer := coe.chat(messages, tools=[{"type": "function", "function": weather}])).tool_calls:
        messages.append(answer.message)
        for call in answer.tool_calls:
            print(f"{call.name}({call.parsed})")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny, 22 degrees"})

print(answer.text)
