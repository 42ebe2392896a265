"""Spans as they are recorded on the way of a request: cheap values, which another thread makes OpenTelemetry's of.

A request's first span, and that of a call in its worker, come of `Tracing`; every other one is a `child`. Where there
are no traces, or none of this request, it is a `NoSpan`, of which nothing costs anything.
"""

import random
import re
import time
from collections.abc import Container
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple, Protocol

from workers.tracing.names import ERROR_TYPE

Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool | tuple[str, ...]
Attributes = dict[str, Value | None]
"""A span keeps what it is given, and adds to it."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of elsewhere, by W3C Trace Context. sampled: is it recorded there?"""

    trace_id: int
    span_id: int
    sampled: bool

    @classmethod
    def of(cls, traceparent: str) -> "Parent | None":
        """None for what is no traceparent, which is as none."""
        found = _TRACEPARENT.fullmatch(traceparent.strip())
        if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
            return None
        trace_id, span_id = int(found[2], 16), int(found[3], 16)
        return cls(trace_id, span_id, bool(int(found[4], 16) & 1)) if trace_id and span_id else None


def traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


class Fields(NamedTuple):
    """What a span has to tell, to another process; see `Span`."""

    trace_id: int
    span_id: int
    parent_id: int
    remote: bool
    name: str
    kind: Kind
    began: int
    ended: int
    attributes: Attributes
    error: str | None


class Sink(Protocol):
    """Where spans go that have ended."""

    def put(self, span: "Span") -> None:
        """Never waits and never fails."""
        ...


class Span:
    """A span. began, ended: nanoseconds of Unix time; ended is 0 before it has. parent_id: 0 for none. content: may it
    hold prompts and answers?"""

    __slots__ = (
        "_sink",
        "attributes",
        "began",
        "content",
        "ended",
        "error",
        "kind",
        "name",
        "parent_id",
        "remote",
        "span_id",
        "trace_id",
    )  # fmt: skip
    is_on = True

    def __init__(
        self,
        sink: Sink,
        name: str,
        kind: Kind,
        trace_id: int,
        parent_id: int,
        attributes: Attributes | None,
        began: int | None = None,
        *,
        remote: bool = False,
        content: bool = False,
    ) -> None:
        self._sink, self.name, self.kind, self.remote, self.content = sink, name, kind, remote, content
        self.trace_id, self.span_id, self.parent_id = trace_id, new_id(8), parent_id
        self.attributes: dict[str, Value | None] = {} if attributes is None else attributes
        self.began, self.ended = time.time_ns() if began is None else began, 0
        self.error: str | None = None

    def child(
        self, name: str, kind: Kind = "internal", attributes: Attributes | None = None, began: int | None = None
    ) -> "AnySpan":
        return Span(self._sink, name, kind, self.trace_id, self.span_id, attributes, began, content=self.content)

    def set(self, attributes: Attributes) -> None:
        """An attribute that is None is as none."""
        self.attributes.update(attributes)

    def fail(self, error: str) -> None:
        """error: a code, never a message, which may quote what was asked."""
        self.error = error

    def excuse(self, errors: Container[str]) -> None:
        """If it failed with one of these, that is no fault of what it was to do: it stays as an attribute alone."""
        if self.error is not None and self.error in errors:
            self.attributes[ERROR_TYPE], self.error = self.error, None

    def end(self, at: int | None = None) -> None:
        """Only the first end counts."""
        if not self.ended:
            self.ended = time.time_ns() if at is None else at
            self._sink.put(self)

    @property
    def traceparent(self) -> str:
        """For a child in another process."""
        return traceparent(self.trace_id, self.span_id, sampled=True)

    @property
    def trace(self) -> str | None:
        """The trace's id, for people."""
        return f"{self.trace_id:032x}"


fields = attrgetter(*Fields._fields)
"""Of a span: a plain tuple, which is pickled faster than a `Fields`."""


class NoSpan:
    """traceparent: of a trace that somebody else records, or decided not to; "" for none."""

    __slots__ = ("traceparent",)
    is_on = content = False
    trace: str | None = None

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent

    def child(
        self, name: str, kind: Kind = "internal", attributes: Attributes | None = None, began: int | None = None
    ) -> "AnySpan":
        return self

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None: ...

    def excuse(self, errors: Container[str]) -> None: ...

    def end(self, at: int | None = None) -> None: ...


AnySpan = Span | NoSpan
NO_SPAN = NoSpan()


class Tracing(Protocol):
    """url: of the collector, "" where there are no traces. content: may spans hold prompts and answers? lost: spans
    that no collector took."""

    url: str
    content: bool

    @property
    def lost(self) -> int: ...

    def request(self, name: str, traceparent: str, attributes: Attributes | None = None) -> AnySpan:
        """The first span of a request to this service. traceparent: the caller's, or "". Whether it is recorded is the
        caller's decision where there is one."""
        ...

    def follow(
        self, traceparent: str, name: str, attributes: Attributes | None = None, began: int | None = None
    ) -> AnySpan:
        """The first span in this process of what another process of the service does. began: None: now."""
        ...

    def close(self, within: float = 2.0) -> None:
        """Sends what has ended, and gives up after so many seconds. It blocks."""
        ...


class NoTracing:
    """No traces, at no cost. A caller's traceparent is not passed on."""

    url, content, lost = "", False, 0

    def request(self, name: str, traceparent: str, attributes: Attributes | None = None) -> AnySpan:
        return NO_SPAN

    def follow(
        self, traceparent: str, name: str, attributes: Attributes | None = None, began: int | None = None
    ) -> AnySpan:
        return NO_SPAN

    def close(self, within: float = 2.0) -> None: ...


OFF = NoTracing()


def new_id(size: int) -> int:
    """A random number of so many bytes, and not 0."""
    return random.getrandbits(8 * size) or 1
