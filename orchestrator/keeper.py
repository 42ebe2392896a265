"""What `coe workers keep` does, as a Serve application that Ray itself starts and starts again.

It is the only application of a `RayService` (docs/kubernetes.md): KubeRay's operator hands its configuration to Serve,
and Serve to the one replica there is, which stays as it changes. The workers' own applications are deployed from here,
so that their versions and what they are told of their experts are made in one place. Serve, told by the operator what
its applications are, ends only such as it was told of in that way.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator import logs
from orchestrator.cluster import ServeWorkers
from orchestrator.config.load import load
from orchestrator.config.model import Config
from orchestrator.config.watch import Handed
from orchestrator.keeping import Kept, ServeApplications, keep_on
from orchestrator.preparing import with_fake_engines
from orchestrator.ray_internals import listen_on_this_node_only
from orchestrator.settings import ConfigError, Settings

DEPLOYMENT = "keeper"
QUIET_S = 120.0
"""Without a look for so long, it is started anew."""


class Told(BaseModel):
    """What Serve tells it, as `user_config`. config: the text of coe.yaml; fake: canned engines in place of LLMs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(alias="coe.yaml")
    fake: bool = False


def read(user_config: Mapping[str, Any]) -> tuple[Settings, Config]:
    """By this process's environment, as if the text stood in the file that it names. Raises ConfigError."""
    try:
        told = Told.model_validate(user_config)
    except ValidationError as error:
        problems = [f"user_config: {'.'.join(map(str, own['loc']))}: {own['msg']}" for own in error.errors()]
        raise ConfigError(problems) from None  # the original quotes the whole file
    settings, config = load({}, os.environ, Path.cwd(), told.config)
    return settings, with_fake_engines(config) if told.fake else config


class KeptByServe:
    """What the Serve replica is, but for how Serve ends it. Serve calls `reconfigure` before anything else."""

    def __init__(self) -> None:
        self._handed = Handed()
        self._kept: Kept | None = None
        self._work: asyncio.Task[None] | None = None
        self._since = time.monotonic()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Raises ConfigError for a first one that cannot be used, which Serve then tells; a later one is logged, and
        the last good one stays."""
        if self._kept is not None:
            self._handed.hand(lambda: read(user_config)[1])
            return
        settings, config = await asyncio.to_thread(read, user_config)
        # Serve has put a logger of its own in place of `sys.stderr`, which keeps a thousand lines to itself.
        logs.configure(level=config.log_level, stream=sys.__stderr__)
        make = partial(Kept, source=self._handed)
        self._kept = await asyncio.to_thread(make, config, settings.home, ServeApplications())
        self._work = asyncio.create_task(keep_on(self._kept, ServeWorkers({}, config.registry())))

    async def check_health(self) -> None:
        """Raises RuntimeError if it no longer does its work; Serve then starts it anew."""
        if self._work is None or self._kept is None:
            return
        if self._work.done():
            raise RuntimeError("the workers are not kept any more") from self._work.exception()
        last = self._since if self._kept.looked is None else self._kept.looked
        if (quiet := time.monotonic() - last) > QUIET_S:
            raise RuntimeError(f"nobody has looked after the workers for {quiet:.0f} s")

    async def close(self) -> None:
        """The workers stay."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])


class KeeperDeployment(KeptByServe):
    """The Serve replica."""

    def __init__(self) -> None:
        listen_on_this_node_only()
        super().__init__()

    async def __del__(self) -> None:
        await self.close()


def application(arguments: dict[str, str]) -> Any:
    """The application, for the `import_path` of a Serve configuration. It takes no arguments: what it keeps comes by
    the `user_config` of its deployment, see `Told`."""
    if arguments:
        raise ValueError(f"the keeper takes no args, and got {sorted(arguments)}: what it keeps is its user_config")
    serve: Any = import_module("ray.serve")  # its decorators hide their types
    deployment = serve.deployment(
        KeeperDeployment,
        name=DEPLOYMENT,
        num_replicas=1,
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=10,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment.bind()
