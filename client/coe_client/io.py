"""The ways to the network, one that blocks and one that is awaited, under one interface; and what follows the first.

All that a client does is written once, with `await`, over this interface. The blocking ways never wait in an `await`:
they return when they are done, so that `finished` can run such code to its end without an event loop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Io(Protocol):
    """Raises httpx.HTTPError."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer; its body is still to come."""
        ...

    def body(self, response: httpx.Response) -> Callable[[], Awaitable[bytes | None]]:
        """Gives the next bytes of the body, None at its end."""
        ...

    async def close(self, response: httpx.Response) -> None: ...

    async def sleep(self, seconds: float) -> None: ...

    def build(self, method: str, url: str, **parts: Any) -> httpx.Request: ...


class Blocking:
    def __init__(self, http: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._http, self._sleep = http, sleep

    def build(self, method: str, url: str, **parts: Any) -> httpx.Request:
        return self._http.build_request(method, url, **parts)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request, stream=True)

    def body(self, response: httpx.Response) -> Callable[[], Awaitable[bytes | None]]:
        parts: Iterator[bytes] = response.iter_bytes()

        async def following() -> bytes | None:
            return next(parts, None)

        return following

    async def close(self, response: httpx.Response) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)


class Awaited:
    def __init__(self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._http, self._sleep = http, sleep

    def build(self, method: str, url: str, **parts: Any) -> httpx.Request:
        return self._http.build_request(method, url, **parts)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True)

    def body(self, response: httpx.Response) -> Callable[[], Awaitable[bytes | None]]:
        parts: AsyncIterator[bytes] = response.aiter_bytes()
        return lambda: anext(parts, None)

    async def close(self, response: httpx.Response) -> None:
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of work over `Blocking`."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("work over blocking ways waits for an event loop")
