"""Workers under load, and Serve's patience, in a virtual time: what `orchestrator.queue_policy` is tried with."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.queue_policy import Memory, Rules, Told, decide

LOOK_BACK = 16
"""Steps."""


@dataclass
class Patience:
    """As Serve waits before a decision counts; `test_ray_contract.py` holds it against Serve's own."""

    upscale_delay_s: float
    downscale_delay_s: float
    _direction: int = 0
    _since: float = 0.0

    def apply(self, wanted: int, target: int, now: float) -> int:
        direction = (wanted > target) - (wanted < target)
        if direction != self._direction:
            self._direction, self._since = direction, now
        delay = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        if direction and now - self._since + 1e-6 >= delay:
            self._direction = 0
            return wanted
        return target


@dataclass
class World:
    """demand: tokens a second that are asked for. capacity: number of workers -> tokens a second that they can make.
    slots: calls at once of each, of 10 tokens a second. start_s: until a worker that is wanted is up.
    mute: (worker, time) -> does it tell nothing?"""

    demand: Callable[[float], float]
    capacity: Callable[[int], float]
    slots: int = 16
    start_s: float = 20.0
    mute: Callable[[int, float], bool] = lambda worker, now: False
    least: int = 1
    most: int = 8
    rules: Rules = field(default_factory=Rules)
    upscale_delay_s: float = 30.0

    def run(self, seconds: float, step: float = 2.0) -> list[tuple[float, int]]:
        """(time, workers that are wanted), at the beginning and at each change."""
        patience = Patience(self.upscale_delay_s, self.rules.downscale_delay_s)
        target, up, memory, backlog = self.least, [-math.inf] * self.least, Memory(), 0.0
        changes, now = [(0.0, target)], 0.0
        waits: deque[float] = deque([0.0] * LOOK_BACK, maxlen=LOOK_BACK)
        while now < seconds:
            running = sum(since <= now for since in up)
            asked, able = self.demand(now), self.capacity(running)
            made = min(able, asked + backlog / step)
            backlog = max(0.0, backlog + (asked - made) * step)
            calls = made / 10 + backlog / 100
            waits.append(backlog / able)
            half = LOOK_BACK // 2
            older, newer = max([*waits][:half]), max([*waits][half:])
            one = Told(newer, older, min(1.0, calls / running / self.slots), made / running)
            told = [one for worker in range(running) if not self.mute(worker, now)]
            wanted, memory = decide(target, running, told, self.rules, memory, now)
            wanted = max(self.least, min(self.most, patience.apply(wanted, target, now)))
            if wanted != target:
                up = up[:wanted] + [now + self.start_s] * (wanted - target)
                target = wanted
                changes.append((now, target))
            now += step
        return changes


def linear(each: float) -> Callable[[int], float]:
    """Workers that do not get in each other's way."""
    return lambda workers: workers * each


def with_swaps(each: float, experts: int, room: int, left: float) -> Callable[[int], float]:
    """Workers that have room for the images of so many experts; with more they make but that share."""
    return lambda workers: workers * each * (1.0 if experts <= room * workers else left)
