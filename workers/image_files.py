"""Image files: an expert's weights as the image store holds them, with the digest of every tensor.

A file is a safetensors file whose metadata names family, expert, the fingerprint of its checkpoint and the digests. It
is written under another name and renamed when it is whole; several processes may share the folder.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

Tensors = Mapping[str, torch.Tensor]

_VERSION = "1"
_HEADER_LIMIT = 100 << 20
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class ImageError(RuntimeError):
    """An image cannot be loaded or used. The message is fit for the caller."""


class IntegrityError(ImageError):
    """What was loaded is not what the expert's checkpoint held when it was first read."""


def raw(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor in host memory; without a copy if it is contiguous, and writable then."""
    flat = tensor.detach().contiguous().reshape(-1)
    data: Any = flat.view(torch.uint8).numpy() if flat.numel() else bytearray()
    return memoryview(data)


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of dtype, shape and bytes, in hex."""
    known = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    known.update(raw(tensor))
    return known.hexdigest()


def digests(tensors: Tensors, cancelled: Callable[[], bool] = lambda: False) -> dict[str, str]:
    """Name -> digest. Raises InterruptedError once `cancelled`."""
    known = {}
    for name, tensor in tensors.items():
        if cancelled():
            raise InterruptedError
        known[name] = digest(tensor)
    return known


class ImageFiles:
    """The image files of a family under `folder`, of `limit` bytes together: those used longest ago go first.

    family: all that the layout of stored tensors depends on; files of another one are not read.
    """

    def __init__(self, folder: Path, family: str, limit: int | None = None) -> None:
        self._folder, self._family, self._limit = folder, family, limit
        for draft in folder.glob("*.tmp"):
            with contextlib.suppress(OSError), draft.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its writer lives
                draft.unlink()

    def _path(self, name: str, fingerprint: str) -> Path:
        key = hashlib.sha256(f"{_VERSION} {self._family} {name} {fingerprint}".encode()).hexdigest()[:16]
        return self._folder / f"{name}-{key}.safetensors"

    def holds(self, name: str, fingerprint: str) -> bool:
        return self._path(name, fingerprint).is_file()

    def remove(self, name: str, fingerprint: str) -> None:
        """No-op if there is none. What cannot be removed stays until there is need of its room."""
        with contextlib.suppress(OSError):
            self._path(name, fingerprint).unlink()

    # Writing

    def write(
        self,
        name: str,
        fingerprint: str,
        tensors: Tensors,
        known: Mapping[str, str],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str | None:
        """Writes an image file, and removes those of the expert's former checkpoints; nothing once `cancelled`.

        Returns why not, in words that are the same for the same reason: a full disk, a folder that cannot be written.
        """
        strange = next((tensor.dtype for tensor in tensors.values() if tensor.dtype not in _CODES), None)
        if strange is not None:
            return f"no image file was written: image files cannot hold {strange}"
        path = self._path(name, fingerprint)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            header = self._header(name, fingerprint, tensors, known)
            size = len(header) + sum(tensor.nbytes for tensor in tensors.values())
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._limit is not None and size > self._limit:
                return f"no image file was written: it takes {size} bytes, all together may take {self._limit}"
            self._make_room(size, path)
            if size > shutil.disk_usage(self._folder).free:
                return f"no image file was written: it takes {size} bytes, more than the disk has free"
            with draft.open("xb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stream.write(header)
                for tensor in tensors.values():
                    if cancelled():
                        return None
                    stream.write(raw(tensor))
                stream.flush()
                os.fsync(stream.fileno())
                draft.replace(path)
            for former in self._folder.glob(f"{name}-{'[0-9a-f]' * 16}.safetensors"):
                if former != path:
                    former.unlink(missing_ok=True)
        except OSError as error:
            return f"no image file was written: {error.strerror}"
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return None

    def _header(self, name: str, fingerprint: str, tensors: Tensors, known: Mapping[str, str]) -> bytes:
        entries: dict[str, Any] = {
            "__metadata__": {
                "version": _VERSION,
                "family": self._family,
                "expert": name,
                "fingerprint": fingerprint,
                "digests": json.dumps(dict(known)),
            }
        }
        at = 0
        for key, tensor in tensors.items():
            entries[key] = {
                "dtype": _CODES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [at, at + tensor.nbytes],
            }
            at += tensor.nbytes
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
        return struct.pack("<Q", len(text)) + text

    def _make_room(self, size: int, path: Path) -> None:
        """Removes files until another one of `size` bytes, at `path`, is within the limit."""
        if self._limit is None:
            return
        found = []
        for each in set(self._folder.glob("*.safetensors")) - {path}:
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                told = each.stat()
                found.append((told.st_mtime_ns, told.st_size, each))
        used = sum(taken for _, taken, _ in found)
        for _, taken, each in sorted(found):
            if used + size <= self._limit:
                return
            each.unlink(missing_ok=True)
            used -= taken

    # Reading

    def read(
        self, name: str, fingerprint: str, known: Mapping[str, str] | None, cancelled: Callable[[], bool]
    ) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """The tensors, each checked against its digest, and the digests, which are `known` if those are given.

        Raises FileNotFoundError if there is no file, IntegrityError if it is not right, and removes it then,
        InterruptedError once `cancelled`.
        """
        path = self._path(name, fingerprint)
        try:
            with path.open("rb") as stream:
                result = self._read(stream, name, fingerprint, known, cancelled)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise IntegrityError(f"the image file of {name} was damaged") from error
        now = time.time_ns()
        with contextlib.suppress(OSError):  # it may be another user's, or gone
            os.utime(path, ns=(now, now))
        return result

    def _read(
        self,
        stream: IO[bytes],
        name: str,
        fingerprint: str,
        wanted: Mapping[str, str] | None,
        cancelled: Callable[[], bool],
    ) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """As `read`; a file that is not right raises whatever it comes to, of the errors listed there."""
        size = os.fstat(stream.fileno()).st_size
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(size, _HEADER_LIMIT):
            raise ValueError("length of the header")
        header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__")
        known: dict[str, str] = json.loads(metadata["digests"])
        told = tuple(metadata[key] for key in ("version", "family", "expert", "fingerprint"))
        if told != (_VERSION, self._family, name, fingerprint):
            raise ValueError("of another image")
        if header.keys() != known.keys() or (wanted is not None and known != wanted):
            raise ValueError("other tensors")
        tensors: dict[str, torch.Tensor] = {}
        for key, entry in sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])):
            if cancelled():
                raise InterruptedError
            begin, end = entry["data_offsets"]
            shape, dtype = [int(n) for n in entry["shape"]], _DTYPES[entry["dtype"]]
            if not 0 <= begin <= end <= size or min(shape, default=0) < 0:
                raise ValueError("place or shape of a tensor")
            if math.prod(shape) * dtype.itemsize != end - begin:
                raise ValueError("size of a tensor")
            tensor = torch.empty(shape, dtype=dtype)  # after the checks: a lack of memory is not the file's fault
            stream.seek(8 + length + begin)
            if end > begin and stream.readinto(raw(tensor)) != end - begin:  # type: ignore[attr-defined]
                raise ValueError("truncated")
            if digest(tensor) != known[key]:
                raise ValueError("digest")
            tensors[key] = tensor
        return tensors, known
