"""`coe workers`: the workers on a Ray cluster that several gateways share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import ConfigFlag, HomeFlag, RayFlag, errors_told

if TYPE_CHECKING:
    from orchestrator.config.model import Config
    from orchestrator.settings import Settings

workers_app = typer.Typer(
    help="The workers on a Ray cluster that several gateways share (`coe serve --attach`).", no_args_is_help=True
)


@workers_app.command("keep")
def keep_command(
    config: ConfigFlag = None,
    home: HomeFlag = None,
    ray_address: RayFlag = None,
    once: Annotated[bool, typer.Option("--once", help="Deploy, and return; by default it stays and looks.")] = False,
    alive: Annotated[Path | None, typer.Option("--alive", help="A file to touch every few seconds.")] = None,
    fake: Annotated[bool, typer.Option("--fake", help="Canned engines instead of LLMs, to try things out.")] = False,
) -> None:
    """Deploy the workers of coe.yaml and keep them so until Ctrl-C; they stay. One process a cluster does this.

    When the file changes, running workers take its experts, and those whose other settings changed are replaced one by
    one. A file that cannot be used is logged, and what was before stays.
    """
    with _on_a_cluster(config, home, ray_address) as (settings, configured, address):
        from orchestrator.config import load as configuration
        from orchestrator.config.watch import Watched
        from orchestrator.keeping import keep
        from orchestrator.preparing import with_fake_engines

        def of_use(config: "Config") -> "Config":
            return with_fake_engines(config) if fake else config

        def read() -> "Config":
            flags = {"config": config, "home": home, "ray_address": ray_address}
            return of_use(configuration.load(flags, os.environ, Path.cwd())[1])

        source = Watched(settings.config, read) if settings.config else None
        keep(of_use(configured), settings.home, address, alive, source=source, once=once)


@workers_app.command("remove")
def remove_command(ray_address: RayFlag = None) -> None:
    """Remove all workers from the Ray cluster."""
    with _on_a_cluster(None, None, ray_address) as (_, _, address):
        from orchestrator.keeping import remove

        typer.echo(f"removed: {', '.join(remove(address)) or 'nothing, there were none'}")


@workers_app.command("leave")
def leave_command(
    within: Annotated[float, typer.Option("--within", min=1, help="Seconds after which the node ends anyway.")] = 60.0,
    node: Annotated[str | None, typer.Option("--node", help="Id of another node of Ray than this one.")] = None,
    ray_address: RayFlag = None,
) -> None:
    """Take this node of the Ray cluster out of service, and return when no worker is on it any more."""
    with _on_a_cluster(None, None, ray_address) as (_, _, address):
        from orchestrator.keeping import leave

        if not leave(address, node, within):
            raise typer.Exit(1)


@contextmanager
def _on_a_cluster(
    config: str | None, home: str | None, ray_address: str | None
) -> "Iterator[tuple[Settings, Config, str]]":
    with errors_told():
        from orchestrator import logs
        from orchestrator.config import load as configuration
        from orchestrator.listening import CannotStart

        flags = {"config": config, "home": home, "ray_address": ray_address}
        settings, configured = configuration.load(flags, os.environ, Path.cwd())
        if settings.ray_address is None:
            raise CannotStart("the workers go to a Ray cluster: name it by --ray-address or RAY_ADDRESS")
        logs.configure(level=configured.log_level)
        try:
            yield settings, configured, settings.ray_address
        except ConnectionError as error:
            raise CannotStart(f"the Ray cluster at {settings.ray_address} cannot be reached: {error}") from error
