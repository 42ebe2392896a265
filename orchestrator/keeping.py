"""The workers of a configuration on a Ray cluster that several gateways share: `coe workers keep`.

One process deploys, the gateways only attach (`coe serve --attach`). So a gateway that starts, restarts or ends touches
no engine, and gateways of two configurations, as there are while a new one is rolled out, do not undo each other's.
"""

import asyncio
import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from orchestrator.changes import united
from orchestrator.config.model import Config
from orchestrator.config.watch import Changing
from orchestrator.placement.planner import WINDOW_S
from orchestrator.placing import planners
from orchestrator.plans import Plan, plans, version

if TYPE_CHECKING:
    from orchestrator.cluster import ServeWorkers

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

    def serve(self, found: Mapping[str, Plan], drain_s: float) -> None:
        """What they are from the next `deploy` on; drain_s: see `orchestrator.deployment.application`."""
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
    """Those of the Ray cluster that this process has joined."""

    def __init__(self) -> None:
        self._found: Mapping[str, Plan] = {}
        self._drain_s = 0.0
        self._serve: Any = import_module("ray.serve")

    def names(self) -> frozenset[str]:
        status = self._serve.status()
        return frozenset(app for app, own in status.applications.items() if str(own.status.value) != "DELETING")

    def serve(self, found: Mapping[str, Plan], drain_s: float) -> None:
        self._found, self._drain_s = found, drain_s

    def deploy(self, apps: Mapping[str, str]) -> None:
        from orchestrator.cluster import run, start_serve

        start_serve()
        run({app: self._found[app] for app in apps}, self._drain_s)

    def remove(self, app: str) -> None:
        self._serve.delete(app, _blocking=False)


class Kept:
    """The applications of a configuration as it changes. What it does blocks.

    config: of now; found: what is deployed for it, with the experts that it has no more for as long as others may need
    them. source: where it changes; None = nowhere. alive: a file that is touched after each look. looked: when it has
    looked last, by the clock of `look`; None = never.
    """

    def __init__(
        self,
        config: Config,
        home: Path,
        applications: Applications,
        *,
        source: Changing | None = None,
        alive: Path | None = None,
    ) -> None:
        self._home, self._applications, self._source, self._alive = home, applications, source, alive
        self.looked: float | None = None
        self._keeper = Keeper({})
        self._wanted = plans(config, config.registry(), home)
        self._gone_at = math.inf  # when experts go that the configuration has no more
        self._serve(config, self._wanted)

    def _serve(self, config: Config, found: Mapping[str, Plan]) -> None:
        self.config, self.found = config, found
        self._applications.serve(found, config.limits.drain_s)
        self._keeper.want({app: version(plan) for app, plan in found.items()})

    def look(self, now: float) -> None:
        """Takes the configuration as it is, and does what is due. now: seconds of any clock."""
        if self._source is not None and (changed := self._source.look()) is not None:
            self._wanted = plans(changed, changed.registry(), self._home)
            both = united(self._wanted, [self.found])
            self._serve(changed, {app: plan for app, plan in both.items() if app in self._wanted})
            self._gone_at = now + self._keeper.linger_s
        elif now >= self._gone_at:
            self._serve(self.config, self._wanted)
            self._gone_at = math.inf
        due = self._keeper.look(self._applications, now)
        if due.deploy or due.remove:
            log.info("workers", deployed=due.deploy, removed=due.remove)
        self.looked = now
        if self._alive is not None:
            self._alive.touch()


def keep(
    config: Config,
    home: Path,
    address: str,
    alive: Path | None,
    *,
    source: Changing | None = None,
    once: bool = False,
    window_s: float = WINDOW_S,
) -> None:
    """Keeps the workers of `config` on the Ray cluster at `address` until this process is told to end; they stay. Where
    several serve the same families, they are told who lives on them (`orchestrator.placing`).

    source: where the configuration changes. alive: a file that is touched after each look. once: return after the
    first. window_s: seconds over which the load of experts is measured. Raises ConnectionError.
    """
    from orchestrator.cluster import ServeWorkers

    with _on(address):
        kept = Kept(config, home, ServeApplications(), source=source, alive=alive)
        asyncio.run(keep_on(kept, ServeWorkers({}, config.registry()), once=once, window_s=window_s))


async def keep_on(kept: Kept, workers: "ServeWorkers", *, once: bool = False, window_s: float = WINDOW_S) -> None:
    """Looks every few seconds, and tells workers who lives on them, until it is cancelled. workers: the connections to
    begin with, which may be none; all are ended at the end. once: return after the first look."""
    planned: Mapping[str, Plan] | None = None
    try:
        while True:
            await asyncio.to_thread(kept.look, time.monotonic())
            if once:
                return
            if kept.found is not planned:
                planned = kept.found
                workers = await _placed(kept, workers, window_s)
            await asyncio.sleep(EVERY_S)
    finally:
        await workers.give_way(None)


async def _placed(kept: Kept, former: "ServeWorkers", window_s: float) -> "ServeWorkers":
    """The workers of what is kept by now, told who lives on them."""
    planned = await asyncio.to_thread(planners, kept.found, kept.config, window_s)
    workers = former.followed_by({app: kept.found[app] for app in planned}, kept.config.registry())
    await workers.open()
    workers.place(planned)
    await former.give_way(workers)
    return workers


def remove(address: str) -> tuple[str, ...]:
    """Removes all workers from the Ray cluster at `address`; what was removed. Raises ConnectionError."""
    with _on(address):
        applications = ServeApplications()
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
