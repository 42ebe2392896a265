"""Load on a running service: closed loop, so many requests at a time, and what came of each.

`measure` sends them, `summary` and `lines` tell. A figure means little without what was asked, so that is told too.
"""

import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.asking import chunks

if TYPE_CHECKING:
    import httpx

MAX_FILE = 256 << 20
"""Bytes of a file of prompts."""
WORDS = "time person year way day thing world life hand part child eye place work week case point number group".split()
PERCENTILES = (50, 90, 99)


class PromptsError(ValueError):
    """The file of prompts cannot be used."""


@dataclass(frozen=True, slots=True)
class Load:
    """messages: the chats to send, from the first again when all were sent. seconds: after these nothing is sent."""

    messages: Sequence[list[dict[str, Any]]]
    model: str
    requests: int
    concurrency: int
    max_tokens: int | None
    stream: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. error: its kind, None if it was answered. Times in seconds; gaps: between chunks of text."""

    seconds: float
    error: str | None = None
    first: float | None = None
    gaps: tuple[float, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    expert: str = "none"


def words(count: int, number: int, seed: int) -> list[list[dict[str, Any]]]:
    """So many prompts of `count` words each, all different at their beginning: no cache of prefixes helps."""
    chance = random.Random(seed)
    return [[{"role": "user", "content": " ".join(chance.choices(WORDS, k=count))}] for _ in range(number)]


def read_prompts(path: Path) -> list[list[dict[str, Any]]]:
    """A JSON object a line, with `prompt` or `messages`. Raises PromptsError."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise PromptsError(f"{path} has more than {MAX_FILE >> 20} MiB; take fewer prompts")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PromptsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PromptsError(f"{path} is not UTF-8") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PromptsError(f"{path}:{number}: not JSON: {error}") from None
        if isinstance(row, dict) and isinstance(row.get("messages"), list):
            found.append(row["messages"])
        elif isinstance(row, dict) and isinstance(row.get("prompt"), str):
            found.append([{"role": "user", "content": row["prompt"]}])
        else:
            raise PromptsError(f'{path}:{number}: must be an object with "prompt": "..." or "messages": [...]')
    if not found:
        raise PromptsError(f"{path} has no prompts")
    return found


async def measure(
    client: "httpx.AsyncClient", load: Load, on_done: Callable[[int], None] = lambda done: None
) -> tuple[list[Sample], float]:
    """Sends the load; the samples and the seconds that it took. client: with the service's URL and key."""
    samples: list[Sample] = []
    began = time.monotonic()
    numbers = iter(range(load.requests))

    async def sender() -> None:
        for number in numbers:  # shared: each takes the next one
            if time.monotonic() - began > load.seconds:
                return
            samples.append(await _one(client, load, load.messages[number % len(load.messages)]))
            on_done(len(samples))

    await asyncio.gather(*(sender() for _ in range(min(load.concurrency, load.requests))))
    return samples, time.monotonic() - began


async def _one(client: "httpx.AsyncClient", load: Load, messages: list[dict[str, Any]]) -> Sample:
    import httpx

    body: dict[str, Any] = {"model": load.model, "messages": messages}
    if load.max_tokens is not None:
        body["max_tokens"] = load.max_tokens
    began = time.monotonic()
    try:
        if load.stream:
            return await _streamed(client, {**body, "stream": True, "stream_options": {"include_usage": True}}, began)
        answer = await client.post("/v1/chat/completions", json=body)
        seconds = time.monotonic() - began
        content = answer.json()
        if answer.is_error:
            return Sample(seconds, _kind(answer.status_code, content))
        return _sample(seconds, content["usage"], content.get("coe"))
    except httpx.HTTPError as error:
        return Sample(time.monotonic() - began, type(error).__name__)
    except (ValueError, KeyError, TypeError):
        return Sample(time.monotonic() - began, "no answer of this API")


