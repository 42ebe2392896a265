"""A fake of the engine that needs no model: what every test of the service and `coe serve --fake` run on.

It answers deterministically, one word a token, and does on request what real engines do at the worst moment.
"""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from experts.spec import ExpertSpec
from workers import fake_forms
from workers.base import (
    ChatCall,
    Delta,
    Event,
    Failure,
    FailureCode,
    Finish,
    FinishReason,
    Logprob,
    TokenLogprobs,
    Usage,
    WorkerStats,
)

DEFAULT_CONTEXT = 32_768
DEFAULT_MAX_TOKENS = 512

Answer = Callable[[ChatCall], str]


def echo(call: ChatCall) -> str:
    """'<expert> heard: <last message>'."""
    return f"{call.expert} heard: {call.messages[-1].get('content') or ''}"


@dataclass(frozen=True, slots=True)
class _Script:
    """What the next request meets: `failure` after `after` tokens, or a false stamp."""

    failure: Failure | None = None
    after: int = 0
    stamp: str | None = None


class FakeEngine:
    """An `Engine` (see workers.base) without a model. A token is a word.

    answer: what an expert says. token_delay: seconds before each token. slots: requests that it answers at a time,
    others wait; None = all. keeps_requests: as on CUDA, they go on after a
    sleep; otherwise it is closed meanwhile, as on the CPU.
    Counts for tests: started, finished, aborted (generator closed early), failed, running; `calls` holds the last 1000.
    """

    def __init__(
        self,
        family: str,
        experts: Sequence[ExpertSpec],
        *,
        answer: Answer = echo,
        token_delay: float = 0.0,
        slots: int | None = None,
        keeps_requests: bool = True,
    ) -> None:
        self.family = family
        self.answer = answer
        self.token_delay = token_delay
        self.keeps_requests = keeps_requests
        self._slots = contextlib.nullcontext() if slots is None else asyncio.Semaphore(slots)
        self.started = self.finished = self.aborted = self.failed = self.running = 0
        self.calls: deque[ChatCall] = deque(maxlen=1000)
        self._experts = {spec.name: spec for spec in experts}
        self._broken: dict[str, str] = {}
        self._scripts: deque[_Script] = deque()
        self._start_failures: deque[str] = deque()
        self._awake = asyncio.Event()
        self._awake.set()
        self._up = self._dead = False
        self._starts = self._swaps = 0
        self._active: str | None = None
        self._tokens_to_live: int | None = None
        self._changed = asyncio.Event()

    # The script

    def fail_next(
        self, code: FailureCode, message: str = "scripted failure", *, after: int = 0, times: int = 1
    ) -> None:
        """The next `times` requests end with this failure after `after` tokens."""
        self._scripts.extend(itertools.repeat(_Script(failure=Failure(code, message), after=after), times))

    def stamp_next(self, expert: str) -> None:
        """The next request's answer bears this expert's stamp, whoever was asked: the fault that must never pass."""
        self._scripts.append(_Script(stamp=expert))

    def fail_start(self, expert: str, why: str = "scripted: no weights") -> None:
        """`expert` cannot be loaded from now on."""
        self._broken[expert] = why

    def fail_next_start(self, why: str = "scripted: does not start", *, times: int = 1) -> None:
        """The next `times` starts, or wakes from sleep, raise RuntimeError."""
        self._start_failures.extend(itertools.repeat(why, times))

    def die(self) -> None:
        """The engine goes down: requests in flight end with engine_died, later ones wait for `start`."""
        self._dead, self._up = True, False
        self._awake.set()

    def die_after(self, tokens: int) -> None:
        """The engine goes down when it has made so many more tokens, over all requests."""
        self._tokens_to_live = tokens

    def heal(self) -> None:
        """Forgets what was scripted for requests to come."""
        self._scripts.clear()

    async def reaches(self, running: int) -> None:
        """Waits until exactly so many requests are running."""
        while self.running != running:
            self._changed.clear()
            await self._changed.wait()

    # The engine

    async def start(self) -> None:
        if self._start_failures:
            raise RuntimeError(self._start_failures.popleft())
        self._up, self._dead, self._tokens_to_live = True, False, None
        self._starts += 1

    def is_alive(self) -> bool:
        return not self._dead

    async def close(self) -> None:
        self._up = False

    async def sleep(self) -> Literal["host", "disk"]:
        if self.keeps_requests:
            self._awake.clear()
            return "host"
        assert not self.running, "put to sleep with requests under way, which it does not keep"
        self._up = False
        return "disk"

    async def wake(self) -> None:
        if not self.keeps_requests:
            await self.start()
        elif self._start_failures:
            raise RuntimeError(self._start_failures.popleft())
        self._awake.set()

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str] = frozenset()) -> None:
        self._experts = {spec.name: spec for spec in experts}

    async def stats(self) -> WorkerStats:
        broken = self._broken
        return WorkerStats(
            family=self.family,
            tiers={name: f"failed: {broken[name]}" if name in broken else "device" for name in self._experts},
            active=self._active,
            running=self.running,
            swaps=self._swaps,
            restarts=max(0, self._starts - 1),
        )

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure. Closing the generator counts as an abort."""
        self.calls.append(call)
        script = self._scripts.popleft() if self._scripts else _Script()
        refused = self._refusal(call) or (script.failure if script.after == 0 else None)
        if refused:
            self.failed += 1
            yield refused
            return
        spec = self._experts[call.expert]  # whatever it is by the end
        self.started += 1
        self._run(+1)
        ended = False
        try:
            async with self._slots:
                async for event in self._tokens(call, spec, script):
                    if isinstance(event, Finish | Failure):
                        ended = True
                        self.finished += isinstance(event, Finish)
                        self.failed += isinstance(event, Failure)
                    yield event
        finally:
            self.aborted += not ended
            self._run(-1)

    async def _tokens(self, call: ChatCall, spec: ExpertSpec, script: _Script) -> AsyncGenerator[Event, None]:
        self._swaps += self._active is not None and self._active != call.expert
        self._active = call.expert
        prompt_tokens = _count(call)
        deltas: list[Delta] = [Delta(calls=parts) for parts in fake_forms.calls(call, call.tools)] if call.tools else []
        reason: FinishReason = "tool_calls"
        if not deltas:
            words, reason = self._words(call, spec, prompt_tokens)
            deltas = [Delta(word, logprobs=_logprobs(word, call)) for word in words]
        for made in itertools.count():
            if self._dead:
                yield Failure("engine_died", f"the engine of family {self.family!r} went down")
            elif time.time() >= call.deadline:
                yield Failure("deadline", "the deadline passed while the answer was generated")
            elif script.failure and made >= script.after:
                yield script.failure
            elif made == len(deltas):
                yield Finish(reason, script.stamp or call.expert, Usage(prompt_tokens, made))
            else:
                # Also without a delay the others get their turn, as they do in a batch.
                await asyncio.sleep(self.token_delay)
                await self._awake.wait()
                if not self._dead:
                    yield replace(deltas[made], usage=Usage(prompt_tokens, made + 1))
                    self._age()
                continue
            return

    def _run(self, change: int) -> None:
        self.running += change
        self._changed.set()

    def _age(self) -> None:
        if self._tokens_to_live is not None:
            self._tokens_to_live -= 1
            if self._tokens_to_live <= 0:
                self.die()

    def _refusal(self, call: ChatCall) -> Failure | None:
        if not self._up:
            return Failure("engine_starting", f"the engine of family {self.family!r} is not up yet")
        if call.expert not in self._experts:
            return Failure("expert_unavailable", f"family {self.family!r} has no expert {call.expert!r}")
        if call.expert in self._broken:
            return Failure("expert_unavailable", f"expert {call.expert!r}: {self._broken[call.expert]}")
        if problem := fake_forms.problem(call):
            return Failure("invalid_request", problem)
        prompt, context = _count(call), _context(self._experts[call.expert])
        wanted = call.sampling.max_tokens or 1
        if prompt + wanted > context:
            return Failure(
                "prompt_too_long",
                f"the prompt has {prompt} tokens and {wanted} are asked for; {call.expert!r} takes {context} in all",
            )
        return None

    def _words(self, call: ChatCall, spec: ExpertSpec, prompt_tokens: int) -> tuple[list[str], FinishReason]:
        """The answer cut at stop strings and limits, as words with the space before them; "".join gives the text."""
        text = (
            self.answer(call)
            if call.sampling.form is None
            else fake_forms.text(call.sampling.form, fake_forms.user_text(call))
        )
        cuts = [at for stop in call.sampling.stop if (at := text.find(stop)) >= 0]
        if cuts:
            text = text[: min(cuts)]
        first, *rest = text.split(" ")
        words = [first, *(" " + word for word in rest)] if text else []
        default = spec.sampling.max_tokens or DEFAULT_MAX_TOKENS
        limit = min(call.sampling.max_tokens or default, _context(spec) - prompt_tokens)
        return words[:limit], "length" if len(words) > limit else "stop"


def _context(spec: ExpertSpec) -> int:
    return spec.context_length or DEFAULT_CONTEXT


def _count(call: ChatCall) -> int:
    return sum(len((message.get("content") or "").split()) for message in call.messages)


def _logprobs(word: str, call: ChatCall) -> tuple[TokenLogprobs, ...]:
    """As sure of each word as can be, and as unsure of any other."""
    if call.sampling.logprobs is None:
        return ()
    others = [
        Logprob(f"other{number}", -9999.0, f"other{number}".encode()) for number in range(1, call.sampling.logprobs)
    ]
    chosen = Logprob(word, 0.0, word.encode())
    return (TokenLogprobs(chosen, (chosen, *others)[: call.sampling.logprobs]),)
