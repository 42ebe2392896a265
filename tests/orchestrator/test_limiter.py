"""The limits of keys on a real Redis. Its clock cannot be turned, so what was used is made older instead."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from redis import Redis

from orchestrator.access import limiter as module
from orchestrator.access.grant import Grant
from orchestrator.access.limiter import Limiter
from orchestrator.access.quota import WINDOWS, Allowance, LimitReached, Standing, Use, headers, span
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.metrics import Metrics
from orchestrator.store import Store, StoreUnavailable

KEY = "abc"


class Counted:
    """A limiter, and requests of one key."""

    def __init__(self, limiter: Limiter, metrics: Metrics) -> None:
        self.limiter, self.metrics, self.number = limiter, metrics, 0

    async def admit(self, caps: Mapping[str, float], use: Use | None = None) -> Allowance:
        self.number += 1
        return await self.limiter.admit(f"req-{self.number}", KEY, caps, use or Use())

    async def settle(self, allowance: Allowance, use: Use) -> None:
        self.limiter.settle(allowance, use)
        await self.limiter.settled()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest_asyncio.fixture
async def counted(store: Store) -> AsyncIterator[Counted]:
    metrics = Metrics()
    limiter = Limiter(store, metrics)
    yield Counted(limiter, metrics)
    await limiter.drain()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()
    client.connection_pool.disconnect()


def age(redis: Redis, limit: str, slots: int) -> None:
    """What was used of that limit is so many slots older."""
    window = WINDOWS[limit]
    name = f"coe:use:{{{KEY}}}"
    every = cast(dict[str, str], redis.hgetall(name))
    stored = {field: value for field, value in every.items() if field.startswith(window.name)}
    redis.hdel(name, *stored)
    for value in stored.values():
        slot, amount = map(int, value.split(":"))
        redis.hset(name, f"{window.name}{(slot - slots) % (window.slots + 1)}", f"{slot - slots}:{amount}")


# Requests


async def test_as_many_requests_as_the_limit_says_pass_and_the_next_is_told_when_to_come_back(counted: Counted) -> None:
    caps = {"requests_per_minute": 3}
    left = [(await counted.admit(caps)).standings["requests_per_minute"].remaining for _ in range(3)]
    assert left == [2, 1, 0]
    with pytest.raises(LimitReached, match="3 requests per minute; 3 are used and this request may use 1") as caught:
        await counted.admit(caps)
    assert caught.value.cause == "requests_per_minute_exceeded"
    assert 58 <= int(caught.value.headers["retry-after"]) <= 60
    assert "x-should-retry" not in caught.value.headers
    assert str(caught.value).endswith(f"try again in {caught.value.headers['retry-after']} s")
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"
    assert counted.count("coe_refusals_total", reason="requests_per_minute") == 1


async def test_a_refused_request_uses_nothing(counted: Counted) -> None:
    caps = {"requests_per_minute": 1, "requests_per_day": 10}
    await counted.admit(caps)
    for _ in range(3):
        with pytest.raises(LimitReached):
            await counted.admit(caps)
    assert (await counted.limiter.used(KEY))["requests_per_day"] == 1


async def test_the_window_slides(counted: Counted, redis: Redis) -> None:
    """Whatever is a window and a slot old is free again; what is younger is not."""
    caps = {"requests_per_minute": 2}
    await counted.admit(caps)
    age(redis, "requests_per_minute", 20)
    await counted.admit(caps)
    age(redis, "requests_per_minute", 10)
    with pytest.raises(LimitReached) as caught:
        await counted.admit(caps)
    assert int(caught.value.headers["retry-after"]) <= 2
    age(redis, "requests_per_minute", 1)
    await counted.admit(caps)
    with pytest.raises(LimitReached):
        await counted.admit(caps)


async def test_of_several_limits_the_one_that_takes_longest_is_told(counted: Counted) -> None:
    caps = {"requests_per_minute": 1, "requests_per_day": 1}
    await counted.admit(caps)
    with pytest.raises(LimitReached) as caught:
        await counted.admit(caps)
    assert caught.value.cause == "requests_per_day_exceeded"
    assert int(caught.value.headers["retry-after"]) > 80_000


async def test_concurrent_requests_race_for_the_last_places_and_none_is_given_twice(store: Store) -> None:
    limiters = [Limiter(store, Metrics()) for _ in range(4)]
    tries = [
        limiter.admit(f"req-{n}-{i}", KEY, {"requests_per_minute": 7}, Use())
        for n in range(10)
        for i, limiter in enumerate(limiters)
    ]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, Allowance) for result in results) == 7
    assert all(isinstance(result, Allowance | LimitReached) for result in results)
    for limiter in limiters:
        await limiter.drain()


async def test_a_decision_that_is_sent_again_is_the_same_and_counts_once(counted: Counted) -> None:
    caps = {"requests_per_minute": 1, "concurrent": 1}
    await counted.limiter.admit("req-1", KEY, caps, Use())
    await counted.limiter.admit("req-1", KEY, caps, Use())
    used = await counted.limiter.used(KEY)
    assert (used["requests_per_minute"], used["concurrent"]) == (1, 1)


async def test_keys_do_not_touch_each_other(counted: Counted) -> None:
    await counted.admit({"requests_per_minute": 1})
    await counted.limiter.admit("other", "another key", {"requests_per_minute": 1}, Use())


# Tokens and money


async def test_tokens_are_reserved_before_and_settled_after(counted: Counted) -> None:
    caps = {"tokens_per_minute": 100}
    allowance = await counted.admit(caps, Use(tokens=80))
    assert allowance.standings["tokens_per_minute"].remaining == 20
    with pytest.raises(LimitReached, match="100 tokens per minute; 80 are used and this request may use 80") as caught:
        await counted.admit(caps, Use(tokens=80))
    assert caught.value.headers["x-ratelimit-remaining-tokens"] == "20"
    await counted.settle(allowance, Use(tokens=15))
    assert (await counted.limiter.used(KEY))["tokens_per_minute"] == 15
    await counted.admit(caps, Use(tokens=80))


async def test_what_was_used_beyond_the_estimate_counts_too(counted: Counted) -> None:
    caps = {"tokens_per_minute": 100}
    await counted.settle(await counted.admit(caps, Use(tokens=10)), Use(tokens=95))
    with pytest.raises(LimitReached, match="95 are used"):
        await counted.admit(caps, Use(tokens=10))


async def test_a_settlement_long_after_does_not_free_what_others_use_now(counted: Counted, redis: Redis) -> None:
    caps = {"tokens_per_minute": 100}
    old = await counted.admit(caps, Use(tokens=100))
    age(redis, "tokens_per_minute", 31)
    await counted.admit(caps, Use(tokens=60))
    await counted.settle(Allowance(old.request_id, old.caller, old.at - 62_000, old.reserved), Use(tokens=1))
    assert (await counted.limiter.used(KEY))["tokens_per_minute"] == 60


async def test_a_request_is_settled_once(counted: Counted) -> None:
    allowance = await counted.admit({"tokens_per_minute": 100}, Use(tokens=50))
    await counted.admit({"tokens_per_minute": 100}, Use(tokens=50))
    await counted.settle(allowance, Use(tokens=0))
    await counted.settle(allowance, Use(tokens=0))
    assert (await counted.limiter.used(KEY))["tokens_per_minute"] == 50


async def test_money_counts_to_the_billionth_of_a_dollar(counted: Counted) -> None:
    caps = {"usd_per_day": 0.01}
    for _ in range(3):
        await counted.settle(await counted.admit(caps, Use(usd=0.003)), Use(usd=0.003000001))
    assert (await counted.limiter.used(KEY))["usd_per_day"] == pytest.approx(0.009000003, abs=1e-12)
    with pytest.raises(LimitReached, match=r"0.01 US dollars per day") as caught:
        await counted.admit(caps, Use(usd=0.003))
    assert caught.value.cause == "usd_per_day_exceeded"


async def test_what_a_caller_has_bounded_above_the_whole_limit_can_never_pass(counted: Counted) -> None:
    with pytest.raises(LimitReached, match="this request may use 5000; lower 'max_tokens'") as caught:
        await counted.admit({"tokens_per_minute": 1000}, Use(tokens=5000, bounded=True))
    assert caught.value.cause == "over_limit"
    assert "retry-after" not in caught.value.headers
    assert counted.count("coe_refusals_total", reason="over_limit") == 1


async def test_what_nobody_has_bounded_takes_the_whole_limit_until_it_is_settled(counted: Counted) -> None:
    caps = {"tokens_per_minute": 1000}
    allowance = await counted.admit(caps, Use(tokens=5000))
    with pytest.raises(LimitReached):
        await counted.admit(caps, Use(tokens=1))
    await counted.settle(allowance, Use(tokens=20))
    await counted.admit(caps, Use(tokens=980))


async def test_what_nobody_has_bounded_takes_what_is_left_if_anything_is(counted: Counted) -> None:
    caps = {"tokens_per_minute": 1000}
    for _ in range(3):
        allowance = await counted.admit(caps, Use(tokens=5000))
        assert allowance.standings["tokens_per_minute"].remaining == 0
        with pytest.raises(LimitReached, match="1000 are used and this request may use 5000"):
            await counted.admit(caps, Use(tokens=5000))
        await counted.settle(allowance, Use(tokens=300))
    again = await counted.limiter.admit("req-x", KEY, caps, Use(tokens=5000))
    assert (await counted.limiter.admit("req-x", KEY, caps, Use(tokens=5000))).reserved == again.reserved
    await counted.settle(again, Use(tokens=100))
    assert (await counted.limiter.used(KEY))["tokens_per_minute"] == 1000
    with pytest.raises(LimitReached):
        await counted.admit(caps, Use(tokens=5000))


async def test_a_limit_of_nothing_lets_nothing_through(counted: Counted) -> None:
    with pytest.raises(LimitReached) as caught:
        await counted.admit({"requests_per_day": 0})
    assert caught.value.cause == "over_limit"


async def test_a_key_without_limits_asks_nobody_and_its_use_is_counted_all_the_same(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(counted.limiter, "_store", None)
        allowance = await counted.admit({}, Use(tokens=7))
    await counted.settle(allowance, Use(tokens=5, usd=0.5))
    used = await counted.limiter.used(KEY)
    assert (used["requests_per_day"], used["tokens_per_minute"], used["usd_per_day"]) == (1, 5, 0.5)


@pytest.mark.parametrize("moment", range(8))
async def test_a_client_that_leaves_while_it_is_decided_takes_nothing(counted: Counted, moment: int) -> None:
    admission = asyncio.create_task(counted.admit({"tokens_per_day": 100, "concurrent": 1}, Use(tokens=60)))
    for _ in range(moment):
        await asyncio.sleep(0)
    admission.cancel()
    await asyncio.wait([admission])
    assert admission.cancelled()
    await counted.limiter.settled()
    used = await counted.limiter.used(KEY)
    assert (used["tokens_per_day"], used["concurrent"]) == (0, 0)


# At a time


async def test_places_are_free_again_when_requests_end(counted: Counted) -> None:
    caps = {"concurrent": 2}
    first, _ = await counted.admit(caps), await counted.admit(caps)
    with pytest.raises(LimitReached, match="2 requests at a time; 2 are running") as caught:
        await counted.admit(caps)
    assert (caught.value.cause, caught.value.headers["retry-after"]) == ("concurrent_exceeded", "1")
    await counted.settle(first, Use())
    await counted.admit(caps)


async def test_a_gateway_that_crashed_frees_its_places_after_the_lease(store: Store) -> None:
    crashed = Limiter(store, Metrics(), lease_s=0.3)
    await crashed.admit("req-1", KEY, {"concurrent": 1}, Use())
    assert crashed._renewing is not None
    crashed._renewing.cancel()  # all that a crash takes away
    other = Limiter(store, Metrics(), lease_s=0.3)
    with pytest.raises(LimitReached):
        await other.admit("req-2", KEY, {"concurrent": 1}, Use())
    await asyncio.sleep(0.35)
    await other.admit("req-3", KEY, {"concurrent": 1}, Use())
    await other.drain()


LIMITED = {"requests_per_minute": 100.0, "tokens_per_day": 100.0, "usd_per_day": 1.0}
WHOLE = Use(tokens=1000, usd=10.0)
"""What takes all of these tokens and all of this money."""


async def test_a_gateway_that_crashed_frees_what_it_had_reserved_after_the_lease(store: Store) -> None:
    crashed = Limiter(store, Metrics(), lease_s=0.3)
    allowance = await crashed.admit("req-1", KEY, LIMITED, WHOLE)
    assert crashed._renewing is not None
    crashed._renewing.cancel()
    other = Limiter(store, Metrics())
    with pytest.raises(LimitReached):
        await other.admit("req-2", KEY, LIMITED, WHOLE)
    await asyncio.sleep(0.35)
    used = await other.used(KEY)
    assert (used["requests_per_minute"], used["tokens_per_day"], used["usd_per_day"]) == (1, 0, 0)
    second = await other.admit("req-3", KEY, LIMITED, WHOLE)
    # It was only slow: what it has used counts yet, and once.
    for _ in range(2):
        crashed.settle(allowance, Use(tokens=30, usd=0.5))
        await crashed.settled()
    other.settle(second, Use(tokens=5, usd=0.25))
    await other.drain()
    used = await other.used(KEY)
    assert (used["requests_per_minute"], used["tokens_per_day"], used["usd_per_day"]) == (2, 35, 0.75)


async def test_an_admission_that_redis_makes_after_nobody_waits_for_it_takes_nothing_for_long(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        store, patient = Store(server.url, timeout=0.2), Store(server.url, timeout=30)
        hasty, limiter = Limiter(store, Metrics(), {}, {"usd": "closed"}, lease_s=0.3), Limiter(patient, Metrics())
        assert (await limiter.used(KEY))["usd_per_day"] == 0
        await hasty.admit("req-0", "other", LIMITED, Use())  # it is connected, and Redis knows the script
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):
            await hasty.admit("req-1", KEY, LIMITED, WHOLE)
        os.kill(server.pid, signal.SIGCONT)
        await asyncio.sleep(0.5)
        assert (await limiter.used(KEY))["usd_per_day"] == 0
        await limiter.admit("req-2", KEY, LIMITED, WHOLE)
        for each in (hasty, limiter):
            await each.drain()
        await store.close()
        await patient.close()


async def test_a_long_request_keeps_its_place(store: Store) -> None:
    limiter = Limiter(store, Metrics(), lease_s=0.6)
    allowance = await limiter.admit("req-1", KEY, {"concurrent": 1}, Use())
    await asyncio.sleep(1.3)
    with pytest.raises(LimitReached):
        await limiter.admit("req-2", KEY, {"concurrent": 1}, Use())
    limiter.settle(allowance, Use())
    await limiter.drain()


# Without Redis


def kill(server: EmbeddedRedis) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("measure", "limit"),
    [
        ("requests", "requests_per_day"),
        ("tokens", "tokens_per_minute"),
        ("usd", "usd_per_day"),
        ("concurrent", "concurrent"),
    ],
)
async def test_with_redis_killed_a_limit_is_open_or_closed_as_configured(
    tmp_path: Path, measure: str, limit: str
) -> None:
    server = EmbeddedRedis(tmp_path)
    store, metrics = Store(server.start(), timeout=30), Metrics()
    clock = [0.0]
    limiter = Limiter(store, metrics, away={measure: "closed"}, now=lambda: clock[0])
    others = {"requests_per_minute": 5, "tokens_per_day": 5, "usd_per_minute": 5, "concurrent": 5}
    others = {name: most for name, most in others.items() if not name.startswith(measure)}
    try:
        with Redis(unix_socket_path=str(server.socket)) as client:
            client.config_set("appendfsync", "always")  # a disk that is slow may be a second late otherwise
            client.connection_pool.disconnect()
        await limiter.admit("req-1", KEY, {limit: 1}, Use(tokens=1, usd=1.0))
        kill(server)
        with pytest.raises(StoreUnavailable, match="cannot be told"):
            await limiter.admit("req-2", KEY, {limit: 1}, Use())
        open_one = await limiter.admit("req-3", KEY, others, Use())
        assert (open_one.at, open_one.standings) == (0, {})
        await limiter.admit("req-4", KEY, {}, Use())  # without limits there is nothing to tell
        limiter.settle(open_one, Use())
        assert metrics.registry.get_sample_value("coe_settlements_lost_total") == 1
        assert metrics.registry.get_sample_value("coe_unlimited_total") == 1
        assert metrics.registry.get_sample_value("coe_refusals_total", {"reason": "store_unavailable"}) == 1
        server.start()
        with pytest.raises(StoreUnavailable):  # it is left alone for a moment
            await limiter.admit("req-5", KEY, {limit: 1}, Use())
        clock[0] += module.QUIET_S + 1
        with pytest.raises(LimitReached):  # the append-only file has what was used
            await limiter.admit("req-6", KEY, {limit: 1}, Use(tokens=1, usd=1.0))
    finally:
        await limiter.drain()
        await store.close()
        server.stop()


# Plain values


def test_headers_are_of_the_minute_or_else_of_the_day() -> None:
    standings = {
        "requests_per_minute": Standing(60, 59, 60),
        "requests_per_day": Standing(1000, 1, 86400),
        "tokens_per_day": Standing(100, -5, 3661.5),
    }
    assert headers(standings) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h1m1.5s",
    }
    assert headers({"usd_per_day": Standing(1, 1, 1)}) == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.02, "20ms"), (1.5, "1.5s"), (59, "59s"), (360, "6m0s"), (86340, "23h59m0s")]
)
def test_spans_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_services_defaults_hold_where_a_key_says_nothing(store: Store) -> None:
    limiter = Limiter(store, Metrics(), {"concurrent": 4, "tokens_per_day": None})
    assert limiter.caps(Grant(limits={"usd_per_day": 1})) == {"concurrent": 4, "usd_per_day": 1}


async def test_what_ends_while_redis_is_away_is_counted_once_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWED_S", 0.05)
    server = EmbeddedRedis(tmp_path)
    store, metrics, clock = Store(server.start(), timeout=30), Metrics(), [0.0]
    limiter = Limiter(store, metrics, lease_s=0.2, now=lambda: clock[0])
    try:
        with Redis(unix_socket_path=str(server.socket)) as client:
            client.config_set("appendfsync", "always")
            client.connection_pool.disconnect()
        caps = {"tokens_per_day": 1000}
        first, second = [await limiter.admit(f"req-{n}", KEY, caps, Use(tokens=100)) for n in (1, 2)]
        kill(server)
        limiter.settle(first, Use(tokens=30))
        await limiter.settled()  # tried, and kept
        limiter.settle(second, Use(tokens=5))  # not tried: Redis did not answer just now
        server.start()
        await asyncio.sleep(0.3)  # the leases are over, so what was reserved is free
        assert (await limiter.used(KEY))["tokens_per_day"] == 0
        clock[0] += module.QUIET_S + 1
        async with asyncio.timeout(10):
            while (await limiter.used(KEY))["tokens_per_day"] != 35:
                await asyncio.sleep(0.05)
        limiter.settle(first, Use(tokens=30))  # as if its answer had been lost
        await limiter.settled()
        assert (await limiter.used(KEY))["tokens_per_day"] == 35
        assert metrics.registry.get_sample_value("coe_settlements_lost_total") == 0
    finally:
        await limiter.drain()
        await store.close()
        server.stop()
