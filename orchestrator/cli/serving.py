"""`coe serve` and `coe setup`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import ConfigFlag, HomeFlag, HostFlag, KeyFlag, PortFlag, RayFlag, RedisFlag, errors_told

if TYPE_CHECKING:
    from orchestrator.config.model import Config


def serve_command(
    config: ConfigFlag = None,
    home: HomeFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    redis_url: RedisFlag = None,
    ray_address: RayFlag = None,
    fake: Annotated[bool, typer.Option("--fake", help="Canned engines instead of LLMs, to try things out.")] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Use the workers that `coe workers keep` runs on the Ray cluster.")
    ] = False,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print each setting and where it comes from; start nothing.")
    ] = False,
) -> None:
    """Start the service and stay until Ctrl-C."""
    flags = {
        "config": config,
        "home": home,
        "host": host,
        "port": port,
        "api_key": api_key,
        "redis_url": redis_url,
        "ray_address": ray_address,
    }
    with errors_told():
        from orchestrator import logs
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.serve import serve

        settings, configured = configuration.load(flags, os.environ, Path.cwd())
        if show_settings:
            for name, value, origin in settings.rows():
                typer.echo(f"{name:<12} {value}  [{origin}]")
            return
        logs.configure(level=configured.log_level)
        folder = Path.cwd()

        def read() -> "Config":
            return configuration.load(flags, os.environ, folder)[1]

        of_file = read if settings.config else None
        serve(settings, configured, ConsoleReporter(), fake=fake, attach=attach, read=of_file)


def setup_command(config: ConfigFlag = None, home: HomeFlag = None) -> None:
    """Prepare model weights and router, as `coe serve` would at its first start."""
    with errors_told():
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.preparing import prepare

        settings, configured = configuration.load({"config": config, "home": home}, os.environ, Path.cwd())
        with ConsoleReporter() as reporter:
            prepare(configured, settings.home, reporter)
            reporter.say(f"ready: {settings.home}")
