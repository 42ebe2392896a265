"""Who answered a conversation's last turn: what tells conversations apart, and where it is remembered."""

import time
from typing import Any

import pytest
from redis import Redis

from orchestrator import turns as turns_module
from orchestrator.events import Ask
from orchestrator.store import Store
from orchestrator.turns import QUIET_S, RememberedTurns, StoredTurns, conversation_of

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
SECOND = {"role": "user", "content": "and now some sql"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(*messages: dict[str, Any], **fields: Any) -> Ask:
    return Ask("req-1", "auto", messages, messages[-1]["content"], time.time() + 60, **fields)


# What a conversation is


def test_every_turn_of_a_conversation_has_its_key() -> None:
    key, goes_on = conversation_of(ask(SYSTEM, FIRST))
    assert not goes_on
    assert conversation_of(ask(SYSTEM, FIRST, ANSWER, SECOND)) == (key, True)
    assert conversation_of(ask(SYSTEM, FIRST, ANSWER, SECOND, ANSWER, FIRST)) == (key, True)
    assert conversation_of(ask(SYSTEM))[1] is False


def test_callers_users_and_openings_tell_conversations_apart() -> None:
    asks = [
        ask(FIRST, ANSWER, SECOND),
        ask(SECOND, ANSWER, FIRST),
        ask(SYSTEM, FIRST, ANSWER, SECOND),
        ask(FIRST, ANSWER, SECOND, caller="a"),
        ask(FIRST, ANSWER, SECOND, user="ada"),
        ask(FIRST, caller="a", conversation="7"),
        ask(FIRST, caller="b", conversation="7"),
    ]
    assert len({conversation_of(one)[0] for one in asks}) == len(asks)


def test_a_conversation_with_an_id_of_its_own_may_go_on_with_any_messages() -> None:
    assert conversation_of(ask(FIRST, conversation="7")) == conversation_of(
        ask(SECOND, ANSWER, SECOND, conversation="7")
    )
    assert conversation_of(ask(FIRST, conversation="7"))[1]


def test_nothing_of_the_messages_stands_in_the_key() -> None:
    assert "hello" not in conversation_of(ask(FIRST))[0]
    assert len(conversation_of(ask({"role": "user", "content": "x" * 10_000}))[0]) == 64


# In this process


async def test_without_redis_a_process_remembers_for_itself() -> None:
    clock = Clock()
    turns = RememberedTurns(60, now=clock)
    assert await turns.last("c") is None
    turns.keep("c", "sql")
    turns.keep("d", "chat")
    turns.keep("c", "math")
    assert (await turns.last("c"), await turns.last("d")) == ("math", "chat")
    clock.now += 60
    assert await turns.last("c") is None


async def test_a_process_remembers_so_many_conversations_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MAX_REMEMBERED", 3)
    turns = RememberedTurns(60)
    for conversation in "abcad":
        turns.keep(conversation, "sql")
    assert [await turns.last(conversation) for conversation in "abcd"] == ["sql", None, "sql", "sql"]


# In Redis


async def test_gateways_on_one_redis_share_conversations(store: Store, redis_url: str) -> None:
    one, other = StoredTurns(store, 60), StoredTurns(store, 60)
    assert await one.last("c") is None
    one.keep("c", "sql")
    await one.drain()
    assert await other.last("c") == "sql"
    with Redis.from_url(redis_url) as redis:
        assert 0 < redis.pttl("coe:turn:c") <= 60_000
        redis.connection_pool.disconnect()


async def test_while_redis_is_away_every_turn_is_the_first_and_it_is_not_asked_all_the_time() -> None:
    clock, store = Clock(), Store("redis://127.0.0.1:1", timeout=30)
    turns = StoredTurns(store, 60, now=clock)
    turns.keep("c", "sql")
    await turns.drain()
    assert turns.is_quiet
    assert await turns.last("c") is None
    clock.now += QUIET_S
    assert not turns.is_quiet
    assert await turns.last("c") is None
    assert turns.is_quiet
    turns.keep("c", "sql")
    assert not turns.unwritten
    await store.close()


async def test_turns_wait_for_a_slow_redis_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(turns_module, "MAX_UNWRITTEN", 2)
    turns = StoredTurns(store, 60)
    for conversation in "abc":
        turns.keep(conversation, "sql")
    assert turns.unwritten == 2
    await turns.drain()
    assert [await turns.last(conversation) for conversation in "abc"] == ["sql", "sql", None]
