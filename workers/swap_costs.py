"""What swaps and loads cost, as measured so far, and how much of the time they may still take."""

from typing import Literal

Tier = Literal["device", "host", "disk"]
"""Where an image is: the engine can compute with it after an activation; in memory; on disk."""


class Estimate:
    """An exponentially weighted mean. `value` follows it in strides of a tenth: what was computed from it holds
    meanwhile."""

    WEIGHT = 0.2
    STRIDE = 0.1

    def __init__(self) -> None:
        self._mean: float | None = None
        self.value = 0.0

    @property
    def known(self) -> bool:
        return self._mean is not None

    def add(self, sample: float) -> bool:
        """Takes a measurement. True if `value` moved."""
        self._mean = sample if self._mean is None else self._mean + self.WEIGHT * (sample - self._mean)
        if abs(self._mean - self.value) <= self.STRIDE * self.value:
            return False
        self.value = self._mean
        return True


class Costs:
    """Seconds of activations and steps, seconds per byte of loads. What was never measured counts as free."""

    def __init__(self) -> None:
        self.activation = Estimate()
        self.step = Estimate()
        self._per_byte: dict[Tier, Estimate] = {"host": Estimate(), "disk": Estimate()}

    def loaded(self, source: Tier, size: int, seconds: float) -> bool:
        """A load took so long. True if an estimate moved."""
        return self._per_byte[source].add(seconds / max(size, 1))

    def per_byte(self, tier: Tier) -> float:
        """Of a load from a tier; while it is unknown, of one from the other tier."""
        if tier == "device":
            return 0.0
        own, other = self._per_byte[tier], self._per_byte["disk" if tier == "host" else "host"]
        return own.value if own.known else other.value

    def load(self, tier: Tier, size: int) -> float:
        """Seconds to bring an image from its tier to the device."""
        return self.per_byte(tier) * size

    def dearest(self, size: int) -> float:
        """Seconds to load an image of this size from the slowest tier known, and to activate it."""
        return max(estimate.value for estimate in self._per_byte.values()) * size + self.activation.value


class Credit:
    """Seconds of swapping that may be spent, between -cap and cap: earned at a rate per second of work, spent by swaps.

    It is kept as a debt to the full credit, so that it begins full, and stays full when a larger cap becomes known.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._debt = 0.0
        self.cap = 0.0

    @property
    def left(self) -> float:
        return self.cap - self._debt

    def earn(self, seconds: float) -> None:
        self._debt = max(0.0, self._debt - self._rate * seconds)

    def pay(self, seconds: float) -> None:
        self._debt = min(self._debt + seconds, 2.0 * self.cap)
