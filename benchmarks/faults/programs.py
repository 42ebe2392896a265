"""Processes that are started again when they end, as a kubelet does."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.live import ROOT

AGAIN_S = 1.0
"""Seconds between its end and its next start."""


class Program:
    """log: what it prints goes to its end. starts: how often it was started. is_wanted: is it to be started again?"""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self.starts = 0
        self.is_wanted = True
        self._command, self._environment = command, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._again_at = 0.0

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1

    def tend(self) -> None:
        """Starts it again, a moment after it was found to have ended."""
        if self.pid is not None or not self.is_wanted:
            self._again_at = 0.0
        elif not self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
        elif time.monotonic() >= self._again_at:
            self._again_at = 0.0
            self.start()

    def kill(self) -> int:
        """By force. Returns the process id that is gone."""
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        return pid

    def stop(self, within_s: float = 20.0) -> None:
        """In good order, then by force."""
        self.is_wanted = False
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
