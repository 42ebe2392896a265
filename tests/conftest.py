"""What all tests share: they see none of the developer's own settings, and a data folder of their own."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Once for all processes of pytest-xdist: the first one hands its environment on.

    COE_TEST_HOME names the data folder with the starter models that `make test` prepares; default .cache/coe.
    COE_FUZZ_... is for test_fuzz.py, no setting of the service.
    """
    if hasattr(config, "workerinput"):
        return
    home = os.environ.get("COE_TEST_HOME") or str(ROOT / ".cache" / "coe")
    for name in list(os.environ):
        if name == "RAY_ADDRESS" or (name.startswith("COE_") and not name.startswith("COE_FUZZ_")):
            del os.environ[name]
    os.environ["COE_HOME"] = home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n`: what starts services and engines runs in one process, one after the other, the files of the fast ring
    beside it."""
    for item in items:
        heavy = any(item.iter_markers("service")) or any(item.iter_markers("engine"))
        item.add_marker(pytest.mark.xdist_group("heavy" if heavy else item.path.name))
