"""`coe bench`: how fast a running service is."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.asking import ModelFlag
from orchestrator.cli.common import ConfigFlag, HostFlag, KeyFlag, PortFlag, Target, errors_told, fail, target
from orchestrator.cli.load import Load, PromptsError, Sample, lines, measure, read_prompts, summary, words

DIFFERENT = 1000
"""Prompts that are made up at most; after these they begin anew."""


def bench_command(
    model: ModelFlag = "auto",
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, max=1_000_000, help="How many.")] = 100,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="How many at a time.")] = 8,
    prompt_words: Annotated[
        int, typer.Option("--words", min=1, max=100_000, help="Words of each made-up prompt.")
    ] = 50,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help='Prompts instead: {"prompt": "..."} or {"messages": [...]} a line.')
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Limit of each answer.")] = 64,
    stream: Annotated[bool, typer.Option("--stream/--whole", help="Streamed answers, or whole ones.")] = True,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=86_400, help="No new requests after these.")] = 600,
    seed: Annotated[int, typer.Option("--seed", help="Of made-up prompts.")] = 0,
    config: ConfigFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    api_key: KeyFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Put load on the running service; show time to first token, between tokens and in all, rates, and errors by kind.

    Ends with 1 if no request was answered.
    """
    with errors_told():
        service = target(config, host, port, api_key)
        try:
            chats = read_prompts(prompts) if prompts else words(prompt_words, min(requests, DIFFERENT), seed)
        except PromptsError as error:
            fail(str(error))
        load = Load(chats, model, requests, concurrency, max_tokens, stream, seconds)
        service.ask("GET", "/v1/models")  # that there is a service and the key is good, is told before the load
        samples, took = asyncio.run(_run(service, load))
    found = summary(load, samples, took)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for line in lines(found, service.url):
            typer.echo(line)
    if not found["answered"]:
        raise typer.Exit(1)


async def _run(service: Target, load: Load) -> tuple[list[Sample], float]:
    import httpx

    limits = httpx.Limits(max_connections=load.concurrency, max_keepalive_connections=load.concurrency)
    async with httpx.AsyncClient(
        base_url=service.url,
        headers=service.headers,
        timeout=httpx.Timeout(60, read=None),
        limits=limits,
        trust_env=False,
        verify=service.verify,
    ) as client:
        return await measure(client, load)
