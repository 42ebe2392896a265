"""Test a program of yours without a service: put answers in, run it, and look at what it asked."""

from coe_client import Coe
from coe_client.testing import MockService


def summary(coe: Coe, text: str) -> str:
    """The program of yours."""
    return coe.chat(f"Summarize: {text}", max_tokens=30).text


service = MockService()
service.error(503, "engine_starting", headers={"retry-after": "5"})
service.answer("It is about cats.", expert="smol-general")

with service.client(sleep=lambda seconds: None) as coe:
    assert summary(coe, "Cats ...") == "It is about cats."
first, second = service.requests  # the client tried again
assert first.json["max_tokens"] == 30
assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
print("passed")
