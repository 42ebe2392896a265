"""One trace a request, in a gateway whose worker is behind a channel; the spans reach a collector over HTTP.

tests/service/test_traces.py has the same across real processes.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.access.grant import Grant
from orchestrator.calls import Workers
from orchestrator.config.model import Config
from orchestrator.http.api import create_app
from orchestrator.site import Shared
from orchestrator.store import Store
from tests.orchestrator.parts import LIMITS, MATH, REGISTRY, SQL, Service
from tests.otlp import ABOVE, FAST, TRACE, TRACEPARENT, Collector, Seen, collector, tree
from workers.base import ChatCall, Delta, FailureCode, WorkerStats
from workers.channel.client import Links
from workers.channel.server import ChannelServer
from workers.fake_engine import FakeEngine
from workers.tracing import names
from workers.tracing.settings import TraceSettings, open_tracing

BOTH = {"k": 2, "allow": [SQL, MATH]}
CALLER = {"traceparent": TRACEPARENT}


class OfEngine:
    """Implements `workers.channel.server.Served`."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine

    def generate(self, call: ChatCall) -> Any:
        return self.engine.generate(call)

    async def stats(self) -> Mapping[str, WorkerStats]:
        return {self.engine.family: await self.engine.stats()}

    def live(self, experts: Any) -> None: ...


class Channelled:
    """Implements `orchestrator.calls.Workers`: all that is asked goes over one channel."""

    def __init__(self, links: Links) -> None:
        self.links = links

    def generate(self, call: ChatCall) -> Any:
        return self.links.generate(call)

    async def stats(self) -> dict[str, WorkerStats | str]:
        return {family: own for told in await self.links.stats() for family, own in told.items()}


@asynccontextmanager
async def traced(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, *, content: bool = False, concurrent: int = 8
) -> AsyncIterator[Service]:
    """A service that traces, at this collector."""
    for name, value in FAST.items():
        monkeypatch.setenv(name, value)
    service = await Service.start(store, concurrent=concurrent, waiting=8)
    tracing = open_tracing(TraceSettings(url, content=content), "coe-gateway", FAST)
    service.app = create_app(service.pipeline, REGISTRY, service.keys, LIMITS, service.metrics, tracing=tracing)
    service.engine._images = 1
    await service.engine.start()
    server = ChannelServer(OfEngine(service.engine), "w")
    address = await server.start("127.0.0.1")

    async def find() -> list[Any]:
        return [address]

    async with Links(find, traces=tracing.url) as links:
        while not links.up or not server.tracing.url:
            await asyncio.sleep(0.01)
        workers: Workers = Channelled(links)
        service.work_with(workers)
        try:
            yield service
        finally:
            await server.close(0)
            await service.stop()
            await asyncio.to_thread(tracing.close)


@asynccontextmanager
async def watched(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, content: bool = False, concurrent: int = 8
) -> AsyncIterator[tuple[Service, Collector]]:
    """A service that traces, and its collector, which has all spans once the service has ended."""
    with collector() as own:
        async with traced(store, own.url, monkeypatch, content=content, concurrent=concurrent) as service:
            yield service, own


async def ask(service: Service, prompt: str = "some sql, Rumpelstiltskin", **fields: Any) -> Any:
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **fields}
    return await service.http.post("/v1/chat/completions", json=body, headers=CALLER)


async def ask_and_leave(service: Service, *prompt: str, **fields: Any) -> None:
    """Asks a slow engine, leaves while it runs, and waits until it does not any more."""
    service.engine.token_delay = 60
    task = asyncio.create_task(ask(service, *prompt, **fields))
    while not service.engine.running:  # of several experts one may be first
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await service.engine.reaches(running=0)


async def seen(own: Collector, count: int) -> list[Seen]:
    return await asyncio.to_thread(own.trace, TRACE, count)


def errors_of(spans: list[Seen], *, failed: bool = True) -> dict[str, str]:
    """Name of each span that failed -> its error; or of those that have one and did not fail."""
    told = {span.name: span.attributes.get(names.ERROR_TYPE) for span in spans if span.failed is failed}
    return {name: error for name, error in told.items() if error}


