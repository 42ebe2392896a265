"""The command line: `coe serve`, `coe chat`, `coe route`, `coe experts`, `coe router`, `coe keys`, `coe setup`."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from orchestrator.cli.keys import keys_app
from orchestrator.cli.profile import profile_command
from orchestrator.cli.router import router_app
from orchestrator.settings import ConfigError, Settings

app = typer.Typer(
    help="Composition of Experts: one OpenAI-compatible endpoint in front of many whole LLMs.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,  # locals may hold keys
)
experts_app = typer.Typer(help="The experts of a running service; without a command: list them.")
app.add_typer(experts_app, name="experts")
app.add_typer(keys_app, name="keys")
app.add_typer(router_app, name="router")
app.command("profile")(profile_command)

ConfigFlag = Annotated[str | None, typer.Option("--config", help="coe.yaml; default: the one in this folder, if any.")]
HomeFlag = Annotated[str | None, typer.Option("--home", help="Folder of models, keys and data [COE_HOME].")]
HostFlag = Annotated[str | None, typer.Option("--host", help="Address of the service [COE_HOST].")]
PortFlag = Annotated[str | None, typer.Option("--port", help="Port of the service [COE_PORT].")]
KeyFlag = Annotated[str | None, typer.Option("--api-key", help="API key; better in COE_API_KEY.")]
RedisFlag = Annotated[str | None, typer.Option("--redis-url", help="A Redis server [COE_REDIS_URL].")]
RayFlag = Annotated[str | None, typer.Option("--ray-address", help="A running Ray cluster [RAY_ADDRESS].")]
ModelFlag = Annotated[str, typer.Option("--model", "-m", help="auto, or an expert.")]


@app.command("serve")
def serve_command(
    config: ConfigFlag = None,
    home: HomeFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    redis_url: RedisFlag = None,
    ray_address: RayFlag = None,
    fake: Annotated[bool, typer.Option("--fake", help="Canned engines instead of LLMs, to try things out.")] = False,
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
        serve(settings, configured, ConsoleReporter(), fake=fake)


@app.command()
def setup(config: ConfigFlag = None, home: HomeFlag = None) -> None:
    """Prepare model weights and router, as `coe serve` would at its first start."""
    with errors_told():
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.serve import prepare

        settings, configured = configuration.load({"config": config, "home": home}, os.environ, Path.cwd())
        with ConsoleReporter() as reporter:
            prepare(configured, settings.home, reporter)
            reporter.say(f"ready: {settings.home}")


@app.command()
def route(
    prompt: Annotated[str, typer.Argument(help="What you would ask.")],
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="The decision as JSON.")] = False,
) -> None:
    """Show which expert would answer, and why, without generating."""
    with errors_told():
        decision = _request(_client_settings(config, host, port, api_key), "POST", "/v1/route", {"prompt": prompt})
        if as_json:
            typer.echo(json.dumps(decision, indent=2))
            return
        typer.secho(", ".join(decision["experts"]), bold=True)
        typer.echo(decision["reason"])
        for category, probability in decision["probabilities"].items():
            typer.echo(f"  {category:<12} {probability:6.1%} {'#' * round(40 * probability)}".rstrip())


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; none: a conversation.")] = None,
    model: ModelFlag = "auto",
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
) -> None:
    """Ask, and watch the answer stream; the route goes to standard error."""
    with errors_told():
        settings = _client_settings(config, host, port, api_key)
        messages: list[dict[str, str]] = []
        for question in [prompt] if prompt is not None else _questions():
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": _stream_answer(settings, model, messages)})


@experts_app.callback(invoke_without_command=True)
def experts(
    context: typer.Context,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show tiers, queues and turns live, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the experts of the running service and where their weights are."""
    if context.invoked_subcommand is not None:
        return
    if watch and as_json:
        fail("--watch and --json do not go together: leave one out")
    with errors_told():
        from orchestrator.cli import experts as console_experts

        settings = _client_settings(config, host, port, api_key)
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                console_experts.watch(lambda path: _request(settings, "GET", path))
            return
        found = _request(settings, "GET", "/v1/experts")
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        for line in console_experts.plain(found):
            typer.echo(line)


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


# The running service, as a client


def _client_settings(config: str | None, host: str | None, port: str | None, api_key: str | None) -> Settings:
    from orchestrator.config import load as configuration

    flags = {"config": config, "host": host, "port": port, "api_key": api_key}
    settings, _ = configuration.load(flags, os.environ, Path.cwd())
    if settings.api_key is None:
        fail("no API key: set COE_API_KEY to the one that `coe serve` printed, or make one: coe keys create NAME")
    return settings


def _request(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    import httpx

    assert settings.api_key is not None
    headers = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}
    try:
        answer = httpx.request(method, settings.url + path, json=body, headers=headers, timeout=60, trust_env=False)
    except httpx.ConnectError:
        fail(f"no service answers at {settings.url}; start it with `coe serve`, or name it by --host and --port")
    except httpx.HTTPError as error:
        fail(f"{settings.url}: {type(error).__name__}")
    try:
        content = answer.json()
    except ValueError:
        fail(f"{settings.url} answered {answer.status_code} without JSON: is it this service?")
    if answer.is_error:
        fail(content["error"]["message"])
    return content


def _stream_answer(settings: Settings, model: str, messages: list[dict[str, str]]) -> str:
    """Prints the answer as it comes; returns it."""
    import openai

    assert settings.api_key is not None
    client = openai.OpenAI(base_url=f"{settings.url}/v1", api_key=settings.api_key.get_secret_value(), max_retries=0)
    text = ""
    try:
        stream: Any = client.chat.completions.create(model=model, messages=cast(Any, messages), stream=True)
        for chunk in stream:
            if (decision := (chunk.model_extra or {}).get("coe")) and not text:
                typer.secho(f"[{', '.join(decision['experts'])}] {decision['reason']}", err=True, dim=True)
            if chunk.choices and (piece := chunk.choices[0].delta.content):
                text += piece
                sys.stdout.write(piece)
                sys.stdout.flush()
    except openai.APIConnectionError:
        fail(f"no service answers at {settings.url}; start it with `coe serve`, or name it by --host and --port")
    except openai.APIError as error:
        fail(error.message)
    typer.echo()
    return text


def _questions() -> Iterator[str]:
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            return
        if question:
            yield question


@contextmanager
def errors_told() -> Iterator[None]:
    """What a user can mend is told in a sentence, without a traceback; the command then ends with 1."""
    from experts.starter import StarterUnavailable
    from orchestrator.embedded_redis import EmbeddedRedisError
    from orchestrator.keys import EndedKey, UnknownKey
    from orchestrator.serve import CannotStart
    from orchestrator.store import StoreUnavailable
    from routers.encoders.base import EncoderUnavailable

    try:
        yield
    except ConfigError as error:
        fail(*error.problems)
    except (
        CannotStart,
        EmbeddedRedisError,
        EncoderUnavailable,
        EndedKey,
        StarterUnavailable,
        StoreUnavailable,
        UnknownKey,
    ) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}")  # a full disk, a folder of somebody else


def fail(*lines: str) -> NoReturn:
    """Ends the command with 1, after these lines on standard error."""
    for line in lines:
        typer.secho(f"coe: {line}", fg="red", err=True)
    raise typer.Exit(1)


def main() -> None:
    # Python's own way to end leaves the engines that a command started behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    app()
