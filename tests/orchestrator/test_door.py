"""The door's decision, without a server: who is inside, how the event loop fares, and who gets in."""

import pytest

from orchestrator.http.door import FLOOR, KNOWN, LONGEST_S, QUICK_S, Door, Plain, Ticket, key_of, plain

A, B, C = 1, 2, 3
SLOW_S = 10 * QUICK_S


def filled(door: Door, key: int, number: int) -> list[Ticket]:
    return [door.enter(key) for _ in range(number)]


# Which requests can be answered from their bytes

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
KEY = b"Authorization: Bearer sk-a\r\n"


@pytest.mark.parametrize(
    ("data", "makes_work", "missing"),
    [
        (HEAD + KEY + b"Content-Length: 2\r\n\r\n{}", True, 0),
        (HEAD + KEY + b"CONTENT-LENGTH:2\r\n\r\n", True, 2),
        (HEAD + b"connection: Keep-Alive\r\n" + KEY + b"content-length: 9\r\n\r\n{", True, 8),
        (HEAD + b"content-length: 5\r\n" + KEY + b"\r\n\r\n\r\n1", True, 0),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + KEY + b"\r\n", False, 0),
        (b"DELETE /v1/x?y=%20 HTTP/1.1\r\nhost: x\r\n" + KEY + b"\r\n", False, 0),
    ],
)
def test_a_plain_request(data: bytes, makes_work: bool, missing: int) -> None:
    assert plain(data) == Plain(key_of(b"Bearer sk-a"), makes_work, missing)


