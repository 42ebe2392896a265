"""`coe keys`: API keys."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.common import ConfigFlag, HomeFlag, RedisFlag, errors_told

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Make a new key and show it once. Works beside a running service."""

    async def create(keys: Any) -> None:
        key, info = await keys.create(name)
        typer.echo(f"{key}\n{info.prefix}... is {name!r}. It is not shown again: only its hash is kept.")

    _with_keys(create, config, home, redis_url)


@keys_app.command("list")
def list_keys(config: ConfigFlag = None, home: HomeFlag = None, redis_url: RedisFlag = None) -> None:
    """List the keys: their beginnings and names."""

    async def show(keys: Any) -> None:
        for info in await keys.list():
            typer.echo(f"{info.prefix}...  {info.name}")

    _with_keys(show, config, home, redis_url)


@keys_app.command("revoke")
def revoke_key(
    which: Annotated[str, typer.Argument(help="Name or beginning of the key.")],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    redis_url: RedisFlag = None,
) -> None:
    """Revoke a key."""

    async def revoke(keys: Any) -> None:
        info = await keys.revoke(which)
        typer.echo(f"revoked {info.prefix}... ({info.name})")

    _with_keys(revoke, config, home, redis_url)


def _with_keys(action: Any, config: str | None, home: str | None, redis_url: str | None) -> None:
    """Runs `action(keys)` on the service's Redis: the configured one, the running embedded one, or one of its own."""
    with errors_told():
        from contextlib import ExitStack, suppress

        from orchestrator.config import load as configuration
        from orchestrator.embedded_redis import AlreadyRunning, EmbeddedRedis
        from orchestrator.keys import Keys
        from orchestrator.store import Store

        flags = {"config": config, "home": home, "redis_url": redis_url}
        settings, _ = configuration.load(flags, os.environ, Path.cwd())

        async def run(url: str) -> None:
            store = Store(url)
            try:
                await action(Keys(store))
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
