"""`coe keys`: makes, shows, changes and ends API keys, beside a running service or without one."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from orchestrator.access.grant import (
    LIMITS,
    PRIORITIES,
    Grant,
    Priority,
    duration,
    expiry,
    parse_limit,
    strangers,
    with_limits,
)

if TYPE_CHECKING:
    from orchestrator.config.model import Config
    from orchestrator.keys import KeyInfo, Keys

T = TypeVar("T")

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(help="Id, beginning or name of the key.")]
ConfigFlag = Annotated[str | None, typer.Option("--config", help="coe.yaml; default: the one in this folder, if any.")]
HomeFlag = Annotated[str | None, typer.Option("--home", help="Folder of models, keys and data [COE_HOME].")]
RedisFlag = Annotated[str | None, typer.Option("--redis-url", help="A Redis server [COE_REDIS_URL].")]
JsonFlag = Annotated[bool, typer.Option("--json", help="As JSON.")]
ExpertsFlag = Annotated[str | None, typer.Option("--experts", help="Experts that it may use, with commas, or all.")]
EnsemblesFlag = Annotated[
    str | None, typer.Option("--ensembles", help="Ensembles that it may use, with commas, or all, or none.")
]
AdminFlag = Annotated[bool | None, typer.Option("--admin/--no-admin", help="May it manage keys under /admin/v1?")]
PriorityFlag = Annotated[str | None, typer.Option("--priority", help=f"{', '.join(PRIORITIES)}.")]
ExpiresFlag = Annotated[str | None, typer.Option("--expires", help="never, a duration such as 90d, or a date.")]
LimitFlag = Annotated[
    list[str] | None,
    typer.Option("--limit", help=f"NAME=NUMBER, NAME=none or NAME=default; of {', '.join(LIMITS)}. May be repeated."),
]


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    experts: ExpertsFlag = None,
    ensembles: EnsemblesFlag = None,
    admin: AdminFlag = None,
    priority: PriorityFlag = None,
    expires: ExpiresFlag = None,
    limit: LimitFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Make a new key and show it once. Works beside a running service."""

    async def create(keys: "Keys", configured: "Config") -> None:
        grant = _grant(Grant(), configured, experts, ensembles, admin, priority, limit)
        until = _told(lambda: expiry(expires, time.time())) if expires else None
        try:
            key, info = await keys.create(name, grant, until)
        except ValueError as error:
            _fail(str(error))
        typer.echo(f"{key}\n{info.prefix}... is {name!r}. It is not shown again: only its hash is kept.")
        if len({other.lineage for other in await keys.list() if other.name == name}) > 1:
            typer.echo(f"There is another key of this name, so commands take this one as {info.prefix}", err=True)

    _with_keys(create, config, home, redis_url)


@keys_app.command("list")
def list_keys(
    as_json: JsonFlag = False, config: ConfigFlag = None, home: HomeFlag = None, redis_url: RedisFlag = None
) -> None:
    """List the keys, oldest first."""

    async def show(keys: "Keys", _: "Config") -> None:
        infos = await keys.list()
        if as_json:
            typer.echo(json.dumps([_field(info) for info in infos], indent=2))
            return
        for info in infos:
            state = info.state(time.time())
            more = "" if state == "active" else f"  ({state})"
            typer.echo(f"{info.id}  {info.prefix}...  {info.name}{more}")

    _with_keys(show, config, home, redis_url)


