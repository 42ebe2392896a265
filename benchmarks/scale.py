"""What saturates first: 1, 8 and 64 nodes, 1,000 experts, a million requests a day and a million an hour.

python -m benchmarks.scale [--json] [--home DIR] [--data FOLDER] [--requests N] [--minutes M] [--seed N]

Two parts, put together at the end. (1) Unit costs, measured here: the processor time of gateway, Redis and worker that
a request takes, as a service with fake engines spends it, whose answers come at the pace of a real engine, streamed and
whole; that of a decision among 1,000 experts; and of a plan that places them. (2) The engines, by simulation: nodes of
eight H100 as in `benchmarks/simulate.py`, each device a worker; the experts, asked by Zipf's law of exponent 1, live
where the project's planner places them; every worker runs the project's swap policy on its share of the requests.

What is simulated and not measured: the engines, their links and disks. What is neither: networks between nodes.
"""

import argparse
import contextlib
import functools
import math
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.overhead import Client, Peer, fake_service, fitted_router
from benchmarks.report import emit, table
from benchmarks.route_speed import large, milliseconds, one_core
from benchmarks.simulate import DEVICES, GB, REQUEST_S, SMALL
from benchmarks.traces import Job, Lengths, azure, percentile, zipf
from experts.registry import Registry
from experts.starter import starter_experts
from orchestrator.placement.model import Demand, Placement, Worker
from orchestrator.placement.place import holdings, place
from routers.encoders.choice import open_encoder
from routers.fitted import open_router
from workers.simulation import Job as EngineJob
from workers.simulation import Machine, simulate
from workers.swap_policy import SwapPolicy, SwapSettings

EXPERTS, NODES = 1000, (1, 8, 64)
RATES = {"1M a day": 1e6 / 86_400, "1M an hour": 1e6 / 3600}
BATCH = 32
"""Requests that a device computes together: 10 GB of KV cache beside the images, at 0.13 MB a token."""
PREFILL_S = 2 * 7e9 / (0.4 * 989e12)
"""Seconds for a token of a prompt: 2 operations a parameter, at 40 % of an H100's 989 TFLOP/s."""
HOST_GB, HOST_GB_S, DISK_GB_S = 200.0, 50.0, 0.8
"""Of a device: its share of 1.6 TB of the node's memory, of PCIe 5, and of disks that read 6.4 GB/s."""
WAIT_S = 30.0
PACED = {"smollm2-135m": {"dtype": "float32", "engine_args": {"fake_slots": 64, "fake_token_delay": 0.01}}}
"""An engine of a hundred tokens a second for each of 64 answers."""
WORDS = 200
"""Of an answer, which the fake engine says word by word."""
GATEWAYS = 2
"""That the chart's profile for high availability starts."""


# Unit costs


@dataclass(frozen=True, slots=True)
class Processes:
    """Those that share the work of a request."""

    gateway: psutil.Process
    redis: psutil.Process
    worker: psutil.Process

    @classmethod
    def of(cls, pid: int) -> "Processes":
        """Of a service that was started as this process."""
        gateway = psutil.Process(pid)
        others = {name: own for own in gateway.children(recursive=True) for name in _names(own)}
        return cls(gateway, others["redis"], others["worker"])

    def seconds(self) -> dict[str, float]:
        """Processor time so far, of each."""
        return {field.name: sum(getattr(self, field.name).cpu_times()[:2]) for field in fields(self)}

    def since(self, before: dict[str, float]) -> dict[str, float]:
        return {name: now - before[name] for name, now in self.seconds().items()}


