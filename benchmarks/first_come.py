"""First come, first served with LRU images, as a policy for the real engine: what grouping is compared with."""

import math
from collections.abc import Mapping
from typing import Any

from workers.simulation import FirstCome
from workers.swap_policy import SwapSettings


class FcfsLru(FirstCome):
    """`workers.simulation.FirstCome` with the rest of what the engine tells and asks of a policy."""

    def __init__(self, settings: SwapSettings, *, capacity: float = math.inf) -> None:
        super().__init__(capacity=capacity)
        self._device = capacity

    def remove(self, expert: str) -> None:
        self._resident.pop(expert, None)

    def resize(self, sizes: Mapping[str, int], shared: int) -> None:
        self._sizes |= sizes
        self._capacity = max(self._device - shared, *self._sizes.values())

    def forget(self, expert: str) -> None:
        self.remove(expert)
        self._sizes.pop(expert, None)

    def pin(self, pinned: frozenset[str]) -> None:
        """It heeds no pins: whatever was used longest ago makes room."""

    def requeue(self, request: str) -> None: ...

    def finish(self, request: str) -> None:
        if request in self._run_of:
            super().finish(request)

    def oldest_wait(self, now: float) -> float:
        return 0.0

    def report(self, now: float) -> dict[str, Any]:
        return {"oldest_wait": 0.0}
