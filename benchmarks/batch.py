"""Batches: what planning a million lines takes, and what grouping by expert saves when they run.

    python -m benchmarks.batch [--json] [--lines N] [--plan-only] [--home DIR | --url URL] [--jobs N] [--sample N]

Planning reads, checks and routes a generated file with the starter pool's router and the static encoder, by
`--processes` that it starts. Memory is of all of them together, CPU seconds too. The run sends `--jobs` lines of the
starter domains to a service (`--url`, or one of its own under `--home`) as a batch and compares: `wall_over_bound`, its
time over that of the same lines with each expert's sent alone, as many at a time, and a load of each;
`naive_over_ours`, the time of a loop that takes line after line in the order of the file, estimated from `--sample` of
them. Loads are the turns that the engines count.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from benchmarks.live import reached, which_service
from benchmarks.report import emit, table
from experts.domains import NAMES, domain
from experts.registry import Registry
from orchestrator.batch.apart import cores
from orchestrator.batch.lines import Endpoint

LINES, JOBS, SAMPLE = 1_000_000, 2000, 50
AT_A_TIME = 16
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
    """Looks at what this process and its children hold together, in MiB, ten times a second: what they share counts
    for each. before: of this one at the beginning."""

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
        while not self._ends.wait(0.1):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        total = 0
        for process in (self._own, *self._own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20


# Running


class Service:
    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=900, trust_env=False)

    def turns(self) -> tuple[int, list[str]]:
        """How often engines turned to another expert, and the experts that they compute with now."""
        families = self._client.get("/v1/experts").raise_for_status().json()["families"].values()
        return sum(own["swaps"] for own in families), [own["active"] for own in families if own["active"]]

    def chat(self, body: dict[str, Any]) -> str:
        answer = self._client.post(PATH, json=body).raise_for_status().json()
        return str(answer["model"])

    def batch(self, path: Path) -> tuple[dict[str, Any], float]:
        """The batch at its end, and the seconds of its run, planning left out."""
        with path.open("rb") as file:
            form = {"purpose": "batch"}
            uploaded = self._client.post("/v1/files", data=form, files={"file": ("in.jsonl", file)}).raise_for_status()
        body = {"input_file_id": uploaded.json()["id"], "endpoint": PATH, "completion_window": "24h"}
        batch = self._client.post("/v1/batches", json=body).raise_for_status().json()
        began: float | None = None
        while batch["status"] not in ("completed", "failed", "expired", "cancelled"):
            if began is None and batch["status"] == "in_progress":
                began = time.monotonic()
            time.sleep(0.1)
            batch = self._client.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
        assert began is not None
        return batch, time.monotonic() - began

    def output(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self._client.get(f"/v1/files/{batch['output_file_id']}/content").raise_for_status()
        return [json.loads(line) for line in answer.content.splitlines()]


def run(service: Service, jobs: int, sample: int, max_tokens: int) -> dict[str, Any]:
    """A batch, its bound, and the loop without any order, all on the same service."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        write(path, jobs, max_tokens=max_tokens, temperature=0)
        bodies = [json.loads(line)["body"] for line in path.read_text().splitlines()]
        before, active = service.turns()
        batch, ours = service.batch(path)
        turns = service.turns()[0] - before
        rows = service.output(batch)
    assert len(rows) == jobs, batch
    experts = [row["response"]["body"]["model"] for row in rows]
    bound = 0.0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for expert in sorted(set(experts)):
            own = [{**body, "model": expert} for body, by in zip(bodies, experts, strict=True) if by == expert]
            service.chat(own[0])  # its load, which counts
            began = time.monotonic()
            list(pool.map(service.chat, own))
            bound += time.monotonic() - began
    began = time.monotonic()
    for body in bodies[:sample]:
        service.chat(body)
    naive = (time.monotonic() - began) * jobs / sample
    return {
        "jobs": jobs,
        "loads": turns + sum(name in experts for name in active),  # what an engine had has its turn without a swap
        "distinct_experts": len(set(experts)),
        "wall_s": round(ours, 1),
        "bound_s": round(bound, 1),
        "naive_s": round(naive, 1),
        "wall_over_bound": round(ours / bound, 2),
        "naive_over_ours": round(naive / ours, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--lines", type=int, default=LINES, help="that are planned")
    parser.add_argument("--processes", type=int, default=cores(), help="that plan")
    parser.add_argument("--jobs", type=int, default=JOBS, help="lines that are run")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="lines of the loop without any order")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--plan-only", action="store_true", help="run nothing")
    which_service(parser)
    given = parser.parse_args(arguments)
    home = given.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    figures = plan(given.lines, home, given.processes)
    if given.lines == LINES:
        figures |= {"plan_s_1m_lines": figures["plan_s"], "plan_mib_1m_lines": figures["plan_mib"]}
    with contextlib.ExitStack() as stack:
        if not given.plan_only:
            figures |= run(Service(*stack.enter_context(reached(given))), given.jobs, given.sample, given.max_tokens)
    print(table(("figure", "value"), [[name, str(value)] for name, value in figures.items()]))
    emit({"lines": given.lines, "jobs": given.jobs, "max_tokens": given.max_tokens}, figures, given.json)


if __name__ == "__main__":
    main()
