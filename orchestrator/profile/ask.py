"""How a profile run reaches the experts: engines in this process, or a running service.

`CannotAsk`   an expert, or the service, cannot answer now, whatever it is asked
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

from experts.registry import Registry, did_you_mean
from experts.spec import Price
from orchestrator.profile.answers import Given
from orchestrator.profile.questions import ProfileQuestion
from workers.base import ChatCall, Delta, Engine, Failure, FailureCode, Sampling, SwapEvent

ANSWER_S = 600.0
"""The longest that one answer may take, in seconds."""
SCORED = ("prompt_too_long", "invalid_request")
"""Failures that are the expert's answer: it would give them again. All others are no answer, and asked again."""


NO_EXPERTS = ("router", "ensemble", "encoder")
"""Kinds of models of a service that are not experts."""


class CannotAsk(RuntimeError):
    """An expert, or the service, cannot answer now, whatever it is asked. The message says why."""


class Asker(Protocol):
    """Asks experts. prices: of those that it knows, None = not told."""

    @property
    def prices(self) -> Mapping[str, Price | None]: ...

    def order(self, experts: Iterable[str]) -> list[str]:
        """The order in which the experts' turns cost the least: those of a family one after the other."""
        ...

    async def ask(self, expert: str, question: ProfileQuestion) -> Given | Failure:
        """The answer; a failure that is none of SCORED may pass. Raises CannotAsk."""
        ...

    async def load_seconds(self, expert: str) -> float | None:
        """Seconds that it last took to bring the expert's weights to the device; None where that was not seen."""
        ...

    async def close(self) -> None: ...


def load_of(events: Iterable[SwapEvent], image: str) -> float | None:
    """Seconds of the latest load of an image to the device in an engine's event log."""
    loads = [event.seconds for event in events if event.kind == "loaded" and event.image == image]
    return loads[-1] if loads else None


def price_of(price: Price) -> Price | None:
    """A price of nothing is one that nobody told."""
    return price if price.input or price.output else None


