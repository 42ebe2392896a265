"""A test bed for swap policies: an engine on a virtual clock, and what other policies would have done.

Nothing here waits or computes: a trace of 100,000 requests takes seconds. Steps, swaps and loads take the seconds that
a `Machine` says; loads go on beside the steps, unless nothing can compute without them.
"""

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workers.swap_policy import Decision, Key, Tier


@dataclass(frozen=True, slots=True)
class Job:
    """A request. arrival: seconds since the start; steps: that it runs for, at least 1; lower priorities go first."""

    arrival: float
    expert: str
    steps: int
    caller: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What things take, in seconds, and what fits.

    load: of an image, from the tier that it is in; sizes: bytes of images, where they are not 1; step: of a batch of
    that many requests; batch: requests that fit one, None = any number; capacity: bytes of images on the device; lower:
    the tier of images that are not on the device.
    """

    activation: float = 0.001
    load: float = 1.0
    step: Callable[[int], float] = lambda requests: 0.03
    batch: int | None = None
    capacity: float = math.inf
    lower: Tier = "disk"
    sizes: Mapping[str, int] = field(default_factory=dict)
    loads: Mapping[str, float] = field(default_factory=dict)  # where they differ from `load`

    def size(self, expert: str) -> int:
        return self.sizes.get(expert, 1)

    def load_seconds(self, expert: str) -> float:
        return self.loads.get(expert, self.load)


class Policy(Protocol):
    """What `simulate` needs of a policy; see `workers.swap_policy.SwapPolicy`."""

    def place(self, expert: str, tier: Tier, size: int) -> None: ...
    def swapped(self, seconds: float) -> None: ...
    def loaded(self, expert: str, source: Tier, seconds: float) -> None: ...
    def stepped(self, now: float, seconds: float) -> None: ...
    def arrive(self, request: str, expert: str, now: float, *, priority: int = 0, caller: str = "") -> Key: ...
    def start(self, request: str) -> None: ...
    def finish(self, request: str) -> None: ...
    def decide(self, now: float) -> Decision: ...
    def admits(self, expert: str) -> bool: ...


@dataclass(slots=True)
class Turn:
    """Steps of one expert without another's between them. began: with the swap; hungry: seconds that its requests
    had waited for it then, since the first of them arrived or its last turn ended."""

    expert: str
    began: float
    hungry: float
    forced: bool
    jobs: list[int] = field(default_factory=list)  # that it started
    ended: float = math.nan


@dataclass(slots=True)
class Result:
    """What became of a trace. waits: seconds from a job's arrival to its first step, finishes: when it ended; both by
    the place of the job in the trace, nan for one that was refused. *_seconds: of the whole run; loading beside steps
    is in load_seconds and in busy_seconds both."""

    waits: list[float]
    finishes: list[float]
    turns: list[Turn] = field(default_factory=list)
    swaps: int = 0
    loads: int = 0
    cancelled: int = 0
    refused: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    swap_seconds: float = 0.0
    load_seconds: float = 0.0
    idle_seconds: float = 0.0

    @property
    def max_hungry(self) -> float:
        """Seconds that an expert with requests waited for its turn, at most."""
        return max((turn.hungry for turn in self.turns), default=0.0)

    @property
    def served(self) -> str:
        """The experts of the jobs in the order in which they started."""
        return " ".join(turn.expert for turn in self.turns for _ in turn.jobs)


@dataclass(slots=True)
class _Queue:
    """One expert's requests in the engine. done: steps that it has made; ends: (value of `done`, job) at which each
    ends."""

    waiting: list[tuple[Key, int]] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0
    unfinished: OrderedDict[int, float] = field(default_factory=OrderedDict)
    left: float = -math.inf


class _Engine:
    """Carries out decisions, step by step."""

    def __init__(
        self, policy: Policy, jobs: Sequence[Job], machine: Machine, resident: Iterable[str], strict: bool
    ) -> None:
        self.policy, self.jobs, self.machine, self.strict = policy, jobs, machine, strict
        self.now = 0.0
        self.result = Result([math.nan] * len(jobs), [math.nan] * len(jobs))
        self.queues = {expert: _Queue() for expert in dict.fromkeys(job.expert for job in jobs)}
        self.arrivals = deque(sorted(range(len(jobs)), key=lambda number: jobs[number].arrival))
        self.resident = set(resident)
        self.active: str | None = None
        self.loading: tuple[str, float] | None = None  # image, when it will be there
        for expert in [*self.queues, *(self.resident - self.queues.keys())]:
            policy.place(expert, "device" if expert in self.resident else machine.lower, machine.size(expert))

    def run(self) -> Result:
        while True:
            self.arrive()
            if self.loading is not None and self.loading[1] <= self.now:
                self.end_load()
            decision = self.policy.decide(self.now)
            self.obey(decision)
            if decision.expert is not None:
                self.step(decision.expert, decision)
            elif not self.idle():
                if self.active is not None:
                    self.result.turns[-1].ended = self.now
                if any(queue.unfinished for queue in self.queues.values()):
                    raise RuntimeError(f"at {self.now} s nothing computes, loads or arrives, and jobs are not finished")
                return self.result

    def arrive(self) -> None:
        while self.arrivals and self.jobs[self.arrivals[0]].arrival <= self.now:
            number = self.arrivals.popleft()
            job = self.jobs[number]
            if self.strict and not self.policy.admits(job.expert):
                self.result.refused += 1
                continue
            key = self.policy.arrive(str(number), job.expert, job.arrival, priority=job.priority, caller=job.caller)
            queue = self.queues[job.expert]
            heapq.heappush(queue.waiting, (key, number))
            queue.unfinished[number] = job.arrival

    def obey(self, decision: Decision) -> None:
        for expert in decision.evict:
            if expert == self.active:
                if decision.expert == expert:
                    raise RuntimeError(f"at {self.now} s {expert} is to compute and to be evicted")
                self.end_turn()
            self.resident.discard(expert)
            self.policy.place(expert, self.machine.lower, self.machine.size(expert))
        under_way = None if self.loading is None else self.loading[0]
        if decision.load != under_way:
            self.result.cancelled += under_way is not None
            self.loading = None
            if decision.load is not None:
                self.begin_load(decision.load)

    def begin_load(self, expert: str) -> None:
        held = sum(self.machine.size(other) for other in self.resident)
        if held + self.machine.size(expert) > self.machine.capacity:
            raise RuntimeError(f"at {self.now} s {expert} is to be loaded, and the device holds {held} bytes already")
        self.loading = expert, self.now + self.machine.load_seconds(expert)

    def end_load(self) -> None:
        assert self.loading is not None
        expert, self.loading = self.loading[0], None
        seconds = self.machine.load_seconds(expert)
        self.result.loads += 1
        self.result.load_seconds += seconds
        self.resident.add(expert)
        self.policy.loaded(expert, self.machine.lower, seconds)
        self.policy.place(expert, "device", self.machine.size(expert))

    def idle(self) -> bool:
        """Nothing computes until something comes: lets the time pass till then. False if nothing will."""
        ahead = [self.loading[1]] if self.loading is not None else []
        if self.arrivals:
            ahead.append(self.jobs[self.arrivals[0]].arrival)
        if not ahead:
            return False
        self.result.idle_seconds += max(0.0, min(ahead) - self.now)
        self.now = max(self.now, min(ahead))
        return True

    def end_turn(self) -> None:
        if self.active is not None:
            self.result.turns[-1].ended = self.queues[self.active].left = self.now
            self.active = None

    def step(self, expert: str, decision: Decision) -> None:
        queue, result = self.queues[expert], self.result
        if expert not in self.resident:
            self.end_turn()
            self.begin_load(expert)
            result.idle_seconds += self.machine.load_seconds(expert)
            self.now += self.machine.load_seconds(expert)
            self.end_load()
            return  # arrivals meanwhile are told, then it is asked again
        if expert != self.active:
            self.end_turn()
            since = max(queue.left, next(iter(queue.unfinished.values())))
            result.turns.append(Turn(expert, self.now, self.now - since, decision.forced))
            self.now += self.machine.activation
            result.swaps += 1
            result.swap_seconds += self.machine.activation
            self.policy.swapped(self.machine.activation)
            self.active = expert
        limit = self.machine.batch or math.inf
        while queue.waiting and len(queue.ends) < limit:
            key, number = queue.waiting[0]
            if decision.newest is not None and key > decision.newest:
                break
            heapq.heappop(queue.waiting)
            heapq.heappush(queue.ends, (queue.done + self.jobs[number].steps, number))
            self.policy.start(str(number))
            result.waits[number] = self.now - self.jobs[number].arrival
            result.turns[-1].jobs.append(number)
        if not queue.ends:
            raise RuntimeError(f"at {self.now} s {expert} is to compute and has nothing to")
        seconds = self.machine.step(len(queue.ends))
        self.now += seconds
        queue.done += 1
        result.steps += 1
        result.busy_seconds += seconds
        self.policy.stepped(self.now, seconds)
        while queue.ends and queue.ends[0][0] <= queue.done:
            _, number = heapq.heappop(queue.ends)
            del queue.unfinished[number]
            result.finishes[number] = self.now
            self.policy.finish(str(number))


def simulate(
    policy: Policy, jobs: Sequence[Job], machine: Machine, *, resident: Iterable[str] = (), strict: bool = True
) -> Result:
    """Drives a policy over a trace. resident: images that are on the device at the start. strict: jobs are refused that
    the policy does not admit; else it is not asked.

    Raises RuntimeError where a decision cannot be carried out: too much on the device, nothing to compute, a
    standstill.
    """
    return _Engine(policy, jobs, machine, resident, strict).run()


# What others do


@dataclass(slots=True)
class _Run:
    expert: str
    newest: Key
    unfinished: int = 1


class FirstCome:
    """First come, first served. The image that was used longest ago makes room; loads are in line.

    together: neighbours in the queue that ask the same expert run together; else each request runs alone.
    """

    def __init__(self, *, capacity: float = math.inf, together: bool = True) -> None:
        self._capacity, self._together = capacity, together
        self._runs: deque[_Run] = deque()
        self._run_of: dict[str, _Run] = {}
        self._sizes: dict[str, int] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()  # used longest ago first
        self._number = 0

    def place(self, expert: str, tier: Tier, size: int) -> None:
        self._sizes[expert] = size
        if tier == "device":
            self._resident[expert] = None
        else:
            self._resident.pop(expert, None)

    def swapped(self, seconds: float) -> None: ...
    def loaded(self, expert: str, source: Tier, seconds: float) -> None: ...
    def stepped(self, now: float, seconds: float) -> None: ...
    def start(self, request: str) -> None: ...

    def arrive(self, request: str, expert: str, now: float, *, priority: int = 0, caller: str = "") -> Key:
        self._number += 1
        key = (0, 0.0, self._number)
        if self._together and self._runs and self._runs[-1].expert == expert:
            run = self._runs[-1]
            run.newest, run.unfinished = key, run.unfinished + 1
        else:
            run = _Run(expert, key)
            self._runs.append(run)
        self._run_of[request] = run
        return key

    def finish(self, request: str) -> None:
        self._run_of.pop(request).unfinished -= 1

    def admits(self, expert: str) -> bool:
        return True

    def decide(self, now: float) -> Decision:
        while self._runs and not self._runs[0].unfinished:
            self._runs.popleft()
        if not self._runs:
            return Decision(None, None, None, (), False)
        run = self._runs[0]
        evict: list[str] = []
        if run.expert in self._resident:
            self._resident.move_to_end(run.expert)
        else:
            missing = sum(self._sizes[e] for e in self._resident) + self._sizes[run.expert] - self._capacity
            for expert in self._resident:
                if missing > 0:
                    evict.append(expert)
                    missing -= self._sizes[expert]
        return Decision(run.expert, run.newest, None, tuple(evict), False)


def fewest_loads_in_order(jobs: Sequence[Job], slots: int, resident: Iterable[str] = ()) -> int:
    """Loads if requests are served one by one in the order of arrival, and the image whose next use is furthest makes
    room (Belady, 1966): the least for that order. `slots`: images that the device holds, of equal size."""
    order = [job.expert for job in sorted(jobs, key=lambda job: job.arrival)]
    following = [len(order)] * len(order)
    last: dict[str, int] = {}
    for place in range(len(order) - 1, -1, -1):
        following[place] = last.get(order[place], len(order))
        last[order[place]] = place
    held = {expert: last.get(expert, len(order)) for expert in resident}
    furthest = [(-place, expert) for expert, place in held.items()]
    heapq.heapify(furthest)
    loads = 0
    for place, expert in enumerate(order):
        if expert not in held:
            loads += 1
            while len(held) >= slots:
                at, victim = heapq.heappop(furthest)
                if held.get(victim) == -at:
                    del held[victim]
        held[expert] = following[place]
        heapq.heappush(furthest, (-following[place], expert))
    return loads


def fewest_loads(jobs: Sequence[Job], resident: Iterable[str] = ()) -> int:
    """Loads if every request were there from the start: one for each expert that is not on the device yet."""
    return len({job.expert for job in jobs} - set(resident))
