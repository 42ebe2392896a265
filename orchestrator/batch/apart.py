"""Pieces of a batch's input planned by other processes, so that planning takes nothing from the one that serves.

    this process    cuts pieces, puts parts together in their order
    others          plan a piece each; started for one plan, gone after it, of low priority on the machine

What plans goes to them once, pickled. A process that dies takes nothing along: the pieces that were under way are
planned again. Where what plans cannot be pickled, or no process can be started, the pieces are planned here.

`PlannersDied`   processes died again and again, over the same pieces
`Stopped`        a plan was given up
"""

import os
import pickle
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self, TypeVar

import structlog

from orchestrator.batch.pieces import Job, Part, Parts, Piece, plan_piece
from routers.blas import blas_threads

LEAST_PIECES = 4
"""Of an input that other processes plan: to start them takes seconds."""
DEATHS = 2
"""Times that processes may die without a piece planned in between."""
NICE = 10
"""What is added to the processes' niceness: who waits for an answer comes first."""
LOOK_S = 0.25

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)


MOST = 8
"""Processes that plan, where nothing else is said: each has a router of its own in memory."""


def cores() -> int:
    """Of this machine, which this process may use; no more than MOST."""
    return min(len(os.sched_getaffinity(0)), MOST)


class PlannersDied(RuntimeError):
    """The processes that plan died again and again, as if one of the lines, or want of memory, ended them."""


class Stopped(Exception):
    """The plan is of no more use."""


class Watch:
    """What planning looks at now and then. online: requests under way that are of no batch."""

    def __init__(self, online: Callable[[], int] = lambda: 0) -> None:
        self.online, self._stop, self._since = online, threading.Event(), time.perf_counter()

    def stop(self) -> None:
        """Ends the planning, from another thread."""
        self._stop.set()

    def look(self) -> None:
        """Raises Stopped."""
        if self._stop.is_set():
            raise Stopped

    def give_way(self) -> None:
        """Planning shares the interpreter with the requests of this process. Raises Stopped."""
        if self.online():
            self._stop.wait(min(time.perf_counter() - self._since, 1.0))
        self._since = time.perf_counter()
        self.look()


@dataclass(frozen=True, slots=True)
class Here:
    """Implements `planner.Parts` in this process."""

    watch: Watch

    def __call__(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Part]:
        return (plan_piece(job, piece, self.watch.give_way) for piece in pieces)


@dataclass(frozen=True, slots=True)
class Apart:
    """Implements `planner.Parts` with other processes. here: plans where they are not worth it, or cannot be had."""

    processes: int
    watch: Watch
    here: Parts

    def __call__(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Part]:
        pieces = iter(pieces)
        first = list(islice(pieces, LEAST_PIECES))
        todo = chain(first, pieces)
        if self.processes < 2 or len(first) < LEAST_PIECES:
            yield from self.here(job, todo)
            return
        with ExitStack() as stack:
            try:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "job"
                with path.open("wb") as file:
                    pickle.dump(job, file, protocol=5)
            except (pickle.PicklingError, TypeError, AttributeError, OSError) as error:
                log.info("a batch is planned in one process", why=f"its router cannot be sent to others: {error}")
            else:
                pool = stack.enter_context(_Pool(self.processes, path, self.watch))
                if pool.starts():
                    yield from pool.parts(todo)
                    return
                log.warning("a batch is planned in one process", why="no others can be started")
        yield from self.here(job, todo)


@dataclass(slots=True)
class _Place:
    """A piece, and who plans it: nobody yet, or no more."""

    piece: Piece
    future: Future[Part] | None = None


class _Pool:
    """Processes, started anew when one of them dies."""

    def __init__(self, processes: int, path: Path, watch: Watch) -> None:
        self._processes, self._path, self._watch = processes, path, watch
        self._stops = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.close()

    def starts(self) -> bool:
        """Can there be any? Waits until one is ready to plan."""
        with suppress(BrokenProcessPool, OSError, ImportError, NotImplementedError):
            self._start()
            ready = [self._pool.submit(_is_ready) for _ in range(self._processes)]  # all of them start
            self._result(ready[0])
            return True
        return False

    def parts(self, pieces: Iterator[Piece]) -> Iterator[Part]:
        """In the order of the pieces, of which twice as many are under way as there are processes, and one while others
        wait for answers. Raises what `plan_piece` raises, and PlannersDied."""
        places: deque[_Place] = deque()
        deaths = 0
        while True:
            most = 1 if self._watch.online() else 2 * self._processes
            places += map(_Place, islice(pieces, max(0, most - len(places))))
            if not places:
                return
            try:
                for place in places:
                    place.future = place.future or self._pool.submit(_plan, place.piece)
                assert places[0].future is not None
                part = self._result(places[0].future)
            except BrokenProcessPool:
                deaths += 1
                if deaths > DEATHS:
                    text = f"the processes that plan a batch died {deaths} times; is there too little memory?"
                    raise PlannersDied(text) from None
                log.warning("a process that plans a batch died; its pieces are planned again", deaths=deaths)
                for place in places:
                    place.future = place.future if place.future and _is_planned(place.future) else None
                self._start()
            else:
                deaths = 0
                places.popleft()
                yield part

    def _start(self) -> None:
        self._stops.close()
        context = get_context("spawn")
        # Nothing is ever written to it: its end is that of this process, or of its interest in the others.
        reader, lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self._processes, context, initializer=_begin, initargs=(reader, self._path))
        self._stops.callback(reader.close)
        self._stops.callback(self._pool.shutdown, cancel_futures=True)
        self._stops.callback(lifeline.close)

    def _result(self, future: Future[T]) -> T:
        while not wait([future], LOOK_S).done:
            self._watch.look()
        return future.result()


def _is_planned(future: Future[Part]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


# In the other process


class _Own:
    job: Job


def _begin(alive: Connection, path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends this one
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    os.nice(NICE)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for each core
    with path.open("rb") as file:
        _Own.job = pickle.load(file)  # noqa: S301  # written by the process that started this one
    blas_threads(1)


def _end_with(alive: Connection) -> None:
    """Ends this process with the one that started it, which may have been killed."""
    with suppress(EOFError, OSError):
        alive.recv_bytes()
    os._exit(1)


def _is_ready() -> None:
    """Its arrival says so."""


def _plan(piece: Piece) -> Part:
    return plan_piece(_Own.job, piece, lambda: None)
