"""What the gateway and its workers say to each other: MessagePack frames over one connection, each after its length.

A connection carries any number of calls. The gateway says `Hello` first; `Submit` begins a call under a number of the
gateway's choice, and `Events` with that number come back until one of them has an end. Nothing is unpickled: a frame
that is not exactly one of these is refused.
"""

import asyncio
import hmac
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from workers.base import ChatCall, Delta, Event, Failure, Finish, WorkerStats

VERSION = 1
FIRST_BYTES = 1024
"""Of a frame from somebody who has not said `Hello`."""
MOST_BYTES = 1 << 28
CLOCKS_S = 1.0
"""Seconds by which two clocks may be apart without harm. So long a call may also be under way to a worker."""
_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker listens. token: what it wants to hear first; never to be logged."""

    worker: str
    host: str
    port: int
    token: str

    def __repr__(self) -> str:
        return f"Address({self.worker}, {self.host}:{self.port})"


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """traces: the collector to which the gateway sends traces, "" for none; see `ChatCall.trace`."""

    token: str
    version: int = VERSION
    traces: str = ""

    def is_welcome(self, token: str) -> bool:
        return self.version == VERSION and hmac.compare_digest(self.token.encode(), token.encode())


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """sent: Unix time, by the gateway's clock."""

    number: int
    call: ChatCall
    sent: float = msgspec.field(default_factory=time.time)

    def by_own_clock(self, now: float) -> ChatCall:
        """The call with its deadline by the clock of this machine, which may not be set as the gateway's is."""
        apart = now - self.sent
        return self.call if abs(apart) < CLOCKS_S else replace(self.call, deadline=self.call.deadline + apart)


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2):
    number: int


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """For the worker's stats; also the sign of life that a silent connection is asked for."""

    number: int


class Place(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Who lives on the worker from now on, first those whose image is to be near the device first; it tells so in its
    `Stats`, by which every gateway learns it."""

    experts: tuple[str, ...]


class Events(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Of a call, in order: deltas, then its end, which is a finish, a failure, or still to come."""

    number: int
    deltas: tuple[Delta, ...] = ()
    finish: Finish | None = None
    failure: Failure | None = None


class Stats(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """stats: family -> its stats. placed: the experts that live on the worker; none, if nobody has placed any.

    asked: expert -> calls that came, and tokens of answers that ended, since the worker's start. pairs: expert -> other
    expert -> how often a draft of the one came while the other's was under way; old ones fade.
    """

    number: int
    stats: dict[str, WorkerStats]
    placed: tuple[str, ...] = ()
    asked: dict[str, tuple[int, int]] = {}
    pairs: dict[str, dict[str, int]] = {}


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The worker takes no further calls; those under way go on."""


ToWorker = Hello | Submit | Cancel | Ask | Place
ToGateway = Events | Stats | Leaving
_encoder = msgspec.msgpack.Encoder()
to_worker = msgspec.msgpack.Decoder(ToWorker)
to_gateway = msgspec.msgpack.Decoder(ToGateway)


def events_of(number: int, waiting: list[Event]) -> Events:
    """waiting: deltas, and perhaps an end as the last."""
    last = waiting[-1]
    if isinstance(last, Delta):
        return Events(number, tuple(waiting))  # type: ignore[arg-type]
    deltas: tuple[Any, ...] = tuple(waiting[:-1])
    return Events(number, deltas, last) if isinstance(last, Finish) else Events(number, deltas, None, last)


def add(waiting: list[Event], event: Event) -> None:
    """Puts an event behind others; neighbouring deltas of one answer become one."""
    last = waiting[-1] if waiting else None
    if isinstance(event, Delta) and isinstance(last, Delta) and event.choice == last.choice:
        waiting[-1] = Delta(
            last.text + event.text,
            event.usage or last.usage,
            (*last.calls, *event.calls),
            (*last.logprobs, *event.logprobs),
            event.choice,
        )
    else:
        waiting.append(event)


def encode(frame: ToWorker | ToGateway) -> bytes:
    """Raises TypeError or OverflowError for what MessagePack cannot say, such as an integer of more than 64 bits."""
    try:
        return _encoder.encode(frame)
    except UnicodeEncodeError:
        if not isinstance(frame, Events):
            raise
        return _encoder.encode(msgspec.structs.replace(frame, deltas=tuple(map(Delta.in_utf8, frame.deltas))))


class Frames(asyncio.Protocol):
    """One end of a connection: whole frames in and out.

    Frames that are sent in one turn of the loop leave in one write. bound: bytes of a frame that may come.
    """

    def __init__(self) -> None:
        self.bound = FIRST_BYTES
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self._in = bytearray()
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._out.clear()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def send(self, frame: ToWorker | ToGateway) -> None:
        """Raises as `encode`. What is sent over a connection that is lost is lost with it."""
        body = encode(frame)
        if self.transport is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += (len(body).to_bytes(_LENGTH, "little"), body)

    def _flush(self) -> None:
        if self.transport is not None and self._out:
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def end(self) -> None:
        """Closes the connection after what was sent."""
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._in += data
        begin, size = 0, len(self._in)
        while size - begin >= _LENGTH:
            length = int.from_bytes(self._in[begin : begin + _LENGTH], "little")
            if length > self.bound:
                self.refuse(f"a frame of {length:,} bytes")
                return
            if size - begin - _LENGTH < length:
                break
            begin += _LENGTH + length
            self.take(bytes(self._in[begin - length : begin]))
            if self.transport is None or self.transport.is_closing():
                return
        del self._in[:begin]

    def take(self, body: bytes) -> None:
        """A frame has come."""
        raise NotImplementedError

    def refuse(self, why: str) -> None:
        """Ends a connection whose other end does not keep to the rules."""
        if self.transport is not None:
            self.transport.abort()
