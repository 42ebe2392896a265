"""Image files give back the right bytes or an error, never wrong bytes; what cannot be written is told."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from workers import image_files
from workers.image_files import ImageFiles, IntegrityError, digest, digests

TENSORS = {
    "embed": torch.arange(12, dtype=torch.float32).reshape(4, 3),
    "norm": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scale": torch.tensor(3.0),
    "zero": torch.empty(0, 7),
}
KNOWN = digests(TENSORS)
SIZE = sum(tensor.nbytes for tensor in TENSORS.values())


def never() -> bool:
    return False


def write(files: ImageFiles, name: str = "a", fingerprint: str = "v1") -> Path:
    assert files.write(name, fingerprint, TENSORS, KNOWN) is None
    return files._path(name, fingerprint)


def same(got: dict[str, torch.Tensor]) -> bool:
    return got.keys() == TENSORS.keys() and digests(got) == KNOWN


def test_what_was_written_is_read(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    assert not files.holds("a", "v1")
    write(files)
    assert files.holds("a", "v1")
    tensors, known = files.read("a", "v1", None, never)
    assert same(tensors)
    assert known == KNOWN
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("dtype", image_files._CODES, ids=str)
def test_every_dtype_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 1, 0, 1]).to(dtype)
    files = ImageFiles(tmp_path, "family")
    assert files.write("a", "v1", {"t": tensor}, {"t": digest(tensor)}) is None
    got = files.read("a", "v1", None, never)[0]["t"]
    assert got.dtype == dtype
    assert torch.equal(got.view(torch.uint8), tensor.view(torch.uint8))


def test_a_dtype_that_files_cannot_hold_is_told(tmp_path: Path) -> None:
    tensors = {"t": torch.zeros(2, dtype=torch.complex64)}
    problem = ImageFiles(tmp_path, "family").write("a", "v1", tensors, digests(tensors))
    assert problem == "no image file was written: image files cannot hold torch.complex64"


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    tensor = TENSORS["embed"].T[1:]
    files = ImageFiles(tmp_path, "family")
    assert files.write("a", "v1", {"t": tensor}, {"t": digest(tensor)}) is None
    assert torch.equal(files.read("a", "v1", None, never)[0]["t"], tensor)


def test_the_digest_tells_bytes_shape_and_dtype_apart() -> None:
    tensor = torch.zeros(4, dtype=torch.int32)
    others = [tensor + 1, tensor.reshape(2, 2), tensor.view(torch.float32), tensor[:3]]
    assert len({digest(each) for each in (tensor, *others)}) == 5


def test_others_can_read_the_file(tmp_path: Path) -> None:
    path = write(ImageFiles(tmp_path, "family"))
    with safe_open(path, "pt") as file:
        assert {name: digest(file.get_tensor(name)) for name in file.keys()} == KNOWN  # noqa: SIM118
        assert file.metadata()["expert"] == "a"


# What is not right


def test_any_truncation_is_found(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match="the image file of a was damaged"):
            files.read("a", "v1", None, never)
        assert not path.exists()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_is_found_or_harmless(data: st.DataObject) -> None:
    """Bytes that differ, are missing or were put in, up to three times."""
    with tempfile.TemporaryDirectory() as folder:
        files = ImageFiles(Path(folder), "family")
        path = write(files)
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at, removed = data.draw(st.integers(0, len(damaged) - 1)), data.draw(st.integers(0, 2))
            damaged[at : at + removed] = data.draw(st.binary(max_size=2))
        path.write_bytes(damaged)
        try:
            tensors, known = files.read("a", "v1", None, never)
        except IntegrityError:
            assert not path.exists()
        else:
            assert same(tensors)
            assert known == KNOWN


@pytest.mark.parametrize(("family", "fingerprint"), [("other", "v1"), ("family", "v2")])
def test_a_file_of_another_family_or_checkpoint_is_not_read(tmp_path: Path, family: str, fingerprint: str) -> None:
    write(ImageFiles(tmp_path, "family"))
    with pytest.raises(FileNotFoundError):
        ImageFiles(tmp_path, family).read("a", fingerprint, None, never)


@pytest.mark.parametrize(
    ("family", "name", "fingerprint"), [("other", "a", "v1"), ("family", "b", "v1"), ("family", "a", "v2")]
)
def test_a_file_under_the_wrong_name_is_not_believed(tmp_path: Path, family: str, name: str, fingerprint: str) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(ImageFiles(tmp_path, family), name, fingerprint)
    path.rename(files._path("a", "v1"))
    with pytest.raises(IntegrityError):
        files.read("a", "v1", None, never)


def test_a_file_of_an_older_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    monkeypatch.setattr(image_files, "_VERSION", "2")
    assert not files.holds("a", "v1")
    path.rename(files._path("a", "v1"))
    with pytest.raises(IntegrityError):
        files.read("a", "v1", None, never)


def test_a_whole_file_with_other_weights_is_not_believed(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    with pytest.raises(IntegrityError):
        files.read("a", "v1", KNOWN | {"norm": KNOWN["scale"]}, never)
    assert not path.exists()


def lacks_a_tensor(header: dict[str, Any]) -> None:
    del header["norm"]


def promises_more_than_it_has(header: dict[str, Any]) -> None:
    header["norm"] |= {"shape": [1 << 50], "data_offsets": [0, 1 << 51]}


@pytest.mark.parametrize("change", [lacks_a_tensor, promises_more_than_it_has])
def test_a_file_whose_header_was_changed_is_not_believed(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(IntegrityError):
        files.read("a", "v1", None, never)


def test_a_lack_of_memory_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)

    def refuse(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", refuse)
        with pytest.raises(RuntimeError, match="can't allocate"):
            files.read("a", "v1", None, never)
    assert path.exists()


def test_a_cancelled_read_ends_between_two_tensors_and_the_file_stays(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    answers = iter([False, False, True])
    with pytest.raises(InterruptedError):
        files.read("a", "v1", None, lambda: next(answers))
    assert list(answers) == []
    assert path.exists()


# What cannot be written


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob("*.tmp"))


def test_a_write_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    assert files.write("a", "v1", TENSORS, KNOWN, lambda: True) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_room_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """In a process of its own, that may write files of 1000 bytes only."""
    program = """
