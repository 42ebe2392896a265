"""Spans on their way out of the process that records them: a thread hands them, some hundred at a time, to a process
of their own (`workers.tracing.exporter`)."""

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from workers.tracing.spans import Span, fields

ROOT = Path(__file__).parents[2]
GONE = "the process that sends them has ended"
BUNDLE = 32
"""Spans that are pickled together: one at a time takes 9 microseconds each, in a busy gateway, most of them for code
and data that have left the processor's cache. More of them would hold up its requests for longer."""

MOST_BYTES, BATCH_BYTES = 64 << 20, 4 << 20
"""Of what waits, and of a batch: with prompts and answers in them, spans are large."""

logger = logging.getLogger(__name__)


class Shipping:
    """Implements `workers.tracing.spans.Sink`: after `delay` seconds, or when there are `batch`, spans go on their way.

    A collector that is away, or slow, costs spans and nothing else: what finds `most` waiting is dropped and counted.
    environment: the exporter's, beside that of this process.
    """

    def __init__(
        self, url: str, service: str, environment: Mapping[str, str], *, delay: float, most: int, batch: int
    ) -> None:
        self._target = (url, service, os.getpid())
        self._environment = {**os.environ, **environment, "PYTHONPATH": _path(os.environ.get("PYTHONPATH", ""))}
        self._delay = delay
        self._size = min(BUNDLE, batch, most)
        self._most, self._batch = most // self._size, min(batch, most) // self._size
        self._loose: deque[Span] = deque()
        self._bundles: deque[_Bundle] = deque()
        self._wake = threading.Event()
        self._closing = self._away = False
        self._dropped, self._unsent = 0, 0  # spans: of the threads that put, and of the one that sends
        self._exporter: _Exporter | None = None
        self._thread = threading.Thread(target=self._work, name="coe-traces", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        return self._dropped + self._unsent

    def put(self, span: Span) -> None:
        if self._closing:
            self._dropped += 1
            return
        self._loose.append(span)
        if len(self._loose) >= self._size:
            bundle = self._bundle(self._size)
            if len(self._bundles) >= self._most or self._waiting_bytes() >= MOST_BYTES:
                self._dropped += bundle.spans
                return
            self._bundles.append(bundle)
            if len(self._bundles) >= self._batch and not self._wake.is_set():
                self._wake.set()

    def _waiting_bytes(self) -> int:
        # Of a copy, which is made at once: the thread that sends takes bundles meanwhile.
        return sum(len(own.content) for own in self._bundles.copy())

    def close(self, within: float) -> None:
        """What is not sent after so many seconds is lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(within)
        if (exporter := self._exporter) is not None:
            exporter.kill()  # breaks off a try that is under way
        self._thread.join()

    def _work(self) -> None:
        try:
            while not self._closing:
                self._start()
                full = self._wake.wait(self._delay)
                self._wake.clear()
                # Batches are full under load: each costs the collector a request, however small it is.
                self._send_all(self._batch if full else 1)
                if not full:
                    self._send([self._bundle(len(self._loose))])
            self._send_all(1)
            self._send([self._bundle(len(self._loose))])
        finally:
            if self._exporter is not None:
                self._exporter.end()

    def _start(self) -> None:
        if self._exporter is None:
            try:
                self._exporter = _Exporter(self._target, self._environment)
            except OSError as error:
                logger.warning("the process that sends traces does not start: %s", error.strerror)

    def _send_all(self, least: int) -> None:
        """Batch by batch, as long as so many bundles wait."""
        while len(self._bundles) >= least:
            batch, size = list[_Bundle](), 0
            while self._bundles and len(batch) < self._batch and size < BATCH_BYTES:
                batch.append(self._bundles.popleft())
                size += len(batch[-1].content)
            self._send(batch)

    def _bundle(self, most: int) -> "_Bundle":
        """Of the oldest ones; both threads make them."""
        taken: list[Span] = []
        with contextlib.suppress(IndexError):
            while len(taken) < most:
                taken.append(self._loose.popleft())
        return _Bundle(len(taken), pickle.dumps(list(map(fields, taken)), pickle.HIGHEST_PROTOCOL))

    def _send(self, bundles: "list[_Bundle]") -> None:
        spans = sum(bundle.spans for bundle in bundles)
        if not spans:
            return
        why = GONE
        if self._exporter is not None:
            try:
                why = self._exporter.send([bundle.content for bundle in bundles])
            except (EOFError, OSError):
                self._exporter.end()
                self._exporter = None  # there is another one with the next turn
        self._tell(why, spans)

    def _tell(self, why: str, spans: int) -> None:
        if why:
            self._unsent += spans
            if not self._away:
                logger.warning("traces are lost: %s", why)
        elif self._away:
            logger.warning("traces are taken again; %d spans were lost", self.lost)
        self._away = bool(why)


class _Bundle(NamedTuple):
    """spans: how many. content: their `Fields`, pickled."""

    spans: int
    content: bytes


class _Exporter:
    """The process, and the way to it."""

    def __init__(self, target: tuple[str, str, int], environment: Mapping[str, str]) -> None:
        self._connection: Connection
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.tracing.exporter", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # an interrupt of the terminal ends the service, which ends this
            )
        self._connection.send(target)

    def send(self, bundles: list[bytes]) -> str:
        """Waits until they are sent. EOFError, OSError: the process has ended."""
        self._connection.send(bundles)
        why: str = self._connection.recv()
        return why

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """It ends by itself when its connection does, unless it waits for a collector."""
        self._connection.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _path(given: str) -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [given])])
