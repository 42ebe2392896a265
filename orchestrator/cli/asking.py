"""`coe chat` and `coe route`: a running service, asked from the terminal."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from orchestrator.cli.common import ConfigFlag, HostFlag, KeyFlag, PortFlag, Target, errors_told, fail, target

ModelFlag = Annotated[str, typer.Option("--model", "-m", help="auto, an expert, or ensemble/NAME.")]


def route_command(
    prompt: Annotated[str, typer.Argument(help="What you would ask.")],
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also skills, candidates, and who was removed and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The decision as JSON.")] = False,
) -> None:
    """Show which expert would answer, and why, without generating."""
    with errors_told():
        decision = target(config, host, port, api_key).ask("POST", "/v1/route", {"prompt": prompt})
        if as_json:
            typer.echo(json.dumps(decision, indent=2))
            return
        typer.secho(", ".join(decision["experts"]), bold=True)
        typer.echo(decision["reason"])
        for category, probability in decision["probabilities"].items():
            typer.echo(f"  {category:<12} {probability:6.1%} {'#' * round(40 * probability)}".rstrip())
        for line in explained(decision["explain"]) if explain else ():
            typer.echo(line)


def explained(explain: dict[str, Any]) -> list[str]:
    """The skills that count, the decision's candidates with their weights, and those who were removed."""
    weights = explain["weights"]
    skills = [f"  {name:<24} {points:+.1f}" for name, points in explain.get("skills", {}).items()]
    lines = [f"  {name:<24} {weights[name]:.3f}" if name in weights else f"  {name}" for name in explain["candidates"]]
    removed = [f"  {name:<24} {why}" for name, why in explain["removed"].items()]
    return [
        *(["skills:", *skills] if skills else []),
        "candidates:",
        *lines,
        *(["removed:", *removed] if removed else []),
    ]


def chat_command(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; none: a conversation.")] = None,
    model: ModelFlag = "auto",
    system: Annotated[str | None, typer.Option("--system", help="Instructions that come before all else.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also tokens and seconds of each call.")] = False,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
) -> None:
    """Ask, and watch the answer stream; the route goes to standard error.

    In a conversation Ctrl-C ends the answer, and Ctrl-C or Ctrl-D at the prompt ends the conversation.
    """
    with errors_told():
        service = target(config, host, port, api_key)
        messages = [{"role": "system", "content": system}] if system else []
        if prompt is not None:
            _stream_answer(service, model, [*messages, {"role": "user", "content": prompt}], verbose)
            return
        for question in _questions():
            messages.append({"role": "user", "content": question})
            answer = _stream_answer(service, model, messages, verbose, in_conversation=True)
            messages.append({"role": "assistant", "content": answer})


def _stream_answer(
    service: Target, model: str, messages: list[dict[str, str]], verbose: bool, in_conversation: bool = False
) -> str:
    """Prints the answer as it comes; returns it."""
    import httpx

    body = {"model": model, "messages": messages, "stream": True}
    text, first = "", True
    last: dict[str, Any] = {}
    timeout = httpx.Timeout(60, read=None)  # the service has its own limit, and tells it
    try:
        with (
            service.reached(),
            httpx.stream(
                "POST",
                f"{service.url}/v1/chat/completions",
                json=body,
                headers=service.headers,
                timeout=timeout,
                trust_env=False,
                verify=service.verify,
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
                service.content(answer)
            for chunk in chunks(answer.iter_lines()):
                if error := chunk.get("error"):
                    typer.echo()
                    fail(error["message"])
                if decision := chunk.get("coe"):
                    last = decision
                    if first:
                        _told(f"[{', '.join(decision['experts'])}] {decision['reason']}")
                        first = False
                for choice in chunk["choices"]:
                    piece = choice["delta"].get("content") or ""
                    text += piece
                    sys.stdout.write(piece)
                    sys.stdout.flush()
    except KeyboardInterrupt:
        if not in_conversation:
            raise
    typer.echo()
    for line in epilogue(last, verbose):
        _told(line)
    return text


def chunks(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream of server-sent events, without comments, to its end."""
    for line in lines:
        data = line.removeprefix("data: ")
        if data != line and data != "[DONE]":
            yield json.loads(data)


def epilogue(coe: dict[str, Any], verbose: bool) -> list[str]:
    """What is to be told after an answer: who failed, what was not as asked for, and each call where that is wanted."""
    lines = [f"{name} gave nothing: {why}" for name, why in coe.get("failed", {}).items()]
    if coe.get("note"):
        lines.append(coe["note"])
    for call in coe.get("calls", ()) if verbose else ():
        usage = call["usage"] or {"prompt_tokens": 0, "completion_tokens": 0}
        tokens = f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
        cost = f", ${call['cost']:.6f}" if call.get("cost") is not None else ""
        lines.append(f"{call['expert']} ({call['role']}): {tokens}, {call['seconds']:.2f} s{cost}")
    return lines


def _told(line: str) -> None:
    typer.secho(line, err=True, dim=True)


def _questions() -> Iterator[str]:
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        if question:
            yield question
