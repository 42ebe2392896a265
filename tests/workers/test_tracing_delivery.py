"""Spans reach the collector, each once; where it does not take them they are lost and counted, and nothing else is."""

import pickle
import threading
import time

import psutil
import pytest

from tests.otlp import ABOVE, FAST, TRACE, TRACEPARENT, collector
from workers.tracing import names
from workers.tracing.otlp import OtlpTracing
from workers.tracing.settings import TraceSettings, open_tracing
from workers.tracing.shipping import BUNDLE, GONE, _Bundle
from workers.tracing.spans import NO_SPAN, NoSpan

# What is sent


def test_spans_reach_the_collector_with_their_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", FAST)
        span = tracing.request("POST /x", TRACEPARENT, {names.HTTP_METHOD: "POST", "none": None})
        span.child("below", attributes={names.EXPERTS: ("a", "b"), "f": 0.5, "t": True}).end()
        span.fail("deadline")
        span.end()
        top, below = own.trace(TRACE, 2)
        tracing.close()
    assert (top.name, top.kind, top.parent, top.service, top.failed) == ("POST /x", "server", ABOVE, "coe-test", True)
    assert top.attributes == {names.HTTP_METHOD: "POST", names.ERROR_TYPE: "deadline"}
    assert (below.parent, below.attributes) == (top.span, {names.EXPERTS: ["a", "b"], "f": 0.5, "t": True})
    assert not below.failed


def test_headers_for_the_collector_come_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=hunter2")
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", FAST)
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        tracing.close()
    assert own.headers[0]["x-token"] == "hunter2"


def test_what_has_ended_is_sent_at_the_end() -> None:
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
        for _ in range(3):
            tracing.request("POST /x", "").end()
        tracing.close(within=60)
        assert len(own.spans) == 3


def test_what_comes_while_a_batch_is_on_its_way_is_sent_at_the_end_too() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, FAST)
        own.holds.set()
        tracing.request("POST /x", TRACEPARENT).end()
        with own.news:
            assert own.news.wait_for(lambda: own.held, 60)
        for _ in range(40):
            tracing.request("POST /x", TRACEPARENT).end()
        closing = threading.Thread(target=tracing.close, args=(60,))
        closing.start()
        own.holds.clear()
        with own.news:
            own.news.notify_all()
        closing.join()
        assert (len(own.spans), tracing.lost) == (41, 0)


def test_no_span_is_lost_or_sent_twice_however_many_come_at_once() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, FAST)
        for number in range(2000):
            tracing.request("POST /x", "", {"number": number}).end()
        tracing.close(within=60)
        assert tracing.lost == 0
        assert [span.attributes["number"] for span in own.spans] == list(range(2000))


# Whose traces are recorded


def test_the_caller_decides_whether_its_trace_is_recorded() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 0.0, FAST)
        assert tracing.request("POST /x", TRACEPARENT).is_on
        declined = tracing.request("POST /x", f"00-{TRACE}-{ABOVE}-00")
        unsampled = tracing.request("POST /x", "")
        assert isinstance(declined, NoSpan)
        assert declined.traceparent.startswith(f"00-{TRACE}-")
        assert declined.traceparent.endswith("-00")
        assert isinstance(unsampled, NoSpan)
        assert tracing.follow(declined.traceparent, "engine") is NO_SPAN
        assert tracing.follow("nonsense", "engine") is NO_SPAN
        tracing.close()
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 1.0, FAST)
        assert tracing.request("POST /x", "").is_on
        tracing.close()


def test_a_share_of_traces_is_recorded() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 0.25, FAST)
        recorded = sum(tracing.request("POST /x", "").is_on for _ in range(2000))
        tracing.close()
    assert 350 < recorded < 650  # 8 standard deviations


# What is lost


def test_a_collector_that_is_away_costs_spans_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    tracing = OtlpTracing("http://127.0.0.1:1/v1/traces", "coe", None, {**FAST, "OTEL_BSP_MAX_QUEUE_SIZE": "10"})
    for _ in range(1000):
        tracing.request("POST /x", "").end()
    tracing.close(within=0.2)
    assert tracing.lost == 1000
    told = [record.getMessage() for record in caplog.records]
    assert sum("no way to the collector" in line for line in told) <= 1


def test_an_address_that_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    tracing = OtlpTracing("localhost:4318/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    tracing.request("POST /x", "").end()
    tracing.close(within=60)
    assert tracing.lost == 1
    assert "no way to the collector: InvalidSchema" in caplog.text


def test_a_collector_that_refuses_is_told_once_and_again_when_it_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    with collector() as own:
        own.status = 400
        tracing = open_tracing(TraceSettings(own.url), "coe", FAST)
        assert isinstance(tracing, OtlpTracing)
        for _ in range(2):
            seen = len(own.headers)
            tracing.request("POST /x", TRACEPARENT).end()
            with own.news:
                assert own.news.wait_for(lambda seen=seen: len(own.headers) > seen, 60)  # type: ignore[misc]
        own.status = 200
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        tracing.close()
    told = [record.getMessage() for record in caplog.records if record.name == "workers.tracing.shipping"]
    assert told == [
        "traces are lost: the collector answers 400 Bad Request",
        "traces are taken again; 2 spans were lost",
    ]


def _exporters() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [own for own in found if "workers.tracing.exporter" in own.cmdline()]


def test_an_exporter_that_dies_costs_what_it_had_and_another_one_takes_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "50"})
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        [first] = _exporters()
        first.kill()
        while tracing.lost == 0:  # what is written to a process that is no more; a deadline is pytest's
            tracing.request("POST /x", "").end()
            time.sleep(0.06)
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 2)
        [second] = _exporters()
        tracing.close()
    assert second.pid != first.pid
    assert not second.is_running()
    assert f"traces are lost: {GONE}" in [record.getMessage() for record in caplog.records]


def test_spans_that_wait_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.tracing.shipping.MOST_BYTES", 110_000)
    tracing = OtlpTracing("http://127.0.0.1:1/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    for number in range(10 * BUNDLE):
        tracing.request("POST /x", "", {"text": f"{number:1000}"}).end()
    assert tracing.lost == 6 * BUNDLE  # 32 kB each: four of them are too much for a fifth
    tracing.close(within=0)


def test_spans_that_are_put_while_others_are_taken_fail_nobody() -> None:
    """What waits is counted while the thread that sends takes of it: here at the worst moment, in the midst of that."""
    with collector() as own:
        own.holds.set()
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, {**FAST, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"})
        tracing.request("POST /x", TRACEPARENT).end()
        with own.news:
            assert own.news.wait_for(lambda: own.held, 60)
        waiting = tracing._shipping._bundles

        class Taken(bytes):
            def __len__(self) -> int:
                if waiting and waiting[0].content is self:
                    waiting.popleft()
                return super().__len__()

        waiting.extend([_Bundle(0, Taken(pickle.dumps([]))), _Bundle(0, pickle.dumps([]))])
        tracing.request("POST /x", TRACEPARENT).end()
        own.holds.clear()
        with own.news:
            own.news.notify_all()
        tracing.close(within=60)
        assert len(own.spans) == 2
