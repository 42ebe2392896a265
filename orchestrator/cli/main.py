"""The command line, `coe`. Each group of commands has a file of its own; docs/cli.md lists them."""

import signal
import sys

import typer

from orchestrator.cli.asking import chat_command, route_command
from orchestrator.cli.batch import batch_app
from orchestrator.cli.bench import bench_command
from orchestrator.cli.doctor import doctor_command
from orchestrator.cli.explaining import explain_command, export_command
from orchestrator.cli.keys import keys_app
from orchestrator.cli.pool import experts_app
from orchestrator.cli.profile import profile_command
from orchestrator.cli.router import router_app
from orchestrator.cli.serving import serve_command, setup_command
from orchestrator.cli.workers import workers_app

app = typer.Typer(
    help="Composition of Experts: one OpenAI-compatible endpoint in front of many whole LLMs.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,  # locals may hold keys
)
app.command("serve")(serve_command)
app.command("setup")(setup_command)
app.command("doctor")(doctor_command)
app.command("chat")(chat_command)
app.command("route")(route_command)
app.command("explain")(explain_command)
app.command("bench")(bench_command)
app.add_typer(batch_app, name="batch")
app.add_typer(experts_app, name="experts")
app.add_typer(keys_app, name="keys")
router_app.command("export")(export_command)
app.add_typer(router_app, name="router")
app.add_typer(workers_app, name="workers")
app.command("profile")(profile_command)


def main() -> None:
    # Python's own way to end leaves the engines that a command started behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    app()
