import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis

from orchestrator.access.grant import LIMITS, Grant
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.keys import (
    ASK_AGAIN_S,
    FRESH_S,
    KEY_FORM,
    STALE_S,
    EndedKey,
    InvalidKey,
    KeyInfo,
    Keys,
    UnknownKey,
    digest,
)
from orchestrator.store import Store, StoreUnavailable


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def keys(store: Store, clock: Clock) -> Keys:
    return Keys(store, now=clock)


async def test_a_key_is_verified_by_any_process(keys: Keys, store: Store) -> None:
    key, info = await keys.create("laptop")
    assert KEY_FORM.fullmatch(key)
    assert await keys.verify(key) == info == await Keys(store).verify(key)
    assert (info.name, info.prefix, info.created) == ("laptop", key[:8], 1000.0)


@pytest.mark.parametrize("wrong", ["", "coe-", "nonsense", "coe-" + "x" * 43, "kéy \udcff"])
async def test_a_wrong_key_is_refused(keys: Keys, wrong: str) -> None:
    await keys.create("laptop")
    with pytest.raises(InvalidKey):
        await keys.verify(wrong)


async def test_the_key_itself_is_stored_nowhere(keys: Keys, redis_url: str) -> None:
    key, info = await keys.create("laptop")
    await keys.verify(key)
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        stored = str(redis.hgetall("coe:keys"))
        redis.connection_pool.disconnect()
    for place in (stored, repr(info), repr(keys), str(vars(keys))):
        assert key not in place
        assert key[9:] not in place


async def test_ensure_makes_the_operators_key_valid_once(keys: Keys) -> None:
    first = await keys.ensure("my-own-key", "first")
    assert await keys.ensure("my-own-key", "again") == first == await keys.verify("my-own-key")
    assert await keys.list() == [first]
    assert first.prefix == "my"  # a quarter of a short key at most


