"""The time and the calls of an aggregator's own stages, after the drafts.

Drafts may take as long as three stages do: with one stage to come they have until a quarter of the request's time is
left, with two until two fifths are. A reserve in seconds takes the place of that share, up to half of the time.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any

from aggregators.base import Draft, Experts, Messages, Part, Request
from aggregators.settings import Settings

DRAFT_STAGES = 3
LEAST_CHARACTERS = 500
"""A prompt that is too long with so much of each draft will not fit."""


def by(deadline: float, stages: int, reserve_s: float | None) -> float:
    """Unix time by which to begin, so that `stages` more can follow until `deadline`."""
    if deadline == float("inf"):
        return deadline
    left = max(0.0, deadline - time.time())
    share = left * stages / (stages + DRAFT_STAGES)
    return deadline - (share if reserve_s is None else min(reserve_s * stages, left / 2))


def asking(request: Request, text: str) -> list[dict[str, Any]]:
    """The caller's chat with `text` in place of the last message of the user: what came before it still holds."""
    last = max((n for n, message in enumerate(request.messages) if message["role"] == "user"), default=None)
    before = [dict(message) for n, message in enumerate(request.messages) if n != last]
    return [*before, {"role": "user", "content": text}]


def conversation(request: Request) -> str:
    """For a judge, who is outside the conversation: the question, and what was said before it."""
    if len(request.messages) <= 1:
        return request.prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in request.messages)


async def generate(
    experts: Experts, settings: Settings, expert: str, prompt: Callable[[int], Messages], **how: Any
) -> AsyncGenerator[Part | Draft, None]:
    """`Experts.generate` of prompt(characters of a draft); if that is too long for the expert, again with half."""
    characters, messages = settings.draft_characters, prompt(settings.draft_characters)
    while True:
        has_spoken = False
        shorter: Messages | None = None
        async with aclosing(experts.generate(expert, messages, **how)) as events:
            async for event in events:
                if isinstance(event, Draft):
                    if event.code == "prompt_too_long" and not has_spoken:
                        characters, shorter = _shorter(characters, messages, prompt)
                    if shorter is None:
                        yield event
                        return
                else:
                    has_spoken = True
                    yield event
        assert shorter is not None, "a call ends with a Draft"
        messages = shorter


def _shorter(characters: int, messages: Messages, prompt: Callable[[int], Messages]) -> tuple[int, Messages | None]:
    """The characters of a draft with which the prompt is shorter than `messages`, and that prompt; None if there is
    none."""
    while characters > LEAST_CHARACTERS:
        characters //= 2
        if (shorter := prompt(characters)) != messages:
            return characters, shorter
    return characters, None


async def say(
    experts: Experts, settings: Settings, expert: str, prompt: Callable[[int], Messages], **how: Any
) -> Draft:
    """The same as a whole."""
    async with aclosing(generate(experts, settings, expert, prompt, **how)) as events:
        async for event in events:
            if isinstance(event, Draft):
                return event
    raise AssertionError("a call ends with a Draft")


async def together(calls: Iterable[Coroutine[None, None, Draft]]) -> list[Draft]:
    """What they return, in their order. All are cancelled with the caller."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]
