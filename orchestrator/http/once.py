"""The header Idempotency-Key on POSTs under /v1: the same key twice is one execution and the same answer.

A request whose client leaves goes on for `linger_s`, and to its end if the client's next try has come by then and waits
for the answer. What ends as an error, or is given up, is not kept, so the next try executes it.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.access.once import LEASE_S, Execution, Kept, Lost, Other, Running, claim
from orchestrator.errors import ApiError, quote
from orchestrator.http.guards import UPLOADS
from orchestrator.http.reading import deadline, read_body
from orchestrator.http.streams import until_gone
from orchestrator.keys import KeyInfo
from orchestrator.store import Store, StoreUnavailable

HEADER = "Idempotency-Key"
REPLAYED = "x-coe-replayed"
OWN_OF_A_TRY = ("x-ratelimit-", "x-request-id")
"""Beginnings of headers that are of one try only, and are not replayed."""
LAST = re.compile(rb"^(data: \[DONE\]|event: response\.(completed|incomplete))", re.MULTILINE)
"""In the last piece of a stream."""
FAILED = re.compile(rb"^(data: \{\"error\"|event: (error|response\.failed))", re.MULTILINE)
"""How a stream tells that it has failed."""
FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Rules:
    """enabled: False = the header has no effect. ttl_s: how long answers are kept; max_bytes: of one; closed: refuse
    while Redis is away? wait_s: how long a try waits for another that runs, if its deadline is not
    sooner; linger_s: how long one goes on whose client has left; body_bytes: of a request."""

    enabled: bool = True
    ttl_s: float = 86400.0
    max_bytes: int = 1 << 20
    closed: bool = True
    wait_s: float = 600.0
    body_bytes: int = 1 << 20
    lease_s: float = LEASE_S
    linger_s: float = 5.0


class Once:
    """ASGI middleware. caller: verifies the key of a request."""

    def __init__(
        self, app: ASGIApp, store: Store, caller: Callable[[Request], Awaitable[KeyInfo]], rules: Rules
    ) -> None:
        self._app, self._store, self._caller, self._rules = app, store, caller, rules
        self._waiting: Counter[tuple[str, str]] = Counter()  # lineage and key -> tries that wait for another

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._rules.enabled or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        key = request.headers.get(HEADER)
        # Not under /admin, whose answers hold new keys, and not for uploads, whose bodies may be of any size.
        if key is None or not scope["path"].startswith("/v1/") or scope["path"] == UPLOADS:
            await self._app(scope, receive, send)
            return
        if not re.fullmatch(r"[!-~]{1,255}", key):
            text = f"{HEADER}: got {quote(key)}; allowed: 1 to 255 printable ASCII characters without spaces"
            raise ApiError("invalid_value", text, HEADER)
        caller = await self._caller(request)
        body = await read_body(request, self._rules.body_bytes)
        try:
            found = await self._found(request, caller, key, scope["path"].encode() + b"\n" + body)
        except StoreUnavailable:
            if self._rules.closed:
                raise
            await self._app(scope, _once_read(body, receive), send)
            return
        if isinstance(found, Kept):
            await _replayed(found)(scope, receive, send)
        else:
            left = _Left(receive, self._rules.linger_s, lambda: self._waiting[caller.lineage, key] > 0)
            await self._execute(found, scope, _once_read(body, left), send)

    async def _found(self, request: Request, caller: KeyInfo, key: str, wanted: bytes) -> Execution | Kept:
        """The answer, or that there is none yet. Waits while another try executes it."""
        until, look = deadline(request, self._rules.wait_s), FIRST_LOOK_S
        while True:
            found = await claim(self._store, caller.lineage, key, wanted, self._rules.lease_s)
            if isinstance(found, Execution | Kept):
                return found
            if isinstance(found, Other):
                text = f"{HEADER} {quote(key)} was used with another path or body; take a new one for a new request"
                raise ApiError("idempotency_mismatch", text, HEADER)
            if isinstance(found, Lost):
                text = (
                    f"the request with the {HEADER} {quote(key)} was executed, and its answer was too large to be kept"
                )
                raise ApiError("idempotency_lost", f"{text}; take a new one to execute it again", HEADER)
            assert isinstance(found, Running)
            if time.time() >= until:
                text = f"the request with the {HEADER} {quote(key)} is still running; try again later"
                raise ApiError("idempotency_running", text, HEADER)
            self._waiting[caller.lineage, key] += 1
            try:
                await until_gone(request.receive, asyncio.sleep(min(look, max(0.0, until - time.time()))))
            finally:
                self._waiting[caller.lineage, key] -= 1
                self._waiting += Counter()  # drops what is zero
            look = min(2 * look, LONGEST_LOOK_S)

    async def _execute(self, execution: Execution, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Recorded(send, self._rules.max_bytes, lambda kept: execution.keep(kept, self._rules.ttl_s))
        async with execution.held():
            try:
                await self._app(scope, receive, answer.send)
            finally:
                if not answer.is_kept:
                    await execution.forget()


class _Recorded:
    """Passes an answer on, and keeps what may be replayed: before its end goes out, so that whoever has all of it gets
    the same again, whatever dies in between. A client that has left gets no more of it."""

    def __init__(self, send: Send, max_bytes: int, keep: Callable[[Kept | Lost], Awaitable[None]]) -> None:
        self._send, self._max_bytes, self._keep = send, max_bytes, keep
        self.is_kept = False
        self._start: Message | None = None
        self._body = bytearray()
        self._size = 0
        self._complete = self._failed = self._gone = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = dict(message)
        elif message["type"] == "http.response.body":
            piece: bytes = message.get("body", b"")
            self._failed = self._failed or FAILED.search(piece) is not None
            self._size += len(piece)
            if self._size <= self._max_bytes:
                self._body += piece
            if not self._complete:
                self._complete = not message.get("more_body", False) or LAST.search(piece) is not None
                if self._complete and (whole := self._whole):
                    self.is_kept = True
                    await self._keep(whole)
        if not self._gone:
            try:
                await self._send(message)
            except OSError:
                self._gone = True

    @property
    def _whole(self) -> Kept | Lost | None:
        """None for what is no whole answer, or an error."""
        if self._start is None or self._start["status"] >= 400 or self._failed:
            return None
        if self._size > self._max_bytes:
            return Lost()
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start["headers"])
        own = tuple(header for header in headers if not header[0].lower().startswith(OWN_OF_A_TRY))
        try:
            return Kept(self._start["status"], own, self._body.decode())
        except UnicodeDecodeError:
            return Lost()


def _replayed(kept: Kept) -> Response:
    response = Response(kept.body.encode(), kept.status)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*kept.headers, (REPLAYED, "true"))]
    response.raw_headers = [header for header in headers if header[0] != b"content-length"]
    response.raw_headers.append((b"content-length", str(len(response.body)).encode()))
    return response


def _once_read(body: bytes, then: Receive) -> Receive:
    """A channel that has the body first."""
    read = False

    async def receive() -> Message:
        nonlocal read
        if read:
            return await then()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class _Left:
    """A channel that tells late that the client has left: after `linger_s`, and not while another try waits."""

    def __init__(self, receive: Receive, linger_s: float, is_wanted: Callable[[], bool]) -> None:
        self._receive, self._linger_s, self._is_wanted = receive, linger_s, is_wanted

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            await asyncio.sleep(self._linger_s)
            while self._is_wanted():  # noqa: ASYNC110  # the other try looks as seldom
                await asyncio.sleep(LONGEST_LOOK_S)
        return message
