"""The service of `world`, from nothing to whole and back to nothing, whatever happens in between."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.machine import Disk, Network, NotAllowed
from benchmarks.faults.relays import Relays
from benchmarks.faults.world import MIB, RAY_ENVIRONMENT, World


@contextlib.contextmanager
def world(keep_logs: Path | None = None) -> Iterator[World]:
    """The service, whole; ended with the block. Call it before this process has more than one thread.

    keep_logs: a folder for the logs of all that ran. Raises NotUp.
    """
    for name in [name for name in os.environ if name.startswith(("COE_", "RAY_"))]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="coe-faults-"))
    os.environ.update(RAY_ENVIRONMENT, RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_TMPDIR=str(folder))
    cannot, network, disk = dict[str, str](), None, None
    try:
        try:
            network = Network.make()
        except NotAllowed as error:
            cannot["network"] = str(error)
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray looks for another address than loopback
        try:
            disk = Disk.make(folder / "data", MIB)
        except NotAllowed as error:
            cannot["disk"] = str(error)
        own = World(folder, Relays(folder), network, disk, cannot, "test-" + secrets.token_urlsafe(24))
        try:
            own.start()
            # Ray's own way, by which a node leaves within half a minute, is for nodes that are on their own.
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
            yield own
        finally:
            own.end()
    finally:
        if keep_logs is not None:
            _keep(folder, keep_logs)
        if disk is not None:
            subprocess.run(["umount", "-l", str(disk.folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.log"):
        shutil.copy(file, where)
    for found in folder.glob("ray/session_2*/logs"):
        shutil.copytree(found, where / "ray", dirs_exist_ok=True)
