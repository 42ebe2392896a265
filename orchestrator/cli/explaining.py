"""`coe explain` and `coe router export`: what became of requests, and what users said of it as labels."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from orchestrator.cli.asking import explained
from orchestrator.cli.common import ConfigFlag, HostFlag, KeyFlag, PortFlag, errors_told, fail, target


def explain_command(
    answer_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of an answer or a request; none: the latest are listed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many are listed.")] = 20,
    expert: Annotated[str | None, typer.Option("--expert", help="List those that were sent there.")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="List those that ended so, such as ok.")] = None,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the service has it.")] = False,
) -> None:
    """Show why an answer came from where it came, what it cost and where its time went; or list the latest routes."""
    with errors_told():
        service = target(config, host, port, api_key)
        if answer_id is not None:
            found = service.ask("GET", f"/v1/routes/{quote(answer_id, safe='')}")
            lines = told(found)
        else:
            query = {"limit": limit, "expert": expert, "outcome": outcome}
            given = urlencode({name: value for name, value in query.items() if value is not None})
            found = service.ask("GET", f"/v1/routes?{given}")
            lines = table(found["data"])
        if as_json:
            typer.echo(json.dumps(found, indent=2))  # which escapes what is not ASCII
            return
        for line in lines:
            typer.echo(_printable(line))


def told(record: dict[str, Any]) -> list[str]:
    """A record in lines."""
    coe = record["coe"]
    lines = [
        f"{record['id']}  {_time(record['created'])}  {record['model']} -> {', '.join(record['experts'])}",
        f"{record['outcome']}: {coe['reason']}",
    ]
    if used := coe["used"]:
        drafts = f" of the drafts of {', '.join(used)}" if len(record["experts"]) > 1 else ""
        lines.append(f"answered by {coe['expert']}{drafts}" if coe["expert"] else f"made{drafts}, nobody's alone")
    if record["prompt"] is not None:
        lines.append(f"prompt: {' '.join(record['prompt'].split())[:200]}")
    lines += [f"  {name:<24} {value:6.1%}" for name, value in coe["probabilities"].items()]
    lines += explained(coe["explain"])
    if coe["calls"]:
        lines += ["calls:", *map(_call, coe["calls"])]
    lines += [f"  {name} gave nothing: {why}" for name, why in coe["failed"].items()]
    for title in ("votes", "scores"):
        if said := coe["explain"][title]:
            lines.append(f"{title}: " + ", ".join(f"{name} = {value:g}" for name, value in said.items()))
    if coe["note"]:
        lines.append(coe["note"])
    parts = {
        "admission": record["admission_seconds"],
        "router": record["router_seconds"],
        "first token": record["first_token_seconds"],
        "all": record["seconds"],
    }
    lines.append("seconds: " + ", ".join(f"{name} {value:.4f}" for name, value in parts.items() if value is not None))
    if record["feedback"] is not None:
        lines.append(f"feedback: {record['feedback']['score']:g}, {_time(record['feedback']['at'])}")
    if record["trace_id"] is not None:
        lines.append(f"trace: {record['trace_id']}")
    return lines


def _call(call: dict[str, Any]) -> str:
    usage = call["usage"] or {"prompt_tokens": 0, "completion_tokens": 0}
    parts = [f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens", f"{call['seconds']:.3f} s"]
    if call["cost"] is not None:
        parts.append(f"${call['cost']:.6f}")
    if call["phases"]:
        parts.append(", ".join(f"{name} {seconds:.3f}" for name, seconds in call["phases"].items()))
    if call["error"]:
        parts.append(call["error"])
    return f"  {call['expert']} ({call['role']}): {'; '.join(parts)}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each record, the newest first."""
    lines = [f"{'id':<36}  {'ended':<19}  {'outcome':<12}  {'seconds':>8}  {'score':>5}  experts (category)"]
    for row in rows:
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.3f}"
        score = "-" if row["score"] is None else f"{row['score']:g}"
        who = ", ".join(row["experts"]) + (f" ({row['category']})" if row["category"] else "")
        lines.append(f"{row['id']:<36}  {_time(row['created'])}  {row['outcome']:<12}  {seconds:>8}  {score:>5}  {who}")
    return lines


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"


# Labels


def export_command(
    out: Annotated[Path, typer.Option("--out", help="The labelled file, which must end in .jsonl.")],
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Prompts of your own log, a JSON object a line with id and prompt, where none are kept."
        ),
    ] = None,
    with_category: Annotated[
        bool, typer.Option("--with-category", help="Leave out prompts without one, as those sent to an expert by name.")
    ] = False,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
) -> None:
    """Write what users said of answers as a labelled file for `coe router fit`.

    Prompts are there of one's own key, of all keys with the scope admin, and only where `records.content` is true.
    """
    from orchestrator.ratings import labelled_rows
    from routers.files import replace_file

    with errors_told():
        if out.suffix != ".jsonl":
            fail(f"--out: got {out.name!r}; the name must end in .jsonl")
        known = {} if prompts is None else _prompts(prompts)
        rows = target(config, host, port, api_key).ask("GET", "/v1/feedback?prompts=true")["data"]
        kept = [row for row in rows if row["category"] or not with_category]
        if len(kept) < len(rows):
            typer.echo(f"{len(rows) - len(kept)} ratings have no category and are left out", err=True)
        found = labelled_rows(kept, known)
        if found.without_prompt:
            typer.echo(
                f"{found.without_prompt} ratings have no prompt: set records.content to true in coe.yaml for those to "
                "come, ask with a key that has the scope admin, or give --prompts",
                err=True,
            )
        if found.without_expert:
            typer.echo(f"{found.without_expert} ratings are of answers that no expert gave alone", err=True)
        if found.without_category:
            typer.echo(
                f"{found.without_category} prompts have no category, as those sent to an expert by name; so the file "
                "has none, and `coe router fit` makes its own: --with-category leaves these prompts out",
                err=True,
            )
        if not found.rows:
            fail("there is nothing to export: no rating has both a prompt and an expert")
        replace_file(out, b"".join(json.dumps(row).encode() + b"\n" for row in found.rows))
        distinct = len({row["prompt_id"] for row in found.rows})
        typer.echo(f"{len(found.rows)} rows of {distinct} prompts in {out}; next: coe router fit {out} --out DIR")


def _prompts(path: Path) -> dict[str, str]:
    """Request id -> prompt. Ends the command for a line that has not both."""
    from orchestrator.http.chat import request_id_of

    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            own, prompt = row["id"], row["prompt"]
        except (ValueError, KeyError, TypeError):
            own = prompt = None
        if not isinstance(own, str) or not isinstance(prompt, str):
            fail(f"{path}, line {number}: each line must be a JSON object with the texts 'id' and 'prompt'")
        found[request_id_of(own)] = prompt
    return found


def _printable(text: str) -> str:
    """In one line, without what a terminal takes for a command: somebody else has written it."""
    return "".join(letter for letter in " ".join(text.splitlines()).expandtabs(1) if letter.isprintable())
