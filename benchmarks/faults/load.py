"""Steady load by the real clients: chats of all kinds one after the other, and batches, while whatever happens happens.

It has a thread and an event loop of its own. Every request has an id in its prompt, and an expert that is to answer it;
what came of it goes to the `Record` as a row of the ledger.
"""

import asyncio
import contextlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx
import openai

from benchmarks.faults.ledger import Asked, Heard, Lines, Row, judge, judge_lines
from coe_client import AsyncCoe, CoeError, ConnectionFailed, StatusError, StreamBroken, TimedOut

WITHIN_S = 20.0
"""The deadline of a request by the openai client, which the service is told; it is tried once."""
TRY_S, TRIES_S = 8.0, 60.0
"""By the SDK: the deadline of a try, which the service is told, and what the SDK takes for all of them."""
GRACE_S = 10.0
"""What is forgiven beyond, for a machine that has much else to do."""
WORDS = "some words for the fake engine to say again one by one".split()
AUTO = "auto"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """url: of what stands before the gateways. experts: by name."""

    url: str
    key: str
    experts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Told:
    """A piece of an answer."""

    text: str
    finish_reason: str | None
    model: str | None


Ask = Callable[[str, str], AsyncIterator[Told]]
"""Model and prompt -> the pieces of the answer."""


@dataclass
class Record:
    """What the load has seen so far. Rows are added by its thread, and may be read by others."""

    rows: list[Row] = field(default_factory=list)
    lines: Lines = field(default_factory=Lines)
    batches: int = 0
    unfinished: list[str] = field(default_factory=list)  # batches that did not come to an end
    troubles: list[str] = field(default_factory=list)  # what the load itself did not expect
    under_way: int = 0

    def between(self, began: float, ended: float) -> list[Row]:
        """Requests that were under way at any time between these two."""
        return [row for row in self.rows if row.asked.at <= ended and row.heard.at >= began]


class Load:
    """senders: how many requests are under way at a time at most, each of its own kind of four; pause_s: of a sender
    between two. lines: of a batch.

    was_down: see `ledger.judge`. Use as a context: it begins at once, and at the end waits for what is under way.
    """

    def __init__(
        self,
        target: Target,
        was_down: Callable[[float, float], bool],
        *,
        senders: int = 6,
        pause_s: float = 0.2,
        lines: int = 150,
        batch_within_s: float = 240.0,
    ) -> None:
        self.record = Record()
        self._target, self._was_down = target, was_down
        self._senders, self._pause_s, self._lines, self._batch_within_s = senders, pause_s, lines, batch_within_s
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="load")

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise RuntimeError("the load itself has failed") from self._failure

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # told by who waits for this thread
            self._failure = error

    async def _run(self) -> None:
        own, key = self._target, self._target.key
        async with (
            openai.AsyncOpenAI(
                base_url=f"{own.url}/v1",
                api_key=key,
                max_retries=0,
                timeout=WITHIN_S + GRACE_S,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            ) as client,
            AsyncCoe(own.url, key, timeout=TRIES_S) as coe,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._senders):
                group.create_task(self._send(client, coe, number))
            if self._lines:
                group.create_task(self._run_batches(client))

    # Chats

    async def _send(self, client: openai.AsyncOpenAI, coe: AsyncCoe, number: int) -> None:
        ways: list[tuple[str, Ask, float]] = [
            ("openai stream", partial(openai_stream, client), WITHIN_S),
            ("openai", partial(openai_whole, client), WITHIN_S),
            ("sdk stream", partial(sdk_stream, coe), TRIES_S),
            ("sdk", partial(sdk_whole, coe), TRIES_S),
        ]
        name, way, within_s = ways[number % len(ways)]
        while not self._over.is_set():
            id_ = next(self._numbers)
            named = [*self._target.experts, AUTO]
            model = named[id_ % len(named)]
            expert = None if model == AUTO else model  # where one cannot answer, the router chooses another
            prompt = f"q{id_} {' '.join(WORDS[id_ % 3 :])}"
            asked = Asked(name, expert, prompt, time.monotonic())
            self.record.under_way += 1
            try:
                heard = await listened(way(model, prompt), within_s)
            finally:
                self.record.under_way -= 1
            self.record.rows.append(judge(asked, heard, self._was_down))
            await asyncio.sleep(self._pause_s)

    # Batches

    async def _run_batches(self, client: openai.AsyncOpenAI) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            asked = [
                (f"b{number}-{n}", expert, f"b{number}-{n} {' '.join(WORDS)}")
                for n, expert in zip(range(self._lines), itertools.cycle(self._target.experts), strict=False)
            ]
            try:
                await self._run_batch(client, asked)
            except Exception as error:
                self.record.troubles.append(f"batch {number}: {type(error).__name__}: {error}")

    async def _run_batch(self, client: openai.AsyncOpenAI, asked: Sequence[tuple[str, str, str]]) -> None:
        content = "".join(
            json.dumps(
                {
                    "custom_id": own,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": expert, "messages": [{"role": "user", "content": prompt}]},
                }
            )
            + "\n"
            for own, expert, prompt in asked
        ).encode()
        # What is away is asked again; under one key, so that no batch is made twice where an answer was lost.
        once = {"Idempotency-Key": uuid.uuid4().hex}
        file = await self._patiently(lambda: client.files.create(file=("in.jsonl", content), purpose="batch"))
        batch = await self._patiently(
            lambda: client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                extra_headers=once,
            )
        )
        until: float | None = None
        while batch.status in ("validating", "in_progress", "finalizing"):
            if self._over.is_set():
                until = until or time.monotonic() + self._batch_within_s
                if time.monotonic() > until:
                    self.record.unfinished.append(f"{batch.id}: {batch.status}, {batch.request_counts}")
                    self.record.lines.add(Lines(lost=[own for own, _, _ in asked]))
                    return
            await asyncio.sleep(1)
            with contextlib.suppress(openai.APIError):
                batch = await client.batches.retrieve(batch.id)
        texts = {"output": "", "error": ""}
        for which, name in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if name is not None:
                texts[which] = (await self._patiently(partial(client.files.content, name))).text
        self.record.lines.add(judge_lines(asked, texts["output"], texts["error"]))
        self.record.batches += 1
        if batch.status != "completed":
            self.record.troubles.append(f"{batch.id} is {batch.status}: {batch.errors}")

    async def _patiently(self, make: Callable[[], Awaitable[T]]) -> T:
        """Tries again for `batch_within_s`. Raises what it meets at last."""
        until = time.monotonic() + self._batch_within_s
        while True:
            try:
                return await make()
            except openai.APIError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(1)


