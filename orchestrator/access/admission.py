"""Who may run now, who waits, and who is turned away: the service's own protection, in this process.

A request that cannot have a place within `queue_s`, or its answer by its deadline, is refused at once with an estimate
of when to come back. A queue that is full gives up the newest request of whoever has the most.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.access.fair import FairShare, Waiter
from orchestrator.access.lanes import Lane
from orchestrator.errors import Overloaded
from orchestrator.metrics import Metrics


def loop_time() -> float:
    """Seconds by the clock of the running event loop."""
    return asyncio.get_running_loop().time()


@dataclass(eq=False, slots=True)
class _Waiting(Waiter):
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """places: requests that run at a time; waiting: that wait; queue_s: longest that one should. now: a clock in
    seconds. It belongs to one event loop."""

    def __init__(
        self, places: int, waiting: int, queue_s: float, metrics: Metrics, *, now: Callable[[], float] = loop_time
    ) -> None:
        self._fair, self._lane = FairShare(places), Lane(places)
        self._most_waiting, self._queue_s, self._metrics, self._now = waiting, queue_s, metrics, now

    @asynccontextmanager
    async def place(self, caller: str, weight: float, seconds: float) -> "AsyncIterator[Place]":
        """A place to run in, for the block. seconds: until its answer is of no more use. Raises Overloaded."""
        if self._fair.is_free:
            self._fair.start(caller)
        else:
            await self._wait(caller, weight, seconds)
        place, began = Place(), self._lane.begin(self._now())
        self._metrics.in_flight.inc()
        try:
            yield place
        finally:
            self._metrics.in_flight.dec()
            self._lane.end(began, self._now(), answered=place.answered)
            self._fair.end(caller)
            self._fill()

    def check(self, wait_s: float, fast_s: float, seconds: float, who: str) -> None:
        """Raises Overloaded if a request that waits for so long is not answered in time.

        fast_s: what a fast answer takes. who: whose queue it is, for the message.
        """
        if wait_s > self._queue_s:
            raise self._refusal(
                "queue_time",
                f"{who} would wait about {wait_s:.0f} s, more than {self._queue_s:g} s",
                wait_s - self._queue_s,
            )
        if wait_s > 0 and wait_s + fast_s > seconds:
            text = f"{who} would wait about {wait_s:.0f} s, and its answer be late: it has {max(0.0, seconds):.0f} s"
            raise self._refusal("deadline", text, wait_s + fast_s - seconds)

    async def _wait(self, caller: str, weight: float, seconds: float) -> None:
        waiter, fair = _Waiting(caller, weight), self._fair
        wait_s = self._lane.wait_s(self._now(), fair.ahead(caller, weight))
        self.check(wait_s, self._lane.fast_s, seconds, "the request")
        if fair.waiting >= self._most_waiting:
            last = fair.heaviest(waiter)
            if last is waiter:
                text = f"{fair.taken} requests are running and {fair.waiting} wait, which is the limit"
                raise self._refusal("queue_full", text, wait_s)
            assert isinstance(last, _Waiting)
            fair.leave(last)
            text = "the queue is full, and this API key has the most requests in it for its share"
            last.turn.set_exception(self._refusal("fair_share", text, self._lane.wait_s(self._now(), fair.waiting)))
        fair.wait(waiter)
        self._metrics.waiting.inc()
        try:
            async with asyncio.timeout(min(self._queue_s, max(0.0, seconds))):
                await waiter.turn
        except TimeoutError:
            if not _has_turn(waiter):  # else it came in the last moment
                text = f"there was no place for the request within {min(self._queue_s, seconds):.0f} s"
                ahead = self._lane.wait_s(self._now(), fair.ahead(caller, weight))
                raise self._refusal("queue_time", text, ahead) from None
        except asyncio.CancelledError:
            if _has_turn(waiter):
                fair.end(caller)
                self._fill()
            raise
        finally:
            fair.leave(waiter)
            self._metrics.waiting.dec()

    def _fill(self) -> None:
        while (waiter := self._fair.next()) is not None:
            assert isinstance(waiter, _Waiting)
            self._fair.leave(waiter)
            if not waiter.turn.done():
                self._fair.start(waiter.caller)
                waiter.turn.set_result(None)

    def _refusal(self, reason: str, text: str, retry_after: float) -> Overloaded:
        self._metrics.refused.labels(reason).inc()
        error = Overloaded(text, retry_after)
        error.args = (f"{text}; try again in {error.retry_after} s",)
        return error


def _has_turn(waiter: _Waiting) -> bool:
    turn = waiter.turn
    return turn.done() and not turn.cancelled() and turn.exception() is None


@dataclass(slots=True)
class Place:
    """answered: did what ran there end with an answer?"""

    answered: bool = False
