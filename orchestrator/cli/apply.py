"""`coe experts apply`: what changes, told before and after, and the wait for experts that are new."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.reporter import Reporter

LOOK_S = 0.5
NOTHING = "nothing changes"
KINDS = {
    "added": "+ {}",
    "removed": "- {}",
    "replaced": "~ {} (other weights)",
    "changed": "  {} changes",
    "new_engines": "  the engine of family {} is started anew",
    "needs_restart": "! {} needs a restart: coe serve, again",
}
PATH = "/admin/v1/apply"


class Asked(Protocol):
    """A running service, see `orchestrator.cli.common.Target`."""

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, patience_s: float = 0.0) -> Any: ...


def apply(
    service: Asked, dry_run: bool, within_s: float, reporter: Reporter, echo: Callable[[str], None]
) -> dict[str, str]:
    """Expert -> why it cannot answer; empty if all that are new can."""
    asked = service.ask("POST", PATH, {"dry_run": True})
    for line in lines(asked):
        echo(line)
    if dry_run:
        return {}
    reporter.say("the service takes its configuration")
    done = service.ask("POST", PATH, {"dry_run": False}, patience_s=0.0)
    if lines(done) != lines(asked):  # the file changed in between
        for line in ("what changed in the end:", *lines(done)):
            echo(line)
    new = [*done["added"], *done["replaced"]]
    return _wait(service, new, within_s, reporter) if new else {}


def lines(told: Mapping[str, Any]) -> list[str]:
    """What an answer of the service tells, for people."""
    found = [text.format(name) for kind, text in KINDS.items() for name in told[kind]]
    return [*(found or [NOTHING]), *told["notes"]]


def _wait(service: Asked, new: Sequence[str], within_s: float, reporter: Reporter) -> dict[str, str]:
    until = time.monotonic() + within_s
    while True:
        states = {expert["name"]: expert for expert in service.ask("GET", "/v1/experts", patience_s=30.0)["data"]}
        missing = {name: states[name]["why"] or "" for name in new if name in states and _is_away(states[name])}
        loading = [name for name in missing if states[name]["state"] == "starting"]
        reporter.progress("loading experts", len(new) - len(loading), len(new))
        if not loading or time.monotonic() > until:
            return missing
        time.sleep(LOOK_S)


def _is_away(expert: Mapping[str, Any]) -> bool:
    return bool(expert["state"] != "ready")
