"""What all tests share: they see none of the developer's own settings, and a data folder of their own."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = (
    "test_shared_cluster.py",
    "test_real_service.py",
    "test_vllm_engine.py",
    "test_vllm_faults.py",
    "test_placement.py",
    "test_vllm_differential.py",
    "test_vllm_adopt.py",
    "test_rayservice.py",
    "test_vllm_forms.py",
)
"""Files that take minutes, the longest first: begun last, one would run while the other process is idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


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
