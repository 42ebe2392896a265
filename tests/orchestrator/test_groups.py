"""Writes in groups: nothing lost, nothing out of order, no more than may wait."""

import asyncio

import pytest

from orchestrator.groups import LARGEST, Groups


class Written:
    """What was written, as groups; each write lasts until `go`."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, group: list[int]) -> None:
        self.groups.append(group)
        await self.go.wait()


async def test_the_first_goes_at_once_and_those_after_it_together() -> None:
    written = Written()
    groups = Groups(written, 100)
    assert groups.add(0)
    await asyncio.sleep(0)
    assert written.groups == [[0]]
    for number in range(1, 6):
        assert groups.add(number)
    written.go.set()
    await groups.drain()
    assert written.groups == [[0], [1, 2, 3, 4, 5]]


async def test_more_than_may_wait_are_not_taken_and_those_in_work_count() -> None:
    written = Written()
    groups = Groups(written, 3)
    assert groups.add(0)
    await asyncio.sleep(0)
    assert [groups.add(number) for number in range(1, 5)] == [True, True, False, False]
    written.go.set()
    await groups.drain()
    assert groups.add(9)
    await groups.drain()
    assert written.groups == [[0], [1, 2], [9]]


async def test_no_group_is_without_bound() -> None:
    written = Written()
    written.go.set()
    groups = Groups(written, 10_000)
    for number in range(2 * LARGEST + 1):
        groups.add(number)
    await groups.drain()
    assert [len(group) for group in written.groups] == [LARGEST, LARGEST, 1]
    assert [number for group in written.groups for number in group] == list(range(2 * LARGEST + 1))


async def test_a_write_that_raises_ends_that_group_alone(caplog: pytest.LogCaptureFixture) -> None:
    written: list[int] = []

    async def write(group: list[int]) -> None:
        if 1 in group:
            raise ValueError("no")
        written.extend(group)

    groups = Groups(write, 10)
    groups.add(1)
    await asyncio.sleep(0)
    groups.add(2)  # waits behind it
    await groups.drain()
    assert written == [2]


async def test_nothing_to_wait_for_is_no_wait() -> None:
    await Groups(Written(), 1).drain()


async def test_catching_up_waits_for_what_waits_now_and_for_nothing_later() -> None:
    later = 0

    async def write(group: list[int]) -> None:
        nonlocal later
        written.append(group)
        later += 1
        groups.add(later)  # there is always more

    written: list[list[int]] = []
    groups = Groups(write, 100)
    groups.add(0)
    await asyncio.wait_for(groups.catch_up(), 60)
    assert written[0] == [0]
    groups._most = 0  # ends it
    await groups.drain()
