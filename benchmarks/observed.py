"""What it costs to be seen: the service with traces and without, taking turns: `benchmarks.overhead --observed`.

Every request is traced, and a collector on loopback takes the spans. Metrics are never off, so what they take of a
request is timed alone, on records like those of the same run.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.http_load import Load
from orchestrator.events import Answered, Ask, CallMade, Routed
from orchestrator.metrics import Metrics
from orchestrator.records import Record, Recorder
from orchestrator.store import Store
from routers.base import Choice, Route
from workers.base import Phases, Usage

SERVICES = ("untraced", "traced", "control")
"""Taking turns; the control is untraced too: what it differs by is noise."""
ROUNDS = 40
"""Turns of each."""
COUNTED = 5000
"""Records whose metrics are timed."""


@contextmanager
def collector() -> Iterator[tuple[str, list[int]]]:
    """Its address, and the bytes of each batch of spans that it took."""
    taken: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(len(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def compare(
    load: Callable[[str, int], Load], cpu: Callable[[str], float], requests: int, taken: list[int]
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """load: of one of SERVICES, so many requests at a time. cpu: seconds that its gateway has computed. Rows of a
    table, and figures by name.

    A ratio is the median of those of the rounds, each of which is of two loads a second apart."""
    rows: list[tuple[Any, ...]] = []
    figures: dict[str, Any] = {}
    for concurrency in (1, 32):
        medians, rates, computed = ({name: list[float]() for name in SERVICES} for _ in range(3))
        for turn in range(ROUNDS):
            for name in _turned(SERVICES, turn):
                before = cpu(name)
                made = load(name, concurrency)
                computed[name].append((cpu(name) - before) / requests * 1000)
                assert made.statuses[200] == requests, made.statuses
                medians[name].append(made.milliseconds(0.5))
                rates[name].append(made.rate)
        for what, found in (("p50_ms", medians), ("rps", rates), ("cpu_ms", computed)):
            for name in SERVICES:
                figures[f"{what}_c{concurrency}_{name}"] = round(statistics.median(found[name]), 3)
            for name in SERVICES[1:]:
                ratios = [own / base for own, base in zip(found[name], found[SERVICES[0]], strict=True)]
                figures[f"{what}_ratio_c{concurrency}_{name}"] = round(statistics.median(ratios), 4)
        for name in SERVICES:
            told = (figures[f"{what}_c{concurrency}_{name}"] for what in ("rps", "p50_ms", "cpu_ms"))
            rows.append((f"c={concurrency}", name, *told, figures.get(f"p50_ms_ratio_c{concurrency}_{name}", 1.0)))
    metrics_ms = metrics_us() / 1000
    figures["metrics_us"] = round(metrics_ms * 1000, 1)
    figures["metrics_of_p50"] = round(metrics_ms / figures[f"p50_ms_c1_{SERVICES[0]}"], 4)
    figures["batches_of_spans"], figures["bytes_of_spans"] = len(taken), sum(taken)
    return rows, figures


def _turned(names: Sequence[str], turn: int) -> list[str]:
    """So that each comes first, last and between as often."""
    at = turn % len(names)
    return [*names[at:], *names[:at]]


def metrics_us() -> float:
    """Microseconds that counting takes of a routed request with one call."""
    recorder = Recorder(Store("redis://127.0.0.1:1"), Metrics())
    ask = Ask("req-1", "auto", ({"role": "user", "content": "x"},), "x", float("inf"), caller="a", caller_name="a")
    route = Route((Choice("a", 1.0),), "why", "two_level", "sql", {"sql": 0.9, "json": 0.1}, 0.8)
    usage = Usage(40, 16, 0)
    call = CallMade("a", "answer", 0.01, usage, "a", 0.001, phases=Phases(0.001, 0.0, 0.002, 0.007))
    record = Record(ask, 0.0001, "answer")
    record.see(Routed("req-1", route, 0.0004, ("a", "b")))
    record.see(Answered("stop", (call,), "a", ("a",)))
    record.first_token = 0.003

    class Made:
        calls, drafted = (call,), None

    record.ledger = Made()  # type: ignore[assignment]  # what counting reads of one
    began = time.perf_counter()
    for _ in range(COUNTED):
        recorder._count_calls(record)
        recorder._count(record, 0.01)
    return (time.perf_counter() - began) / COUNTED * 1e6
