"""A fake of the engine that needs no model: what every test of the service and `coe serve --fake` run on.

It answers deterministically, one word a token, and does on request what real engines do at the worst moment.
"""

import asyncio
import contextlib
import itertools
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
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
    Phases,
    SwapEvent,
    TokenLogprobs,
    Usage,
    WorkerStats,
)

DEFAULT_CONTEXT = 32_768
DEFAULT_MAX_TOKENS = 512

KEPT = 512
"""Events of its log."""
CHILD = ("cat",)
"""The child process of an engine that has one."""

Answer = Callable[[ChatCall], str]
Image = tuple[str, str]
"""Expert and source: an expert with other weights has another one."""


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
    others wait; None = all. images: of one byte each, that its device holds at a time; the one that was used longest
    ago makes room, and loads take no time; None = all, whatever their size. keeps_requests: as on CUDA, they go on
    after a sleep; otherwise it is closed meanwhile, as on the CPU. process: it has a child process, and goes down with
    it, as vLLM does.
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
        images: int | None = None,
        keeps_requests: bool = True,
        process: bool = False,
    ) -> None:
        self.family = family
        self.answer = answer
        self.token_delay = token_delay
        self.keeps_requests = keeps_requests
        self._slots = contextlib.nullcontext() if slots is None else asyncio.Semaphore(slots)
        self.started = self.finished = self.aborted = self.failed = self.running = 0
        self.calls: deque[ChatCall] = deque(maxlen=1000)
        self._experts = {spec.name: spec for spec in experts}
        self._images = images
        self._device: dict[Image, None] = {}  # used longest ago first
        self._computing: Counter[Image] = Counter()  # its requests under way
        self._loads = 0
        self._busy_seconds, self._busy_since = 0.0, 0.0
        self._seconds = {"queue": 0.0, "execute": 0.0}  # of finished requests
        self._broken: dict[str, str] = {}
        self._scripts: deque[_Script] = deque()
        self._start_failures: deque[str] = deque()
        self._awake = asyncio.Event()
        self._awake.set()
        self._up = self._dead = False
        self._starts = self._swaps = 0
        self._active: str | None = None
        self._queued: Counter[str] = Counter()  # expert -> its unfinished requests
        self._events: deque[SwapEvent] = deque(maxlen=KEPT)
        self._happened = 0
        self._tokens_to_live: int | None = None
        self._changed = asyncio.Event()
        self._has_process = process
        self._watch: asyncio.Task[None] | None = None

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
        if self._has_process and (self._watch is None or self._watch.done()):
            # It reads until its end of the pipe is closed, and so does not outlive this process either.
            child = await asyncio.create_subprocess_exec(*CHILD, stdin=PIPE, stdout=DEVNULL)
            self._watch = asyncio.create_task(self._go_down_with(child))
        self._up, self._dead, self._tokens_to_live = True, False, None
        self._starts += 1
        images = dict.fromkeys(map(self._image_of, self._experts))
        self._device = dict.fromkeys(list(images)[: self._images])

    async def _go_down_with(self, child: asyncio.subprocess.Process) -> None:
        try:
            await child.wait()
            self.die()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    def is_alive(self) -> bool:
        return not self._dead

    async def close(self) -> None:
        self._up = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

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
        self._give_up(*self._device)

    async def stats(self) -> WorkerStats:
        since = time.monotonic() - self._busy_since if self.running else 0.0
        bounded = self._images is not None
        return WorkerStats(
            family=self.family,
            tiers={name: self._tier(name) for name in self._experts},
            active=self._active,
            running=self.running,
            swaps=self._swaps,
            queued_by_expert={name: n for name, n in self._queued.items() if n},
            events=tuple(self._events),
            restarts=max(0, self._starts - 1),
            loads={"disk": self._loads} if bounded else {},
            moved_bytes={"disk": self._loads} if bounded else {},
            moved_seconds={"disk": 0.0} if bounded else {},
            tier_bytes={"device": len(self._device)} if bounded else {},
            request_seconds=dict(self._seconds),
            room_bytes={"device": self._images} if self._images is not None else {},
            image_bytes=dict.fromkeys(self._experts, 1) if bounded else {},
            busy_seconds=self._busy_seconds + since,
        )

    def _tier(self, expert: str) -> str:
        if why := self._broken.get(expert):
            return f"failed: {why}"
        return "device" if self._images is None or self._image_of(expert) in self._device else "disk"

    def _image_of(self, expert: str) -> Image:
        spec = self._experts[expert]
        base = self._experts.get(spec.base or expert, spec)
        return base.name, base.source

    @contextlib.contextmanager
    def _held(self, image: Image) -> Iterator[None]:
        """Within: the image is on the device, and stays there."""
        if image not in self._device:
            self._loads += 1
            idle = [other for other in self._device if not self._computing[other]]
            while self._images is not None and len(self._device) >= self._images and idle:
                gone = idle.pop(0)
                del self._device[gone]
                self._note("evicted", gone[0], "device", "disk", f"for {image[0]}")
            self._note("loaded", image[0], "disk", "device", moved=1)
        self._device.pop(image, None)
        self._device[image] = None
        self._computing[image] += 1
        try:
            yield
        finally:
            self._computing[image] -= 1
            self._give_up(image)

    def _note(self, kind: str, image: str, source: str, target: str, why: str = "", moved: int = 0) -> None:
        self._happened += 1
        self._events.append(SwapEvent(self._happened, time.time(), kind, image, source, target, moved, 0.0, why))

    def _give_up(self, *images: Image) -> None:
        """Those of experts that are gone or have other weights, if nobody computes with them."""
        for name, source in images:
            spec = self._experts.get(name)
            if (spec is None or spec.source != source) and not self._computing[name, source]:
                self._device.pop((name, source), None)

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure. Closing the generator counts as an abort."""
        self.calls.append(call)
        script = self._scripts.popleft() if self._scripts else _Script()
        refused = self._refusal(call) or (script.failure if script.after == 0 else None)
        if refused:
            self.failed += 1
            yield refused
            return
        spec, image = self._experts[call.expert], self._image_of(call.expert)  # whatever they are by the end
        self.started += 1
        self._queued[call.expert] += 1
        self._run(+1)
        ended, came = False, time.monotonic()
        began = first = 0.0
        try:
            async with self._slots:
                began = time.monotonic()
                brought = image not in self._device
                with self._held(image):
                    computed = time.monotonic() if brought else began
                    async for event in self._tokens(call, spec, script):
                        first = first or time.monotonic()
                        if isinstance(event, Finish):
                            event = replace(event, phases=_phases(came, began, computed, first, time.monotonic()))
                            self._seconds["queue"] += began - came
                            self._seconds["execute"] += time.monotonic() - began
                        if isinstance(event, Finish | Failure):
                            ended = True
                            self.finished += isinstance(event, Finish)
                            self.failed += isinstance(event, Failure)
                        yield event
        finally:
            self.aborted += not ended
            self._queued[call.expert] -= 1
            self._run(-1)

    async def _tokens(self, call: ChatCall, spec: ExpertSpec, script: _Script) -> AsyncGenerator[Event, None]:
        if self._active != call.expert:
            self._swaps += self._active is not None
            self._note("swap", call.expert, "device", "device", f"after {self._active}")
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
        now = time.monotonic()
        self._busy_seconds += now - self._busy_since if self.running else 0.0
        self._busy_since = now
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


def _phases(came: float, began: float, computed: float, first: float, ended: float) -> Phases:
    return Phases(queue=began - came, swap=computed - began, prefill=first - computed, decode=ended - first)


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
