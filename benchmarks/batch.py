"""Batches: what planning a million lines takes, and what grouping by expert saves when they run.

    python -m benchmarks.batch [--json] [--lines N] [--plan-only | --run-only] [--home DIR] [--jobs N] [--sample N]
                               [--peers N [--ray-python PYTHON]]

Planning reads, checks and routes a generated file with the starter pool's router and the static encoder, by
`--processes` that it starts. Memory is of all of them together, CPU seconds too. The run is `benchmarks/batch_run.py`,
the peers are `benchmarks/batch_peers.py`.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks import batch_peers, batch_run
from benchmarks.report import emit, table
from experts.domains import NAMES, domain
from experts.registry import Registry
from orchestrator.batch.apart import cores
from orchestrator.batch.lines import Endpoint

LINES, JOBS, SAMPLE, ENSEMBLES = 1_000_000, 2000, 50, 64
PATH: Endpoint = "/v1/chat/completions"


def prompts(count: int, seed: int = 5) -> Iterator[str]:
    """Of the starter domains in turn, each a held-out question with a number, so that no two are the same."""
    own = [[question.prompt for question in domain(name).held_out(random.Random(seed), 200)] for name in NAMES]
    for number in range(count):
        kind = own[number % len(own)]
        yield f"{kind[number // len(own) % len(kind)]} (case {number})"


def write(path: Path, count: int, **fields: Any) -> None:
    """A batch's input."""
    with path.open("w") as file:
        for number, prompt in enumerate(prompts(count)):
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **fields}
            line = {"custom_id": f"line-{number}", "method": "POST", "url": PATH, "body": body}
            file.write(json.dumps(line) + "\n")


# Planning


def plan(lines: int, home: Path, processes: int, block: int = 64) -> dict[str, Any]:
    """Seconds, and the most memory of all processes, for planning so many lines; the router is loaded before."""
    from aggregators.registry import build
    from experts.starter import starter_experts
    from orchestrator.access.grant import EVERYTHING
    from orchestrator.batch import planner
    from orchestrator.batch.apart import Apart, Here, Watch
    from orchestrator.batch.jobs import Caller
    from orchestrator.batch.pieces import Job
    from orchestrator.batch.replays import Replays
    from orchestrator.batch.storage import Folder
    from orchestrator.batch.work import Work
    from orchestrator.calls import LocalWorkers
    from orchestrator.http.embeddings import Embeddings
    from orchestrator.http.wire import Limits
    from orchestrator.metrics import Metrics
    from orchestrator.pipeline import Pipeline
    from orchestrator.routing import Tenant
    from orchestrator.store import Store
    from routers import starter
    from routers.encoders.choice import open_encoder
    from routers.fitted import open_router
    from routers.policies.policy_set import PolicySet

    if not starter.is_fitted(home, "static"):
        starter.fit(home, encoder="static")
    registry = Registry(starter_experts(home))
    encoder = open_encoder("static", home)
    router = open_router(starter.folder(home, "static"), encoder)
    limits = Limits(body_bytes=1 << 20, messages=256, max_tokens=8192, timeout_s=600, keep_alive_s=10)
    replays, aggregators = Replays(LocalWorkers({}, registry)), build()
    pipeline = Pipeline(
        default=Tenant(router, PolicySet()),
        workers=replays,
        registry=registry,
        aggregators=aggregators,
        store=Store("unix:///nowhere"),
        metrics=Metrics(),
        concurrent=1,
    )
    work = Work(pipeline, registry.names, limits, Embeddings(encoder, pipeline, limits), replays)
    caller = Caller("", "", EVERYTHING)
    rules = planner.Rules(limits, lines, block, {spec.name: spec.family_name for spec in registry})
    with tempfile.TemporaryDirectory(dir=home) as folder:
        storage, source = Folder(Path(folder)), Path(folder) / "input.jsonl"
        write(source, lines)
        job = Job(source, PATH, limits, work.names(EVERYTHING), work.teams(caller))
        apart = Apart(processes, Watch(), Here(Watch()))
        with _Memory() as memory, storage.upload("bad") as errors:
            began, cpu = time.perf_counter(), _cpu_s()
            prepared = planner.Planner(job, rules, apart).run(errors, "batch_" + "0" * 32)
            errors.commit()
            planner.save(storage, "plan", prepared)
            seconds, used = time.perf_counter() - began, _cpu_s() - cpu
        size = source.stat().st_size
    assert prepared.total == lines
    assert not prepared.bad
    return {
        "plan_s": round(seconds, 1),
        "plan_cpu_s": round(used, 1),
        "plan_mib": round(memory.peak),
        "plan_mib_before": round(memory.before),
        "plan_processes": processes,
        "plan_lines": lines,
        "plan_file_mib": round(size / 2**20),
        "plan_experts": len(prepared.plan.groups),
    }


def _cpu_s() -> float:
    """Of this process, and of those that it started and that have ended."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


class _Memory:
    """Looks at what this process and its children hold together, in MiB, four times a second: what they share counts
    once (PSS of Linux). before: of this one at the beginning."""

    def __init__(self) -> None:
        self._own, self._ends = psutil.Process(), threading.Event()
        self.before = self.peak = self._now()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.wait(0.25):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        total = 0
        for process in (self._own, *self._own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--home", type=Path, help="data folder with the starter pool (default: COE_HOME or ~/.coe)")
    parser.add_argument("--lines", type=int, default=LINES, help="that are planned")
    parser.add_argument("--processes", type=int, default=cores(), help="that plan")
    parser.add_argument("--jobs", type=int, default=JOBS, help="lines that are run")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="lines of the loop without any order")
    parser.add_argument("--ensembles", type=int, default=ENSEMBLES, help="lines of a batch of an ensemble")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument(
        "--peers", type=int, default=0, help="experts that vLLM's run-batch and Ray Data are measured on"
    )
    parser.add_argument("--ray-python", help="Python of an environment with ray[data] and vLLM, for Ray Data")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plan-only", action="store_true", help="run nothing")
    only.add_argument("--run-only", action="store_true", help="plan nothing")
    given = parser.parse_args(arguments)
    home = given.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    figures: dict[str, Any] = {}
    if not given.run_only:
        figures |= plan(given.lines, home, given.processes)
        if given.lines == LINES:
            figures |= {"plan_s_1m_lines": figures["plan_s"], "plan_mib_1m_lines": figures["plan_mib"]}
    if not given.plan_only:
        with tempfile.TemporaryDirectory(dir=home) as folder:
            with batch_run.sixteen(home) as own:
                ran = batch_run.run(own, Path(folder), given.jobs, given.sample, given.ensembles, given.max_tokens)
            figures |= ran.figures
            print(json.dumps(figures), flush=True)  # a peer may fail
            if given.peers:
                figures |= batch_peers.run(ran, home, Path(folder), given.peers, given.max_tokens, given.ray_python)
    print(table(("figure", "value"), [[name, str(value)] for name, value in figures.items()]))
    emit({"lines": given.lines, "jobs": given.jobs, "max_tokens": given.max_tokens}, figures, given.json)


if __name__ == "__main__":
    main()
