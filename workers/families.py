"""Several families on one device: those that do not fit it together take turns, and sleep meanwhile.

The same policy as inside an engine decides, one level up: its experts are families, its images their engines.

| tier of a family | what it is |
|---|---|
| `device` | awake: its engine answers |
| `host` | asleep: the engine has given its device memory back and is there again soon |
| `disk` | not started: waking it starts its engine |

Families that are awake together answer at the same time. One that must go is not given new calls; those under way
complete, unless the bound on waiting forces the turn and the engine can keep them through its sleep.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from workers.base import ChatCall, Delta, Event, Failure, Roster, SleepingEngine, SwapEvent, WorkerStats, seconds_left
from workers.family import Call, Family, Member
from workers.swap_policy import Decision, SwapPolicy, SwapSettings, Tier
from workers.worker import close_engine

logger = logging.getLogger(__name__)


class SharedDevice:
    """The engines of several families on one device: a `workers.worker.Worker` for more than one family.

    memory: bytes for the families that are awake at a time, None = one family at a time. The first family that starts
    is woken at once, the others when they are asked. Calls of a family that is not awake wait for its turn here. The
    policy's bound on waiting holds as far as wakes are fast enough for it; nothing is refused for its sake.

    A family whose engine does not start fails alone: its calls are refused, until one that comes `retry` seconds later
    makes it try again. poll: how often engines and policy are looked at while nothing happens, in seconds. After
    `max_failures` failed starts in a row of every family `check_health` raises.
    """

    def __init__(
        self,
        name: str,
        families: Sequence[Family],
        settings: SwapSettings,
        *,
        memory: int | None = None,
        poll: float = 0.2,
        retry: float = 30.0,
        max_failures: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._poll, self._retry, self._max_failures, self._clock = poll, retry, max_failures, clock
        self._policy = SwapPolicy(settings, capacity=1 if memory is None else memory)
        self._memory = memory
        self._members = {f.name: Member(f, 1 if memory is None else f.bytes, f.roster) for f in families}
        self._member_of: dict[str, Member] = {}
        self._know_experts()
        self._numbers, self._moves = itertools.count(), itertools.count(1)
        self._decision = Decision(None, None, None, (), False)
        self._leaving: list[Member] = []
        self._last: Member = self._members[families[0].name]
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None
        for member in self._members.values():
            if memory is not None and member.size > memory:
                member.problem = (
                    f"it takes {member.size / 2**30:.2f} GiB, the device has {memory / 2**30:.2f}; "
                    f"lower families.{member.name}.memory_gib, or raise the device's"
                )
                member.retry_at, member.failures = math.inf, max_failures
            else:
                self._policy.place(member.name, "disk", member.size)

    def launch(self) -> None:
        """Begins to wake the first family. Calls wait for their turn from now on."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    # Who is served

    def _know_experts(self) -> None:
        self._member_of = {name: member for member in self._members.values() for name in member.roster.names}

    def adopt(self, family: str, roster: Roster, size: int = 0) -> None:
        """A family serves these experts from now on, as `workers.worker.Worker.adopt`. size: bytes that it takes."""
        member = self._members[family]
        member.roster = roster
        self._know_experts()
        if self._memory is not None and size <= self._memory:  # else its images take turns in what it has
            member.size = size
            if member.problem is None and not member.awake and self._work is None:  # what an engine has taken it keeps
                self._policy.place(member.name, member.tier, size)
        if member.awake and (member.adopting is None or member.adopting.done()):
            member.adopting = asyncio.get_running_loop().create_task(self._adopt(member))

    async def _adopt(self, member: Member) -> None:
        """While it is awake; else it is done when it wakes."""
        while member.awake and member.roster != member.adopted:
            try:
                async with member.lock:
                    if member.tier == "device" and member.engine is not None:  # still
                        await _adopt(member, member.engine)
            except Exception:
                logger.exception("the engine of family %s does not take its experts", member.name)
                await asyncio.sleep(self._poll)

    # Calls

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine.generate`."""
        member = self._member_of.get(call.expert)
        if member is None:
            yield Failure("expert_unavailable", f"no family on device {self._name} has the expert {call.expert}")
            return
        if self._keeper is None:
            yield Failure("engine_starting", f"the engine of {call.expert} is starting; try again shortly")
            return
        if member.problem is not None and self._clock() < member.retry_at:
            yield _unavailable(member, call.expert)
            return
        own = self._arrive(member, call)
        try:
            while True:
                try:
                    async with seconds_left(call):
                        event = await own.events.get()
                except TimeoutError:
                    event = Failure("deadline", "the request's deadline passed before the answer was complete")
                yield event
                if not isinstance(event, Delta):
                    return
        finally:
            await self._drop(member, own)

    def _arrive(self, member: Member, call: ChatCall) -> Call:
        now, number = self._clock(), str(next(self._numbers))
        if member.problem is not None:  # tried again
            member.problem = None
            self._policy.place(member.name, member.tier, member.size)
        key = self._policy.arrive(number, member.name, now, priority=call.priority, caller=call.caller)
        own = member.calls[number] = Call(number, call, key, now)
        member.held.add(key, own)
        self._changed.set()
        return own

    async def _drop(self, member: Member, own: Call) -> None:
        if own.task is not None:
            own.task.cancel()
            await asyncio.wait([own.task])
        self._ended(member, own)

    def _ended(self, member: Member, own: Call) -> None:
        member.calls.pop(own.number, None)
        member.held.discard(own.key)
        self._policy.finish(own.number)
        self._changed.set()

    async def _run(self, member: Member, own: Call, engine: SleepingEngine) -> None:
        """Takes the engine's events at its own pace: a caller that is slow to read does not keep the family awake."""
        began, first, ended = self._clock(), True, False
        try:
            async with contextlib.aclosing(engine.generate(own.call)) as events:
                async for event in events:
                    member.progressed = True
                    if first and self._decision.expert == member.name:
                        # The least turn that makes progress is one to a first token: the policy's step.
                        now = self._clock()
                        self._policy.stepped(now, now - max(began, member.since))
                    first, ended = False, not isinstance(event, Delta)
                    own.events.put_nowait(event)
        except Exception:
            logger.exception("the engine of family %s failed a request", member.name)
        if not ended:
            own.events.put_nowait(Failure("internal", f"the engine of {own.call.expert} gave no end of the answer"))
        self._ended(member, own)

    def live(self, experts: Sequence[str]) -> None:
        """These experts live here from now on. Nothing is brought ahead for them: it would take others' turns."""

    # Turns: one task looks and decides, another one, if any, puts to sleep and wakes

    async def _keep(self) -> None:
        try:
            while True:
                self._changed.clear()
                if self._work is not None and self._work.done():
                    self._work.result()
                    self._work = None
                self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._changed.wait()
        finally:
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])

    def _look(self) -> None:
        if self._work is None:  # else what was decided is not carried out yet
            self._decision = self._policy.decide(self._clock())
            dead = next((m for m in self._members.values() if m.engine and m.tier != "disk" and not _alive(m)), None)
            if dead is not None:
                self._begin(self._bury(dead))
            else:
                self._choose()
        for member in self._members.values():
            if member.awake and member not in self._leaving:
                self._start_calls(member)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.get_running_loop().create_task(work)
        self._work.add_done_callback(lambda _: self._changed.set())

    def _choose(self) -> None:
        """Begins a turn once those that must sleep for it can."""
        wanted = self._wanted()
        self._leaving = []
        if wanted is None:
            return
        self._leaving = [m for name in self._decision.evict if (m := self._members[name]).awake]
        if all(not m.busy or (self._decision.forced and m.can_pause) for m in self._leaving):
            self._begin(self._turn(wanted, self._leaving))

    def _wanted(self) -> Member | None:
        """The family to wake now; if nobody asks and none is awake, the one that was last or the first that starts."""
        for name in (self._decision.load, self._decision.expert):
            if name is not None and not self._members[name].awake:
                return self._members[name]
        if any(m.awake or m.calls for m in self._members.values()):
            return None
        now = self._clock()
        return next((m for m in (self._last, *self._members.values()) if now >= m.retry_at), None)

    def _start_calls(self, member: Member) -> None:
        newest = self._decision.newest if self._decision.expert == member.name else None
        while (call := member.held.first()) is not None and (newest is None or call.key <= newest):
            assert member.engine is not None
            member.held.discard(call.key)
            self._policy.start(call.number)
            call.task = asyncio.get_running_loop().create_task(self._run(member, call, member.engine))

    async def _turn(self, member: Member, leaving: Sequence[Member]) -> None:
        began, source = self._clock(), member.tier
        for other in leaving:
            async with other.lock:
                await self._put_to_sleep(other)
        async with member.lock:
            is_awake = await self._wake(member)
        if is_awake:
            seconds = self._clock() - began
            member.wakes += 1
            member.wake_seconds += seconds
            self._move(member, "device", seconds)
            self._policy.loaded(member.name, source, seconds)
            self._policy.place(member.name, "device", member.size)
            for call in member.calls.values():
                if call.kept:
                    call.kept = False
                    self._policy.start(call.number)

    async def _put_to_sleep(self, member: Member) -> None:
        assert member.engine is not None
        began = self._clock()
        try:
            member.told = await member.engine.stats()
            tier = await member.engine.sleep()
        except Exception:
            logger.exception("the engine of family %s does not go to sleep; it is ended", member.name)
            await self._end_engine(member)
            return
        self._move(member, tier, self._clock() - began)
        self._policy.place(member.name, tier, member.size)
        for call in member.calls.values():
            if call.task is not None:
                call.kept = True
                self._policy.requeue(call.number)

    async def _wake(self, member: Member) -> bool:
        try:
            if member.engine is None:
                roster = member.roster
                member.engine = member.family.make_engine(roster)
                await member.engine.start()
                member.adopted = roster
            else:
                if member.roster != member.adopted and member.tier == "disk":
                    await _adopt(member, member.engine)  # it is started with those
                await member.engine.wake()
            if member.roster != member.adopted:
                await _adopt(member, member.engine)
        except Exception as error:
            logger.exception("the engine of family %s did not start", member.name)
            await self._end_engine(member)
            self._fail(member, " ".join(str(error).split()))
            return False
        member.problem, member.failures = None, 0
        member.progressed, self._last = False, member
        return True

    def _fail(self, member: Member, why: str) -> None:
        member.problem, member.failures = why, member.failures + 1
        member.retry_at = self._clock() + self._retry
        self._policy.remove(member.name)
        for call in member.held.in_order():
            call.events.put_nowait(_unavailable(member, call.call.expert))
            self._ended(member, call)

    async def _bury(self, member: Member) -> None:
        logger.error("the engine of family %s died", member.name)
        member.deaths += 1
        await self._end_engine(member)

    async def _end_engine(self, member: Member) -> None:
        engine, member.engine = member.engine, None
        member.adopted = None
        if engine is None:
            return
        self._move(member, "disk", 0.0)  # no call starts there any more
        for call in [call for call in member.calls.values() if call.task is not None]:
            await self._drop(member, call)
            call.events.put_nowait(Failure("engine_died", f"the engine of {call.call.expert} went down"))
        await close_engine(engine, member.name)
        self._policy.place(member.name, "disk", member.size)  # only now its memory is free

    def _move(self, member: Member, tier: Tier, seconds: float) -> None:
        """Notes a family's new tier, and tells people who look at the event log."""
        if tier == member.tier:
            return
        number, kind, size = next(self._moves), "woke" if tier == "device" else "slept", member.family.bytes
        member.events.append(SwapEvent(number, time.time(), kind, member.name, member.tier, tier, size, seconds))
        member.tier, member.since = tier, self._clock()

    # For whoever runs it

    async def stats(self) -> dict[str, WorkerStats]:
        """Family -> its stats; calls that wait for the family's turn are in them."""
        return {member.name: await self._stats_of(member) for member in self._members.values()}

    async def _stats_of(self, member: Member) -> WorkerStats:
        if member.awake and member.engine is not None:
            own = await member.engine.stats()
        else:
            told = member.told or WorkerStats(member.name, {})
            own = replace(told, tiers=self._tiers_without_engine(member, told), active=None, running=0, oldest_wait=0.0)
        hungry = 0.0 if member.awake else member.hungry(self._clock())
        return replace(
            own,
            waiting=max(0, len(member.calls) - own.running),
            queued_by_expert=dict(Counter(call.call.expert for call in member.calls.values())),
            restarts=member.deaths,
            wakes=member.wakes,
            wake_seconds=member.wake_seconds,
            oldest_wait=max(own.oldest_wait, hungry),
            events=tuple(sorted((*own.events, *member.events), key=lambda event: event.at)),
            roster=member.roster.version if member.is_settled else "",
        )

    def _tiers_without_engine(self, member: Member, told: WorkerStats) -> dict[str, str]:
        tier: str = member.tier
        if member.problem is not None:
            tier = f"failed: {member.problem}"
        elif not any(other.awake or other.wakes for other in self._members.values()):
            tier = "starting" if member is self._last else tier
        names = member.roster.names
        failed = {expert: t for expert, t in told.tiers.items() if t.startswith("failed") and expert in names}
        return dict.fromkeys(names, tier) | failed

    def check_health(self) -> None:
        """Raises RuntimeError once no family's engine could be started too often in a row."""
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()
        if all(member.failures >= self._max_failures for member in self._members.values()):
            problems = "; ".join(f"{name}: {member.problem}" for name, member in self._members.items())
            raise RuntimeError(f"no engine on device {self._name} starts: {problems}")

    async def close(self) -> None:
        """Ends every engine. Calls that wait get the Failure "engine_starting": nothing of them was started."""
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            keeper.cancel()
            await asyncio.wait([keeper])
        for member in self._members.values():
            if member.adopting is not None:
                member.adopting.cancel()
                await asyncio.wait([member.adopting])
            for call in member.held.in_order():
                call.events.put_nowait(Failure("engine_starting", f"the engine of {call.call.expert} is being ended"))
            await self._end_engine(member)


async def _adopt(member: Member, engine: SleepingEngine) -> None:
    roster = member.roster
    await engine.adopt(roster.experts, roster.pinned)
    member.adopted = roster


def _alive(member: Member) -> bool:
    return member.engine is not None and member.engine.is_alive()


def _unavailable(member: Member, expert: str) -> Failure:
    return Failure("expert_unavailable", f"the engine of {expert} does not start: {member.problem}")
