"""Watch an answer come. Leaving the block early ends its generation in the service as well."""

from coe_client import Coe

with Coe() as coe, coe.chat_stream("Name three uses of SQL") as stream:
    for text in stream.texts():
        print(text, end="", flush=True)
    print()
    answer = stream.answer
    print(f"{answer.model}: {answer.usage.completion_tokens if answer.usage else 0} tokens")
