"""Many chats with bounded concurrency: order is kept, one failure is one result, and leaving early stops the rest."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, cast

from coe_client import calls
from coe_client.answers import Answer
from coe_client.calls import Call
from coe_client.errors import CoeError, ConfigError
from coe_client.options import ChatFields, ChatRequest, Messages

Outcome = Answer | CoeError
"""Of one request: its answer, or the error that `chat` would have raised."""


@dataclass(frozen=True, slots=True)
class Progress:
    """done, failed: so far, failed ones are done too. index, outcome: of the request that was done last."""

    done: int
    total: int
    failed: int
    index: int
    outcome: Outcome


OnProgress = Callable[[Progress], None]


class Tally:
    """The outcomes as they come, in the order of the requests. errors: raised instead of kept?"""

    def __init__(self, total: int, on_progress: OnProgress | None, *, raise_errors: bool) -> None:
        self._outcomes: list[Outcome | None] = [None] * total
        self._done = self._failed = 0
        self._on_progress, self._raise_errors = on_progress, raise_errors

    def add(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        self._done += 1
        self._failed += isinstance(outcome, CoeError)
        if self._on_progress:
            self._on_progress(Progress(self._done, len(self._outcomes), self._failed, index, outcome))
        if self._raise_errors and isinstance(outcome, CoeError):
            raise outcome

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for outcome in self._outcomes if outcome is not None]


def request(one: Messages | ChatRequest, common: Mapping[str, Any]) -> Call[Answer]:
    """One request; what it says itself goes before what all have in common. Raises ConfigError."""
    if not isinstance(one, Mapping):
        return calls.chat(one, **cast("ChatFields", common))
    fields = {**common, **one}
    if not isinstance(messages := fields.pop("messages", None), str | Sequence):
        raise ConfigError(f"messages: must be a string or a list of messages; got {messages!r}")
    return calls.chat(messages, **cast("ChatFields", fields))


def checked(concurrency: int, common: Mapping[str, Any]) -> None:
    if concurrency < 1:
        raise ConfigError(f"concurrency: must be at least 1; got {concurrency!r}")
    if "idempotency_key" in common:
        raise ConfigError("idempotency_key: one key for all would make one answer of them; leave it out")


def in_threads(
    requests: Sequence[Messages | ChatRequest],
    ask: Callable[[Messages | ChatRequest], Answer],
    concurrency: int,
    tally: Tally,
) -> list[Outcome]:
    """In so many threads. When an exception leaves this, no further request is begun; those under way are not waited
    for, since nothing can wake a thread that waits for an answer."""
    done: SimpleQueue[tuple[int, Outcome | BaseException]] = SimpleQueue()
    todo, lock, left = iter(range(len(requests))), threading.Lock(), threading.Event()
    room = threading.Semaphore(concurrency)  # for requests that are begun and not yet counted

    def work() -> None:
        while True:
            room.acquire()
            with lock:
                index = next(todo, None)
            if index is None or left.is_set():
                room.release()
                return
            try:
                done.put((index, ask(requests[index])))
            except BaseException as error:  # handed to the caller's thread, which decides
                done.put((index, error))

    # Daemons: they hold up neither Ctrl-C nor the end of the program.
    for _ in range(min(concurrency, len(requests))):
        threading.Thread(target=work, daemon=True, name="coe-chat-many").start()
    try:
        for _ in requests:
            index, outcome = done.get()
            if not isinstance(outcome, Answer | CoeError):
                raise outcome
            tally.add(index, outcome)
            room.release()
    finally:
        left.set()
        room.release()
    return tally.outcomes


async def in_tasks(
    requests: Sequence[Messages | ChatRequest],
    ask: Callable[[Messages | ChatRequest], Awaitable[Answer]],
    concurrency: int,
    tally: Tally,
) -> list[Outcome]:
    """In so many tasks. When an exception leaves this, or it is cancelled, all requests under way are cancelled."""
    todo = iter(range(len(requests)))

    async def work() -> None:
        for index in todo:
            try:
                outcome: Outcome = await ask(requests[index])
            except CoeError as error:
                outcome = error
            tally.add(index, outcome)

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(requests)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return tally.outcomes
