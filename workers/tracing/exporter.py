"""The process that sends another one's spans to a collector: `python -m workers.tracing.exporter FD`.

To write spans as OTLP takes several times as long as to record them, and in the process that serves it would hold the
interpreter's lock while requests wait for it. Here it holds up nobody.

The one place that knows the exporter of OpenTelemetry's SDK. FD is a socket: first comes a `Target`, then batches of
spans, which are bundles of pickled `Fields`; to each goes back what is wrong, "" for nothing. It ends with its peer.
"""

import contextlib
import logging
import os
import pickle
import sys
from multiprocessing.connection import Connection
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource

from workers.tracing.spans import Fields, Value
from workers.tracing.wire import request

NICE = 10
"""Requests come first where processors are few."""


class Target(NamedTuple):
    """url: of the collector. service, process: whose spans they are, where the environment does not name the
    service."""

    url: str
    service: str
    process: int


class Exporter(OTLPSpanExporter):
    """The SDK's, for requests that are written already; tests/workers/test_tracing_wire.py holds what it relies on."""

    def __init__(self, target: Target) -> None:
        super().__init__(endpoint=target.url)
        self._resource = _resource(target)

    def send(self, bundles: list[bytes]) -> str:
        """Why the collector has not taken them. Tries again for as long as OTEL_EXPORTER_OTLP_TIMEOUT says."""
        spans = [Fields._make(span) for bundle in bundles for span in pickle.loads(bundle)]  # noqa: S301  # of its peer
        result = self._client.export(request(self._resource, spans))
        if result.success:
            return ""
        if result.status_code is not None:
            return f"the collector answers {result.status_code} {result.reason or ''}".rstrip()
        error = result.error
        # Of a connection only its type: the message has the URL, which may have a secret in it.
        return f"no way to the collector: {error if type(error) is OSError else type(error).__name__}"


def _resource(target: Target) -> dict[str, Value]:
    attributes: dict[str, str | int] = {"process.pid": target.process}
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not os.environ.get("OTEL_SERVICE_NAME") and not named:
        attributes["service.name"] = target.service
    found = Resource.create(attributes).attributes
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def serve(connection: Connection) -> None:
    """Until the peer is gone."""
    exporter: Exporter | None = None
    target = Target(*connection.recv())
    while True:
        bundles = connection.recv()
        try:
            exporter = exporter or Exporter(target)
            why = exporter.send(bundles)
        except Exception as error:  # of its settings, or a fault of a library: for the peer to tell
            why = type(error).__name__  # what it says may hold a secret
        connection.send(why)


def main() -> None:
    logging.disable(logging.CRITICAL)  # what is wrong goes to the peer, once and not with each batch
    os.nice(NICE)
    with Connection(int(sys.argv[1])) as connection, contextlib.suppress(EOFError, OSError):
        serve(connection)


if __name__ == "__main__":
    main()
