"""Where the bytes of batches lie: a folder of this machine, or a place that fsspec knows, which several machines share.

A name is a path of plain parts with slashes. What is written is whole or not there at all. An object that grows, a log,
is a file that is appended to in a folder, and numbered objects elsewhere, where nothing can be appended to.
All methods block, and raise OSError; FileNotFoundError where a name is not there.
"""

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_DRAFT = "draft-"
"""Beginning of the names of what is not whole yet."""


class Upload(Protocol):
    """An object that comes in pieces. Left without `commit` it is as if it had never begun."""

    def write(self, piece: bytes) -> None: ...

    def commit(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Storage(Protocol):
    def write(self, name: str, data: bytes) -> None:
        """Also over what is there. On return it is on disk."""
        ...

    def read(self, name: str) -> bytes: ...

    def exists(self, name: str) -> bool: ...

    def upload(self, name: str) -> Upload: ...

    def copy(self, source: str, target: str) -> None:
        """The target keeps its bytes when the source is removed."""
        ...

    def append(self, name: str, number: int, at: int, piece: bytes) -> None:
        """The piece of that number, from 0, of a log that one process alone writes; at: bytes of those before it. On
        return it is on disk. One that has failed, on a full disk, may be tried again."""
        ...

    def logs(self, folder: str) -> list[str]:
        """Names, without the folder, of the logs in it."""
        ...

    def log(self, name: str) -> bytes:
        """All pieces of a log, joined; of one whose writer was killed the end may be torn."""
        ...

    def local_log(self, name: str) -> Path:
        """A file of this machine that holds the log; read it, and leave it as it is."""
        ...

    def names(self, folder: str) -> list[str]:
        """Of what is directly in it; none if there is no such folder."""
        ...

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Bytes of all that is below a folder, by the name of what is directly in it; with what is not whole yet."""
        ...

    def local(self, name: str) -> Path:
        """A file of this machine that holds the object; read it, and leave it as it is."""
        ...

    def remove(self, name: str) -> None:
        """An object or a folder with all that is in it; nothing if it is not there."""
        ...


def _checked(name: str) -> str:
    # Names are made here and never hold what a caller wrote; this keeps it so.
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name of the storage: {name[:100]!r}")
    return name


# A folder


class Folder:
    """Implements `Storage` under a folder, which is made when it is needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"Folder({str(self._root)!r})"

    def write(self, name: str, data: bytes) -> None:
        with self.upload(name) as upload:
            upload.write(data)
            upload.commit()

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def upload(self, name: str) -> "FileUpload":
        return FileUpload(self._path(name))

    def copy(self, source: str, target: str) -> None:
        path = self._path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.link(self._path(source), path)

    def append(self, name: str, number: int, at: int, piece: bytes) -> None:
        path = self._path(name)
        if number == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size > at:  # half of a piece, for which there was no room
                os.ftruncate(handle, at)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.pwrite(handle, rest, at + len(piece) - len(rest)) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def logs(self, folder: str) -> list[str]:
        return self.names(folder)

    def log(self, name: str) -> bytes:
        return self.read(name)

    def local_log(self, name: str) -> Path:
        return self.local(name)

    def names(self, folder: str) -> list[str]:
        try:
            found = os.listdir(self._path(folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith(_DRAFT))

    def sizes(self, folder: str) -> Mapping[str, int]:
        try:
            with os.scandir(self._path(folder)) as found:
                return {entry.name: _size(entry) for entry in found}
        except FileNotFoundError:
            return {}

    def local(self, name: str) -> Path:
        path = self._path(name)
        path.stat()
        return path

    def remove(self, name: str) -> None:
        path = self._path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._root / _checked(name)


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        if not entry.is_dir(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_size
        with os.scandir(entry.path) as found:
            return sum(map(_size, found))
    except FileNotFoundError:  # it went meanwhile
        return 0


class FileUpload:
    """Implements `Upload` beside the file that it becomes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._draft = path, path.parent / f"{_DRAFT}{uuid.uuid4().hex}"
        self._handle = self._draft.open("xb", buffering=0)

    def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[self._handle.write(rest) :]

    def commit(self) -> None:
        os.fsync(self._handle.fileno())
        os.replace(self._draft, self._path)
        _sync_folder(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()
        self._draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A new name outlives a power failure only when its folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Elsewhere


class Shared:
    """Implements `Storage` at an fsspec URL, such as s3://bucket/coe. cache: a folder for copies that are read."""

    def __init__(self, url: str, cache: Path) -> None:
        import fsspec

        self._files, root = fsspec.core.url_to_fs(url)
        self._root, self._cache = str(root).rstrip("/"), cache

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, data)

    def read(self, name: str) -> bytes:
        data: bytes = self._files.cat_file(self._path(name))
        return data

    def exists(self, name: str) -> bool:
        return bool(self._files.isfile(self._path(name)))

    def upload(self, name: str) -> "SharedUpload":
        return SharedUpload(self._files, self._path(name))

    def copy(self, source: str, target: str) -> None:
        self._files.makedirs(self._path(target).rpartition("/")[0], exist_ok=True)
        self._files.copy(self._path(source), self._path(target))

    def append(self, name: str, number: int, at: int, piece: bytes) -> None:
        self.write(f"{name}.{number:08d}", piece)

    def logs(self, folder: str) -> list[str]:
        return sorted({name.rpartition(".")[0] for name in self.names(folder)})

    def log(self, name: str) -> bytes:
        folder, _, own = name.rpartition("/")
        pieces = [piece for piece in self.names(folder) if piece.rpartition(".")[0] == own]
        # A missing one ends the log: what comes behind it was never told to anybody.
        whole = [piece for number, piece in enumerate(pieces) if int(piece.rpartition(".")[2]) == number]
        return b"".join(self.read(f"{folder}/{piece}") for piece in whole)

    def local_log(self, name: str) -> Path:
        path = self._cache / _checked(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.log(name))
        return path

    def names(self, folder: str) -> list[str]:
        self._files.invalidate_cache()  # others write here too
        try:
            found: list[Any] = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def sizes(self, folder: str) -> Mapping[str, int]:
        self._files.invalidate_cache()
        try:
            found: Mapping[str, int] = self._files.du(self._path(folder), total=False)
        except FileNotFoundError:
            return {}
        sums: dict[str, int] = {}
        start = len(self._path(folder)) + 1
        for path, size in found.items():
            own = str(path)[start:].partition("/")[0]
            sums[own] = sums.get(own, 0) + int(size)
        return sums

    def local(self, name: str) -> Path:
        path = self._cache / _checked(name)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.parent / f"{_DRAFT}{uuid.uuid4().hex}"
            self._files.get_file(self._path(name), str(draft))
            os.replace(draft, path)
        return path

    def remove(self, name: str) -> None:
        path = self._path(name)
        if self._files.exists(path):
            self._files.rm(path, recursive=True)
        shutil.rmtree(self._cache / _checked(name), ignore_errors=True)
        if (self._cache / name).is_file():
            (self._cache / name).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{_checked(name)}"


class SharedUpload:
    """Implements `Upload`. fsspec shows an object when it is closed; what is given up is discarded."""

    def __init__(self, files: Any, path: str) -> None:
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._file = files.open(path, "wb", autocommit=False)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)

    def commit(self) -> None:
        self._file.close()
        self._file.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._file.close()
            self._file.discard()
