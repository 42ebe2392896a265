"""`coe batch`: many requests as one job of a running service."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import ConfigFlag, HostFlag, JsonFlag, KeyFlag, PortFlag, Target, errors_told, fail, target

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDS = ("completed", "failed", "expired", "cancelled")
LOOK_S = 0.5
PATIENCE_S = 300.0
"""For which the service may be away while its batch is waited for."""
STATE = ".batch"
"""Behind the name of the output: a file that knows the batch while it is under way."""
BAR = 30

batch_app = typer.Typer(help="Many requests as one job of a running service.", no_args_is_help=True)
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch.")]


@batch_app.command("run")
def run_command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="JSON Lines, as OpenAI's batches have them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the answers.")] = Path("output.jsonl"),
    errors: Annotated[
        Path | None, typer.Option("--errors", help="File for lines without an answer; default: OUTPUT.errors.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Of all lines; default: that of the first line.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; run nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output of an earlier batch.")] = False,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
) -> None:
    """Run a file of requests, grouped by expert, and wait for the answers.

    Run it again after Ctrl-C, or when the service was down: it goes on where it was.
    """
    with errors_told():
        service = target(config, host, port, api_key)
        endpoint = endpoint or first_url(source)
        if dry_run:
            batch = _follow(service, _create(service, source, endpoint, dry_run=True))
            service.ask("DELETE", f"/v1/files/{batch['input_file_id']}")
            _check(batch)
            for line in plan_lines(batch):
                typer.echo(line)
            return
        errors = errors or output.with_name(output.name + ".errors")
        state = output.with_name(output.name + STATE)
        for path in (output, errors, state):
            _check_place(path)
        batch_id = _under_way(service, state, _print(source))
        if batch_id is None:
            if output.exists() and not force:
                fail(f"{output}: exists; choose another file with -o, or replace it with --force")
            batch_id = _create(service, source, endpoint)
            state.write_text(json.dumps({"batch": batch_id, "input": _print(source)}))
        else:
            _told(f"goes on with {batch_id}")
        try:
            batch = _follow(service, batch_id)
        except KeyboardInterrupt:
            _told(f"{batch_id} goes on; run the same command again to get its answers, or: coe batch cancel {batch_id}")
            raise
        for file_id, path in ((batch["output_file_id"], output), (batch["error_file_id"], errors)):
            if file_id is not None:
                _download(service, file_id, path)
            else:
                path.unlink(missing_ok=True)  # that of an earlier batch
        state.unlink()
        _check(batch)
        with suppress(typer.Exit):  # the input is here; there it takes room
            service.ask("DELETE", f"/v1/files/{batch['input_file_id']}")
        counts = batch["request_counts"]
        _told(f"{counts['completed']:,} answers in {output}")
        if counts["failed"]:
            _told(f"{counts['failed']:,} lines without an answer in {errors}")


@batch_app.command("list")
def list_command(
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the batches of the key, the newest first."""
    with errors_told():
        found = target(config, host, port, api_key).ask("GET", "/v1/batches?limit=100")["data"]
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        for batch in found:
            typer.echo(row(batch))