import sys, pathlib, torch
from workers.image_files import ImageFiles, digests
for count in (4096, 4, 8192):
    tensors = {"t": torch.zeros(count)}
    print(ImageFiles(pathlib.Path(sys.argv[1]), "family").write(f"of-{count}", "v1", tensors, digests(tensors)))
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    told = "no image file was written: File too large"
    assert done.stdout.splitlines() == [told, "None", told], done.stderr
    assert [path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()] == ["of-4"]


def test_a_full_disk_is_known_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(SIZE, 0, SIZE))
    problem = ImageFiles(tmp_path, "family").write("a", "v1", TENSORS, KNOWN)
    assert problem is not None
    assert "more than the disk has free" in problem
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    problem = ImageFiles(tmp_path / "taken" / "images", "family").write("a", "v1", TENSORS, KNOWN)
    assert problem == "no image file was written: Not a directory"


# Budget


def aged(path: Path, seconds: int) -> Path:
    """Last used so long ago."""
    told = path.stat()
    os.utime(path, (told.st_mtime - seconds, told.st_mtime - seconds))
    return path


def test_the_file_used_longest_ago_makes_room(tmp_path: Path) -> None:
    each = write(ImageFiles(tmp_path / "any", "family")).stat().st_size
    files = ImageFiles(tmp_path / "images", "family", 2 * each)
    aged(write(files, "a"), 20)
    aged(write(files, "b"), 10)
    files.read("a", "v1", None, never)
    write(files, "c")
    assert [files.holds(name, "v1") for name in "abc"] == [True, False, True]
    write(files, "c")  # anew: takes its own place
    assert files.holds("a", "v1")


def test_an_image_larger_than_the_limit_gets_no_file_and_removes_none(tmp_path: Path) -> None:
    size = write(ImageFiles(tmp_path, "family")).stat().st_size
    files = ImageFiles(tmp_path, "family", size)
    large = {"t": torch.zeros(size)}
    problem = files.write("b", "v1", large, digests(large))
    assert problem is not None
    assert f"all together may take {size}" in problem
    assert files.holds("a", "v1")


def test_files_of_former_checkpoints_go(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    for name in ("a", "a-b"):
        write(files, name, "v1")
    write(files, "a", "v2")
    assert [files.holds("a", "v1"), files.holds("a", "v2"), files.holds("a-b", "v1")] == [False, True, True]


# Two processes share the folder


def during(act: Callable[[], object]) -> Callable[[], bool]:
    """For `cancelled`: does something in the middle, and does not cancel."""

    def ask() -> bool:
        act()
        return False

    return ask


def test_a_draft_of_a_process_that_died_is_removed_and_one_that_grows_is_not(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    left = tmp_path / "b-0123456789abcdef.safetensors.77.tmp"
    left.write_bytes(b"half")
    seen = []

    def start_another() -> None:
        ImageFiles(tmp_path, "family")
        seen.append(drafts(tmp_path))

    assert files.write("a", "v1", TENSORS, KNOWN, during(start_another)) is None
    assert [len(each) for each in seen] == [1] * len(TENSORS)
    assert left not in seen[0]
    assert same(files.read("a", "v1", None, never)[0])
    assert drafts(tmp_path) == []


def test_two_that_write_the_same_image_do_not_mix(tmp_path: Path) -> None:
    one, other = ImageFiles(tmp_path, "family"), ImageFiles(tmp_path, "family")
    assert one.write("a", "v1", TENSORS, KNOWN, during(lambda: write(other))) is None
    assert same(one.read("a", "v1", None, never)[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_disappears_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, "family")
    path = write(files)
    tensors, _ = files.read("a", "v1", None, during(lambda: path.unlink(missing_ok=True)))
    assert same(tensors)
    with pytest.raises(FileNotFoundError):
        files.read("a", "v1", None, never)
