"""Concurrent calls of one function of texts, gathered into shared passes.

    A ──pass 1──┐
      B C D wait┴──pass 2 (B C D)──> ...

Nobody waits for company: a caller that finds no pass under way starts one with what is there, itself. While it runs,
callers that arrive queue up, and one of them takes all along in the next pass. So alone there is no added delay, and
under load the passes grow by themselves (the "group commit" of databases).
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@dataclass(eq=False, slots=True)
class _Call:
    """texts: of one caller. taken: how many of them are in a pass or through. rows: by position. error: its end."""

    texts: Sequence[str]
    taken: int = 0
    rows: dict[int, Rows] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.error is not None or len(self.rows) == len(self.texts)


_Seat = tuple[_Call, int]
"""A text in a pass: the call that it belongs to and its position there."""


class MicroBatcher:
    """Thread-safe. One pass runs at a time, in the thread of one of its callers.

    forward: texts, none of them twice -> an array with a row for each.
    limit: texts a pass at most. Texts are taken in turn, one of each waiting call: a call of one text is in the next
    pass whatever long calls stand before it, as long as fewer than `limit` calls wait.
    """

    def __init__(self, forward: Callable[[Sequence[str]], Rows], limit: int) -> None:
        self._forward, self._limit = forward, limit
        self._turn = threading.Condition()
        self._running = False
        self._waiting: deque[_Call] = deque()
        self.passes = 0
        """Calls of `forward` so far."""

    @property
    def waiting(self) -> int:
        """Calls with texts that no pass has taken yet."""
        return len(self._waiting)

    def __call__(self, texts: Sequence[str]) -> list[Rows]:
        """The row of each text. Raises what `forward` raised for texts of this call."""
        call = _Call(texts)
        if texts:
            with self._turn:
                self._waiting.append(call)
        while not call.is_done:
            with self._turn:
                self._turn.wait_for(lambda: call.is_done or not self._running)
                if call.is_done:
                    break
                self._running = True
                seats = self._take()
            try:
                self._run(seats)
            finally:
                with self._turn:
                    self._running = False
                    self._waiting = deque(other for other in self._waiting if other.error is None)
                    self._turn.notify_all()
        if call.error is not None:
            raise call.error
        return [call.rows[i] for i in range(len(texts))]

    def _take(self) -> list[_Seat]:
        """The texts of the next pass; calls with more of them go to the end of the queue."""
        seats: list[_Seat] = []
        while self._waiting and len(seats) < self._limit:
            call = self._waiting.popleft()
            seats.append((call, call.taken))
            call.taken += 1
            if call.taken < len(call.texts):
                self._waiting.append(call)
        return seats

    def _run(self, seats: Sequence[_Seat]) -> None:
        """Fills the rows of the seats. What fails in company is tried again call by call: each gets its own error."""
        self.passes += 1
        texts = list(dict.fromkeys(call.texts[i] for call, i in seats))
        calls = list(dict.fromkeys(call for call, _ in seats))
        try:
            rows = dict(zip(texts, self._forward(texts), strict=True))
        except Exception as error:
            if len(calls) == 1:
                calls[0].error = error
                return
            for own in calls:
                self._run([seat for seat in seats if seat[0] is own])
        except BaseException as error:  # an interrupt: nobody may wait for ever
            for call in calls:
                call.error = error
            raise
        else:
            for call, i in seats:
                call.rows[i] = rows[call.texts[i]]