@keys_app.command("show")
def show_key(
    which: Which,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Show what is known of a key: state, scopes, priority and its own limits."""

    async def show(keys: "Keys", configured: "Config") -> None:
        info = await keys.find(which)
        if as_json:
            typer.echo(json.dumps(_field(info), indent=2))
            return
        for line in _lines(info, configured):
            typer.echo(line)

    _with_keys(show, config, home, redis_url)


@keys_app.command("update")
def update_key(
    which: Which,
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    experts: ExpertsFlag = None,
    ensembles: EnsemblesFlag = None,
    admin: AdminFlag = None,
    priority: PriorityFlag = None,
    expires: ExpiresFlag = None,
    limit: LimitFlag = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Does it work at all?")] = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Change what is given of a key; running services notice within a minute."""
    if all(value is None for value in (name, experts, ensembles, admin, priority, expires, enable)) and not limit:
        _fail("nothing to change; see: coe keys update --help")

    async def update(keys: "Keys", configured: "Config") -> None:
        until = _told(lambda: expiry(expires, time.time())) if expires else None

        def change(info: "KeyInfo") -> "KeyInfo":
            return replace(
                info,
                name=name or info.name,
                enabled=info.enabled if enable is None else enable,
                expires=until if expires else info.expires,
                grant=_grant(info.grant, configured, experts, ensembles, admin, priority, limit),
            )

        for line in _lines(await keys.update(which, change), configured):
            typer.echo(line)

    _with_keys(update, config, home, redis_url)


@keys_app.command("rotate")
def rotate_key(
    which: Which,
    grace: Annotated[str, typer.Option("--grace", help="How long the old key lives on: 0s, 15m, 24h, 7d.")] = "24h",
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Make a new key in place of one, with its name, scopes and limits, and show it once."""

    async def rotate(keys: "Keys", _: "Config") -> None:
        key, info = await keys.rotate(which, _told(lambda: duration(grace)))
        typer.echo(f"{key}\n{info.prefix}... is {info.name!r} now; the key before it ends in {grace}.")

    _with_keys(rotate, config, home, redis_url)


@keys_app.command("revoke")
def revoke_key(which: Which, config: ConfigFlag = None, home: HomeFlag = None, redis_url: RedisFlag = None) -> None:
    """Remove a key, or by its name also those that it was rotated from."""

    async def revoke(keys: "Keys", _: "Config") -> None:
        info = await keys.revoke(which)
        typer.echo(f"revoked {info.prefix}... ({info.name})")

    _with_keys(revoke, config, home, redis_url)


@keys_app.command("usage")
def key_usage(
    which: Which,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Show what a key has used within the last minute and the last 24 hours, and of which limits."""

    async def usage(keys: "Keys", configured: "Config") -> None:
        from orchestrator.access.limiter import Limiter
        from orchestrator.metrics import Metrics

        info = await keys.find(which)
        limiter = Limiter(keys.store, Metrics(), configured.limits.per_key.model_dump())
        used, caps = await limiter.used(info.lineage), limiter.caps(info.grant)
        if as_json:
            typer.echo(json.dumps({name: {"used": value, "limit": caps.get(name)} for name, value in used.items()}))
            return
        for name, value in used.items():
            most = f"of {caps[name]:g}" if name in caps else "(no limit)"
            typer.echo(f"{name:<20} {value:g} {most}")

    _with_keys(usage, config, home, redis_url)


def _grant(
    grant: Grant,
    configured: "Config",
    experts: str | None,
    ensembles: str | None,
    admin: bool | None,
    priority: str | None,
    limits: Sequence[str] | None,
) -> Grant:
    """`grant` with what was given. Names that this configuration does not have are told, and kept: they may be another
    service's."""
    given: dict[str, Any] = {}
    if experts is not None:
        given["experts"] = _names(experts)
        if given["experts"] == ():
            _fail("--experts: got no name; allowed: names with commas, or all")
    if ensembles is not None:
        names = () if ensembles.strip() == "none" else _names(ensembles)
        given["ensembles"] = None if names is None else tuple(_ensemble(name) for name in names)
    if admin is not None:
        given["admin"] = admin
    if priority is not None:
        given["priority"] = _priority(priority)
    if limits:
        changes = dict(_told(lambda: [parse_limit(text) for text in limits]))
        given["limits"] = with_limits(grant.limits, changes)
    changed = replace(grant, **given)
    known = [_ensemble(name) for name in configured.ensembles]
    for line in strangers(changed, configured.registry().names, known):
        typer.secho(f"coe: note: {line} in this configuration", fg="yellow", err=True)
    return changed


def _names(text: str) -> tuple[str, ...] | None:
    if text.strip() == "all":
        return None
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _ensemble(name: str) -> str:
    from orchestrator.ensembles import PREFIX

    return name if name.startswith(PREFIX) else PREFIX + name


def _priority(text: str) -> Priority:
    found = next((priority for priority in PRIORITIES if priority == text), None)
    return found or _fail(f"--priority: got {text[:100]!r}; allowed: {', '.join(PRIORITIES)}")


def _lines(info: "KeyInfo", configured: "Config") -> list[str]:
    """A key for people."""
    grant, defaults = info.grant, configured.limits.per_key.model_dump()

    def names(scope: tuple[str, ...] | None) -> str:
        return "all" if scope is None else ", ".join(scope) or "none"

    lines = [
        f"id          {info.id}",
        f"name        {info.name}",
        f"begins with {info.prefix}",
        f"state       {info.state(time.time())}",
        f"created     {_date(info.created)}",
        f"expires     {'never' if info.expires is None else _date(info.expires)}",
        f"experts     {names(grant.experts)}",
        f"ensembles   {names(grant.ensembles)}",
        f"admin       {'yes' if grant.admin else 'no'}",
        f"priority    {grant.priority}",
    ]
    for name in LIMITS:
        own = name in grant.limits
        value = grant.limits[name] if own else defaults[name]
        if own or value is not None:
            lines.append(f"limit       {name} {'none' if value is None else f'{value:g}'}{'' if own else ' (default)'}")
    return lines


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _field(info: "KeyInfo") -> dict[str, Any]:
    return {**asdict(info), "state": info.state(time.time())}


def _told(parse: Callable[[], T]) -> T:
    """What `parse` gives; what is wrong with what the user wrote is told, and ends the command."""
    try:
        return parse()
    except ValueError as error:
        _fail(str(error))


def _fail(line: str) -> NoReturn:
    from orchestrator.cli.common import fail

    fail(line)


Action = Callable[["Keys", "Config"], Coroutine[Any, Any, None]]


def _with_keys(action: Action, config: str | None, home: str | None, redis_url: str | None) -> None:
    """Runs `action` on the service's Redis: the configured one, the running embedded one, or one of its own."""
    from orchestrator.cli.common import errors_told

    with errors_told():
        from contextlib import ExitStack, suppress

        from orchestrator.config import load as configuration
        from orchestrator.embedded_redis import AlreadyRunning, EmbeddedRedis
        from orchestrator.keys import Keys
        from orchestrator.store import Store

        flags = {"config": config, "home": home, "redis_url": redis_url}
        settings, configured = configuration.load(flags, os.environ, Path.cwd())

        async def run(url: str) -> None:
            store = Store(url)
            try:
                await action(Keys(store), configured)
            finally:
                await store.close()

        with ExitStack() as stack:
            url = settings.redis_url
            if url is None:
                embedded = EmbeddedRedis(settings.home)
                with suppress(AlreadyRunning):  # by the service, whose Redis it is
                    stack.enter_context(embedded)
                url = embedded.url
            asyncio.run(run(url))
