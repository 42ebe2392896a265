"""What holds for every trace: the bound on waiting, the number of swaps, what is evicted, and that nothing is lost."""

import itertools
import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from workers.deadlines import Deadlines, Need
from workers.fair_queue import KeyHeap
from workers.simulation import FirstCome, Job, Machine, Result, simulate
from workers.swap_policy import Decision, Key, SwapPolicy, SwapSettings, Tier

STEP = 0.1
EXPERTS = "ABCDEF"
examples = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def jobs(
    *,
    callers: str = "x",
    priorities: tuple[int, ...] = (0,),
    gaps: tuple[float, ...] = (0.0, 0.0, 0.03, 0.1, 0.5, 2.0),
    steps: tuple[int, ...] = (1, 1, 2, 5, 30, 150),
    most: int = 40,
) -> st.SearchStrategy[list[Job]]:
    """Traces; with 150 steps a job is an endless stream to those that wait for less."""
    shape = st.tuples(*(st.sampled_from(each) for each in (gaps, EXPERTS, steps, callers, priorities)))

    def trace(shapes: list[tuple[float, str, int, str, int]]) -> list[Job]:
        at, made = 0.0, []
        for gap, expert, count, caller, priority in shapes:
            at += gap
            made.append(Job(at, expert, count, caller, priority))
        return made

    return st.lists(shape, min_size=1, max_size=most).map(trace)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Of images of different sizes, on devices from the size of the largest one up."""
    sizes = {expert: draw(st.integers(1, 3)) for expert in EXPERTS}
    rate = draw(st.sampled_from((0.1, 0.5, 1.0, 3.0)))
    return Machine(
        activation=draw(st.sampled_from((0.0, 0.01, 0.3))),
        loads={expert: rate * size for expert, size in sizes.items()},
        step=lambda requests: STEP,
        batch=draw(st.sampled_from((None, 1, 3))),
        capacity=draw(st.sampled_from((math.inf, 3, 4, 5))),
        lower=draw(st.sampled_from(("host", "disk"))),
        sizes=sizes,
    )


def fitting(machine: Machine) -> list[str]:
    """Experts, in order, whose images fit the device together."""
    fit: list[str] = []
    for expert in EXPERTS:
        if sum(map(machine.size, fit)) + machine.size(expert) <= machine.capacity:
            fit.append(expert)
    return fit


def knowing(policy: SwapPolicy, machine: Machine) -> SwapPolicy:
    """The policy, after it has measured what things take."""
    policy.swapped(machine.activation)
    policy.stepped(0.0, STEP)
    for expert in EXPERTS:
        policy.place(expert, machine.lower, machine.size(expert))
        policy.loaded(expert, machine.lower, machine.load_seconds(expert))
    return policy


def finished(result: Result) -> bool:
    """Every job that was admitted had its first step and its last one."""
    served = sum(wait >= 0 for wait in result.waits)
    return served == sum(end > 0 for end in result.finishes) == len(result.waits) - result.refused


@examples
@given(
    trace=jobs(callers="xy", priorities=(-1, 0, 0, 1)),
    machine=machines(),
    max_wait=st.sampled_from((0.5, 1.0, 2.0, 5.0, 20.0)),
    overhead=st.sampled_from((0.1, 0.5, 0.9)),
    warm=st.booleans(),
)
def test_who_is_admitted_waits_no_longer_than_max_wait_and_a_swap_and_a_quantum(
    trace: list[Job], machine: Machine, max_wait: float, overhead: float, warm: bool
) -> None:
    policy = knowing(SwapPolicy(SwapSettings(overhead, max_wait), capacity=machine.capacity), machine)
    result = simulate(policy, trace, machine, resident=fitting(machine) if warm else ())
    swap = machine.activation + max(machine.loads.values())
    quantum = (1 / overhead - 1) * swap
    assert result.max_hungry <= max_wait + swap + quantum + STEP + 1e-6
    assert finished(result)


@examples
@given(trace=jobs(), device=st.sampled_from((1, math.inf)), activation=st.sampled_from((0.0, 0.02, 0.3)))
def test_swaps_are_no_more_than_those_of_first_come_first_served(
    trace: list[Job], device: float, activation: float
) -> None:
    machine = Machine(activation=activation, step=lambda requests: STEP, capacity=device)
    resident = EXPERTS if device == math.inf else EXPERTS[:1]
    ours = simulate(SwapPolicy(SwapSettings(max_wait=1e9), capacity=device), trace, machine, resident=resident)
    first = simulate(FirstCome(capacity=device), trace, machine, resident=resident)
    runs = 1 + sum(one.expert != other.expert for one, other in itertools.pairwise(trace))
    assert ours.swaps <= first.swaps == runs
    assert ours.loads <= first.loads
    assert finished(ours)
    assert finished(first)


@examples
@given(
    burst=jobs(gaps=(0.0,)),
    device=st.sampled_from((1, 2, 3, math.inf)),
    active=st.sampled_from(EXPERTS),
)
def test_a_burst_costs_one_swap_for_each_expert_that_is_not_active(
    burst: list[Job], device: float, active: str
) -> None:
    trace = [Job(0.0, active, 3), *(replace(job, arrival=10.0) for job in burst)]
    machine = Machine(step=lambda requests: STEP, capacity=device)
    policy = SwapPolicy(SwapSettings(max_wait=1e9), capacity=device)
    result = simulate(policy, trace, machine, resident=active)
    others = {job.expert for job in burst} - {active}
    assert result.swaps - 1 == len(others)
    assert result.turns[0].expert == active
    assert result.loads == len(others)


@examples
@given(
    trace=jobs(most=15),
    stream=st.sampled_from(EXPERTS),
    callers=st.sampled_from((1, 7)),
    priority=st.sampled_from((-5, 0)),
    device=st.sampled_from((1, 3, math.inf)),
)
def test_nobody_starves_under_an_endless_stream_of_higher_priority(
    trace: list[Job], stream: str, callers: int, priority: int, device: float
) -> None:
    """A request waits for the rest of a turn that it came too late to join, then for the next one: twice the bound."""
    endless = [Job(0.05 * n, stream, 2, f"c{n % callers}", priority) for n in range(1200)]  # for 60 s
    machine = Machine(load=0.2, step=lambda requests: STEP, capacity=device)
    asked = [job for job in trace if job.arrival < 40]
    policy = SwapPolicy(SwapSettings(0.5, 10.0), capacity=device)
    result = simulate(policy, [*asked, *endless], machine)
    swap_and_quantum = 2 * (0.2 + machine.activation)
    assert result.max_hungry <= 10.0 + swap_and_quantum + STEP + 1e-6
    assert max(result.waits[: len(asked)], default=0.0) <= 2 * (10.0 + swap_and_quantum + STEP)
    assert result.refused == 0


# The parts against naive ones


def begin_of_last(order: list[str], needs: dict[str, Need], share: float, overlap: bool) -> float:
    """Seconds until the last one's turn begins, if each before it has its least turn and this share of what it wishes
    beyond it: an engine, and a loader that brings the next image during a turn, or after it."""
    begin = turn = 0.0
    for expert in order:
        need = needs[expert]
        begin += (max(turn, need.load) if overlap else turn + need.load) + need.late
        turn = need.least + share * (need.full - need.least)
    return begin


@examples
@given(
    max_wait=st.sampled_from((1.0, 5.0, 20.0)),
    overlap=st.booleans(),
    actions=st.lists(
        st.tuples(
            st.sampled_from(("add", "add", "add", "later", "remove", "change", "all", "turn")),
            st.sampled_from(EXPERTS),
            st.sampled_from((0.0, 0.1, 1.0)),
            st.tuples(*[st.sampled_from((0.0, 0.1, 0.3, 1.0, 3.0))] * 4),
        ),
        max_size=25,
    ),
)
def test_the_moment_when_one_must_be_next_is_that_of_its_formula(
    max_wait: float, overlap: bool, actions: list[tuple[str, str, float, tuple[float, float, float, float]]]
) -> None:
    needs = dict.fromkeys(EXPERTS, Need(0.0, 0.0, 0.1, 1.1))
    deadlines = Deadlines(max_wait, lambda expert: needs[expert])
    deadlines.overlap(overlap)
    since: dict[str, float] = {}
    now = start = wish = 0.0
    for action, expert, seconds, (load, late, turn, more) in actions:
        now += seconds
        if action == "add" and expert not in since:
            since[expert] = now
        elif action == "later" and expert in since:
            since[expert] = (since[expert] + now) / 2
        elif action == "remove":
            since.pop(expert, None)
            deadlines.remove(expert)
        elif action == "change":
            needs[expert] = Need(load, late, turn, turn + more)
            deadlines.changed(expert)
        elif action == "all":
            needs = dict.fromkeys(EXPERTS, Need(load, late, turn, turn + more))
            deadlines.all_changed()
        elif action == "turn":
            start, wish = now, more
            deadlines.turn(start, wish)
        if expert in since:
            deadlines.add(expert, since[expert])

        limits = []
        order = sorted(since, key=lambda each: since[each])
        for count, each in enumerate(order, 1):
            least, full = (begin_of_last(order[:count], needs, share, overlap) for share in (0, 1))
            last = since[each] + max_wait - least
            fair = start + (last - start) * wish / (wish + full - least) if wish else -math.inf
            limits.append(max(since[each] + max_wait - full, fair))
        moment = min(limits, default=math.inf)
        if now >= moment + 1e-9:
            assert deadlines.due(now) in [each for each in order if since[each] == since[order[0]]]
            shortest = [
                since[each] + max_wait - begin_of_last(order[:count], needs, 0, overlap)
                for count, each in enumerate(order, 1)
            ]
            assert deadlines.spare(now) == pytest.approx(min(shortest) - now)
            return
        if now < moment - 1e-9:
            assert deadlines.due(now) is None


@examples
@given(st.lists(st.tuples(st.sampled_from(("add", "add", "discard")), st.integers(0, 200)), max_size=300))
def test_a_heap_of_keys_is_sorted_whatever_was_discarded(actions: list[tuple[str, int]]) -> None:
    heap: KeyHeap[int] = KeyHeap()
    kept: set[int] = set()
    for action, number in actions:
        if action == "add" and number not in kept:
            heap.add((0, 0.0, number), number)
            kept.add(number)
        elif action == "discard":
            heap.discard((0, 0.0, number))
            kept.discard(number)
        assert (heap.first(), len(heap)) == (min(kept, default=None), len(kept))
    assert heap.in_order() == sorted(kept)
    for number in range(0, 201, 2):
        heap.discard((0, 0.0, number))
    assert heap.first() == min((number for number in kept if number % 2), default=None)


# The state of the policy, and every decision, against a naive model


@dataclass
class Request:
    expert: str
    key: Key
    arrived: float
    running: bool = False


@dataclass
class Model:
    """The same state as plain lists, looked through from end to end. active: who computed last, while on the device."""

    capacity: float
    pinned: frozenset[str]
    tiers: dict[str, Tier] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    active: str | None = None

    def of(self, expert: str | None) -> list[Request]:
        return [request for request in self.requests.values() if request.expert == expert]

    def key(self, expert: str) -> Key:
        waiting = [request.key for request in self.of(expert) if not request.running]
        return min(waiting or [request.key for request in self.of(expert)])

    def running(self, expert: str) -> bool:
        return any(request.running for request in self.of(expert))

    def resident(self) -> list[str]:
        return [expert for expert, tier in self.tiers.items() if tier == "device"]

    def bytes(self, experts: list[str]) -> int:
        return sum(self.sizes[expert] for expert in experts)

    def counts(self) -> dict[str, tuple[int, int]]:
        return {
            expert: (sum(not r.running for r in self.of(expert)), sum(r.running for r in self.of(expert)))
            for expert in EXPERTS
            if self.of(expert)
        }


class AnyOrder(RuleBasedStateMachine):
    """Events in any order, decisions carried out at once or, like an engine that runs a step behind, loads later."""

    @initialize(
        capacity=st.sampled_from((3, 4, 6, math.inf)),
        sizes=st.tuples(*[st.integers(1, 3)] * len(EXPERTS)),
        pinned=st.sampled_from(("", "A")),
        max_wait=st.sampled_from((1.0, 5.0, 1e9)),
    )
    def begin(self, capacity: float, sizes: tuple[int, ...], pinned: str, max_wait: float) -> None:
        self.now = 0.0
        self.number = 0
        self.loading: str | None = None
        self.before: Decision | None = None
        self.model = Model(capacity, frozenset(pinned))
        self.policy = SwapPolicy(SwapSettings(0.5, max_wait, frozenset(pinned)), capacity=capacity)
        self.unbound = max_wait == 1e9
        for expert, size in zip(EXPERTS, sizes, strict=True):
            size = 1 if pinned else size  # else a pinned image and a large one do not fit together
            self.model.sizes[expert] = size
            self.place(expert, "disk")
        self.policy.swapped(0.05)
        self.policy.stepped(0.0, STEP)

    def place(self, expert: str, tier: Tier) -> None:
        self.model.tiers[expert] = tier
        self.policy.place(expert, tier, self.model.sizes[expert])

    def ids(self) -> list[str]:
        return sorted(self.model.requests, key=int)

    @rule(expert=st.sampled_from(EXPERTS), priority=st.sampled_from((0, 0, 1)), caller=st.sampled_from("xy"))
    def arrive(self, expert: str, priority: int, caller: str) -> None:
        self.number += 1
        key = self.policy.arrive(str(self.number), expert, self.now, priority=priority, caller=caller)
        assert key[0] == priority
        assert all(key > r.key for r in self.model.requests.values() if r.expert == expert and r.key[:2] == key[:2])
        self.model.requests[str(self.number)] = Request(expert, key, self.now)

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.ids()))
        del self.model.requests[gone]
        self.policy.finish(gone)
        self.policy.finish(gone)  # and is unknown now

    @precondition(lambda self: any(r.running for r in self.model.requests.values()))
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from([i for i in self.ids() if self.model.requests[i].running]))
        self.model.requests[chosen].running = False
        self.policy.requeue(chosen)

    @precondition(lambda self: self.loading is not None)
    @rule(seconds=st.sampled_from((0.1, 1.0)))
    def end_load(self, seconds: float) -> None:
        assert self.loading is not None
        expert, self.loading = self.loading, None
        self.policy.loaded(expert, "disk", seconds)
        self.place(expert, "device")

    @rule(expert=st.sampled_from(EXPERTS))
    def fail(self, expert: str) -> None:
        """As the engine does: its requests end, and it is tried again when the next one comes."""
        self.policy.remove(expert)
        self.model.tiers.pop(expert, None)
        for gone in [i for i in self.ids() if self.model.requests[i].expert == expert]:
            del self.model.requests[gone]
            self.policy.finish(gone)
        self.loading = None if self.loading == expert else self.loading
        self.model.active = None if self.model.active == expert else self.model.active
        self.place(expert, "disk")

    @rule(seconds=st.sampled_from((0.0, 0.1, 0.1, 1.0, 7.0)), finish=st.booleans())
    def step(self, seconds: float, finish: bool) -> None:
        model = self.model
        decision = self.policy.decide(self.now)
        self.check(decision)
        if decision.expert != model.active and model.active in decision.evict:
            model.active = None
        for expert in decision.evict:
            self.place(expert, "host")
        self.loading = decision.load
        if decision.expert is not None:
            if decision.expert != model.active:
                self.policy.swapped(0.05)
            model.active = decision.expert
            for i, request in model.requests.items():
                may = decision.newest is None or request.key <= decision.newest
                if may and request.expert == decision.expert and not request.running:
                    request.running = True
                    self.policy.start(i)
            done = [i for i in self.ids() if model.requests[i].expert == decision.expert and model.requests[i].running]
            self.policy.stepped(self.now + STEP, STEP)
            if finish and done:
                del model.requests[done[0]]
                self.policy.finish(done[0])
        self.now += STEP + seconds

    def check(self, decision: Decision) -> None:
        model, resident = self.model, self.model.resident()
        staying = [expert for expert in resident if expert not in decision.evict]
        working = [expert for expert in staying if model.of(expert)]

        # Who computes is on the device, stays there and has something to do; if nobody does, nobody could.
        if decision.expert is None:
            assert not working
            assert decision.load is not None or not any(model.of(e) for e in model.tiers)
        else:
            assert decision.expert in working
            assert any(
                r.running or decision.newest is None or r.key <= decision.newest for r in model.of(decision.expert)
            )
        # The order: who is next is the first of those on the device; what does not start is later than what somebody
        # else asked first.
        if self.unbound and decision.expert not in (None, model.active):
            others = [e for e in working if e != model.active]
            assert decision.expert == min(others, key=model.key)
        if decision.newest is not None:
            others = [e for e in model.tiers if e != decision.expert and model.of(e)]
            assert decision.newest in [model.key(e) for e in others]
        # Loads are for requests, of one image at a time, and it fits.
        if decision.load is not None:
            assert decision.load not in resident
            assert model.of(decision.load)
            assert model.bytes([*staying, decision.load]) <= model.capacity
        assert (not decision.evict) or decision.load is not None
        assert not model.pinned & set(decision.evict)
        # Images with requests under way go only if those without would not have been enough.
        if decision.load is not None and any(model.running(e) for e in decision.evict):
            rest = [e for e in resident if model.running(e) or e == decision.expert or e in model.pinned]
            assert model.bytes([*rest, decision.load]) > model.capacity

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.policy.counts() == self.model.counts()
        hungry = [
            min(r.arrived for r in self.model.of(e)) for e in EXPERTS if self.model.of(e) and e != self.model.active
        ]
        assert self.policy.oldest_wait(self.now) <= self.now - min(hungry, default=self.now) + 1e-9


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(examples, stateful_step_count=40)
