"""The order in which requests are served: start-time fair queueing over callers, and heaps of keys."""

import heapq
from typing import Generic, TypeVar

Key = tuple[int, float, int]
"""(priority, start tag, sequence number) of a request: lower first, and no two are equal."""

Value = TypeVar("Value")


class FairOrder:
    """Keys by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996).

    A request's start tag is S = max(V, F), F = S + 1 the finish tag that its caller's next request starts from, and the
    virtual time V the largest start tag of a request that was started. One caller's requests are served in the order of
    arrival; a caller with a thousand of them in the queue does not put another caller's first one behind them.
    """

    def __init__(self) -> None:
        self._virtual = 0.0
        self._finish: dict[str, float] = {}
        self._prune_at = 64
        self._number = 0

    def key(self, caller: str, priority: int) -> Key:
        """The key of a request that arrives now."""
        start = max(self._virtual, self._finish.get(caller, 0.0))
        self._finish[caller] = start + 1.0
        if len(self._finish) > self._prune_at:
            self._finish = {name: tag for name, tag in self._finish.items() if tag > self._virtual}
            self._prune_at = 2 * len(self._finish) + 64
        self._number += 1
        return (priority, start, self._number)

    def started(self, key: Key) -> None:
        """A request with this key was started."""
        self._virtual = max(self._virtual, key[1])


class KeyHeap(Generic[Value]):
    """Values by key, least key first. Methods cost log(n) at most, amortised, but for `in_order`."""

    def __init__(self) -> None:
        self._heap: list[Key] = []
        self._values: dict[Key, Value] = {}

    # What is discarded stays in `_heap` until it comes up, or until it is most of it.

    def __len__(self) -> int:
        return len(self._values)

    def add(self, key: Key, value: Value) -> None:
        self._values[key] = value
        heapq.heappush(self._heap, key)

    def discard(self, key: Key) -> None:
        """No-op if the key is not there."""
        self._values.pop(key, None)
        if len(self._heap) > 2 * len(self._values) + 16:
            self._heap = sorted(self._values)

    def least(self) -> Key | None:
        heap = self._heap
        while heap and heap[0] not in self._values:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def first(self) -> Value | None:
        """The value of the least key."""
        key = self.least()
        return None if key is None else self._values[key]

    def in_order(self) -> list[Value]:
        """All values, least key first; costs n log(n)."""
        return [self._values[key] for key in sorted(self._values)]