class EngineAsker:
    """Engines in this process, one family at a time: `make` makes the engine of a family."""

    def __init__(self, registry: Registry, make: Callable[[str], Engine], say: Callable[[str], None]) -> None:
        self._registry, self._make, self._say = registry, make, say
        self._family: str | None = None
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()

    @property
    def prices(self) -> Mapping[str, Price | None]:
        return {spec.name: price_of(spec.price) for spec in self._registry}

    def order(self, experts: Iterable[str]) -> list[str]:
        wanted = set(experts)
        return [spec.name for specs in self._registry.families().values() for spec in specs if spec.name in wanted]

    async def ask(self, expert: str, question: ProfileQuestion) -> Given | Failure:
        engine = await self._ready(self._registry.get(expert).family_name)
        began, first, text = time.perf_counter(), None, ""
        call = ChatCall(
            f"profile-{question.prompt_id}",
            expert,
            ({"role": "user", "content": question.prompt},),
            Sampling(temperature=0, max_tokens=question.max_tokens),
            deadline=time.time() + ANSWER_S,
        )
        given = Given(question.prompt_id, expert, question.digest, at=time.time())
        async with aclosing(engine.generate(call)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    first = first or time.perf_counter() - began
                    text += event.text
                elif isinstance(event, Failure):
                    return _failed(given, expert, event)
                elif event.expert != expert:
                    return Failure("internal", f"asked {expert}, computed by {event.expert}")
                else:
                    return replace(
                        given,
                        text=text,
                        finish_reason=event.reason,
                        prompt_tokens=event.usage.prompt_tokens,
                        completion_tokens=event.usage.completion_tokens,
                        seconds=time.perf_counter() - began,
                        first_token_seconds=first,
                    )
        return Failure("internal", f"the engine of {expert} ended without an end")

    async def _ready(self, family: str) -> Engine:
        """The family's engine, started if it is not up. Raises CannotAsk."""
        async with self._starting:
            if self._engine is not None and self._family == family and self._engine.is_alive():
                return self._engine
            await self.close()
            self._say(f"starting the engine of {family}")
            engine = self._make(family)
            try:
                await engine.start()
            except Exception as error:  # whatever an engine raises concerns this family alone
                await engine.close()
                raise CannotAsk(f"the engine of {family} does not start: {error}") from error
            self._family, self._engine = family, engine
            return engine

    async def load_seconds(self, expert: str) -> float | None:
        if self._engine is None:
            return None
        stats = await self._engine.stats()
        return load_of(stats.events, self._registry.get(expert).base or expert)

    async def close(self) -> None:
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.close()


class ServiceAsker:
    """A running service, this one or any with OpenAI's API. `known`: its experts, as `connect` lists them."""

    def __init__(self, client: Any, known: Mapping[str, Price | None], url: str) -> None:
        self._client, self._known, self._url = client, known, url

    @classmethod
    async def connect(cls, client: Any, url: str) -> "ServiceAsker":
        """client: an openai.AsyncOpenAI. Raises CannotAsk if the service does not list its models."""
        import openai

        try:
            models = [model async for model in client.models.list()]
        except openai.APIError as error:
            raise CannotAsk(f"{url} does not list its models: {error.message}") from None
        coe = {model.id: (model.model_extra or {}).get("coe") or {} for model in models}
        experts = {name: field for name, field in coe.items() if field.get("kind") not in NO_EXPERTS}
        return cls(client, {name: price_of(Price(**field.get("price", {}))) for name, field in experts.items()}, url)

    @property
    def prices(self) -> Mapping[str, Price | None]:
        return self._known

    def order(self, experts: Iterable[str]) -> list[str]:
        wanted = set(experts)
        return [name for name in self._known if name in wanted]

    async def ask(self, expert: str, question: ProfileQuestion) -> Given | Failure:
        import openai

        began, first, text, reason = time.perf_counter(), None, "", None
        given = Given(question.prompt_id, expert, question.digest, at=time.time())
        limit = {} if question.max_tokens is None else {"max_tokens": question.max_tokens}
        try:
            stream = await self._client.chat.completions.create(
                model=expert,
                messages=[{"role": "user", "content": question.prompt}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
                timeout=ANSWER_S,
                **limit,
            )
            async for chunk in stream:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    first = first or time.perf_counter() - began
                    text += piece
                if chunk.choices and chunk.choices[0].finish_reason:
                    reason = chunk.choices[0].finish_reason
                if chunk.usage is not None:
                    given = replace(
                        given,
                        prompt_tokens=chunk.usage.prompt_tokens,
                        completion_tokens=chunk.usage.completion_tokens,
                    )
        except openai.APIError as error:
            return self._refused(given, expert, error)
        if reason is None:
            return Failure("internal", f"the stream of {expert} ended without an end")
        seconds = time.perf_counter() - began
        return replace(given, text=text, finish_reason=reason, seconds=seconds, first_token_seconds=first)

    def _refused(self, given: Given, expert: str, error: Any) -> Given | Failure:
        """An error of the API as a worker's failure. Raises CannotAsk for what asking again does not mend."""
        code = _CODES.get(str(error.code), "internal")
        status = getattr(error, "status_code", None)
        if code == "internal" and status is not None and 400 <= status < 500 and status not in (408, 409, 429):
            raise CannotAsk(f"{self._url} refuses: {error.message}")
        return _failed(given, expert, Failure(code, error.message))

    async def load_seconds(self, expert: str) -> float | None:
        import openai

        try:
            log = await self._client.get("/swaps", cast_to=dict[str, Any])
        except openai.APIError:
            return None  # another's service has no such path
        return load_of([_event(row) for row in log.get("data", [])], expert)

    async def close(self) -> None:
        await self._client.close()


_CODES: dict[str, FailureCode] = {
    "context_length_exceeded": "prompt_too_long",
    "invalid_request": "invalid_request",
    "expert_unavailable": "expert_unavailable",
    "engine_died": "engine_died",
    "engine_starting": "engine_starting",
    "overloaded": "overloaded",
    "deadline_exceeded": "deadline",
}
"""Code of an API error -> the worker's failure behind it (orchestrator.errors.TABLE, the other way round)."""


def _event(row: Mapping[str, Any]) -> SwapEvent:
    return SwapEvent(**{name: value for name, value in row.items() if name != "family"})


def _failed(given: Given, expert: str, failure: Failure) -> Given | Failure:
    """What a failure means: an answer that is none, an expert that is down, or something to try again."""
    if failure.code in SCORED:
        return replace(given, failure=failure.code)
    if failure.code == "expert_unavailable":
        raise CannotAsk(failure.message)
    return failure


async def feedback_of(client: Any, url: str) -> list[dict[str, Any]]:
    """The rows of the service's feedback, see `orchestrator.http.feedback`. Raises CannotAsk."""
    import openai

    try:
        answer: dict[str, Any] = await client.get("/feedback", cast_to=dict[str, Any])
    except openai.APIError as error:
        raise CannotAsk(f"{url} gives no feedback: {error.message}") from None
    rows: list[dict[str, Any]] = answer["data"]
    return rows


def named(experts: Iterable[str], known: Iterable[str]) -> list[str]:
    """The experts of `--experts`, "all" being all. Raises CannotAsk for one that there is not."""
    there = list(known)
    wanted = list(dict.fromkeys(experts))
    if wanted == ["all"]:
        return there
    for name in wanted:
        if name not in there:
            raise CannotAsk(f"no expert is named {name!r} ({len(there)} are there){did_you_mean(name, there)}")
    return wanted
