"""What is lost when parts of the service are killed, cut off, filled up or slowed down: `python -m benchmarks.faults`.

A service of several nodes on this machine (`world`), asked by the `openai` client and the SDK all the time (`load`), is
given one fault after another (`kinds`, `soak`); every request and every line of a batch is accounted for (`ledger`).
docs/faults.md has what came of it.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("coe_client") is None:  # a distribution of its own; a checkout has it in this folder
    sys.path.append(str(Path(__file__).parents[2] / "client"))