@pytest.mark.parametrize("bad", ["", "two words", "line\n", "ключ"])
async def test_ensure_refuses_what_cannot_stand_in_a_header(keys: Keys, bad: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        await keys.ensure(bad)


async def test_list_is_by_age_and_revoke_by_id_prefix_or_name(keys: Keys, clock: Clock) -> None:
    made = []
    for name in ("a", "b", "c", "d"):
        made.append(await keys.create(name))
        clock.time += 1
    infos = [info for _, info in made]
    assert await keys.list() == infos
    for which in (infos[0].id, infos[1].prefix, infos[2].name):
        await keys.revoke(which)
    assert await keys.list() == infos[3:]
    with pytest.raises(InvalidKey):
        await keys.verify(made[0][0])


async def test_revoke_of_none_or_of_several_says_which_there_are(keys: Keys) -> None:
    _, one = await keys.create("twin")
    _, two = await keys.create("twin")
    with pytest.raises(UnknownKey, match=f"2 keys go by 'twin'.*({one.id}|{two.id}).*({one.id}|{two.id})"):
        await keys.revoke("twin")
    with pytest.raises(UnknownKey, match=f"no key goes by 'x'.*{one.id}"):
        await keys.revoke("x")
    assert len(await keys.list()) == 2


async def test_a_revoked_key_works_elsewhere_until_it_is_asked_for_again(
    keys: Keys, store: Store, clock: Clock
) -> None:
    key, info = await keys.create("laptop")
    await keys.verify(key)
    await Keys(store).revoke(info.id)
    clock.time += FRESH_S - 1
    await keys.verify(key)
    clock.time += 2
    with pytest.raises(InvalidKey):
        await keys.verify(key)


async def test_without_redis_known_keys_are_served_for_an_hour_and_others_not(tmp_path: Path, clock: Clock) -> None:
    server = EmbeddedRedis(tmp_path)
    store = Store(server.start(), timeout=30)
    keys = Keys(store, now=clock)
    try:
        known, info = await keys.create("known")
        other, _ = await keys.create("other")
        await keys.verify(known)
        server.stop()
        clock.time += FRESH_S + 1
        assert await keys.verify(known) == info
        with pytest.raises(StoreUnavailable, match="key store unreachable"):
            await keys.verify(other)
        clock.time += ASK_AGAIN_S - 1
        assert await keys.verify(known) == info
        clock.time += STALE_S
        with pytest.raises(StoreUnavailable, match="key store unreachable"):
            await keys.verify(known)
        server.start()
        assert await keys.verify(known) == info
    finally:
        await store.close()
        server.stop()


async def test_a_key_revoked_while_redis_was_away_is_refused_when_it_is_back(tmp_path: Path, clock: Clock) -> None:
    server = EmbeddedRedis(tmp_path)
    store = Store(server.start(), timeout=30)
    keys = Keys(store, now=clock)
    try:
        key, info = await keys.create("known")
        await keys.verify(key)
        await Keys(store).revoke(info.id)
        server.stop()
        clock.time += FRESH_S + 1
        await keys.verify(key)  # it cannot be known yet
        server.start()
        clock.time += ASK_AGAIN_S + 1
        with pytest.raises(InvalidKey):
            await keys.verify(key)
    finally:
        await store.close()
        server.stop()


# Ends, rotation and changes


async def test_a_key_works_until_it_expires(keys: Keys, clock: Clock) -> None:
    key, info = await keys.create("laptop", expires=clock.time + 30)
    await keys.verify(key)
    clock.time += 30
    assert info.state(clock.time) == "expired"
    with pytest.raises(InvalidKey, match="has expired, 1970-01-01 00:17 UTC"):
        await keys.verify(key)


async def test_a_disabled_key_does_not_work_until_it_is_enabled(keys: Keys) -> None:
    key, info = await keys.create("laptop")
    await keys.verify(key)
    await keys.update(info.id, lambda old: replace(old, enabled=False))
    with pytest.raises(InvalidKey, match="is disabled"):
        await keys.verify(key)
    await keys.update("laptop", lambda old: replace(old, enabled=True))
    assert (await keys.verify(key)).enabled


async def test_what_a_key_may_do_is_stored_with_it(keys: Keys, store: Store) -> None:
    grant = Grant(("sql",), (), True, "batch", {"concurrent": 2.0, "usd_per_day": None})
    key, info = await keys.create("laptop", grant)
    assert info.grant == grant
    assert await Keys(store).verify(key) == info


async def test_a_key_of_a_service_that_knew_no_scopes_may_do_all(keys: Keys, store: Store) -> None:
    await store.put_key(digest("old"), {"id": "abc", "name": "old", "prefix": "", "created": 1.0})
    info = await keys.verify("old")
    assert (info.lineage, info.grant, info.enabled, info.expires) == ("abc", Grant(), True, None)


async def test_a_rotated_key_has_a_successor_and_ends_after_the_grace(keys: Keys, clock: Clock) -> None:
    grant = Grant(("sql",), limits={"concurrent": 1.0})
    old, first = await keys.create("laptop", grant, clock.time + 10_000)
    new, second = await keys.rotate(first.id, 100)
    assert (second.name, second.grant, second.lineage, second.expires) == ("laptop", grant, first.id, first.expires)
    assert second.id != first.id
    clock.time += 99
    assert (await keys.verify(old)).lineage == (await keys.verify(new)).lineage
    clock.time += 1
    with pytest.raises(InvalidKey):
        await keys.verify(old)
    await keys.verify(new)


async def test_a_second_rotation_does_not_prolong_the_first_key(keys: Keys, clock: Clock) -> None:
    old, first = await keys.create("laptop")
    await keys.rotate(first.id, 10)
    _, third = await keys.rotate("laptop", 1000)
    assert third.lineage == first.id
    clock.time += 10
    with pytest.raises(InvalidKey):
        await keys.verify(old)
    clock.time += 1
    await keys.rotate("laptop")
    assert len(await keys.list()) == 3  # the first one is gone for good


async def test_a_key_that_has_ended_is_not_rotated(keys: Keys, clock: Clock) -> None:
    await keys.create("laptop", expires=clock.time + 1)
    clock.time += 2
    with pytest.raises(EndedKey, match="has expired"):
        await keys.rotate("laptop")


async def test_a_name_means_every_key_of_its_lineage_and_an_id_means_one(keys: Keys) -> None:
    old, first = await keys.create("laptop")
    new, second = await keys.rotate("laptop", 1000)
    await keys.update("laptop", lambda info: replace(info, grant=Grant(priority="batch"), expires=None))
    infos = await keys.list()
    assert [info.grant.priority for info in infos] == ["batch", "batch"]
    assert [info.expires for info in infos] == [2000.0, None]  # a change does not undo the rotation
    await keys.revoke(first.id)
    await keys.verify(new)
    await keys.revoke("laptop")
    for key in (old, new):
        with pytest.raises(InvalidKey):
            await keys.verify(key)
    assert second.lineage == first.id


async def test_changes_at_the_same_time_are_all_made(keys: Keys, store: Store) -> None:
    _, info = await keys.create("laptop")

    def more(name: str) -> Callable[[KeyInfo], KeyInfo]:
        return lambda old: replace(old, grant=replace(old.grant, limits={**old.grant.limits, name: 1.0}))

    await asyncio.gather(*(Keys(store).update(info.id, more(name)) for name in LIMITS))
    assert (await keys.find(info.id)).grant.limits == dict.fromkeys(LIMITS, 1.0)
