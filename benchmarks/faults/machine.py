"""What of this machine may be cut and filled: a network and a mount of our own, where the system allows them.

Everything here is for this process and what it starts, and gone with them. Linux only.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
HERE, THERE = "10.77.0.1", "10.77.0.2"
"""Both ends of the cable between the two networks. No other machine can reach either."""
NEAR, FAR = "faults0", "faults1"


class NotAllowed(RuntimeError):
    """What this machine does not let us do, and why."""


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise NotAllowed(f"{name}: {os.strerror(ctypes.get_errno())}")


def _ip(*arguments: str) -> None:
    if shutil.which("ip") is None:
        raise NotAllowed("the command ip (iproute2) is not here")
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAllowed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass
class Network:
    """Two networks with a cable between them: this process's own (`HERE`), and one for a node (`THERE`)."""

    _own: int
    _other: int

    @classmethod
    def make(cls) -> "Network":
        """Puts this process, and what it starts from now on, into a network without any other. Raises NotAllowed.

        Only a process of one thread may do this.
        """
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            _call("unshare", CLONE_NEWNET)
            other = os.open("/proc/self/ns/net", os.O_RDONLY)
            try:
                _ip("link", "set", "lo", "up")
                _call("unshare", CLONE_NEWNET)
                own = os.open("/proc/self/ns/net", os.O_RDONLY)
                _ip("link", "set", "lo", "up")
                _ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR)
                _ip("addr", "add", f"{HERE}/24", "dev", NEAR)
                _ip("link", "set", NEAR, "up")
                network = cls(own, other)
                network._give_away()
            except BaseException:
                os.close(other)
                raise
        except BaseException:
            _call("setns", before, CLONE_NEWNET)
            raise
        finally:
            os.close(before)
        return network

    def _give_away(self) -> None:
        """The far end goes to the other network."""
        with self.there():
            holder = subprocess.Popen(["sleep", "60"])
        try:
            _ip("link", "set", FAR, "netns", str(holder.pid))
        finally:
            holder.kill()
            holder.wait()
        with self.there():
            _ip("addr", "add", f"{THERE}/24", "dev", FAR)
            _ip("link", "set", FAR, "up")

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """What this thread starts meanwhile is in the other network."""
        _call("setns", self._other, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", self._own, CLONE_NEWNET)

    def cut(self) -> None:
        """Packets vanish, and nobody is told: connections stay open and silent."""
        _ip("link", "set", NEAR, "down")

    def mend(self) -> None:
        _ip("link", "set", NEAR, "up")


@dataclass
class Disk:
    """A file system of our own in memory, small enough to be filled."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, mib: int) -> "Disk":
        """Mounts it for this process and what it starts. Raises NotAllowed. The process may have one thread only."""
        _call("unshare", CLONE_NEWNS)
        _call("mount", b"none", b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE: nobody else sees ours
        folder.mkdir(parents=True, exist_ok=True)
        _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={mib}m".encode())
        return cls(folder)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """To the last block."""
        with self._filler.open("ab") as file:
            piece, at = 64 << 20, file.tell()
            while piece >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), at, piece)
                    at += piece
                except OSError:
                    piece //= 2

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)
