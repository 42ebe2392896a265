"""A collector of traces on loopback, which takes OTLP over HTTP with protobuf as a real one does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""For the environment of whoever is to send soon."""
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{ABOVE}-01"
"""Of a caller whose trace is recorded: its ids, and the header that says so."""
SPAN_KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Seen:
    """A span as the collector got it. service, process: of the resource. parent: "" for none."""

    name: str
    trace: str
    span: str
    parent: str
    kind: str
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool
    service: str
    process: int


@dataclass
class Collector:
    """status: what it answers with. holds: it answers only when this is cleared and `news` are told. held: it does."""

    url: str = ""
    status: int = 200
    holds: threading.Event = field(default_factory=threading.Event)
    held: bool = False
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert (path, headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        with self.news:
            self.held = self.holds.is_set()
            self.news.notify_all()
            self.news.wait_for(lambda: not self.holds.is_set(), 60)
            self.headers.append(headers)
            if self.status == 200:
                self.bodies.append(body)
                self.spans += spans_of(body)
            self.news.notify_all()

    def trace(self, trace_id: str, count: int, within: float = 60) -> list[Seen]:
        """The trace's spans by their beginning, once there are so many, and one of them is right below the caller's."""
        deadline = time.monotonic() + within
        with self.news:
            while len(found := [span for span in self.spans if span.trace == trace_id]) < count or not any(
                span.parent == ABOVE for span in found
            ):
                assert self.news.wait(deadline - time.monotonic()), [span.name for span in found]
        return sorted(found, key=lambda span: (span.began, -span.ended))


def spans_of(body: bytes) -> Iterator[Seen]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        of = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for own in scope.spans:
                yield Seen(
                    own.name,
                    own.trace_id.hex(),
                    own.span_id.hex(),
                    own.parent_span_id.hex(),
                    SPAN_KINDS[own.kind],
                    own.start_time_unix_nano,
                    own.end_time_unix_nano,
                    _attributes(own.attributes),
                    own.status.code == 2,
                    of["service.name"],
                    of["process.pid"],
                )


def _attributes(rows: Any) -> dict[str, Any]:
    return {row.key: _value(row.value) for row in rows}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collector() -> Iterator[Collector]:
    own = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            own.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(own.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    own.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield own
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tree(spans: list[Seen]) -> dict[str, list[str]]:
    """Name of each span -> the names of those under it, by their beginning; "" has those without a parent here."""
    by_id = {own.span: own for own in spans}
    found: dict[str, list[str]] = {}
    for own in spans:
        above = by_id[own.parent].name if own.parent in by_id else ""
        found.setdefault(above, []).append(own.name)
    return found
