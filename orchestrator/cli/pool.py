"""`coe experts`: those of a running service, and the starter pool's training."""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import (
    ConfigFlag,
    HomeFlag,
    HostFlag,
    JsonFlag,
    KeyFlag,
    PortFlag,
    errors_told,
    fail,
    target,
)

experts_app = typer.Typer(help="The experts of a running service; without a command: list them.")


@experts_app.callback(invoke_without_command=True)
def experts(
    context: typer.Context,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show tiers, queues and turns live, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the experts of the running service and where their weights are."""
    if context.invoked_subcommand is not None:
        return
    if watch and as_json:
        fail("--watch and --json do not go together: leave one out")
    with errors_told():
        from orchestrator.cli import experts as console_experts

        service = target(config, host, port, api_key)
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                console_experts.watch(lambda path: service.ask("GET", path))
            return
        found = service.ask("GET", "/v1/experts")
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        for line in console_experts.plain(found):
            typer.echo(line)


@experts_app.command("apply")
def apply(
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    within: Annotated[float, typer.Option("--within", min=1, help="Seconds that new experts are waited for.")] = 900.0,
) -> None:
    """Let the running service take its coe.yaml as it is now: experts come, go and change, and no request fails.

    The service reads its own file, on its machine; the one that this command finds is checked first.
    """
    with errors_told():
        from orchestrator.cli import apply as console_apply
        from orchestrator.cli.report import ConsoleReporter

        with ConsoleReporter() as reporter:
            failed = console_apply.apply(target(config, host, port, api_key), dry_run, within, reporter, typer.echo)
        if failed:
            fail(*(f"{name}: {why}" for name, why in failed.items()))


@experts_app.command("train")
def train(
    domains: Annotated[list[str] | None, typer.Argument(help="Domains to train; none: all.")] = None,
    home: HomeFlag = None,
    deltas: Annotated[Path | None, typer.Option(help="Where the deltas go; default: into the checkout.")] = None,
) -> None:
    """Train the starter pool's specialists anew (minutes each), and measure them."""
    with errors_told():
        from experts.domains import NAMES
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.training import train_pool

        if unknown := sorted(set(domains or ()) - set(NAMES)):
            fail(f"no domain {unknown[0]!r}; there are: {', '.join(NAMES)}")
        settings, _ = configuration.load({"home": home}, os.environ, Path.cwd())
        with ConsoleReporter() as reporter:
            train_pool(domains or None, settings.home, deltas, reporter)


@experts_app.command("measure")
def measure(home: HomeFlag = None) -> None:
    """Measure the starter pool's experts in every domain anew, for the router."""
    with errors_told():
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.training import measure_pool

        settings, _ = configuration.load({"home": home}, os.environ, Path.cwd())
        with ConsoleReporter() as reporter:
            measure_pool(settings.home, reporter)