# One chat: pieces of text, and what is told beside them


async def openai_stream(client: openai.AsyncOpenAI, model: str, prompt: str) -> AsyncIterator[Told]:
    chunks = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        extra_headers={"x-coe-timeout-s": str(WITHIN_S)},
    )
    async with chunks:
        async for chunk in chunks:
            [choice] = chunk.choices
            yield Told(choice.delta.content or "", choice.finish_reason, chunk.model)


async def openai_whole(client: openai.AsyncOpenAI, model: str, prompt: str) -> AsyncIterator[Told]:
    answer = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        extra_headers={"x-coe-timeout-s": str(WITHIN_S)},
    )
    [choice] = answer.choices
    yield Told(choice.message.content or "", choice.finish_reason, answer.model)


async def sdk_stream(coe: AsyncCoe, model: str, prompt: str) -> AsyncIterator[Told]:
    async with coe.chat_stream(prompt, model=model, extra_headers={"x-coe-timeout-s": str(TRY_S)}) as stream:
        async for chunk in stream:
            yield Told(chunk.text, chunk.finish_reason, chunk.model)


async def sdk_whole(coe: AsyncCoe, model: str, prompt: str) -> AsyncIterator[Told]:
    answer = await coe.chat(prompt, model=model, extra_headers={"x-coe-timeout-s": str(TRY_S)})
    yield Told(answer.text, answer.finish_reason, answer.model)


async def listened(pieces: AsyncIterator[Told], within_s: float) -> Heard:
    """All of an answer, however it ends. within_s: seconds by which it is to be there, `GRACE_S` not counted."""
    text, reason, model = "", None, None
    code = lost = None
    late = False
    try:
        async with asyncio.timeout(within_s + GRACE_S):
            async for told in pieces:
                text, reason, model = text + told.text, told.finish_reason or reason, told.model or model
    except TimeoutError:
        late = True
    except (openai.APITimeoutError, TimedOut, httpx.TimeoutException):
        late = True
    except (openai.APIConnectionError, ConnectionFailed, httpx.TransportError) as error:
        lost = _told(error)
    except openai.APIError as error:  # a status, or an event of the stream
        code = error.code or ""
    except StreamBroken as error:
        code, lost = (error.code, None) if error.code else (None, _told(error))
    except StatusError as error:
        code = error.code or ""
    except (CoeError, ValueError) as error:  # an answer that is none
        code = f"({_told(error)})"
    return Heard(text, time.monotonic(), reason, model, code, lost, late)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
