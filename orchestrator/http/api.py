"""The HTTP API: OpenAI's chat and models, the router's decision, health and metrics. docs/api.md describes it."""

import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from experts.registry import Registry
from orchestrator.errors import ApiError, from_exception, from_failure
from orchestrator.events import READY_TIERS, Answered, Ask, PipelineEvent, Routed
from orchestrator.http.chat import KEEP_ALIVE, STREAM_HEADERS, Chunks, coe_field, completion, route_headers
from orchestrator.http.feedback import Feedback
from orchestrator.http.guards import Bounds, Cors, Guards, SafeHeaders
from orchestrator.http.models import Models
from orchestrator.http.streams import ClientGone, EventStream, Feed, until_gone
from orchestrator.http.wire import ChatRequest, Limits, parse_chat, parse_route, read_body
from orchestrator.http.wire_coe import Names
from orchestrator.keys import KeyInfo, Keys
from orchestrator.metrics import CONTENT_TYPE, Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.store import StoreUnavailable
from workers.base import Delta, Failure, WorkerStats

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""Expert -> why it cannot answer; empty when every expert can."""

HEAD_WAIT_S = 0.25
"""How long a stream's headers wait for the route and the first event: what fails at once gets its proper status."""
CLIENT_GONE = 499
"""nginx's status for it; nobody reads it but the access log."""

log = structlog.stdlib.get_logger(__name__)


BOUNDS, NO_CORS = Bounds(), Cors()


