"""The image store: three tiers, equal tensors held once, loads beside the steps of the engine."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.shelf import OWN, SHARED, Gate, Shelf, happened, loaded, shelves
from workers import images


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    with shelves(tmp_path) as make:
        yield make


# Loading


def test_an_image_is_loaded_in_the_background_and_told_by_a_poll(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    assert shelf.store.begin("1")
    assert gate.entered.wait(30)
    assert shelf.store.poll() == []
    assert shelf.store.tier("1") == "disk"
    gate.opened.set()
    shelf.store.wait()
    assert happened(shelf.store.poll()) == [("loaded", "1", "disk", "device")]
    assert shelf.store.poll() == []
    assert shelf.store.tier("1") == "device"


def test_the_engine_computes_with_the_image_that_was_activated(new: Callable[..., Shelf]) -> None:
    shelf = new()
    for number in (0, 2, 1, 0):
        assert shelf.store.activate(str(number)).bytes == SHARED + OWN
        assert shelf.store.active == str(number)
        assert shelf.computes(number)
    assert shelf.reads == ["0", "2", "1"]


def test_a_load_begins_once(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    assert [shelf.store.begin("1"), shelf.store.begin("1")] == [True, False]
    gate.opened.set()
    shelf.store.wait()
    assert not shelf.store.begin("1")
    assert shelf.reads == ["1"]


def test_an_activation_joins_the_load_under_way(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    shelf.store.begin("1")
    assert gate.entered.wait(30)
    gate.opened.set()
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1"]


def test_a_cancelled_load_ends_between_two_tensors(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    shelf.store.begin("1")
    assert gate.entered.wait(30)
    shelf.store.cancel()
    shelf.store.cancel()
    assert happened(shelf.store.poll()) == [("cancelled", "1", "disk", "disk")]
    seen: list[int] = []
    shelf.before_tensor = lambda: seen.append(0)
    gate.opened.set()
    shelf.store.close()
    assert seen == []
    assert shelf.store.poll() == []
    assert shelf.store.tier("1") == "disk"


def test_a_load_that_was_cancelled_after_its_last_tensor_is_not_built(new: Callable[..., Shelf]) -> None:
    shelf, gate, asked = new(), Gate(), iter([False, True])
    told = shelf.print_of("1")

    def current(name: str) -> str:
        if next(asked):  # the second time: after the weights were read
            gate()
        return told

    shelf.store._current = current
    shelf.backend.damage = {"build": ValueError("never raised")}
    shelf.store.begin("1")
    assert gate.entered.wait(30)
    shelf.store.cancel()
    gate.opened.set()
    shelf.store.close()
    assert "build" in shelf.backend.damage


def test_another_load_takes_the_place_of_the_one_under_way(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    shelf.store.begin("1")
    assert gate.entered.wait(30)
    shelf.store.begin("2")
    gate.opened.set()
    shelf.store.wait()
    assert happened(shelf.store.poll()) == [("cancelled", "1", "disk", "disk"), ("loaded", "2", "disk", "device")]
    assert loaded(shelf.store, "1")[0].kind == "loaded"


def test_checks_take_turns_with_the_engine(new: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CHECK_SECONDS", 0.0)
    shelf = new()
    shelf.store.begin("1")
    load = shelf.store._load
    assert load is not None
    assert load.future is not None
    load.future.result()
    told = [[event.kind for event in shelf.store.poll()] for _ in range(3)]
    assert told == [[], [], ["loaded"]]  # two tensors, each checked in a poll of its own


def test_the_loading_thread_keeps_to_its_cores(new: Callable[..., Shelf]) -> None:
    mine = os.sched_getaffinity(0)
    core = max(mine)
    shelf, seen = new(cores={core}), set[int]()
    shelf.before_tensor = lambda: seen.update(os.sched_getaffinity(0))
    loaded(shelf.store, "1")
    assert seen == {core}
    assert os.sched_getaffinity(0) == mine


def test_closing_gives_up_the_load_and_ends_the_threads(new: Callable[..., Shelf]) -> None:
    shelf, gate = new(), Gate()
    shelf.before_tensor = gate
    shelf.store.begin("1")
    assert gate.entered.wait(30)
    gate.opened.set()
    shelf.store.close()
    assert not any(thread.name.startswith("image-") for thread in threading.enumerate())


# Memory


def test_equal_tensors_are_held_and_counted_once(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=1000)
    assert shelf.store.size("0") is None
    [event] = loaded(shelf.store, "0")
    assert event.bytes == SHARED + OWN
    assert shelf.store.sizes() == ({"0": SHARED + OWN}, 0)
    for name in ("1", "2"):
        assert loaded(shelf.store, name)[0].bytes == SHARED + OWN
    assert shelf.store.sizes() == ({"0": OWN, "1": OWN, "2": OWN}, SHARED)
    assert [shelf.store.size(name) for name in "012"] == [OWN] * 3
    assert shelf.store.stats()["tier_bytes"] == {"device": SHARED + 3 * OWN, "host": SHARED + 3 * OWN}
    held = [shelf.store._images[name].host for name in "012"]
    assert len({id(tensors["shared"]) for tensors in held if tensors}) == 1


def test_an_evicted_image_comes_back_from_host_memory_as_it_was(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=1000)
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    shelf.store.evict("1")
    assert happened(shelf.store.poll()) == [("evicted", "1", "device", "host")]
    assert happened(loaded(shelf.store, "1")) == [("loaded", "1", "host", "device")]
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1"]


def test_without_host_memory_it_is_read_again(new: Callable[..., Shelf]) -> None:
    shelf = new()
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    assert happened(shelf.store.poll()) == [("evicted", "1", "device", "disk")]
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1", "1"]


def test_the_image_used_longest_ago_leaves_host_memory(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=SHARED + 2 * OWN)
    for name in ("0", "1"):
        loaded(shelf.store, name)
    shelf.store.activate("0")
    loaded(shelf.store, "2")
    for name in ("1", "2"):
        shelf.store.evict(name)
    assert [shelf.store.tier(name) for name in "012"] == ["device", "disk", "host"]
    assert shelf.store.stats()["tier_bytes"]["host"] == SHARED + 2 * OWN


def test_an_image_larger_than_host_memory_is_not_kept_and_removes_none(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=SHARED + OWN)
    loaded(shelf.store, "0")
    shelf.store._host_bytes -= 1
    loaded(shelf.store, "1")
    shelf.store.evict("0")
    shelf.store.evict("1")
    assert [shelf.store.tier(name) for name in "01"] == ["host", "disk"]


def test_the_memory_of_the_active_image_can_be_given_back_while_nothing_computes(new: Callable[..., Shelf]) -> None:
    shelf = new()
    shelf.store.activate("1")
    shelf.store.evict("1")
    assert shelf.store.active is None
    assert shelf.store.tier("1") == "disk"
