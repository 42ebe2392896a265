"""Files that callers upload and download, as /v1/files has them.

They lie as `files/<owner>/<id>` with their facts in `files/<owner>/<id>.json`, which is written last: a file exists
when its facts do. The owner is the lineage of the key (orchestrator.keys); under another one's name nothing is found.
What counts for the quotas is what lies there, uploads under way included, so that no crash leaves a count behind.
A file that is to end at a time is told in `expiring` too, in a name, so that those that are due are found by a listing.

`UnknownFile`   the owner has no such file
`OverQuota`     one more byte would be over a quota, or the file over its own limit
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from orchestrator.batch.storage import Storage, Upload

Purpose = Literal["batch", "batch_output"]
LOOK = 8 << 20
"""Bytes of an upload between two looks at the quotas."""
MAX_FILES = 10_000
"""Files of an owner: each is one of a listing."""
_ID = re.compile(r"file-[0-9a-f]{24,40}")


class UnknownFile(LookupError):
    """The owner has no file of this id."""


class OverQuota(Exception):
    """The message says which quota, how much of it is used, and what to do. is_file: it is the limit of one file."""

    def __init__(self, message: str, is_file: bool = False) -> None:
        super().__init__(message)
        self.is_file = is_file


@dataclass(frozen=True, slots=True)
class Quotas:
    """In bytes: of one file, of all files of an owner, of all files."""

    file: int
    owner: int
    total: int


@dataclass(frozen=True, slots=True)
class File:
    """created_at: Unix time in seconds; expires_at: the same, None for a file that stays until it is deleted."""

    id: str
    owner: str
    filename: str
    bytes: int
    created_at: int
    purpose: Purpose
    expires_at: int | None = None


class Receiving:
    """An upload. `write` raises OverQuota, and OSError where the disk is full."""

    def __init__(self, files: "Files", owner: str, upload: Upload) -> None:
        self._files, self._owner, self._upload = files, owner, upload
        self._looked = 0
        self.bytes = 0

    def write(self, piece: bytes) -> None:
        self.bytes += len(piece)
        self._files.check_size(self.bytes)
        if self.bytes >= self._looked:
            self._files.check_room(self._owner, len(piece))
            self._looked = self.bytes + LOOK
        self._upload.write(piece)


class Files:
    """All methods block. now: Unix time in seconds."""

    def __init__(self, storage: Storage, quotas: Quotas, *, now: Callable[[], float] = time.time) -> None:
        self._storage, self._quotas, self._now = storage, quotas, now

    @contextmanager
    def receive(
        self, owner: str, name: Callable[[], str], lasts_s: Callable[[], int | None] = lambda: None
    ) -> Iterator[tuple[Receiving, Callable[[], File]]]:
        """An upload, and what makes a file of it. name, lasts_s: its file name, and the seconds after which it ends, if
        it does, once that is known. Raises OverQuota."""
        self.check_room(owner, 0)
        file_id = f"file-{uuid.uuid4().hex[:24]}"
        with self._storage.upload(f"files/{owner}/{file_id}") as upload:
            receiving = Receiving(self, owner, upload)

            def finish() -> File:
                self.check_room(owner, 0)
                upload.commit()
                try:
                    return self._put(file_id, owner, name(), receiving.bytes, "batch", lasts_s())
                except OSError:  # nothing would ever find it
                    self._storage.remove(f"files/{owner}/{file_id}")
                    raise

            yield receiving, finish

    @contextmanager
    def making(
        self, owner: str, file_id: str, filename: str, lasts_s: int | None = None
    ) -> Iterator[Callable[[bytes], None]]:
        """Writes a file that a batch makes, in place of one of this id. It counts for the quotas, but is never refused:
        what it holds has been paid for. lasts_s: seconds after which it ends."""
        size = 0
        with self._storage.upload(f"files/{owner}/{file_id}") as upload:

            def write(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                upload.write(piece)

            yield write
            upload.commit()
        self._put(file_id, owner, filename, size, "batch_output", lasts_s)

    def get(self, owner: str, file_id: str) -> File:
        """Raises UnknownFile."""
        try:
            file = File(**json.loads(self._storage.read(f"{self._name(owner, file_id)}.json")))
        except FileNotFoundError:
            raise UnknownFile(file_id) from None
        if file.expires_at is not None and file.expires_at <= self._now():
            raise UnknownFile(file_id)
        return file

    def newest(self, owner: str) -> list[File]:
        """The newest first."""
        found = []
        for name in self._storage.names(f"files/{owner}"):
            if name.endswith(".json"):
                try:
                    found.append(self.get(owner, name.removesuffix(".json")))
                except UnknownFile:
                    continue  # deleted meanwhile
        return sorted(found, key=lambda file: (file.created_at, file.id), reverse=True)

    def content(self, owner: str, file_id: str) -> Path:
        """A file of this machine that holds it. Raises UnknownFile."""
        self.get(owner, file_id)
        return self._storage.local(self._name(owner, file_id))

    def name(self, owner: str, file_id: str) -> str:
        """Its name in the storage. Raises UnknownFile."""
        self.get(owner, file_id)
        return self._name(owner, file_id)

    def delete(self, owner: str, file_id: str) -> None:
        """Raises UnknownFile."""
        self.get(owner, file_id)
        name = self._name(owner, file_id)
        self._storage.remove(f"{name}.json")
        self._storage.remove(name)

    def remove_expired(self) -> int:
        """Removes the files whose time has come, of all owners; how many those may have been."""
        removed = 0
        for name in self._storage.names("expiring"):
            at, owner, file_id = name.split(".")
            if int(at) > self._now():
                continue
            try:
                self.get(owner, file_id)  # it was written anew since, and ends later
            except UnknownFile:
                self._storage.remove(f"files/{owner}/{file_id}.json")
                self._storage.remove(f"files/{owner}/{file_id}")
                removed += 1
            self._storage.remove(f"expiring/{name}")
        return removed

    # Quotas

    def check_size(self, size: int) -> None:
        """Raises OverQuota for a file of so many bytes."""
        most = self._quotas.file
        if size > most:
            text = f"the file has more than {most:,} bytes, which is the limit; split it into several batches"
            raise OverQuota(text, is_file=True)

    def check_room(self, owner: str, more: int) -> None:
        """Raises OverQuota where there is no room for so many bytes more."""
        own = self._storage.sizes(f"files/{owner}")
        if len(own) >= 2 * MAX_FILES:
            raise OverQuota(f"this API key has {MAX_FILES:,} files, which is the limit; delete some")
        for what, used, most in (
            ("this API key", sum(own.values()), self._quotas.owner),
            ("the service", sum(self._storage.sizes("files").values()), self._quotas.total),
        ):
            if used + more > most:
                raise OverQuota(f"the files of {what} have {used:,} of {most:,} bytes; delete some, then try again")

    def _put(self, file_id: str, owner: str, filename: str, size: int, purpose: Purpose, lasts_s: int | None) -> File:
        now = int(self._now())
        ends = None if lasts_s is None else now + lasts_s
        file = File(file_id, owner, filename, size, now, purpose, ends)
        if ends is not None:
            self._storage.write(f"expiring/{ends}.{owner}.{file_id}", b"")
        self._storage.write(f"files/{file.owner}/{file.id}.json", json.dumps(asdict(file)).encode())
        return file

    def _name(self, owner: str, file_id: str) -> str:
        if not _ID.fullmatch(file_id):
            raise UnknownFile(file_id)
        return f"files/{owner}/{file_id}"
