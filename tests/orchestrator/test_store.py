import time
from typing import Any

import pytest
from redis import Redis

from orchestrator.store import Store, StoreUnavailable, hide_password


def record(number: int) -> dict[str, Any]:
    return {"request_id": f"req-{number}", "outcome": "ok", "at": time.time(), "key": "ab"[number % 2]}


async def stored(store: Store, count: int, **bounds: Any) -> list[dict[str, Any]]:
    records = [record(number) for number in range(count)]
    for own in records:
        await store.record([own], **bounds)
    return records


async def test_decisions_come_back_newest_first(store: Store) -> None:
    records = await stored(store, 3)
    assert await store.decision("req-1") == records[1]
    assert await store.decision("req-9") is None
    assert await store.decisions(2) == [records[2], records[1]]


async def test_decisions_come_in_pages_and_of_one_key(store: Store) -> None:
    records = await stored(store, 7)
    of_a = [own for own in reversed(records) if own["key"] == "a"]
    assert await store.decisions(2, "a") == of_a[:2]
    assert await store.decisions(9, "a", of_a[1]) == of_a[2:]
    assert await store.decisions(9, "a", of_a[-1]) == []
    assert await store.decisions(2, None, records[5]) == [records[4], records[3]]
    assert await store.decisions(9, "nobody") == []
    assert await store.decisions(9, "b", of_a[0]) == [], "no record of that key"


async def test_decisions_are_bounded_and_expire(store: Store, redis_url: str) -> None:
    records = await stored(store, 12, keep=5, ttl_s=60.0)
    assert await store.decisions(100) == records[:6:-1]
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        assert sorted(redis.keys("coe:decision:*")) == sorted(f"coe:decision:req-{n}" for n in range(7, 12))
        assert [redis.zcard(f"coe:routes{own}") for own in ("", ":a", ":b")] == [5, 2, 3]
        for key in ("coe:decision:req-11", "coe:routes", "coe:routes:a"):
            assert 0 < redis.ttl(key) <= 60
        redis.delete("coe:decision:req-11")  # as if expired
        redis.connection_pool.disconnect()
    assert await store.decisions(100) == records[10:6:-1]
    late = record(12) | {"at": time.time() + 60}
    await store.record([late], keep=5, ttl_s=60.0)
    assert await store.decisions(100) == [late], "an index entry goes with its record"


async def test_where_fewer_are_to_be_kept_each_write_takes_some(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.FORGOTTEN", 4)
    await stored(store, 12)
    left = []
    for number in range(12, 16):
        await store.record([record(number)], keep=3)
        left.append([int(own["request_id"].removeprefix("req-")) for own in await store.decisions(100)])
    assert [len(ids) for ids in left] == [9, 6, 3, 3]
    assert [ids[0] for ids in left] == [12, 13, 14, 15], "the newest are there"
    assert left[-1] == [15, 14, 13]
    await store.record([record(number) for number in range(16, 22)], keep=100)
    await store.record([record(number) for number in range(22, 28)], keep=1)
    assert len(await store.decisions(100)) == 3, "of many that come twice as many go, so that it ends"


async def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    store = Store("redis://user:hunter2@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/0.*COE_REDIS_URL") as caught:
        await store.ping()
    assert "hunter2" not in str(caught.value) + repr(store)
    await store.close()


async def test_a_refusal_of_the_server_is_told(store: Store, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.set("coe:keys", "not a hash")
        redis.connection_pool.disconnect()
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.all_keys()


async def test_connections_that_died_with_the_server_are_replaced(store: Store, redis_url: str) -> None:
    await store.ping()
    with Redis.from_url(redis_url) as redis:
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.connection_pool.disconnect()
    await store.ping()


@pytest.mark.parametrize("url", ["http://u:hunter2@h", "u:hunter2@h", "redis://h:hunter2", "redis://[hunter2"])
def test_a_url_that_is_none_is_an_error_that_shows_nothing_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="allowed: redis://HOST") as caught:
        Store(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0?password=pw", "redis://h:1/0"),
        ("unix://u:pw@/a/b.sock", "unix:///a/b.sock"),
        ("redis://h", "redis://h"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert hide_password(url) == shown
