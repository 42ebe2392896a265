"""The workers of a configuration on a Ray cluster that several gateways share: `coe workers keep`.

One process deploys, the gateways only attach (`coe serve --attach`). So a gateway that starts, restarts or ends touches
no engine, and gateways of two configurations, as there are while a new one is rolled out, do not undo each other's.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import structlog

from orchestrator.changes import united
from orchestrator.config.model import Config
from orchestrator.config.watch import Watched
from orchestrator.plans import Plan, plans, version

EVERY_S = 5.0
"""Between two looks at what runs."""
LINGER_S = 600.0
"""How long workers and experts stay that the configuration no longer has: gateways with the one before may still need
them."""
OURS = "coe-"
"""How the names of our Serve applications begin."""

log = structlog.stdlib.get_logger(__name__)


class Applications(Protocol):
    """What Serve runs."""

    def names(self) -> frozenset[str]:
        """Of the applications that are there and not about to go."""
        ...

    def deploy(self, apps: Mapping[str, str]) -> None:
        """Name -> version. One that runs in that version already is left as it is."""
        ...

    def remove(self, app: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now."""

    deploy: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(slots=True)
class Keeper:
    """Deploys what is missing, and removes after a while what is no longer wanted. wanted: application -> version."""

    wanted: Mapping[str, str]
    linger_s: float = LINGER_S
    _strays: dict[str, float] = field(default_factory=dict)  # application -> since when it is one
    _deployed: bool = False

    def want(self, wanted: Mapping[str, str]) -> None:
        """Something else from now on. All of it is deployed with the next look: Serve leaves what has not changed."""
        self.wanted, self._deployed = wanted, False

    def due(self, there: Collection[str], now: float) -> Due:
        """there: the applications that run; now: seconds of any clock. The first call deploys all that is wanted."""
        strays = {app for app in there if app.startswith(OURS)} - self.wanted.keys()
        self._strays = {app: self._strays.get(app, now) for app in strays}
        gone = tuple(sorted(app for app, since in self._strays.items() if now - since >= self.linger_s))
        new = tuple(app for app in self.wanted if not self._deployed or app not in there)
        return Due(new, gone)

    def look(self, applications: Applications, now: float) -> Due:
        """Does what is due, and tells what that was."""
        due = self.due(applications.names(), now)
        if due.deploy:
            applications.deploy({app: self.wanted[app] for app in due.deploy})
            self._deployed = True
        for app in due.remove:
            applications.remove(app)
        return due


class ServeApplications:
    """Those of the Ray cluster that this process has joined. found: what they serve; drain_s: see
    `orchestrator.cluster.application`."""

    def __init__(self, found: Mapping[str, Plan], drain_s: float) -> None:
        self.found, self.drain_s = found, drain_s
        self._serve: Any = import_module("ray.serve")

    def names(self) -> frozenset[str]:
        status = self._serve.status()
        return frozenset(app for app, own in status.applications.items() if str(own.status.value) != "DELETING")

    def deploy(self, apps: Mapping[str, str]) -> None:
        from orchestrator.cluster import application, start_serve

        start_serve()
        targets = [
            self._serve.RunTarget(application(self.found[app], self.drain_s), name=app, route_prefix=None)
            for app in apps
        ]
        # Where a node is still to come, its application would be waited for, and with it all others.
        self._serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def remove(self, app: str) -> None:
        self._serve.delete(app, _blocking=False)


def keep(
    config: Config, home: Path, address: str, alive: Path | None, *, file: Watched | None = None, once: bool = False
) -> None:
    """Keeps the workers of `config` on the Ray cluster at `address` until this process is told to end; they stay.

    file: whose changes are followed. alive: a file that is touched after each look. once: return after the first.
    Raises ConnectionError.
    """
    found = plans(config, config.registry(), home)
    keeper = Keeper(_versions(found))
    with _on(address):
        applications = ServeApplications(found, config.limits.drain_s)
        gone_at = math.inf  # when experts go that the configuration has no more
        while True:
            if file is not None and (changed := file.look()) is not None:
                found = plans(changed, changed.registry(), home)
                all_of_both = united(found, [applications.found])
                applications.found = {app: plan for app, plan in all_of_both.items() if app in found}
                applications.drain_s = changed.limits.drain_s
                keeper.want(_versions(found))
                gone_at = time.monotonic() + keeper.linger_s
            elif time.monotonic() >= gone_at:
                applications.found, gone_at = found, math.inf
                keeper.want(_versions(found))
            due = keeper.look(applications, time.monotonic())
            if due.deploy or due.remove:
                log.info("workers", deployed=due.deploy, removed=due.remove)
            if alive is not None:
                alive.touch()
            if once:
                return
            time.sleep(EVERY_S)


def _versions(found: Mapping[str, Plan]) -> dict[str, str]:
    return {app: version(plan) for app, plan in found.items()}


def remove(address: str) -> tuple[str, ...]:
    """Removes all workers from the Ray cluster at `address`; what was removed. Raises ConnectionError."""
    with _on(address):
        applications = ServeApplications({}, 0.0)
        gone = tuple(sorted(app for app in applications.names() if app.startswith(OURS)))
        for app in gone:
            applications.remove(app)
        return gone


def leave(address: str, node: str | None, within_s: float) -> bool:
    """Takes this node of the Ray cluster at `address` out of service; returns once no worker is on it any more.

    Each worker finishes the calls that it has; where another node has room for it, it is started there. node: id of
    another node than this process's own. False if workers are still there after `within_s` seconds. Raises
    ConnectionError, and RuntimeError if Ray refuses.
    """
    import ray

    from orchestrator.ray_internals import drain_node, replicas_on

    with _on(address):
        own = node or ray.get_runtime_context().get_node_id()
        until = time.monotonic() + within_s
        if replicas_on(own):
            drain_node(address, own, within_s)
        while here := replicas_on(own):
            if time.monotonic() > until:
                log.warning("workers are still here", workers=here)
                return False
            time.sleep(1)
        return True


@contextmanager
def _on(address: str) -> Iterator[None]:
    from orchestrator.cluster import joined

    with joined(address, lambda line: log.info(line)):
        yield