def create_app(
    pipeline: Pipeline,
    registry: Registry,
    keys: Keys,
    limits: Limits,
    metrics: Metrics,
    ready: Ready | None = None,
    *,
    bounds: Bounds = BOUNDS,
    cors: Cors = NO_CORS,
) -> FastAPI:
    """The ASGI application. ready: by default what the workers say of their experts."""
    api = _Api(pipeline, registry, keys, limits, metrics, ready or pipeline.not_ready)
    feedback, models = Feedback(keys.store, limits.body_bytes), Models(pipeline, registry)
    app = FastAPI(title="Composition of Experts", docs_url=None, redoc_url=None, redirect_slashes=False)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(api.caller)])
    v1.add_api_route("/chat/completions", api.chat, methods=["POST"], response_model=None)
    v1.add_api_route("/route", api.route, methods=["POST"], response_model=None)
    v1.add_api_route("/feedback", feedback.put, methods=["POST"], response_model=None)
    v1.add_api_route("/feedback", feedback.list, methods=["GET"], response_model=None)
    v1.add_api_route("/models", models.list, methods=["GET"], response_model=None)
    v1.add_api_route("/models/{name:path}", models.one, methods=["GET"], response_model=None)
    v1.add_api_route("/experts", api.experts, methods=["GET"], response_model=None)
    v1.add_api_route("/swaps", api.swaps, methods=["GET"], response_model=None)
    app.include_router(v1)
    app.add_api_route("/health/live", api.live, methods=["GET"], response_model=None)
    app.add_api_route("/health/ready", api.ready, methods=["GET"], response_model=None)
    app.add_api_route("/health", api.health, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", api.metrics, methods=["GET"], response_model=None)
    app.add_exception_handler(HTTPException, _refused_by_framework)
    app.add_middleware(Guards, bounds=bounds)  # the last one that is added is the first to see a request
    app.add_middleware(_Frame, metrics=metrics)
    app.add_middleware(SafeHeaders, cors=cors)
    return app


class _Api:
    def __init__(
        self, pipeline: Pipeline, registry: Registry, keys: Keys, limits: Limits, metrics: Metrics, ready: Ready
    ) -> None:
        self._pipeline, self._registry, self._keys = pipeline, registry, keys
        self._limits, self._metrics, self._ready = limits, metrics, ready
        self._names = Names(registry.names, pipeline.aggregators)

    async def caller(self, request: Request) -> KeyInfo:
        """The key of the request. Raises what errors.py maps to 401 and 503."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            text = "no API key; send it in the header 'Authorization: Bearer <key>'"
            raise ApiError("missing_api_key", text, headers={"www-authenticate": "Bearer"})
        known = await self._keys.verify(key)
        request.state.caller = known
        return known

    # Chat

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        raw = await read_body(request, self._limits.body_bytes)
        body = parse_chat(raw, self._limits, self._names)
        ask = self._ask(request, body)
        if body.stream:
            return await self._stream(ask, body)
        return await until_gone(request.receive, self._whole(ask, body))

    async def _whole(self, ask: Ask, body: ChatRequest) -> Response:
        parts: list[str] = []
        routed: Routed | None = None
        async with aclosing(self._pipeline.run(ask)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    parts.append(event.text)
                elif isinstance(event, Routed):
                    routed = event
                elif isinstance(event, Failure):
                    raise from_failure(event)
                elif routed:
                    answer = completion(ask, routed, "".join(parts), event, explain=body.coe.explain)
                    return _json(answer, headers=route_headers(ask.request_id, routed, event))
        raise RuntimeError("the pipeline ended without an end")

    async def _stream(self, ask: Ask, body: ChatRequest) -> Response:
        """Waits shortly for the beginning, which decides on status and headers, then streams."""
        feed = Feed(self._pipeline.run(ask))
        began: list[PipelineEvent] = []
        try:
            deadline = time.monotonic() + HEAD_WAIT_S
            while len(began) < 2 and (event := await feed.get(deadline - time.monotonic())):
                if isinstance(event, Failure):
                    raise from_failure(event)
                began.append(event)
        except BaseException:
            await feed.close()
            raise
        routed = began[0] if began and isinstance(began[0], Routed) else None
        chunks = Chunks(ask, include_usage=body.stream_options.include_usage, explain=body.coe.explain)
        return EventStream(
            self._frames(feed, began, chunks), {**STREAM_HEADERS, **route_headers(ask.request_id, routed)}
        )

    async def _frames(
        self, feed: "Feed[PipelineEvent]", began: list[PipelineEvent], chunks: Chunks
    ) -> AsyncGenerator[bytes, None]:
        try:
            for event in began:
                yield chunks.write(event)
            last = began[-1] if began else None
            while not isinstance(last, Answered | Failure):
                last = await feed.get(self._limits.keep_alive_s)
                if isinstance(last, Failure):
                    raise from_failure(last)
                yield chunks.write(last) if last else KEEP_ALIVE
        except Exception as error:
            yield chunks.error(_told(from_exception(error), error, self._metrics))
        finally:
            await feed.close()

    def _ask(self, request: Request, body: ChatRequest) -> Ask:
        return Ask(
            request_id=request.state.request_id,
            model=body.model,
            messages=tuple(message.plain() for message in body.messages),
            prompt=body.prompt,
            deadline=time.time() + self._limits.timeout_s,
            sampling=body.sampling,
            k=body.coe.k,
            aggregator=body.coe.aggregator,
            priority=body.priority,
            caller=request.state.caller.id,
            caller_name=request.state.caller.name,
            wish=body.coe.wish,
            conversation=body.conversation,
            user=body.user,
        )

    # Route, experts

    async def route(self, request: Request) -> Response:
        """POST /v1/route"""
        raw = await read_body(request, self._limits.body_bytes)
        body = parse_route(raw, self._limits, self._names)
        ask = self._ask(request, body)
        routed = await self._pipeline.decide(ask)
        return _json(
            {"object": "route", "model": ask.model, **coe_field(routed, explain=True)},
            headers=route_headers(ask.request_id, routed),
        )

    async def experts(self) -> Response:
        """GET /v1/experts"""
        stats = await self._pipeline.stats()
        data = []
        for spec in self._registry:
            worker = stats.get(spec.family_name, "the worker of its family does not run")
            tier = worker.tiers.get(spec.name, "not loaded yet") if isinstance(worker, WorkerStats) else worker
            ready = tier in READY_TIERS
            data.append(
                {
                    "name": spec.name,
                    "kind": spec.kind,
                    "family": spec.family_name,
                    "state": "ready" if ready else "failed" if tier.startswith("failed") else "starting",
                    "tier": tier if ready else None,
                    "why": None if ready else tier,
                    "active": isinstance(worker, WorkerStats) and worker.active == spec.name,
                    "queued": worker.queued_by_expert.get(spec.name, 0) if isinstance(worker, WorkerStats) else 0,
                    "description": spec.description,
                }
            )
        families = {family: _worker_field(family, worker) for family, worker in stats.items()}
        return _json({"object": "list", "data": data, "families": families})

    async def swaps(self) -> Response:
        """GET /v1/swaps"""
        stats = await self._pipeline.stats()
        events = [
            {"family": family, **asdict(event)}
            for family, worker in stats.items()
            if isinstance(worker, WorkerStats)
            for event in worker.events
        ]
        return _json({"object": "list", "data": sorted(events, key=lambda event: event["at"])})

    # Health and metrics

    async def live(self) -> Response:
        """GET /health/live: the process answers."""
        return _json({"status": "live"})

    async def ready(self) -> Response:
        """GET /health/ready: 200 when every expert can answer."""
        missing = dict(await self._ready())
        status = {"status": "not_ready" if missing else "ready", "not_ready": missing}
        return _json(status, status=503 if missing else 200)

    async def health(self) -> Response:
        """GET /health: both, and the store. Without the store chat goes on for a while, so it does not decide."""
        missing = dict(await self._ready())
        store = "ok"
        try:
            await self._keys.store.ping()
        except StoreUnavailable:
            store = "unreachable"
        status = {"status": "not_ready" if missing else "ready", "live": True, "not_ready": missing, "store": store}
        return _json(status, status=503 if missing else 200)

    async def metrics(self) -> Response:
        """GET /metrics"""
        return Response(self._metrics.render(await self._pipeline.stats()), headers={"content-type": CONTENT_TYPE})


class _Frame:
    """Around every request: its id, bound for the logs and sent as x-request-id, and the answer to every exception."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except (ClientGone, ClientDisconnect):
                log.info("client gone")
                if not started:
                    await Response(status_code=CLIENT_GONE)(scope, receive, send_with_id)
            except Exception as error:
                answer = _error(_told(from_exception(error), error, self._metrics), request_id)
                if not started:
                    await answer(scope, receive, send_with_id)


async def _refused_by_framework(request: Request, error: Exception) -> Response:
    """An unknown path or a wrong method, for `_Frame` to answer as everything else."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:100]}"
    if error.status_code == 404:
        raise ApiError("not_found", f"{where}: no such path; the API is under /v1, see docs/api.md")
    if error.status_code == 405:
        headers = dict(error.headers or {})
        raise ApiError("method_not_allowed", f"{where}: allowed is {headers.get('Allow')}", headers=headers)
    raise error


def _told(told: ApiError, error: Exception, metrics: Metrics) -> ApiError:
    """Counts an error; a fault of the service is logged with all that is known of it."""
    metrics.errors.labels(told.cause).inc()
    if told.row.status >= 500:
        trace = error if told.cause == "internal" and not isinstance(error, ApiError) else None
        log.error("error answered", cause=told.cause, why=told.message, exc_info=trace)
    return told


def _error(error: ApiError, request_id: str) -> Response:
    return _json(error.body(request_id), error.row.status, {**error.headers, "x-coe-request-id": request_id})


def _worker_field(family: str, worker: WorkerStats | str) -> dict[str, Any]:
    """A worker's state without its event log, which is long and has a path of its own."""
    if isinstance(worker, str):
        return {"family": family, "why": worker}
    return {key: value for key, value in asdict(worker).items() if key != "events"}


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
