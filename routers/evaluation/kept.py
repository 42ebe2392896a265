"""The last evaluation of a router, kept beside it in its folder for whoever shows it."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from routers.files import RouterFileError
from routers.folder import HEADER

EVALUATION = "evaluation.json"


def keep(folder: Path, report: dict[str, Any], prompts: str) -> None:
    """report: as `routers.evaluation.report.as_object` has it. prompts: what it was evaluated on, for people.
    Raises RouterFileError."""
    new = folder / f"{EVALUATION}.new"
    try:
        kept = {"at": time.time(), "prompts": prompts, "router": _router(folder), "report": report}
        new.write_text(json.dumps(kept))
        os.replace(new, folder / EVALUATION)
    except OSError as error:
        raise RouterFileError(f"{folder / EVALUATION} cannot be written: {error.strerror}; leave out --save") from error


def kept(folder: Path) -> dict[str, Any] | None:
    """`at` (Unix time), `prompts` and `report`; None if there is none, or it is of another router than lies there."""
    try:
        found = json.loads((folder / EVALUATION).read_bytes())
        is_of_it = isinstance(found, dict) and found.pop("router", None) == _router(folder)
    except (OSError, ValueError):
        return None
    return found if is_of_it else None


def _router(folder: Path) -> str:
    """Of what it is: the header has the digests of all files."""
    return hashlib.sha256((folder / HEADER).read_bytes()).hexdigest()
