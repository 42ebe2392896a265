"""The swap policy on a virtual clock with sizes and speeds of GPUs: the knee of a growing pool, where time goes, what a
decision costs.

python -m benchmarks.simulate [--json] [--seed N]

The policy is the code that the engine runs. The machine is a model: H100 80 GB, of which 70 GB hold images; a decoding
step reads all weights at 60 % of 3.35 TB/s; images come from host memory over the link at its usual speed. Weights are
bf16. A 7B expert lives on one of eight devices, a 70B expert on all eight. Peer: first come, first served with LRU.
"""

import argparse
import contextlib
import functools
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import emit, table
from workers.simulation import FirstCome, Job, Machine, Policy, Result, simulate
from workers.swap_policy import Decision, SwapPolicy, SwapSettings

GB = 10**9
DEVICES, DEVICE_GB, HBM_GB_S, EFFICIENCY = 8, 70, 3350, 0.6
LINKS = {"PCIe 4": 25, "PCIe 5": 50, "NVLink-C2C": 380}
"""GB/s from host memory to one device, as it is usually reached."""
REQUEST_S = 5e-5
"""What each further request adds to a step."""
BATCH = 16


@dataclass(frozen=True)
class Size:
    """A kind of expert. gb: of its weights; devices: that it is spread over."""

    name: str
    gb: float
    devices: int

    @property
    def slots(self) -> int:
        """Images that its devices hold."""
        return int(DEVICE_GB * self.devices // self.gb)

    def machine(self, link: str) -> Machine:
        step = self.gb / self.devices / (EFFICIENCY * HBM_GB_S)
        return Machine(
            activation=2 * self.gb / self.devices / HBM_GB_S,  # read and write within the device
            load=self.gb / self.devices / LINKS[link],
            step=functools.partial(_step, step),
            batch=BATCH,
            capacity=self.slots,
            lower="host",
        )


def _step(weights: float, requests: int) -> float:
    return weights + REQUEST_S * requests


SMALL, LARGE = Size("7B", 13.5, 1), Size("70B", 140.0, 8)


def uniform(experts: int, count: int, rate: float, steps: int, seed: int) -> list[Job]:
    """Poisson arrivals, each for an expert drawn at random; the worst case for any cache."""
    draw, at, jobs = random.Random(seed), 0.0, []
    for _ in range(count):
        at += draw.expovariate(rate)
        jobs.append(Job(at, f"e{draw.randrange(experts)}", steps))
    return jobs


def ours(machine: Machine) -> SwapPolicy:
    return SwapPolicy(SwapSettings(), capacity=machine.capacity)


def first_come(machine: Machine) -> FirstCome:
    return FirstCome(capacity=machine.capacity)


def split(result: Result) -> tuple[float, float]:
    """Shares of a burst's time: (nothing computed, because of a swap or a load; something did)."""
    computing = result.busy_seconds / max(result.finishes)
    return 1 - computing, computing


# The knee


def knee(link: str, seed: int) -> tuple[int, list[tuple[object, ...]]]:
    """(largest pool of 7B experts of which each is loaded once and never again, rows of the sweep).

    One device of eight is played; experts are spread evenly.
    """
    machine = SMALL.machine(link)
    rows: list[tuple[object, ...]] = []
    found = 0
    for experts in (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 120, 150, 300, 1000):
        jobs = uniform(experts // DEVICES, 1500, 0.5, 200, seed)
        row: list[object] = [experts]
        for make in (ours, first_come):
            result = simulate(make(machine), jobs, machine)
            took = sorted(end - job.arrival for end, job in zip(result.finishes, jobs, strict=True) if end == end)
            median = took[len(took) // 2]
            row += [result.loads, median, took[int(0.99 * len(took))], result.refused]
            if make is ours:
                found = experts if result.loads == experts // DEVICES else found
        rows.append(tuple(row))
    return found, rows


# Where time goes


def splits(seed: int) -> list[tuple[object, ...]]:
    """Switching and executing, as the paper on the SN40L tells them (arXiv 2405.07518): 150 experts, short answers.

    A small expert is on one of the devices, which are alike: one of them is played, with its share of experts and
    requests. Requests per second are those of all.
    """
    rows: list[tuple[object, ...]] = []
    for size, link in itertools.product((SMALL, LARGE), LINKS):
        machine = size.machine(link)
        groups = DEVICES // size.devices
        jobs = [Job(0.0, job.expert, 20) for job in uniform(150 // groups, 600 // groups, 1.0, 20, seed)]
        row: list[object] = [f"{size.name}, {link}", 1e3 * machine.load]
        for make in (first_come, ours):
            policy: Any = make(machine)
            if make is ours:
                policy = SwapPolicy(SwapSettings(max_wait=600.0), capacity=machine.capacity)  # a batch job: no hurry
            result = simulate(policy, jobs, machine)
            stalled, computing = split(result)
            row += [result.loads, 100 * stalled, 100 * computing, groups * len(jobs) / max(result.finishes)]
        rows.append(tuple(row))
    return rows


# What a decision costs


class Timed:
    """A policy whose first decisions are timed."""

    def __init__(self, policy: SwapPolicy, count: int) -> None:
        self._policy, self._count = policy, count
        self.seconds: list[float] = []

    def decide(self, now: float) -> Decision:
        if len(self.seconds) >= self._count:
            raise StopIteration
        began = time.perf_counter()
        decision = self._policy.decide(now)
        self.seconds.append(time.perf_counter() - began)
        return decision

    def admits(self, expert: str) -> bool:
        return True  # the queue is to be as long as it was made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def decision_us(experts: int, queued: int, seed: int, count: int = 3000) -> tuple[float, float]:
    """(p50, p99) microseconds of a decision with so many requests queued: the first `count` of a burst."""
    machine = SMALL.machine("PCIe 5")
    draw = random.Random(seed)
    jobs = [Job(0.0, f"e{n if n < experts else draw.randrange(experts)}", 20) for n in range(queued)]
    jobs += [Job(0.01 * n, f"e{draw.randrange(experts)}", 20) for n in range(1, count)]
    timed = Timed(SwapPolicy(SwapSettings(), capacity=machine.capacity), count)
    policy: Policy = timed
    with contextlib.suppress(StopIteration):
        simulate(policy, jobs, machine)
    ordered = sorted(timed.seconds)
    return 1e6 * statistics.median(ordered), 1e6 * ordered[int(0.99 * (len(ordered) - 1))]


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"\n{title}\n{table(header, rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    knees = {}
    for link in LINKS:
        knees[link], rows = knee(link, arguments.seed)
        header = (
            "experts",
            *(f"{what}{who}" for who in ("", ", FCFS") for what in ("loads", "p50 s", "p99 s", "refused")),
        )
        fits = SMALL.slots * DEVICES
        show(f"7B experts on {DEVICES} devices over {link}; {fits} fit; the knee is at {knees[link]}", header, rows)
    parts = splits(arguments.seed)
    header = ("150 x 7B, 150 x 70B", "load ms", "loads FCFS", "switch %", "execute %", "req/s")
    show(
        f"switching and executing on {DEVICES} devices, a burst of 600 requests of 20 tokens",
        (*header, "loads", "switch %", "execute %", "req/s"),
        parts,
    )
    by_queued = {
        queued: decision_us(min(1000, queued), queued, arguments.seed) for queued in (100, 1000, 10_000, 100_000)
    }
    show(
        "a decision, 1,000 experts (100 with 100 queued)",
        ("queued", "p50 us", "p99 us"),
        [(queued, *figures) for queued, figures in by_queued.items()],
    )
    figures = {
        "decision_us_p50_1000x10000": round(by_queued[10_000][0], 2),
        "decision_us_p99_1000x10000": round(by_queued[10_000][1], 2),
        "decision_us_by_queued": {str(queued): round(p50, 2) for queued, (p50, _) in by_queued.items()},
        "knee_experts": knees["PCIe 5"],
        "knee_experts_by_link": knees,
        "experts_that_fit": SMALL.slots * DEVICES,
        "splits": [
            dict(zip(("case", "load_ms"), row[:2], strict=True)) | {"fcfs": row[2:6], "ours": row[6:]} for row in parts
        ],
    }
    settings = {
        "device_gb": DEVICE_GB, "hbm_gb_s": HBM_GB_S, "efficiency": EFFICIENCY, "links_gb_s": LINKS,
        "batch": BATCH, "max_wait_s": SwapSettings().max_wait, "seed": arguments.seed,
    }  # fmt: skip
    emit(settings, figures, arguments.json)


if __name__ == "__main__":
    main()
