"""A fake of `aggregators.base.Experts` that needs no model. That of `Drafts` is `aggregators.given.Given`."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from aggregators.base import Draft, Messages, Part

Reply = Callable[[str, str, Messages], str | Exception]
"""(expert, role, messages) -> what it says; an exception is a failure with its text as the error."""


def nobody(expert: str, role: str, messages: Messages) -> str:
    """For aggregators that make no calls of their own."""
    raise AssertionError(f"{expert} was asked as {role}, but no call was expected")


@dataclass(frozen=True, slots=True)
class Called:
    expert: str
    role: str
    messages: Messages
    is_answer: bool
    max_tokens: int | None
    temperature: float | None
    deadline: float


class Scripted:
    """Says what `reply` says, in two parts. `calls` holds all calls, `open` counts those under way."""

    def __init__(self, reply: Reply = nobody) -> None:
        self._reply = reply
        self.calls: list[Called] = []
        self.open = 0

    async def generate(
        self,
        expert: str,
        messages: Messages,
        *,
        role: str,
        is_answer: bool = False,
        max_tokens: int | None = None,
        temperature: float | None = None,
        deadline: float = float("inf"),
    ) -> AsyncGenerator[Part | Draft, None]:
        self.calls.append(Called(expert, role, messages, is_answer, max_tokens, temperature, deadline))
        self.open += 1
        try:
            said = self._reply(expert, role, messages)
            if isinstance(said, Exception):
                yield Draft(expert, 0, 1.0, error=str(said), code=str(said).partition(":")[0])
                return
            half = len(said) // 2
            for part in filter(None, (said[:half], said[half:])):
                yield Part(0, part)
            yield Draft(expert, 0, 1.0, said)
        finally:
            self.open -= 1
