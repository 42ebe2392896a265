from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.keys import ASK_AGAIN_S, FRESH_S, KEY_FORM, STALE_S, InvalidKey, Keys, UnknownKey
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
