"""A stale, truncated or corrupt image never answers; what fails, fails alone and is told."""

import gc
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.shelf import OWN, SHARED, Gate, Shelf, happened, loaded, shelves, weights
from workers import images
from workers.checkpoints import fingerprint
from workers.image_copies import CopyBackend
from workers.image_files import ImageError, ImageFiles, IntegrityError, Tensors, digests


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    with shelves(tmp_path) as make:
        yield make


# Memory


def test_an_image_that_memory_is_too_small_for_is_refused(
    new: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies while it is built from disk; afterwards what others do not share is known."""
    free = {"bytes": 159}
    monkeypatch.setattr(images, "free_memory", lambda: free["bytes"])
    shelf = new()
    for name in "01":
        shelf.store.add(name, shelf.print_of(name), estimate=SHARED + OWN)
    [event] = loaded(shelf.store, "0")
    assert event.kind == "failed"
    assert event.why.startswith("out of host memory")
    assert shelf.reads == []
    free["bytes"] = 160
    assert [loaded(shelf.store, name)[0].kind for name in "01"] == ["loaded", "loaded"]
    shelf.store.evict("0")
    free["bytes"] = SHARED + 2 * OWN
    assert [event.kind for event in loaded(shelf.store, "0")] == ["evicted", "loaded"]


def too_much() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)


def refuse() -> None:
    raise MemoryError


@pytest.mark.parametrize("fault", [too_much, refuse])
def test_an_allocation_that_fails_fails_one_expert(new: Callable[..., Shelf], fault: Callable[[], None]) -> None:
    shelf = new()
    shelf.before_tensor = fault
    [event] = loaded(shelf.store, "0")
    assert event.kind == "failed"
    assert event.why.startswith("out of host memory")
    shelf.before_tensor = lambda: None
    assert [loaded(shelf.store, name)[0].kind for name in "10"] == ["loaded", "loaded"]


def test_what_a_failed_load_has_read_is_freed_at_once(new: Callable[..., Shelf]) -> None:
    shelf = new()
    kept: list[weakref.ref[torch.Tensor]] = []
    read = shelf.read

    def watched(name: str, cancelled: Callable[[], bool]) -> Tensors:
        tensors = read(name, cancelled)
        kept.extend(map(weakref.ref, tensors.values()))
        return tensors

    shelf.store._read = watched
    shelf.backend.damage = {"build": ValueError("no kernel for this")}
    gc.disable()
    try:
        [event] = loaded(shelf.store, "1")
        assert event.why == "ValueError: no kernel for this"
        assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()


# What is not right


@pytest.mark.parametrize("stage", ["build", "check"])
def test_an_image_that_is_not_built_right_fails_alone_and_may_be_tried_again(
    new: Callable[..., Shelf], stage: str
) -> None:
    shelf = new(host_bytes=1000)
    shelf.store.activate("0")
    shelf.backend.damage = {stage: IntegrityError("layer 3 is wrong")}
    with pytest.raises(ImageError, match="expert 1 cannot answer: layer 3 is wrong"):
        shelf.store.activate("1")
    assert shelf.store.active == "0"
    assert shelf.computes(0)
    assert happened(shelf.store.poll())[1:] == [("failed", "1", "disk", "disk")]
    assert shelf.store.stats()["tiers"] == {"0": "device", "1": "failed: layer 3 is wrong", "2": "disk"}
    shelf.store.activate("1")
    assert shelf.computes(1)


def test_a_host_image_that_was_not_built_right_is_read_again(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=1000)
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    shelf.store.poll()
    shelf.backend.damage = {"check": IntegrityError("layer 3 is wrong")}
    assert happened(loaded(shelf.store, "1")) == [("failed", "1", "host", "disk")]
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1", "1"]


def test_an_image_that_cannot_be_activated_leaves_memory(new: Callable[..., Shelf]) -> None:
    shelf = new(host_bytes=1000)
    shelf.store.activate("0")
    loaded(shelf.store, "1")
    shelf.backend.damage = {"activate": IntegrityError("not whole")}
    with pytest.raises(IntegrityError):
        shelf.store.activate("1")
    assert shelf.store.active == "0"
    assert shelf.computes(0)
    shelf.store.fail("1", "not whole")
    shelf.store.fail("1", "not whole")
    assert happened(shelf.store.poll()) == [("failed", "1", "device", "disk")]
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"own": torch.ones(3, 2)}, "tensor own is (3, 2) of torch.float32, the others have (2, 2) of torch.float32"),
        ({"own": torch.ones(2, 2).half()}, "tensor own is (2, 2) of torch.float16, the others have (2, 2) of torch.f"),
        ({"more": torch.ones(1)}, "tensor more is (1,) of torch.float32, the others have missing"),
        ({"own": None}, "tensor own is missing, the others have (2, 2) of torch.float32"),
    ],
)
def test_an_image_of_another_family_is_refused(
    new: Callable[..., Shelf], change: dict[str, torch.Tensor | None], why: str
) -> None:
    shelf = new()
    shelf.put("9", {name: each for name, each in (weights(9) | change).items() if each is not None})
    shelf.store.add("9", shelf.print_of("9"))
    assert [loaded(shelf.store, name)[0].kind for name in "091"] == ["loaded", "failed", "loaded"]
    assert why in shelf.store.stats()["tiers"]["9"]


def test_an_image_that_failed_does_not_say_what_the_family_is(new: Callable[..., Shelf]) -> None:
    shelf = new()
    shelf.put("9", {"other": torch.ones(1)})
    shelf.store.add("9", shelf.print_of("9"))
    shelf.backend.damage = {"check": IntegrityError("wrong")}
    assert [loaded(shelf.store, name)[0].kind for name in "901"] == ["failed", "loaded", "loaded"]


def test_a_checkpoint_that_changed_fails_its_expert_alone(new: Callable[..., Shelf]) -> None:
    shelf = new()
    shelf.put("1", weights(7))
    assert [loaded(shelf.store, name)[0].kind for name in "01"] == ["loaded", "failed"]
    assert "the checkpoint of 1 changed on disk" in shelf.store.stats()["tiers"]["1"]
    assert "1" not in shelf.reads


def test_a_checkpoint_that_changes_while_it_is_read_is_not_believed(new: Callable[..., Shelf]) -> None:
    shelf = new()
    shelf.before_tensor = lambda: shelf.put("1", weights(7))
    [event] = loaded(shelf.store, "1")
    assert event.kind == "failed"
    assert "changed on disk" in event.why


def test_weights_that_changed_behind_the_same_fingerprint_are_not_believed(new: Callable[..., Shelf]) -> None:
    shelf = new()
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    told = shelf.file("1").stat()
    shelf.put("1", weights(7))
    os.utime(shelf.file("1"), ns=(told.st_atime_ns, told.st_mtime_ns))
    event = loaded(shelf.store, "1")[-1]
    assert event.kind == "failed"
    assert event.why == "the weights of 1 are not those read at first: own differs"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(("harm", "why"), [(truncate, "SafetensorError: "), (Path.unlink, "FileNotFoundError: ")])
def test_a_checkpoint_that_cannot_be_read_fails_its_expert_alone(
    new: Callable[..., Shelf], harm: Callable[[Path], None], why: str
) -> None:
    shelf = new()
    harm(shelf.file("1"))
    shelf.store.add("1", shelf.print_of("1"))
    events = [loaded(shelf.store, name)[0] for name in "012"]
    assert [event.kind for event in events] == ["loaded", "failed", "loaded"]
    assert events[1].why.startswith(why)


def test_the_fingerprint_tells_names_sizes_and_times(tmp_path: Path) -> None:
    assert fingerprint("owner/model") == "owner/model"
    config = tmp_path / "config.json"
    config.write_text("{}")
    seen = [fingerprint(str(tmp_path))]
    (tmp_path / "notes.txt").write_text("not of the checkpoint")
    assert fingerprint(str(tmp_path)) == seen[0]
    for change in (
        lambda: config.write_text("{ }"),
        lambda: os.utime(config, (5, 5)),
        lambda: config.rename(tmp_path / "other.json"),
        lambda: (tmp_path / "model.safetensors").write_bytes(b""),
    ):
        change()
        seen.append(fingerprint(str(tmp_path)))
    assert len(set(seen)) == 5


# Image files


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_an_image_file_is_written_once_and_read_instead_of_the_checkpoint(
    new: Callable[..., Shelf], tmp_path: Path
) -> None:
    shelf = new(files=ImageFiles(tmp_path / "images", "family"))
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    shelf.store.activate("1")
    assert shelf.computes(1)
    again = shelf.open(files=ImageFiles(tmp_path / "images", "family"))  # the service starts anew
    again.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1"]
    assert len(list((tmp_path / "images").iterdir())) == 1
    again.close()


def test_a_damaged_image_file_is_told_and_the_checkpoint_read(new: Callable[..., Shelf], tmp_path: Path) -> None:
    shelf = new(files=ImageFiles(tmp_path / "images", "family"))
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    [file] = (tmp_path / "images").iterdir()
    flip(file)
    event = loaded(shelf.store, "1")[-1]
    assert event.kind == "loaded"
    assert event.why == "the image file of 1 was damaged; the checkpoint was read instead"
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1", "1"]
    shelf.store.evict("1")
    assert loaded(shelf.store, "1")[-1].why == ""  # it was written anew
    assert shelf.reads == ["1", "1"]


def test_a_whole_image_file_with_other_weights_is_not_believed(new: Callable[..., Shelf], tmp_path: Path) -> None:
    files = ImageFiles(tmp_path / "images", "family")
    shelf = new(files=files)
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    assert files.write("1", shelf.print_of("1"), weights(7), digests(weights(7))) is None
    shelf.store.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1", "1"]


def test_a_checkpoint_that_changed_is_told_even_where_there_is_an_image_file(
    new: Callable[..., Shelf], tmp_path: Path
) -> None:
    shelf = new(files=ImageFiles(tmp_path / "images", "family"))
    loaded(shelf.store, "1")
    shelf.store.evict("1")
    shelf.put("1", weights(7))
    assert "changed on disk" in loaded(shelf.store, "1")[-1].why


def test_a_full_disk_is_told_once_and_image_files_are_done_without(
    new: Callable[..., Shelf], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    shelf = new(files=ImageFiles(tmp_path / "images", "family"))
    events = [event for name in "012" for event in loaded(shelf.store, name)]
    assert [event.kind for event in events] == ["loaded", "note", "loaded", "loaded"]
    assert "more than the disk has free" in events[1].why


def test_a_load_does_not_wait_for_an_image_file(new: Callable[..., Shelf], tmp_path: Path) -> None:
    gate = Gate()

    class Slow(ImageFiles):
        def write(self, *args: Any, **options: Any) -> str | None:
            gate()
            return super().write(*args, **options)

    files = Slow(tmp_path / "images", "family")
    shelf = new(files=files)
    for number in (0, 1):
        shelf.store.activate(str(number))
        assert shelf.computes(number)
    assert gate.entered.wait(30)
    gate.opened.set()
    shelf.store.wait()
    assert [files.holds(name, shelf.print_of(name)) for name in "01"] == [True, False]  # one at a time
    shelf.store.evict("1")
    shelf.store.evict("0")
    loaded(shelf.store, "1")  # from its checkpoint again
    assert files.holds("1", shelf.print_of("1"))


def test_two_stores_share_a_folder(new: Callable[..., Shelf], tmp_path: Path) -> None:
    """What one writes the other reads; what one removes the other does without."""
    shelf = new(files=ImageFiles(tmp_path / "images", "family"))
    other = shelf.open(files=ImageFiles(tmp_path / "images", "family"))
    loaded(shelf.store, "1")
    other.activate("1")
    assert shelf.computes(1)
    assert shelf.reads == ["1"]
    [file] = (tmp_path / "images").iterdir()
    file.unlink()
    shelf.store.evict("1")
    event = loaded(shelf.store, "1")[-1]
    assert (event.kind, event.why) == ("loaded", "")
    assert shelf.reads == ["1", "1"]
    other.close()


# Any order of events


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["activate"] * 4 + ["evict"] * 3 + ["begin", "cancel", "poll", "damage", "lose", "tamper"]),
        st.integers(0, 2),
    ),
    max_size=20,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, host=st.sampled_from([0, SHARED + 2 * OWN, 1000]), limit=st.sampled_from([None, 0, 1500]))
def test_whatever_happens_the_engine_computes_with_the_right_weights(
    steps: list[tuple[str, int]], host: int, limit: int | None
) -> None:
    """The model's own tensors are those of the expert that was activated last, or its activation was an error."""
    model = {name: torch.zeros_like(tensor) for name, tensor in weights(0).items()}
    with tempfile.TemporaryDirectory() as folder, shelves(Path(folder)) as new:
        pages = Path(folder) / "images"
        files = ImageFiles(pages, "family", limit)
        shelf = new(backend=CopyBackend(model), host_bytes=host, files=files)
        store = shelf.store
        for name in "210":
            store.activate(name)  # from now on its weights are known
            store.wait()
        tampered, now = set[int](), 0
        for step, number in steps:
            name = str(number)
            match step:
                case "activate":
                    try:
                        store.activate(name)
                        now = number
                    except ImageError:
                        assert number in tampered
                case "evict" if number != now:
                    store.evict(name)
                case "begin":
                    store.begin(name)
                case "cancel":
                    store.cancel()
                case "poll":
                    store.poll()
                case "damage" | "lose":
                    store.wait()
                    for file in sorted(pages.glob(f"{name}-*")):
                        flip(file) if step == "damage" else file.unlink()
                case "tamper":
                    store.wait()
                    tampered.add(number)
                    told = shelf.file(name).stat()
                    flip(shelf.file(name))
                    os.utime(shelf.file(name), ns=(told.st_atime_ns, told.st_mtime_ns))
            assert store.active == str(now)
            assert digests(model) == digests(weights(now))
