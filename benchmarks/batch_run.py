"""A batch over sixteen experts in the memory of four, on a real engine: what grouping its lines by expert saves.

The lines are held-out questions of the starter domains in random order. Ten experts are the starter pool's; six more
are other files with the same abilities, asked by name. The engine has device memory for four images, so an expert that
is not among them is read from disk. Beside the batch run, on the same service,

* its bound: every expert's lines alone, as many at a time, and one load of each (its measured mean);
* the naive loop: line after line in the order of the file, of which a sample is run.
"""

import contextlib
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.live import service
from experts.domains import NAMES, domain
from experts.spec import ExpertSpec
from experts.starter import FAMILY, GENERALIST, specialist, starter_experts

AT_A_TIME = 16
TWINS = NAMES[:6]
"""Domains with a second expert."""
DEVICE_IMAGES = 4
PATH = "/v1/chat/completions"
ENSEMBLE = "ensemble/pair"
MEMBERS, WRITER = (specialist(NAMES[0]), specialist(NAMES[1])), GENERALIST
SEED = 5


def twin(name: str) -> str:
    """Name of the second expert of a domain."""
    return f"{specialist(name)}-2"


def write(path: Path, count: int, seed: int = SEED, **fields: Any) -> None:
    """A batch's input: questions by turns for the router, and for the twins by name; a few for the generalist."""
    draw = random.Random(seed)
    questions = {name: domain(name).held_out(draw, 200) for name in NAMES}
    asked: list[tuple[str, str]] = []
    for number in range(count):
        name = (*NAMES, None)[number % (len(NAMES) + 1)]
        if name is None:
            asked.append((GENERALIST, f"Say hello to guest number {number}."))
            continue
        turn = number // (len(NAMES) + 1)
        model = twin(name) if name in TWINS and turn % 2 else "auto"
        asked.append((model, questions[name][turn % 200].prompt))
    draw.shuffle(asked)
    with path.open("w") as file:
        for number, (model, prompt) in enumerate(asked):
            body = {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}
            file.write(json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": PATH, "body": body}) + "\n")


@contextlib.contextmanager
def sixteen(home: Path) -> Iterator["Service"]:
    """A service with sixteen experts, whose data is deleted at the end. home: where the starter pool lies."""
    with tempfile.TemporaryDirectory(dir=home, prefix="batch-bench-") as name:
        folder = Path(name)
        specs = list(starter_experts(home))
        for of in TWINS:
            spec = next(spec for spec in specs if spec.name == specialist(of))
            _copy(Path(spec.source), folder / twin(of))
            specs.append(ExpertSpec(**{**_given(spec), "name": twin(of), "source": str(folder / twin(of))}))
        os.sync()  # or Redis waits for the disk while the benchmark runs
        gib = (specs[0].parameters or 0) * 4 / 2**30  # float32 on the CPU
        config = {
            "experts": [_given(spec) for spec in specs],
            "families": {FAMILY: {"images": {"device_gib": round((DEVICE_IMAGES + 0.5) * gib, 3)}}},
            "ensembles": {
                ENSEMBLE.partition("/")[2]: {
                    "experts": list(MEMBERS),
                    "aggregator": "synthesize",
                    "aggregation": {"expert": WRITER},
                }
            },
        }
        (folder / "coe.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for own in ("models", "routers", "encoders"):
            if (home / own).exists():
                (folder / "home" / own).parent.mkdir(exist_ok=True)
                (folder / "home" / own).symlink_to(home.resolve() / own)
        with service(folder / "home", ["--config", str(folder / "coe.yaml")], within=900) as live:
            yield Service(live.url, live.key)


def _given(spec: ExpertSpec) -> dict[str, Any]:
    fields = spec.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in fields.items() if value is not None}


def _copy(source: Path, target: Path) -> None:
    """A checkpoint that answers the same and shares no tensor: images with equal tensors would share memory."""
    shutil.copytree(source, target)
    for shard in target.glob("*.safetensors"):
        tensors = {}
        with safe_open(shard, framework="pt") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                tensors[name] = file.get_tensor(name).clone()
                flat = tensors[name].view(-1)
                flat[0] = flat[0] * 1.01 + 1e-4
        shard.unlink()
        save_file(tensors, shard, metadata)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all engines since they started. loads: images that were moved to the device, from wherever they were."""

    turns: int
    loads: int
    load_seconds: float

    def since(self, before: "Counts") -> "Counts":
        return Counts(*(now - then for now, then in zip(asdict(self).values(), asdict(before).values(), strict=True)))

    @property
    def load_s(self) -> float:
        """Mean seconds of a load."""
        return self.load_seconds / self.loads if self.loads else 0.0


class Service:
    """What the benchmark asks of a running service."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=900, trust_env=False)

    def counts(self) -> Counts:
        sums: Counter[str] = Counter()
        page = self._client.get("/metrics").raise_for_status().text
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                sums[sample.name] += sample.value  # type: ignore[assignment]  # a counter of floats
        names = ("coe_swaps_total", "coe_image_loads_total", "coe_image_moved_seconds_total")
        turns, loads, seconds = (float(sums[name]) for name in names)
        return Counts(int(turns), int(loads), seconds)

    def active(self) -> list[str]:
        """The experts that engines compute with now."""
        families = self._client.get("/v1/experts").raise_for_status().json()["families"].values()
        return [own["active"] for own in families if own["active"]]

    def chat(self, body: Mapping[str, Any]) -> None:
        self._client.post(PATH, json=body).raise_for_status()

    def batch(self, path: Path) -> tuple[list[dict[str, Any]], float]:
        """Its lines of output, and seconds from the request for a batch to its end, planning included."""
        with path.open("rb") as file:
            form = {"purpose": "batch"}
            uploaded = self._client.post("/v1/files", data=form, files={"file": ("in.jsonl", file)}).raise_for_status()
        body = {"input_file_id": uploaded.json()["id"], "endpoint": PATH, "completion_window": "24h"}
        began = time.monotonic()
        batch = self._client.post("/v1/batches", json=body).raise_for_status().json()
        while batch["status"] not in ("completed", "failed", "expired", "cancelled"):
            time.sleep(0.1)
            answer = self._client.get(f"/v1/batches/{batch['id']}")
            if answer.status_code != 503:  # else it is asked again
                batch = answer.raise_for_status().json()
        seconds = time.monotonic() - began
        if batch["status"] != "completed" or batch["request_counts"]["failed"]:
            raise RuntimeError(f"the batch did not succeed: {batch}")
        answer = self._client.get(f"/v1/files/{batch['output_file_id']}/content").raise_for_status()
        return [json.loads(line) for line in answer.content.splitlines()], seconds


@dataclass(frozen=True, slots=True)
class Ran:
    """bodies, experts: of the batch's lines, and who answered each. seconds: of the batch."""

    bodies: Sequence[Mapping[str, Any]]
    experts: Sequence[str]
    seconds: float
    figures: dict[str, Any]


def run(own: Service, folder: Path, jobs: int, sample: int, ensembles: int, max_tokens: int) -> Ran:
    """The batch, its bound, the naive loop, and a batch of an ensemble's lines."""
    path = folder / "in.jsonl"
    write(path, jobs, max_tokens=max_tokens, temperature=0)
    bodies = [json.loads(line)["body"] for line in path.read_text().splitlines()]
    rows, ours, loads = _counted(own, path)
    experts = [row["response"]["body"]["model"] for row in rows]
    tokens = sum(row["response"]["body"]["usage"]["completion_tokens"] for row in rows)
    begun = own.counts()
    generation = _alone(own, bodies, experts)
    load_s = own.counts().since(begun).load_s
    bound = generation + len(set(experts)) * load_s
    began = time.monotonic()
    for body in bodies[:sample]:
        own.chat(body)
    naive = (time.monotonic() - began) * jobs / sample
    write_ensemble(path, ensembles, max_tokens)
    drafted, _, ensemble_loads = _counted(own, path)
    assert len(drafted) == ensembles
    figures = {
        "jobs": jobs,
        "loads": loads,
        "distinct_experts": len(set(experts)),
        "completion_tokens": tokens,
        "wall_s": round(ours, 1),
        "generation_s": round(generation, 1),
        "load_ms": round(1e3 * load_s, 1),
        "bound_s": round(bound, 1),
        "naive_s": round(naive, 1),
        "wall_over_bound": round(ours / bound, 2),
        "naive_over_ours": round(naive / ours, 1),
        "ensemble_jobs": ensembles,
        "ensemble_loads": ensemble_loads,
        "ensemble_experts": len({*MEMBERS, WRITER}),
    }
    return Ran(bodies, experts, ours, figures)


def write_ensemble(path: Path, count: int, max_tokens: int) -> None:
    """A batch's input of which two experts draft each line and a third writes the answer."""
    asked = domain(NAMES[0]).held_out(random.Random(SEED), count)
    with path.open("w") as file:
        for number, question in enumerate(asked):
            message = {"role": "user", "content": question.prompt}
            body = {"model": ENSEMBLE, "messages": [message], "max_tokens": max_tokens}
            file.write(json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": PATH, "body": body}) + "\n")


def _counted(own: Service, path: Path) -> tuple[list[dict[str, Any]], float, int]:
    """(output, seconds, loads) of a batch. An expert that its engine computed with at the beginning needs no turn to
    be used, so it counts as one; a load that no turn used counts too."""
    before, active = own.counts(), own.active()
    rows, seconds = own.batch(path)
    after = own.counts().since(before)
    used = {row["response"]["body"]["model"] for row in rows}
    return rows, seconds, max(after.turns + sum(name in used for name in active), after.loads)


def _alone(own: Service, bodies: Sequence[Mapping[str, Any]], experts: Sequence[str]) -> float:
    """Seconds for the lines of one expert after the other; a load comes before each and is not in it."""
    seconds = 0.0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for expert in sorted(set(experts)):
            lines = [{**body, "model": expert} for body, by in zip(bodies, experts, strict=True) if by == expert]
            own.chat(lines[0])
            began = time.monotonic()
            list(pool.map(own.chat, lines))
            seconds += time.monotonic() - began
    return seconds
