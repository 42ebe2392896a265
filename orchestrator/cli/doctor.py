"""`coe doctor`: the checks, a line each."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import ConfigFlag, HomeFlag, HostFlag, PortFlag, RayFlag, RedisFlag, errors_told

_COLOUR = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor_command(
    config: ConfigFlag = None,
    home: HomeFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    redis_url: RedisFlag = None,
    ray_address: RayFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of the checks as JSON.")] = False,
) -> None:
    """Check machine, packages, settings, Redis, Ray, models and a running service; say what to do. Changes nothing.

    Ends with 1 if a check fails; warnings do not count.
    """
    flags = {
        "config": config,
        "home": home,
        "host": host,
        "port": port,
        "redis_url": redis_url,
        "ray_address": ray_address,
    }
    with errors_told():
        from orchestrator.doctor import Check, examine

        found: list[Check] = []
        for check in examine(flags, os.environ, Path.cwd()):
            found.append(check)
            if not as_json:
                typer.secho(f"{check.level:<5}", fg=_COLOUR[check.level], nl=False)
                typer.echo(f"{check.name:<16} {check.found}")
                if check.todo:
                    typer.echo(f"{'':<22}-> {check.todo}")
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in found], indent=2))
    if any(check.level == "fail" for check in found):
        raise typer.Exit(1)
