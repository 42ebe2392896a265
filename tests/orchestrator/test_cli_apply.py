"""`coe experts apply` before a service that is scripted: what is shown, what is asked, what it waits for."""

from typing import Any

from orchestrator.cli.apply import apply
from tests.orchestrator.served import SilentReporter

NOTHING: dict[str, Any] = {
    "added": [], "removed": [], "replaced": [], "changed": [], "needs_restart": [], "new_engines": [], "notes": [],
}  # fmt: skip


class Scripted:
    """Answers what it takes, and the experts' states one after the other."""

    def __init__(self, told: dict[str, Any], *states: dict[str, str]) -> None:
        self.told, self.states = {**NOTHING, **told}, list(states)
        self.asked: list[Any] = []

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, patience_s: float = 0.0) -> Any:
        self.asked.append(body if method == "POST" else path)
        if method == "POST":
            return self.told
        states = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"data": [{"name": name, "state": state, "why": f"{name} {state}"} for name, state in states.items()]}


def run(service: Scripted, *, dry_run: bool = False, within_s: float = 60.0) -> tuple[dict[str, str], list[str]]:
    shown: list[str] = []
    return apply(service, dry_run, within_s, SilentReporter(), shown.append), shown


def test_a_dry_run_shows_everything_and_asks_for_nothing_else() -> None:
    service = Scripted(
        {
            "added": ["a"], "removed": ["b"], "replaced": ["c"], "changed": ["router.fallback"], "new_engines": ["f"],
            "needs_restart": ["server.port"], "notes": ["the router was not fitted on a: asked after all others"],
        }
    )  # fmt: skip
    assert run(service, dry_run=True) == (
        {},
        [
            "+ a",
            "- b",
            "~ c (other weights)",
            "  router.fallback changes",
            "  the engine of family f is started anew",
            "! server.port needs a restart: coe serve, again",
            "the router was not fitted on a: asked after all others",
        ],
    )
    assert service.asked == [{"dry_run": True}]


def test_it_waits_for_the_experts_that_are_new_and_for_no_others() -> None:
    service = Scripted(
        {"added": ["a"], "replaced": ["b"]},
        {"a": "starting", "b": "ready", "other": "starting"},
        {"a": "ready", "b": "ready", "other": "starting"},
    )
    assert run(service)[0] == {}
    assert service.asked == [{"dry_run": True}, {"dry_run": False}, "/v1/experts", "/v1/experts"]


def test_an_expert_that_has_failed_is_told_once_the_others_are_there() -> None:
    service = Scripted({"added": ["a", "b"]}, {"a": "failed", "b": "starting"}, {"a": "failed", "b": "ready"})
    assert run(service)[0] == {"a": "a failed"}


def test_one_that_does_not_come_in_time_is_told() -> None:
    assert run(Scripted({"added": ["a"]}, {"a": "starting"}), within_s=0.0)[0] == {"a": "a starting"}


def test_without_a_new_expert_there_is_nothing_to_wait_for() -> None:
    service = Scripted({"removed": ["a"]})
    assert run(service) == ({}, ["- a"])
    assert service.asked == [{"dry_run": True}, {"dry_run": False}]
    assert run(Scripted({}))[1] == ["nothing changes"]
