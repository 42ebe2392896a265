"""The paths of the API: who may call what, and what answers. `create_app` makes an application of them."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.keys import KeyInfo

Handler = Callable[[Request], Awaitable[Response]]
Caller = Callable[[Request], Awaitable[KeyInfo]]
"""Verifies the key of a request."""


@dataclass(frozen=True, slots=True)
class Path:
    """method: in capitals. key: that it takes, an API key, one with the scope `admin`, or none. body: what it reads
    as JSON; form: as a form, with a file. query: what may stand behind the `?`. answer: what it gives, as JSON, with
    this status; None for a text, `bytes` for bytes. errors: causes that `openapi.py` does not know of
    itself. unwell: the answer may also come with the status 503. streams: it is one of server-sent events, always.

    The first sentence of the handler's docstring says what it does.
    """

    path: str
    method: str
    handler: Handler
    key: Literal["any", "admin", "none"] = "any"
    body: type[BaseModel] | None = None
    answer: Any = None
    status: int = 200
    errors: tuple[str, ...] = ()
    unwell: bool = False
    streams: bool = False
    query: type[BaseModel] | None = None
    form: Any = None

    @property
    def summary(self) -> str:
        return " ".join((self.handler.__doc__ or "").split("\n\n")[0].split())


def routes(paths: Iterable[Path], caller: Caller, check_admin: Callable[[Request], None]) -> list[Route]:
    """check_admin: raises for a request whose verified key has not the scope."""
    return [
        Route(own.path, _behind(own, caller, check_admin), methods=[own.method], include_in_schema=False)
        for own in paths
    ]


def _behind(own: Path, caller: Caller, check_admin: Callable[[Request], None]) -> Handler:
    handler = own.handler
    if own.key == "none":
        return _plain(handler)

    async def with_key(request: Request) -> Response:
        await caller(request)
        if own.key == "admin":
            check_admin(request)
        return await handler(request)

    return with_key


def _plain(handler: Handler) -> Handler:
    """As a function, for which Starlette asks."""

    async def endpoint(request: Request) -> Response:
        return await handler(request)

    return endpoint
