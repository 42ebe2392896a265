"""Memory that can be allocated, as a container sees it."""

from pathlib import Path

import psutil
import pytest

from workers.memory import free_memory

MACHINE = 10_000
UNLIMITED = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "700"}


@pytest.mark.parametrize(
    ("folder", "files", "free"),
    [
        ("", {"memory.max": "1000", "memory.current": "700"}, 300 + 60),
        ("", {"memory.max": "max", "memory.current": "700"}, MACHINE),
        ("", {"memory.max": "90000", "memory.current": "700"}, MACHINE),
        ("memory", {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "900"}, 100 + 60),
        ("memory", UNLIMITED, MACHINE),
        ("none", {}, MACHINE),
    ],
)
def test_the_limit_of_a_container_counts_and_its_page_cache_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, files: dict[str, str], free: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Told", (), {"available": MACHINE}))
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, text in (files | {"memory.stat": "anon 640\ninactive_file 20\nactive_file 40"}).items():
        (tmp_path / folder / name).write_text(text + "\n")
    assert free_memory(tmp_path) == free


def test_it_is_what_the_machine_tells() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total