def _names(process: psutil.Process) -> Iterator[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        told = " ".join(process.cmdline())
        if "redis-server" in told:
            yield "redis"
        if told.startswith("ray::ServeReplica"):
            yield "worker"


def unit_costs(home: Path, requests: int) -> dict[str, float]:
    """Milliseconds of processor time for a request of a key with limits."""
    client = Client()
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        limits = {"per_key": {"requests_per_day": 10**9, "tokens_per_day": 10**9}}
        live = fake_service(stack, fitted_router(home), families=PACED, limits=limits)
        processes = Processes.of(live.process.pid)
        peer = Peer("ours", live.url, live.key, "auto")
        client.closed(peer, peer.requests(64, WORDS * 6 / 1000, tokens=WORDS), 64)  # warm
        for name, stream in (("whole", False), ("streamed", True)):
            asked = peer.requests(requests, WORDS * 6 / 1000, stream=stream, tokens=WORDS)
            before = processes.seconds()
            load = client.closed(peer, asked, 64)
            spent = processes.since(before)
            if load.statuses[200] != requests:
                raise RuntimeError(f"not every request was answered: {load.statuses}, {load.lost}")
            found |= {f"{what}_ms_{name}": 1e3 * own / requests for what, own in spent.items()}
        before, began = processes.seconds(), time.monotonic()
        time.sleep(10)
        idle, passed = processes.since(before), time.monotonic() - began
        found |= {f"{what}_idle": own / passed for what, own in idle.items()}
    client.end()
    return found


def decisions(home: Path, prompts: int = 200) -> dict[str, float]:
    """Median milliseconds of processor time of a decision, encoder included: of the router that the service above has,
    and of a skill router of a thousand experts and ten thousand skills."""
    encoder = open_encoder("static", home)
    small, many = open_router(fitted_router(home), encoder), large(encoder)
    names = Registry(starter_experts(home)).names
    asked = [f"{number} which of these users has signed in since monday" for number in range(prompts)]
    calls = [lambda prompt: small.route(prompt, names), lambda prompt: many.route(prompt, many.experts)]
    with one_core():
        spent = [each[2] for each in milliseconds(calls, asked)]
    return dict(zip(("decision_ms", f"decision_ms_{EXPERTS}"), spent, strict=True))


# The engines


def machine(load: dict[str, float], prompt_tokens: float, output_tokens: float) -> Machine:
    """A device. load: expert -> seconds to load it. Prompts are computed in the steps of others: a step takes longer by
    what the prompts of its requests need, spread over their answers."""
    base = SMALL.machine("PCIe 5")
    each = REQUEST_S + PREFILL_S * prompt_tokens / output_tokens
    weights = base.step(0)
    return replace(base, step=functools.partial(_step, weights, each), batch=BATCH, loads=load)


def _step(weights: float, each: float, requests: int) -> float:
    return weights + each * requests


def pool(experts: int, rate: float, tokens: float) -> list[Demand]:
    shares = [1 / k for k in range(1, experts + 1)]
    size = SMALL.gb * GB
    return [
        Demand(f"e{k:04}", "f", rate * share / sum(shares), tokens, size, SMALL.gb / DISK_GB_S)
        for k, share in enumerate(shares)
    ]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a simulation of so many nodes told.

    busy: share of their time that devices compute, the mean and the most; loading: that an image is on its way to them,
    beside that; wait_s: to the first step; behind_s: of the device that is the last to finish what had come, beyond the
    trace; loads: a minute and device; place_s: that the placement took.
    """

    busy: float
    busiest: float
    loading: float
    wait_p50_s: float
    wait_p99_s: float
    behind_s: float
    loads: float
    place_s: float


def engines(nodes: int, rate: float, jobs: Sequence[Job], seed: int, experts: int = EXPERTS) -> Cluster:
    """jobs: of a trace at this rate."""
    prompt = statistics.fmean(job.prompt_tokens for job in jobs)
    output = statistics.fmean(job.output_tokens for job in jobs)
    capacity = SMALL.slots * SMALL.gb * GB
    speed = BATCH / machine({}, prompt, output).step(BATCH)
    workers = [
        Worker(f"n{node}-{device}", f"n{node}", ("f",), speed, capacity, HOST_GB * GB)
        for node in range(nodes)
        for device in range(DEVICES)
    ]
    demands = pool(experts, rate, output)
    began = time.perf_counter()
    placement = place(workers, demands)
    place_s = time.perf_counter() - began
    held = holdings(placement, workers, demands)
    shares = _shares(placement, jobs, seed)
    seconds = jobs[-1].at
    busy: list[float] = []
    waits: list[float] = []
    behind = loads = loading = 0.0
    for worker in workers:
        own = held[worker.name]
        at_hand = {*own.device, *own.near[: int(HOST_GB // SMALL.gb)]}
        load_s = {name: SMALL.gb / (HOST_GB_S if name in at_hand else DISK_GB_S) for name in placement.on(worker.name)}
        device = machine(load_s, prompt, output)
        policy = SwapPolicy(SwapSettings(max_wait=WAIT_S), capacity=device.capacity)
        played = [EngineJob(job.at, job.expert, job.output_tokens) for job in shares[worker.name]]
        result = simulate(policy, played, device, resident=own.device, strict=False)
        ended = max((end for end in result.finishes if not math.isnan(end)), default=0.0)
        busy.append(result.busy_seconds / max(ended, seconds))
        loading += result.load_seconds / max(ended, seconds)
        waits += (wait for wait in result.waits if not math.isnan(wait))
        behind, loads = max(behind, ended - seconds), loads + result.loads
    waits.sort()
    return Cluster(
        busy=statistics.fmean(busy),
        busiest=max(busy),
        loading=loading / len(workers),
        wait_p50_s=percentile(waits, 50),
        wait_p99_s=percentile(waits, 99),
        behind_s=behind,
        loads=loads / len(workers) / (seconds / 60),
        place_s=place_s,
    )


def _shares(placement: Placement, jobs: Sequence[Job], seed: int) -> dict[str, list[Job]]:
    """Worker -> its requests: each goes to one of its expert's homes."""
    dice, shares = random.Random(seed), defaultdict[str, list[Job]](list)
    for job in jobs:
        shares[dice.choice(placement.of[job.expert])].append(job)
    return shares


def trace(rate: float, minutes: float, data: Path | None, seed: int, experts: int = EXPERTS) -> list[Job]:
    """Of so many minutes. data: lengths and arrivals are those of the Azure trace, again and again, at this rate."""
    count, names = int(rate * 60 * minutes), [f"e{k:04}" for k in range(experts)]
    if data is None:
        return zipf(count, names, rate, 1.0, seed, Lengths((1, 2300), (1, 420)))
    path, lengths = data / "traces" / "azure_llm_2023_conv.csv", Lengths((1, 8000), (1, 1000))
    hour = azure(path, 19_366, names, 1.0, seed, 1.0, 1.0, lengths)
    asked = zipf(count, names, rate, 1.0, seed, Lengths((1, 1), (1, 1)))
    scale, found = len(hour) / hour[-1].at / rate, []
    for k, own in enumerate(asked):
        hours, number = divmod(k, len(hour))
        at = (hours * hour[-1].at + hour[number].at) * scale
        found.append(replace(hour[number], at=at, expert=own.expert))
    return found


# Together


def used(rate: float, workers: int, costs: dict[str, float], found: Cluster) -> dict[str, float]:
    """Share of each part's capacity that the load takes. A gateway, Redis and the process of a worker have a core each.

    The decision among all experts takes the place of that of the service which was measured.
    """
    gateway = costs["gateway_ms_streamed"] + costs[f"decision_ms_{EXPERTS}"] - costs["decision_ms"]
    return {
        "engines": found.busy,
        "busiest engine": found.busiest,
        "loads": found.loading,
        "gateways": rate * gateway / 1e3 / GATEWAYS,
        "Redis": rate * costs["redis_ms_streamed"] / 1e3,
        "worker process": rate * costs["worker_ms_streamed"] / 1e3 / workers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="where the router is fitted (default: COE_HOME or ~/.coe)")
    parser.add_argument("--data", type=Path, help="the folder with traces/, for real arrivals and lengths")
    parser.add_argument("--requests", type=int, default=1000, help="of each measurement (default 1000)")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each simulation (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    home = given.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()

    costs = unit_costs(home, given.requests) | decisions(home)
    print("unit costs, of a request of a key with limits, answered by 200 words")
    print(table(("", "value"), [(name, value) for name, value in costs.items()]))
    figures: dict[str, Any] = {"unit_costs": costs, "loads": {}}
    rows: list[tuple[object, ...]] = []
    simulated: list[tuple[object, ...]] = []
    shares: dict[str, float] = {}
    for name, rate in RATES.items():
        jobs = trace(rate, given.minutes, given.data, given.seed)
        for nodes in NODES:
            found = engines(nodes, rate, jobs, given.seed)
            shares = used(rate, nodes * DEVICES, costs, found)
            first = max(shares, key=lambda part: shares[part])
            rows.append((name, nodes, *(100 * share for share in shares.values()), first))
            simulated.append((name, nodes, *astuple(found)))
            figures["loads"][f"{name}, {nodes} nodes"] = asdict(found) | {"used": shares, "first": first}
    print(f"\nshare of its capacity that each part uses, in %, with {GATEWAYS} gateways")
    print(table(("requests", "nodes", *shares, "first"), rows))
    print("\nthe engines, simulated")
    print(table(("requests", "nodes", *(field.name for field in fields(Cluster))), simulated))
    carried = {part: {"gateways": GATEWAYS}.get(part, 1) for part in ("gateways", "Redis")}
    figures["full_at"] = {part: round(rate / shares[part] / many, 1) for part, many in carried.items()}
    told = ", ".join(f"{part} {full}" for part, full in figures["full_at"].items())
    print(f"\nrequests a second that fill one: {told}")
    settings = {
        "experts": EXPERTS, "batch": BATCH, "prefill_s": PREFILL_S, "host_gb": HOST_GB, "host_gb_s": HOST_GB_S,
        "disk_gb_s": DISK_GB_S, "max_wait_s": WAIT_S, "minutes": given.minutes, "seed": given.seed,
        "data": "Azure conversations" if given.data else "Poisson",
    }  # fmt: skip
    emit(settings, figures, given.json)


if __name__ == "__main__":
    main()
