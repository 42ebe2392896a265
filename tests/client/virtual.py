"""Time that passes only where a test lets it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Clock:
    """slept: every pause, in seconds. random: what the client draws."""

    now: float = 1000.0
    random: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def settings(self, *, blocking: bool = True) -> dict[str, Any]:
        """For `Coe` or `AsyncCoe`."""
        return {
            "clock": lambda: self.now,
            "wall_clock": lambda: self.now,
            "sleep": self.sleep if blocking else self.asleep,
            "random": lambda: self.random,
        }
