"""Memory that can be allocated, inside a container or not."""

import contextlib
from pathlib import Path

import psutil

_CGROUPS = {  # folder -> its files of limit, use and statistics: version 2, version 1
    "": ("memory.max", "memory.current", "memory.stat"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
}


def free_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be allocated: what the machine has available, and what a container's limit leaves."""
    free = int(psutil.virtual_memory().available)
    for folder, names in _CGROUPS.items():
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or "max": no limit
            limit, used, stat = ((cgroups / folder / name).read_text() for name in names)
            told = dict(line.split() for line in stat.splitlines())
            # Use counts the page cache, which gives way.
            free = min(free, int(limit) - int(used) + int(told["inactive_file"]) + int(told["active_file"]))
    return free
