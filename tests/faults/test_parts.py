"""The parts by which faults are brought about and counted."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.faults.clock import Clock
from benchmarks.faults.kinds import KINDS, kill
from benchmarks.faults.ledger import Asked, End, Heard, Row
from benchmarks.faults.load import Record
from benchmarks.faults.programs import Program
from benchmarks.faults.relay import Relay, tcp
from benchmarks.faults.soak import Fault, drawn, figures, summaries

ROOT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def echo(says: bytes) -> AsyncIterator[int]:
    """Answers each line by itself and what it says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(says + line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def asked(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    answer = await reader.readline()
    writer.close()
    return answer


async def test_a_relay_goes_on_to_the_next_target_and_ends_what_none_takes() -> None:
    async with echo(b"one ") as one, echo(b"two ") as two:
        relay = Relay([tcp(one), tcp(two)])
        port = await relay.on_tcp()
        assert {await asked(port) for _ in range(4)} == {b"one hello\n", b"two hello\n"}
        await relay.close()
    relay = Relay([tcp(one), tcp(two)])  # both are gone
    assert await asked(await relay.on_tcp()) == b""
    await relay.close()


async def test_a_relay_that_is_silent_keeps_connections_and_passes_all_on_later() -> None:
    async with echo(b"") as target:
        relay = Relay([tcp(target)])
        port = await relay.on_tcp()
        relay.hold()
        answer = asyncio.create_task(asked(port))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), 0.2)
        relay.release()
        assert await answer == b"hello\n"
        await relay.close()


def test_a_clock_jumps_for_who_follows_it_and_for_nobody_else(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    code = (
        "import sys, time\nwhile sys.stdin.readline(): print(time.time(), time.time_ns(), time.monotonic(), flush=True)"
    )
    own = {**os.environ, **clock.environment(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def told() -> tuple[float, float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wall, wall_ns, monotonic = process.stdout.readline().split()
            return float(wall), int(wall_ns) / 1e9, float(monotonic)

        for jump in (0.0, 3600.0, -30.0):
            clock.jump(jump)
            wall, wall_ns, monotonic = told()
            assert abs(wall - jump - time.time()) < 10
            assert abs(wall_ns - wall) < 10
            assert abs(monotonic - time.monotonic()) < 10
        process.stdin.close()


def test_a_program_that_was_killed_is_gone_and_is_started_again(tmp_path: Path) -> None:
    program = Program("sleeper", ["sleep", "60"], os.environ, tmp_path / "log")
    program.start()

    def runs() -> bool:
        return program.pid is not None

    first = program.pid
    assert first is not None
    kill(first)
    assert not runs()
    deadline = time.monotonic() + 20
    while not runs() and time.monotonic() < deadline:
        program.tend()
        time.sleep(0.05)
    assert runs()
    assert program.pid != first
    assert program.starts == 2
    program.stop()
    program.tend()
    assert not runs()


def test_the_faults_of_a_soak_are_drawn_by_weight_and_seed() -> None:
    kinds = list(KINDS.values())
    first, again, other = (drawn(kinds, 300, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {kind.name for kind in first} == {kind.name for kind in kinds if kind.weight}
    assert len(drawn([KINDS["network-long"]], 3, random.Random(1))) == 3


def row(end: End, began: float, ended: float, why: str = "") -> Row:
    return Row(Asked("openai", "chat", "", began), Heard("", ended), end, why)


def test_requests_count_for_the_faults_during_which_they_were_under_way() -> None:
    faults = [Fault("redis", "1", 10, 11, 20), Fault("worker", "2", 30, 30, 35), Fault("redis", "3", 40, 41, 44)]
    rows = [
        row("right", 1, 9),
        row("right", 9, 11),
        row("error", 18, 25, "engine_died"),
        row("silent", 31, 34),
        row("wrong", 43, 60),
    ]
    redis, worker = summaries(faults, rows)
    assert (redis.faults, redis.whole_s, redis.trouble_s) == (2, (10, 4), (15, 20))
    assert (redis.tally.right, redis.tally.errors, redis.tally.silent, redis.tally.wrong) == (1, 1, 0, 1)
    assert (worker.tally.silent, worker.trouble_s) == (1, (4,))
    told = figures(faults, Record(rows=rows), {"disk": "not allowed"})
    assert (told["faults"], told["silent_losses"], told["wrong_expert"], told["requests"]) == (3, 1, 1, 5)
    assert told["not_done"] == {"disk": "not allowed"}


def test_a_fault_that_did_not_come_about_is_a_problem_and_is_not_counted() -> None:
    told = figures([Fault("disk", "", 1, 2, 2, problem="there is room")], Record(), {})
    assert (told["faults"], told["problems"]) == (0, ["disk: there is room"])
