"""The command line as a process of its own."""

import os
import subprocess
import sys

from benchmarks.live import ROOT


def coe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("COE_", "RAY_"))}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        cwd=ROOT,
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
