"""The peers of `benchmarks/batch_run.py`: a batch engine that is driven expert by expert, each time with a new start.

vLLM's `run-batch` and Ray Data LLM serve one model; whoever has sixteen starts them sixteen times. Both get the lines
of some experts of the batch, with the engine's settings that the service has, and their time for all experts follows
from that of these: seconds per expert, times the experts.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.batch_run import AT_A_TIME, PATH, Ran
from benchmarks.live import ROOT
from experts.starter import starter_experts

LIMIT_S = 900

_RAY = """
import json, sys
import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

source, lines, out, at_a_time, kv, tokens, length = sys.argv[1:]
ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="error")
config = vLLMEngineProcessorConfig(
    model_source=source,
    engine_kwargs=dict(
        dtype="float32", enforce_eager=True, max_num_seqs=int(at_a_time), kv_cache_memory_bytes=int(kv),
        max_model_len=int(length), distributed_executor_backend="mp",
    ),
    concurrency=1,
    batch_size=64,
    placement_group_config=dict(bundles=[{"CPU": 1}]),  # by default it asks for a GPU
)
processor = build_processor(
    config,
    preprocess=lambda row: dict(
        messages=json.loads(row["messages"]), sampling_params=dict(temperature=0.0, max_tokens=int(tokens))
    ),
    postprocess=lambda row: dict(text=row["generated_text"]),
)
rows = processor(ray.data.read_json(lines)).take_all()
json.dump([row["text"] for row in rows], open(out, "w"))
"""


def run(ran: Ran, home: Path, folder: Path, experts: int, max_tokens: int, ray_python: str | None) -> dict[str, Any]:
    """Figures of the peers over so many experts, those with the most lines that the starter pool has."""
    specs = {spec.name: spec for spec in starter_experts(home)}
    counts = Counter(name for name in ran.experts if name in specs)
    chosen = [name for name, _ in counts.most_common(experts)]
    figures: dict[str, Any] = {"peer_experts": len(chosen), "peer_lines": sum(counts[name] for name in chosen)}
    ways: dict[str, list[float]] = {"run_batch": []}
    if ray_python:
        ways["ray_data"] = []
    for name in chosen:
        source, length = specs[name].source, specs[name].context_length or 8192
        bodies = [dict(body) for body, by in zip(ran.bodies, ran.experts, strict=True) if by == name]
        ways["run_batch"].append(_run_batch(name, source, bodies, folder, length))
        if ray_python:
            ways["ray_data"].append(_ray_data(source, bodies, folder, length, max_tokens, ray_python))
    for way, seconds in ways.items():
        total = sum(seconds) / len(seconds) * len(set(ran.experts))
        figures |= {f"{way}_s_per_expert": round(sum(seconds) / len(seconds), 1), f"{way}_s": round(total, 1)}
        figures[f"{way}_over_ours"] = round(total / ran.seconds, 1)
    return figures


def _run_batch(name: str, source: str, bodies: Sequence[dict[str, Any]], folder: Path, length: int) -> float:
    lines, out = folder / "peer.jsonl", folder / "peer-out.jsonl"
    with lines.open("w") as file:
        for number, body in enumerate(bodies):
            line = {"custom_id": str(number), "method": "POST", "url": PATH, "body": body | {"model": name}}
            file.write(json.dumps(line) + "\n")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", str(lines), "-o", str(out)]
    command += ["--model", source, "--served-model-name", name, "--dtype", "float32", "--enforce-eager"]
    command += [
        "--max-num-seqs",
        str(AT_A_TIME),
        "--max-model-len",
        str(length),
        "--kv-cache-memory-bytes",
        str(1 << 30),
    ]
    seconds = _timed(command)
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    if len(answers) != len(bodies) or any(answer["error"] for answer in answers):
        raise RuntimeError(f"vLLM's run-batch did not answer every line of {name}: {answers[:1]}")
    return seconds


def _ray_data(
    source: str, bodies: Sequence[dict[str, Any]], folder: Path, length: int, max_tokens: int, python: str
) -> float:
    lines, out = folder / "ray.jsonl", folder / "ray-out.json"
    lines.write_text("".join(json.dumps({"messages": json.dumps(body["messages"])}) + "\n" for body in bodies))
    numbers = map(str, (AT_A_TIME, 1 << 30, max_tokens, length))
    seconds = _timed([python, "-c", _RAY, source, str(lines), str(out), *numbers])
    if len(json.loads(out.read_text())) != len(bodies):
        raise RuntimeError("Ray Data did not answer every line")
    return seconds


def _timed(command: Sequence[str]) -> float:
    began = time.monotonic()
    own = os.environ | {"VLLM_NO_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:3]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - began
