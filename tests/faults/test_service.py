"""A short run of the fault tests: each fast kind once, on several nodes of Ray and a real Redis, under load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = (
    "worker",
    "engine",
    "gateway",
    "controller",
    "redis",
    "redis-silent",
    "disk",
    "network",
    "frozen",
    "clock",
    "raylet",
)
NOTHING = {"silent_losses": 0, "wrong_expert": 0, "batch_lost": 0, "batch_doubled": 0, "problems": []}


def run(*arguments: str) -> dict[str, Any]:
    """The figures of `python -m benchmarks.faults`."""
    command = [sys.executable, "-m", "benchmarks.faults", "--json", "--minutes", "4", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.stdout, done.stderr[-4000:]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["figures"]
    return figures


@pytest.mark.service
def test_whatever_is_killed_nothing_is_lost_without_a_word() -> None:
    figures = run("--kinds", ",".join(KINDS))
    assert {name: figures[name] for name in NOTHING} == NOTHING, figures
    done = [kind for kind in KINDS if kind not in figures["not_done"]]
    # Each did hit something: what was killed is gone, or it would be among the problems, and what came in its place
    # answered before the next one.
    assert {kind: own["faults"] for kind, own in figures["kinds"].items()} == dict.fromkeys(done, 1), figures
    assert {"worker", "engine", "gateway", "controller", "redis", "redis-silent", "frozen", "clock", "raylet"} <= {
        *done
    }
    assert figures["answered"] > 100
    assert figures["batch_lines"] >= 150
    assert figures["answered"] + sum(figures["errors"].values()) == figures["requests"]


def test_an_unknown_kind_is_refused_and_the_others_are_told() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--kinds", "worker,flood"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "got flood; allowed: worker, engine" in done.stderr