async def test_a_routed_chat_is_one_trace_from_http_to_the_engine(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(store, monkeypatch) as (service, own):
        answer = await ask(service, temperature=0.5, max_tokens=7)
        request_id = answer.headers["x-request-id"]
        spans = await seen(own, 8)
        record = await service.http.get(f"/v1/routes/{request_id}")
    assert tree(spans) == {
        "": ["POST /v1/chat/completions"],
        "POST /v1/chat/completions": ["route", "chat sql"],
        "chat sql": ["engine sql"],
        "engine sql": ["queue", "swap", "prefill", "decode"],
    }
    by = {span.name: span for span in spans}
    top, call, engine = by["POST /v1/chat/completions"], by["chat sql"], by["engine sql"]
    assert (top.parent, top.kind, call.kind, engine.kind) == (ABOVE, "server", "client", "server")
    assert (top.service, engine.service) == ("coe-gateway", "coe-worker")
    assert top.attributes == {
        names.HTTP_METHOD: "POST",
        names.HTTP_ROUTE: "/v1/chat/completions",
        names.HTTP_STATUS: 200,
        names.URL_PATH: "/v1/chat/completions",
        names.URL_SCHEME: "http",
        names.REQUEST_ID: request_id,
        names.KEY_ID: (await service.keys.list())[0].lineage,
        names.KEY_CLASS: "normal",
        names.EXPERT: SQL,
    }
    assert by["route"].attributes[names.EXPERTS] == [SQL]
    assert call.attributes == {
        names.OPERATION: "chat",
        names.PROVIDER: "coe",
        names.REQUEST_MODEL: SQL,
        names.RESPONSE_MODEL: SQL,
        names.ROLE: "answer",
        names.MAX_TOKENS: 7,
        names.TEMPERATURE: 0.5,
        names.FINISH_REASONS: ["stop"],
        names.INPUT_TOKENS: 3,
        names.OUTPUT_TOKENS: 5,
    }
    assert top.began <= by["route"].began <= call.began <= engine.began
    assert call.ended <= top.ended
    assert record.json()["trace_id"] == TRACE


async def test_an_ensemble_has_its_calls_under_the_aggregator(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch) as (service, own):
        await ask(service, "sql and math", coe=BOTH)
        spans = await seen(own, 13)
    found = tree(spans)
    assert found["POST /v1/chat/completions"] == ["route", "aggregate joined"]
    assert sorted(found["aggregate joined"]) == ["chat math", "chat sql"]
    assert found["chat math"] == ["engine math"]
    [aggregate] = [span for span in spans if span.name == "aggregate joined"]
    assert sorted(aggregate.attributes[names.USED]) == [MATH, SQL]


async def test_a_stream_ends_its_trace_with_its_last_chunk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch) as (service, own):
        service.engine.token_delay = 0.01
        answer = await ask(service, stream=True)
        assert answer.text.endswith("data: [DONE]\n\n")
        spans = await seen(own, 8)
    by = {span.name: span for span in spans}
    top, decode = by["POST /v1/chat/completions"], by["decode"]
    assert top.ended - top.began > decode.ended - decode.began >= 30_000_000


