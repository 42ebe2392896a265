"""The swap policy on a virtual clock, for its tests: traces that are simulated, or a policy that is driven by hand."""

import math
from collections.abc import Mapping
from typing import Any

from workers.simulation import FirstCome, Job, Machine, Result, simulate
from workers.swap_policy import Decision, Key, SwapPolicy, SwapSettings

LOAD = 1.0
SWAP = 0.1


def at_once(experts: str, steps: int = 1) -> list[Job]:
    """A job for each expert named, all at time 0, in this order."""
    return [Job(0.0, expert, steps) for expert in experts.split()]


def run(
    trace: list[Job],
    *,
    slots: float = math.inf,
    resident: str = "",
    policy: SwapPolicy | FirstCome | None = None,
    **machine: Any,
) -> Result:
    """On a policy that knows what a swap takes, if no other one is given. machine: fields of `Machine`."""
    its = Machine(capacity=slots, **machine)
    if policy is None:
        policy = SwapPolicy(SwapSettings(), capacity=slots)
        policy.swapped(its.activation)
    return simulate(policy, trace, its, resident=resident)


class Bench:
    """A policy whose costs are known, driven by hand. Images have one byte; no time passes that is not told."""

    def __init__(
        self,
        resident: str = "",
        others: str = "",
        *,
        overhead: float = 0.5,
        max_wait: float = 1000.0,
        pinned: str = "",
        sizes: Mapping[str, int] | None = None,
        slots: float | None = None,
    ) -> None:
        self.sizes = sizes or {}
        held = sum(self.size(expert) for expert in resident)
        self.policy = SwapPolicy(
            SwapSettings(overhead, max_wait, frozenset(pinned)), capacity=held if slots is None else slots
        )
        self.keys: dict[str, Key] = {}
        self.policy.swapped(SWAP)
        for expert in resident:
            self.policy.place(expert, "device", self.size(expert))
        for expert in others:
            self.policy.place(expert, "disk", self.size(expert))
        if others:
            self.policy.loaded(others[0], "disk", LOAD * self.size(others[0]))
        self.policy.stepped(0.0, 0.01)

    def size(self, expert: str) -> int:
        return self.sizes.get(expert, 1)

    def ask(self, requests: str, now: float = 0.0, *, priority: int = 0, caller: str = "") -> None:
        """Requests, named by their expert and a number: "A1 B1"."""
        for request in requests.split():
            self.keys[request] = self.policy.arrive(request, request[0], now, priority=priority, caller=caller)

    def start(self, requests: str) -> None:
        for request in requests.split():
            self.policy.start(request)

    def finish(self, requests: str) -> None:
        for request in requests.split():
            self.policy.finish(request)

    def decide(self, now: float) -> Decision:
        return self.policy.decide(now)

    def turn_of(self, request: str, now: float = 0.0) -> None:
        """The request is asked and started, and its expert has the turn."""
        self.ask(request, now)
        assert self.decide(now).expert == request[0]
        self.start(request)
        self.policy.stepped(now + 0.01, 0.01)

    def end_load(self, expert: str, evicted: str = "") -> None:
        for victim in evicted:
            self.policy.place(victim, "host", self.size(victim))
        self.policy.loaded(expert, "disk", LOAD * self.size(expert))
        self.policy.place(expert, "device", self.size(expert))