def test_without_a_key_all_are_one_caller() -> None:
    asked = plain(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
    assert asked is not None
    assert asked.key == key_of(b"") == key_of(b" ")


@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        HEAD + KEY + b"content-length: 2\r\n",
        HEAD + KEY + b"content-length: 2\r\n\r\n{}" + HEAD,
        HEAD + KEY + b"\r\n" + HEAD,
        HEAD + KEY + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + KEY + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        HEAD + KEY + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + KEY + b"content-length : 2\r\n\r\n{}",
        HEAD + KEY + b"content-length: 2, 2\r\n\r\n{}",
        HEAD + KEY + b"content-length: +2\r\n\r\n{}",
        HEAD + KEY + b"content-length: 99999999999\r\n\r\n{}",
        HEAD + KEY + b"x: y\r\n content-length: 2\r\n\r\n{}",
        HEAD + KEY + b"x: y\ncontent-length: 2\r\n\r\n{}",
        HEAD + KEY + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        HEAD + KEY + b"connection: close\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + KEY + b"connection: keep-alive, upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + KEY + b"origin: https://app.example.com\r\ncontent-length: 2\r\n\r\n{}",
        HEAD.replace(b"1.1", b"1.0") + KEY + b"content-length: 2\r\n\r\n{}",
        b"POST  /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        b"\r\n" + HEAD + KEY + b"content-length: 2\r\n\r\n{}",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /admin/v1/keys HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_what_is_for_the_parser_to_tell(data: bytes) -> None:
    assert plain(data) is None


# As many as have room


def test_one_more_than_there_is_room_for_is_turned_away_until_one_has_ended() -> None:
    door = Door(room=3, wait_s=1.0)
    tickets = filled(door, A, 3)
    assert door.refuses(A, makes_work=True)
    assert not door.refuses(A, makes_work=False)
    door.leave(tickets[0])
    assert not door.refuses(A, makes_work=True)
    assert door.refused == 1


def test_those_who_wait_for_an_engine_take_room_however_quick_the_loop_is() -> None:
    door = Door(room=3, wait_s=1.0)
    filled(door, A, 3)
    door.turned(1.0, 0.0)
    assert door.refuses(A, makes_work=True)


def test_who_has_less_than_its_share_gets_in_while_another_floods() -> None:
    door = Door(room=10, wait_s=1.0)
    filled(door, A, 10)
    for _ in range(5):  # half of it, now that there are two
        assert not door.refuses(B, makes_work=True)
        door.enter(B)
    assert door.refuses(B, makes_work=True)
    assert not door.refuses(C, makes_work=True)
    assert door.refuses(A, makes_work=True)


def test_many_keys_do_not_make_more_room_than_there_is_twice() -> None:
    door = Door(room=10, wait_s=1.0)
    for key in range(1000):
        if not door.refuses(key, makes_work=True):
            door.enter(key)
    assert 10 <= door.inside.total <= 20


def test_nothing_is_kept_of_a_caller_who_has_gone() -> None:
    door = Door(room=3, wait_s=1.0)
    for ticket in filled(door, A, 2):
        door.leave(ticket)
    assert (door.inside.total, door.hall.total) == (0, 0)
    assert not door.inside.by_key
    assert not door.hall.by_key


# As much as can be done in time


def knows(work_s: float, room: int = 10_000, wait_s: float = 1.0) -> Door:
    """A door that has seen the loop work for so long on each request, and is empty again."""
    door = Door(room, wait_s)
    door.turned(0.0, 0.0)
    for ticket in filled(door, A, KNOWN):
        door.leave(ticket)
    door.turned(work_s * KNOWN, SLOW_S)
    door.turned(work_s * KNOWN + 1, 0.0)
    assert door.work_s == pytest.approx(work_s)
    return door


def test_more_work_than_can_be_done_in_time_is_turned_away_of_any_kind() -> None:
    door = knows(work_s=0.002)
    filled(door, A, 499)
    assert not door.refuses(A, makes_work=True)
    door.enter(A)
    assert door.refuses(A, makes_work=True)
    assert door.refuses(A, makes_work=False)
    assert not door.refuses(B, makes_work=True)


def test_after_a_quick_turn_those_inside_wait_for_somebody_else() -> None:
    door = knows(work_s=0.002)
    tickets = filled(door, A, 500)
    door.turned(5.0, QUICK_S / 2)
    assert not door.refuses(A, makes_work=True)
    filled(door, A, 500)
    assert door.refuses(A, makes_work=True)
    for ticket in tickets:  # they were not in the hall any more
        door.leave(ticket)
    assert door.refuses(A, makes_work=True)


def test_a_few_hundred_always_get_in_however_slow_the_machine_is() -> None:
    door = knows(work_s=1.0)
    filled(door, A, FLOOR - 1)
    assert not door.refuses(A, makes_work=True)
    door.enter(A)
    assert door.refuses(A, makes_work=True)


def test_that_all_of_a_burst_end_late_does_not_make_each_of_them_slow() -> None:
    door = knows(work_s=0.002)
    door.turned(10.0, 0.0)
    tickets = filled(door, A, 400)
    for ticket in tickets[:20]:  # the first ends come when nearly all is done
        door.leave(ticket)
    door.turned(10.7, SLOW_S)
    assert door.work_s == pytest.approx(0.002)
    for ticket in tickets[20:]:
        door.leave(ticket)
    door.turned(10.8, SLOW_S)
    assert door.work_s == pytest.approx(0.002)


def test_work_becomes_known_under_load_alone() -> None:
    door = Door(1000, 1.0)
    for second in range(100):
        for ticket in filled(door, A, 10):
            door.leave(ticket)
        door.turned(float(second), 0.0)
    assert door.work_s is None


def test_retry_after_is_the_time_in_which_as_many_end_as_are_inside() -> None:
    door = Door(room=500, wait_s=1.0)
    assert door.retry_after == 1
    for second in range(1, 30):
        for ticket in filled(door, A, 100):
            door.leave(ticket)
        door.turned(float(second), 0.0)
    filled(door, A, 450)
    assert door.retry_after == 5
    for second in range(30, 60):  # nothing ends any more
        door.turned(float(second), 0.0)
    assert door.retry_after <= LONGEST_S