async def _streamed(client: "httpx.AsyncClient", body: dict[str, Any], began: float) -> Sample:
    times: list[float] = []
    usage: dict[str, int] | None = None
    coe: dict[str, Any] | None = None
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.is_error:
            return Sample(time.monotonic() - began, _kind(answer.status_code, json.loads(await answer.aread())))
        async for line in answer.aiter_lines():
            for chunk in chunks([line]):
                if "error" in chunk:
                    return Sample(time.monotonic() - began, _kind(answer.status_code, chunk))
                usage, coe = chunk.get("usage") or usage, chunk.get("coe") or coe
                if any(choice["delta"].get("content") for choice in chunk["choices"]):
                    times.append(time.monotonic())
    if usage is None:
        return Sample(time.monotonic() - began, "stream without an end")
    gaps = tuple(after - before for before, after in pairwise(times))
    return _sample(time.monotonic() - began, usage, coe, times[0] - began if times else None, gaps)


def _sample(
    seconds: float,
    usage: dict[str, int],
    coe: dict[str, Any] | None,
    first: float | None = None,
    gaps: tuple[float, ...] = (),
) -> Sample:
    expert = (coe or {}).get("expert") or "several"
    return Sample(seconds, None, first, gaps, usage["prompt_tokens"], usage["completion_tokens"], expert)


def _kind(status: int, content: dict[str, Any]) -> str:
    return f"{status} {content['error']['code']}"


def percentile(values: Sequence[float], percent: float) -> float | None:
    """By linear interpolation between the two nearest ranks, as numpy does it; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(load: Load, samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """All that is told of a run: times in milliseconds, rates a second, of answered requests."""
    good = [sample for sample in samples if sample.error is None]

    def times(values: Sequence[float]) -> dict[str, float | None]:
        found = {f"p{percent}": percentile(values, percent) for percent in PERCENTILES}
        return {name: None if value is None else round(1000 * value, 2) for name, value in found.items()}

    completion = sum(sample.completion_tokens for sample in good)
    return {
        "model": load.model,
        "concurrency": load.concurrency,
        "stream": load.stream,
        "max_tokens": load.max_tokens,
        "requests": len(samples),
        "answered": len(good),
        "seconds": round(seconds, 3),
        "requests_per_s": round(len(good) / seconds, 2) if seconds else None,
        "prompt_tokens": sum(sample.prompt_tokens for sample in good),
        "completion_tokens": completion,
        "completion_tokens_per_s": round(completion / seconds, 2) if seconds else None,
        "latency_ms": times([sample.seconds for sample in good]),
        "first_token_ms": times([sample.first for sample in good if sample.first is not None]),
        "between_tokens_ms": times([gap for sample in good for gap in sample.gaps]),
        "experts": dict(Counter(sample.expert for sample in good).most_common()),
        "errors": dict(Counter(sample.error for sample in samples if sample.error is not None).most_common()),
    }


def lines(found: dict[str, Any], url: str) -> list[str]:
    """The summary for people."""
    how = "streamed" if found["stream"] else "whole"
    told = [
        f"{url}, model {found['model']}, {found['concurrency']} at a time, answers {how}",
        f"{found['answered']} of {found['requests']} requests answered in {found['seconds']:.1f} s",
        f"{found['requests_per_s']} requests/s, {found['completion_tokens_per_s']} tokens/s "
        f"({found['prompt_tokens']:,} prompt and {found['completion_tokens']:,} completion tokens)",
        f"{'ms':<16}" + "".join(f"{f'p{percent}':>10}" for percent in PERCENTILES),
    ]
    for name, key in (
        ("latency", "latency_ms"),
        ("first token", "first_token_ms"),
        ("between tokens", "between_tokens_ms"),
    ):
        values = found[key].values()
        if any(value is not None for value in values):
            told.append(f"{name:<16}" + "".join(f"{value:>10.1f}" for value in values))
    told += [f"{count:>7} x {expert}" for expert, count in found["experts"].items()]
    told += [f"{count:>7} x error: {kind}" for kind, count in found["errors"].items()]
    return told