@batch_app.command("show")
def show_command(
    batch_id: BatchId,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a batch and its plan."""
    with errors_told():
        batch = target(config, host, port, api_key).ask("GET", f"/v1/batches/{batch_id}")
        if as_json:
            typer.echo(json.dumps(batch, indent=2))
            return
        for line in (row(batch), *problems(batch), *plan_lines(batch)):
            typer.echo(line)


@batch_app.command("cancel")
def cancel_command(
    batch_id: BatchId,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
) -> None:
    """Cancel a batch; what is done is kept."""
    with errors_told():
        typer.echo(row(target(config, host, port, api_key).ask("POST", f"/v1/batches/{batch_id}/cancel")))


# What is shown


def row(batch: dict[str, Any]) -> str:
    """A batch in a line."""
    counts = batch["request_counts"]
    made = datetime.fromtimestamp(batch["created_at"], UTC)
    done = f"{counts['completed']:,} + {counts['failed']:,} failed of {counts['total']:,}"
    return f"{batch['id']}  {made:%Y-%m-%d %H:%M} UTC  {batch['status']:<12} {done}"


def problems(batch: dict[str, Any]) -> list[str]:
    return [f"  {own['message']}" for own in (batch["errors"] or {"data": []})["data"]]


def plan_lines(batch: dict[str, Any]) -> list[str]:
    """The plan: who works on how many lines, in the order of their turns, and how far that is."""
    plan = batch["coe"]["plan"]
    if plan is None:
        return []
    counts = [(plan["distinct_experts"], "expert"), (plan["loads"], "load")]
    told = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    lines = [f"{told}, {_time(plan['seconds'])}"]
    for group in plan["groups"]:
        part = group["done"] / group["steps"]
        bar = "#" * round(BAR * part) + "." * (BAR - round(BAR * part))
        what = "answers" if group["stage"] == "answers" else "lines"
        lines.append(f"  {group['expert'] or '-':<24} {bar} {group['done']:>9,} of {group['steps']:,} {what}")
    return lines


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "time not known yet: no rate of these experts was measured"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


def _picture(batch: dict[str, Any]) -> "RenderableType":
    from rich.text import Text

    plan = batch["coe"]["plan"]
    left = f", {_time(plan['seconds_left'])} left" if plan and plan["seconds_left"] is not None else ""
    return Text("\n".join([row(batch) + left, *problems(batch), *plan_lines(batch)[1:]]))


def _told(line: str) -> None:
    typer.secho(line, err=True, dim=True)


def _check(batch: dict[str, Any]) -> None:
    """Ends the command with 1 for a batch that was not completed."""
    if batch["status"] != "completed":
        fail(f"the batch {batch['id']} is {batch['status']}", *problems(batch))


# What is asked


def first_url(source: Path) -> str:
    """The endpoint of the first line that names one. Ends the command if none of the first hundred does."""
    with source.open("rb") as file:
        first = [line for _, line in zip(range(100), file, strict=False)]
    if not first:
        fail(f"{source}: is empty")
    for line in first:
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line.removeprefix(b"\xef\xbb\xbf"))["url"])
    return fail(f"{source}: no line is JSON with a 'url'; is it a batch's input? --endpoint names the endpoint")


def _print(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_place(path: Path) -> None:
    """Ends the command before anything is done for a file that could not be written at the end."""
    if not path.parent.is_dir():
        fail(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        fail(f"{path}: is a folder; name a file with -o")
    if not os.access(path.parent, os.W_OK):
        fail(f"{path}: the folder {path.parent} is not writable")


def _under_way(service: Target, state: Path, input_print: str) -> str | None:
    """The batch that an earlier command began with this input and output, unless it came to nothing."""
    try:
        known = json.loads(state.read_text())
    except (FileNotFoundError, ValueError):
        return None
    if known.get("input") != input_print:
        fail(f"{state}: a batch with another input has this output; choose another one, or remove this file")
    for batch in service.ask("GET", "/v1/batches?limit=100")["data"]:
        if batch["id"] == known["batch"]:
            return None if batch["status"] in ("failed", "expired", "cancelled") else str(batch["id"])
    return None


def _create(service: Target, source: Path, endpoint: str, dry_run: bool = False) -> str:
    import httpx

    with service.reached(), source.open("rb") as file:
        answer = httpx.post(
            f"{service.url}/v1/files",
            data={"purpose": "batch"},
            files={"file": (source.name, file)},
            headers=service.headers,
            timeout=httpx.Timeout(60, write=None, read=300),
            trust_env=False,
            verify=service.verify,
        )
    made = service.content(answer)
    body = {"input_file_id": made["id"], "endpoint": endpoint, "completion_window": "24h", "coe": {"dry_run": dry_run}}
    try:
        return str(service.ask("POST", "/v1/batches", body)["id"])
    except typer.Exit:  # it was told why; the file is of no use
        service.ask("DELETE", f"/v1/files/{made['id']}")
        raise


def _follow(service: Target, batch_id: str) -> dict[str, Any]:
    """The batch at its end; meanwhile how far it is, on standard error."""
    with _live() as show:
        while True:
            batch: dict[str, Any] = service.ask("GET", f"/v1/batches/{batch_id}", patience_s=PATIENCE_S)
            show(batch)
            if batch["status"] in ENDS:
                return batch
            time.sleep(LOOK_S)


@contextmanager
def _live() -> Iterator[Any]:
    """On a terminal a picture of the plan that moves, else a line for each status."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda batch: live.update(_picture(batch))
        return
    seen: set[str] = set()

    def show(batch: dict[str, Any]) -> None:
        if batch["status"] not in seen:
            seen.add(batch["status"])
            _told(row(batch))

    yield show


def _download(service: Target, file_id: str, path: Path) -> None:
    import httpx

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            service.reached(),
            draft.open("wb") as file,
            httpx.stream(
                "GET",
                f"{service.url}/v1/files/{file_id}/content",
                headers=service.headers,
                timeout=60,
                trust_env=False,
                verify=service.verify,
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
                service.content(answer)
            for piece in answer.iter_bytes():
                file.write(piece)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
