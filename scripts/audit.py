"""Asks OSV (https://osv.dev) for known faults of the locked packages.

    python scripts/audit.py [--strict]

Ends with 1 if one is known, and with 2 under --strict if OSV cannot be asked; else that is told and is no failure: the
tests must run without a network too. It is one request, with packages and versions of the lock, no more.
"""

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILES = ("cpu.lock", "torch.txt")
CONSOLE = ROOT / "console" / "package-lock.json"
Locked = tuple[str, str, str]
"""Ecosystem, name and version of a package."""
URL = "https://api.osv.dev/v1/querybatch"
WAIT_S = 20
IGNORED: Mapping[str, str] = {}
"""Advisory -> why it does not matter here."""


def packages(lock: str) -> list[tuple[str, str]]:
    """Names and versions of a lock; a local part (2.13.0+cpu) is unknown to OSV."""
    return [(name, version.partition("+")[0]) for name, version in re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", lock, re.M)]


def npm_packages(lock: str) -> list[tuple[str, str]]:
    """Names and versions of npm's lock, each once."""
    found = {
        (path.rpartition("node_modules/")[2], own["version"])
        for path, own in json.loads(lock)["packages"].items()
        if path
    }
    return sorted(found)


def locked() -> list[Locked]:
    """All that is: of Python, and of what the console is built with."""
    pinned = [one for name in FILES for one in packages((ROOT / "requirements" / name).read_text(encoding="utf-8"))]
    built_with = npm_packages(CONSOLE.read_text(encoding="utf-8"))
    return [*(("PyPI", *one) for one in pinned), *(("npm", *one) for one in built_with)]


def query(wanted: Sequence[Locked]) -> bytes:
    """The body of the request for these packages."""
    rows = [{"package": {"name": name, "ecosystem": of}, "version": version} for of, name, version in wanted]
    return json.dumps({"queries": rows}).encode()


def findings(wanted: Sequence[Locked], answer: Any) -> list[str]:
    """A line for each package with advisories that are not ignored. Raises ValueError if this is no answer of OSV."""
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != len(wanted):
        raise ValueError("the answer has another form than OSV's")
    lines = []
    for (_, name, version), result in zip(wanted, results, strict=True):
        known = sorted(fault["id"] for fault in (result or {}).get("vulns", ()) if fault["id"] not in IGNORED)
        if known:
            lines.append(f"{name} {version}: {', '.join(known)}")
    return lines


def ask(url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310  # https, above
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310
        return json.load(answer)


def main(arguments: Sequence[str], url: str = URL) -> int:
    parser = argparse.ArgumentParser(description="Ask OSV for known faults of the locked packages.")
    parser.add_argument("--strict", action="store_true", help="fail where OSV cannot be asked")
    strict = parser.parse_args(arguments).strict
    wanted = locked()
    try:
        found = findings(wanted, ask(url, query(wanted)))
    except (OSError, ValueError) as error:
        print(f"audit: NOT DONE, OSV cannot be asked: {error}", file=sys.stderr)
        return 2 if strict else 0
    for line in found:
        print(f"audit: {line}  (https://osv.dev/vulnerability/ID)")
    print(f"audit: {len(found)} of {len(wanted)} locked packages have known faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
