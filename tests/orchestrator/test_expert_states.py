"""What routing knows of the experts: from the workers' stats, and from what was seen to fail."""

import asyncio

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.expert_states import DOUBT_S, FRESH_S, ExpertStates, Stats, said
from routers.policies.base import State
from workers.base import Failure, WorkerStats

REGISTRY = Registry(
    [
        ExpertSpec(name="chat", source="./chat", family="small"),
        ExpertSpec(name="sql", source="./sql", family="small"),
        ExpertSpec(name="big", source="./big", family="large"),
    ]
)


class Asked:
    """Stats that a test sets, and how often they were asked for."""

    def __init__(self, **stats: WorkerStats | str) -> None:
        self.stats: Stats = stats
        self.times = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Stats:
        self.times += 1
        await self.gate.wait()
        return self.stats


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def small(**tiers: str) -> WorkerStats:
    return WorkerStats("small", tiers)


def test_what_the_tiers_mean() -> None:
    state = said(REGISTRY, {"small": small(chat="device", sql="failed: no weights"), "large": "no answer within 5 s"})
    assert state == State(failed={"sql": "no weights"}, doubtful={"big": "no answer within 5 s"})
    state = said(REGISTRY, {"small": small(chat="starting")})
    assert state == State(
        doubtful={"chat": "starting", "sql": "not loaded yet", "big": "the worker of its family does not run"}
    )


def test_a_load_takes_what_loads_from_that_tier_took_so_far() -> None:
    measured = WorkerStats(
        "small",
        {"chat": "host", "sql": "disk"},
        loads={"host": 4, "disk": 2},
        moved_seconds={"host": 1.0, "disk": 9.0},
    )
    woken = WorkerStats("large", {"big": "host"}, wakes=2, wake_seconds=5.0)
    assert said(REGISTRY, {"small": measured, "large": woken}).load_s == {"chat": 0.25, "sql": 4.5, "big": 2.5}
    unmeasured = {"small": small(chat="device", sql="disk"), "large": WorkerStats("large", {"big": "remote"})}
    assert said(REGISTRY, unmeasured) == State()


async def test_the_first_request_waits_for_the_workers_and_later_ones_do_not() -> None:
    asked, clock = Asked(small=small(chat="device", sql="failed: no weights")), Clock()
    states = ExpertStates(REGISTRY, asked, now=clock)
    assert (await states.known()).failed == {"sql": "no weights"}
    asked.stats = {"small": small(chat="device", sql="device")}
    assert (await states.known()).failed == {"sql": "no weights"}
    assert asked.times == 1
    clock.now += FRESH_S
    asked.gate.clear()
    assert (await states.known()).failed == {"sql": "no weights"}
    assert (await states.known()).failed == {"sql": "no weights"}
    asked.gate.set()
    await states.drain()
    assert (await states.known()).failed == {}
    assert asked.times == 2


async def test_requests_that_come_together_ask_once() -> None:
    asked = Asked(small=small(chat="device", sql="device"))
    states = ExpertStates(REGISTRY, asked)
    await asyncio.gather(*(states.known() for _ in range(10)))
    assert asked.times == 1


async def test_who_failed_is_in_doubt_for_a_while_or_until_it_answers() -> None:
    every = {"small": small(chat="device", sql="device"), "large": WorkerStats("large", {"big": "device"})}
    asked, clock = Asked(**every), Clock()
    states = ExpertStates(REGISTRY, asked, now=clock)
    states.failed("sql", Failure("expert_unavailable", "no weights"))
    assert (await states.known()).doubtful == {"sql": "no weights"}
    states.answered("sql")
    assert (await states.known()).doubtful == {}
    states.failed("sql", Failure("engine_died", "it went down"))
    assert (await states.known()).doubtful == {"chat": "it went down", "sql": "it went down"}
    clock.now += DOUBT_S
    assert (await states.known()).doubtful == {}


async def test_what_is_the_requests_own_fault_says_nothing_of_the_expert() -> None:
    states = ExpertStates(
        REGISTRY, Asked(small=small(chat="device", sql="device"), large=WorkerStats("large", {"big": "device"}))
    )
    for code in ("prompt_too_long", "invalid_request", "deadline", "overloaded", "internal", "engine_starting"):
        states.failed("sql", Failure(code, "why"))
    assert await states.known() == State()
