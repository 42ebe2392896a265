"""One HTTP connection, bounded in memory and time before any request is there.

uvicorn's parser, llhttp, has no bound of its own on a head, waits for one for ever, and queues every request that is
pipelined. `Connection` adds these bounds, and answers what is no HTTP in the shape of every other error. What it relies
on in uvicorn, tests/orchestrator/test_attacks.py tries.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from orchestrator.errors import ApiError
from orchestrator.http.door import key_of, plain
from orchestrator.http.doorkeeper import Doorkeeper, raw_answer
from orchestrator.http.guards import ALWAYS, SHUT, WATCHED, Bounds

LINGER_S = 2.0
"""Seconds that a client may go on sending after its answer. Closed at once, its machine would throw the answer away."""

LINGER_BYTES = 4 << 20
"""And as many bytes: what comes then is thrown away, but has come over the network all the same."""
FRAMING = (b"content-length", b"transfer-encoding")
_ALWAYS = f"GET {ALWAYS} ".encode()

log = structlog.stdlib.get_logger(__name__)


class Refused(Exception):
    """Raised in the parser's callbacks to stop it; the error to answer is at `Connection.fault`."""


class Line:
    """A transport whose `close` is polite, and sure.

    polite: while `unread()`, it only says that nothing more will come, and the client has time to read that.
    sure: the connection ends after LINGER_S, even if the client takes nothing of what is still to be sent.
    """

    def __init__(self, transport: asyncio.Transport, unread: Callable[[], bool]) -> None:
        self._transport, self._unread = transport, unread
        self._closing: asyncio.TimerHandle | None = None
        self.write = transport.write

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
        if self._unread() and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._closing is not None or self._transport.is_closing()

    def lost(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """bounds: what a connection may take. keeper: of the door that requests come in by.

    fault: the error to answer where the parser was stopped.
    """

    bounds: ClassVar[Bounds] = Bounds()
    keeper: ClassVar[Doorkeeper]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fault: ApiError | None = None
        self._timer: asyncio.TimerHandle | None = None  # the bound on time that holds now: of a head or an unread body
        self._stalled: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._head_bytes = self._lingered = 0
        self._in_head = True  # or between requests
        self._in_message = False
        self._doomed = False  # nothing more is read; closed as soon as the answer under way is complete
        self._deaf = False  # to the parser, which is fed what is known already
        self._over = False  # the bound on connections
        self._unread = 0  # bytes still to come of a request that was turned away at the door
        self._asked = 0.0  # when the last one was
        self._leave: Callable[[], None] = lambda: None  # by the door, once the request that runs is answered

    # A connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Line(transport, lambda: self._in_message or self._doomed))  # type: ignore[arg-type]
        count = len(self.connections)
        if count > self.bounds.connections + self.bounds.spare:
            self.keeper.crowded(self.bounds.connections)
            transport.abort()
            return
        self._over = count > self.bounds.connections
        self._arm(LINGER_S if self._over else self.bounds.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unstall()
        self._unset_keepalive_if_required()
        if isinstance(self.transport, Line):
            self.transport.lost()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the last request of several only
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_unwanted():
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.transport.abort()
                return
        if self._doomed or self.transport.is_closing():
            return
        if self._unread:
            self._unread, data = max(0, self._unread - len(data)), data[self._unread :]
            if not data:
                return
        if self._over and self._is_between and not data.startswith(_ALWAYS):
            self._fail(self.keeper.crowded(self.bounds.connections))
            return
        if self.keeper.door.is_shut and self._is_between and self._turned_away(data):
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._timer is None or self._asked:  # the first byte of a later request
                self._asked = 0.0
                self._arm(self.bounds.head_s, self._too_slow)
        self._unset_keepalive_if_required()
        self._parse(data)
        # A head that is not complete is nowhere but in the parser. One that is complete is judged by `Guards`.
        if self._in_head and self._head_bytes > self.bounds.header_bytes + self.bounds.path_bytes:
            text = f"the head of the request is over the limit of {self.bounds.header_bytes:,} bytes"
            self._fail(ApiError("headers_too_large", text))

    # The door

    @property
    def _is_between(self) -> bool:
        """Has every request that began been answered, and is nothing of the next one there?"""
        cycle = self._running  # no later one has begun: what is pipelined is answered in its order
        return not self._in_message and not self._head_bytes and (cycle is None or cycle.response_complete)

    def _turned_away(self, data: bytes) -> bool:
        """Answers without the parser a request that the door does not let in, if it can be told from its bytes."""
        asked = None if self.flow.write_paused else plain(data)  # who does not read fills no memory
        if asked is None or asked.missing > LINGER_BYTES or not self.keeper.door.refuses(asked.key, asked.makes_work):
            return False
        self.transport.write(self.keeper.answer)
        self._unread = asked.missing
        if not self._asked:
            self._unset_keepalive_if_required()
            self._arm(self.bounds.idle_s, self._idle)
        self._asked = self.loop.time()
        return True

    def _idle(self) -> None:
        """One timer for any number of requests that are turned away."""
        self._timer = None
        left = self._asked + self.bounds.idle_s - self.loop.time()
        if left > 0 and not self._unread:
            self._arm(left, self._idle)
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._running = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _ended_by_closing(cycle, app)
        if cycle.scope["path"].startswith("/v1/") and cycle.scope["path"] != WATCHED:
            headers = cycle.scope["headers"]
            key = key_of(next((value for name, value in headers if name == b"authorization"), b""))
            door = self.keeper.door
            if door.refuses(key, cycle.scope["method"] == "POST"):
                cycle.scope["state"][SHUT] = self.keeper.refusal()
            else:
                tickets = [door.enter(key)]

                def leave() -> None:
                    if tickets:
                        door.leave(tickets.pop())

                async def inside(scope: Scope, receive: Receive, send: Send) -> None:
                    try:
                        await app(scope, receive, send)
                    finally:
                        leave()

                self._leave = leave
                super()._start_asgi_task(cycle, inside)  # type: ignore[arg-type]
                return
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _is_unwanted(self) -> bool:
        """Is what comes now of no use to anybody: after the end, or of a body whose request was answered without it?"""
        answered = self._in_message and not self._in_head and self.cycle.response_complete
        return self._doomed or self.transport.is_closing() or answered

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            text = "the bytes are not a request of HTTP/1.1, or are so only nearly"
            self._fail(self.fault or ApiError("malformed_request", text))

    def _decline(self, rest: bytes) -> None:
        """Goes on in HTTP/1.1 after an offer of another protocol, as Java's client makes it with its first request.

        The parser takes what follows the head for that protocol, the body too. A new one is told only how that ends.
        """
        framing = [(name, value) for name, value in self.headers if name in FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        if framing:
            head = b"".join(b"%s: %s\r\n" % header for header in framing)
            self._deaf = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + head + b"\r\n")
            self._deaf = False
        if rest or framing:
            self._parse(rest)

    # Slow clients

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unstall()
        self._stalled = self.loop.call_later(self.bounds.stall_s, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unstall()

    def _give_up(self) -> None:
        log.info("connection closed: the client does not read its answer", seconds=self.bounds.stall_s)
        self.transport.abort()

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._head_bytes == 0:
            self.transport.close()  # nothing was asked, so nothing is answered
        else:
            text = f"the head of the request was not there within {self.bounds.head_s:g} s"
            self._fail(ApiError("request_timeout", text))

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The parser's callbacks

    def on_message_begin(self) -> None:
        if self._deaf:
            return
        self._in_message = self._in_head = True
        if self._timer is None:
            self._arm(self.bounds.head_s, self._too_slow)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._deaf:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: uvicorn would put it among the headers, behind the back of whoever has read them
        if len(self.headers) <= self.bounds.headers:  # one more than allowed is enough to be refused
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        if len(self.pipeline) >= self.bounds.pipelined:
            text = f"more than {self.bounds.pipelined} requests wait on this connection, which is the limit"
            self.fault = ApiError("malformed_request", text)
            raise Refused
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and any(name in FRAMING for name, _ in self.headers):
            return  # it has a body, which is still to come
        super().on_message_complete()
        self._in_message, self._in_head = False, True
        self._disarm()
        if self.cycle.response_complete and not self.transport.is_closing():  # it was answered before it was all there
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self._leave()
        if self._doomed:
            self.transport.close()
            return
        super().on_response_complete()
        if self._running is self.cycle and self._in_message and not self._in_head:
            self._unset_keepalive_if_required()
            self._arm(LINGER_S, self.transport.close)

    # What is no HTTP

    def _fail(self, error: ApiError) -> None:
        """Answers the error and closes; where an answer is under way already, only closes after it."""
        if self._doomed:
            return
        self._doomed = True
        self._disarm()
        self.pipeline.clear()
        cycle = self._running
        if cycle is not None and not cycle.response_complete:
            if cycle is not self.cycle or cycle.response_started or not cycle.more_body:
                return  # it is a request before this one, or its answer has begun
            cycle.disconnected = True  # its body will never be complete
            cycle.message_event.set()
        self.transport.write(raw_answer(error))
        self.transport.close()


def _ended_by_closing(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """For a client of HTTP/1.0, which does not know chunks: a stream's end is that of the connection."""

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        streams = False

        async def send_plain(message: Message) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = all(name.lower() != b"content-length" for name, _ in message["headers"])
                if streams:
                    cycle.chunked_encoding = False
            elif streams:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return inside