@pytest.mark.parametrize("stream", [False, True])
async def test_what_failed_says_so_by_its_code(store: Store, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    async with watched(store, monkeypatch) as (service, own):
        service.engine.fail_next("engine_died", "Rumpelstiltskin went down", after=2)
        await ask(service, stream=stream)
        spans = await seen(own, 4)
    assert errors_of(spans) == dict.fromkeys(["POST /v1/chat/completions", "chat sql", "engine sql"], "engine_died")
    assert not any(b"Rumpelstiltskin" in body for body in own.bodies)


async def test_what_is_refused_says_so_and_is_no_fault_of_the_service(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(store, monkeypatch) as (service, own):
        answer = await service.http.post("/v1/chat/completions", json={"model": "nobody"}, headers=CALLER)
        assert answer.status_code == 400
        [top] = await seen(own, 1)
    assert (top.failed, top.attributes[names.HTTP_STATUS]) == (False, 400)
    assert top.attributes[names.ERROR_TYPE] == answer.json()["error"]["code"]
    assert top.attributes[names.KEY_CLASS] == "normal"


async def test_a_limit_refuses_in_the_span_of_admission(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch) as (service, own):
        service.key, _ = await service.keys.create("limited", Grant(limits={"requests_per_minute": 0}))
        answer = await ask(service)
        assert answer.status_code == 400, answer.text
        spans = await seen(own, 2)
    assert tree(spans)["POST /v1/chat/completions"] == ["admission"]
    assert errors_of(spans) == {}
    assert errors_of(spans, failed=False) == {"POST /v1/chat/completions": "over_limit", "admission": "over_limit"}


async def test_a_stream_that_is_turned_away_after_it_began_has_the_error_in_its_span(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(store, monkeypatch, concurrent=1) as (service, own):
        monkeypatch.setattr(service.pipeline._admission, "_queue_s", 0.5)
        service.engine.token_delay = 60
        first = asyncio.create_task(ask(service))
        await service.engine.reaches(running=1)
        answer = await ask(service, stream=True)
        assert answer.status_code == 200
        assert '"code":"overloaded"' in answer.text
        first.cancel()
        await asyncio.wait([first])
        spans = await seen(own, 6)
    assert errors_of(spans) == {}
    tops = [span.attributes[names.ERROR_TYPE] for span in spans if span.name == "POST /v1/chat/completions"]
    assert sorted(tops) == ["client_gone", "overloaded"]


async def test_an_engine_that_raises_is_no_cancellation(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch) as (service, own):

        async def broken(call: ChatCall) -> AsyncIterator[Any]:
            yield Delta("some")
            raise RuntimeError("Rumpelstiltskin")

        monkeypatch.setattr(service.engine, "generate", broken)
        assert (await ask(service)).status_code == 500
        spans = await seen(own, 4)
    failed = errors_of(spans)
    assert failed["engine sql"] == failed["chat sql"] == "internal"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_all_its_spans_and_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with watched(store, monkeypatch) as (service, own):
        await ask_and_leave(service, stream=stream)
        spans = await seen(own, 4)
    assert errors_of(spans) == {}
    assert errors_of(spans, failed=False) == {
        "POST /v1/chat/completions": "client_gone",
        "chat sql": "cancelled",
        "engine sql": "cancelled",
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_while_it_waits_to_be_admitted_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with watched(store, monkeypatch, concurrent=1) as (service, own):
        service.engine.token_delay = 60
        first = asyncio.create_task(ask(service))
        await service.engine.reaches(running=1)
        second = asyncio.create_task(ask(service, stream=stream))
        while "coe_requests_waiting 1.0" not in await told(service):
            await asyncio.sleep(0.01)
        for task in (second, first):
            task.cancel()
            await asyncio.wait([task])
        spans = await seen(own, 6)
        assert 'coe_refusals_total{reason="client_gone"} 1.0' in await told(service)
    assert errors_of(spans) == {}
    assert errors_of(spans, failed=False)["admission"] == "client_gone"
    tops = [span.attributes[names.ERROR_TYPE] for span in spans if span.name == "POST /v1/chat/completions"]
    assert tops == ["client_gone", "client_gone"]


@pytest.mark.parametrize(("cause", "is_fault"), [("invalid_request", False), ("engine_died", True)])
async def test_a_stream_that_fails_is_the_services_fault_or_the_callers(
    store: Store, monkeypatch: pytest.MonkeyPatch, cause: FailureCode, is_fault: bool
) -> None:
    async with watched(store, monkeypatch) as (service, own):
        service.engine.fail_next(cause, after=2)
        assert (await ask(service, stream=True)).status_code == 200
        spans = await seen(own, 4)
    assert errors_of(spans, failed=is_fault)["POST /v1/chat/completions"] == cause


async def test_an_ensemble_whose_client_leaves_is_cancelled_and_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(store, monkeypatch) as (service, own):
        await ask_and_leave(service, "sql and math", coe=BOTH)
        spans = await seen(own, 6)
    left = errors_of(spans, failed=False)
    assert left["aggregate joined"] == left["chat sql"] == "cancelled"
    assert errors_of(spans) == {}


async def test_neither_content_nor_secrets_are_in_spans(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch) as (service, own):
        await ask(service, stop=["Rumpel"], user="Rumpelstiltskin", coe={"k": 2})
        await ask(service, model="Rumpelstiltskin")
        await service.http.post("/v1/route", json={"prompt": "Rumpelstiltskin"}, headers=CALLER)
        await service.http.post("/v1/Rumpelstiltskin", headers=CALLER)
        await seen(own, 16)
    sent = b"".join(own.bodies)
    assert b"Rumpel" not in sent
    assert b"heard" not in sent
    assert service.key.encode() not in sent


async def test_content_is_in_spans_where_it_is_allowed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(store, monkeypatch, content=True) as (service, own):
        await ask(service, "some sql")
        spans = await seen(own, 8)
    [call] = [span for span in spans if span.name == "chat sql"]
    said = {"role": "user", "parts": [{"type": "text", "content": "some sql"}]}
    answered = {"role": "assistant", "parts": [{"type": "text", "content": "sql heard: some sql"}]}
    assert json.loads(call.attributes[names.INPUT_MESSAGES]) == [said]
    assert json.loads(call.attributes[names.OUTPUT_MESSAGES]) == [answered | {"finish_reason": "stop"}]


async def test_a_collector_that_is_away_harms_no_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(store, "http://127.0.0.1:1", monkeypatch) as service:
        answers = [(await ask(service)).status_code for _ in range(3)]
        async with asyncio.timeout(30):
            while re.search(r'^coe_worker_spans_lost_total\{family="small"\} [1-9]', await told(service), re.M) is None:
                await asyncio.sleep(0.05)  # a worker's spans are on their way for a while
    assert answers == [200, 200, 200]


async def told(service: Service) -> str:
    return (await service.http.get("/metrics")).text


async def test_a_gateway_counts_the_spans_that_no_collector_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FAST.items():
        monkeypatch.setenv(name, value)
    config = Config.model_validate({"traces": {"endpoint": "http://127.0.0.1:1"}, "batch": {"enabled": False}})
    shared = Shared.of(config, tmp_path, "redis://127.0.0.1:1")
    for _ in range(3):
        shared.tracing.request("POST /v1/chat/completions", "").end()
    await asyncio.to_thread(shared.tracing.close)
    await shared.store.close()
    assert shared.metrics.registry.get_sample_value("coe_trace_spans_lost_total") == 3


async def test_without_a_collector_there_is_no_trace(service: Service) -> None:
    answer = await ask(service)
    record = (await service.http.get(f"/v1/routes/{answer.json()['id']}")).json()
    assert record["trace_id"] is None
    assert service.engine.calls[-1].trace == ""
