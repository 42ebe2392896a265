"""The HTTP API: OpenAI's chat and models, the router's decision, health and metrics. docs/api.md describes it."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from experts.registry import Registry
from orchestrator.access.grant import Grant
from orchestrator.access.scopes import seen_by
from orchestrator.batch.service import Batches
from orchestrator.errors import ApiError
from orchestrator.events import READY_TIERS, Ask
from orchestrator.feed import Feed
from orchestrator.http import wire_answers as told
from orchestrator.http.admin import Admin, only_admins
from orchestrator.http.answers import Answers
from orchestrator.http.apply import Applying, Change
from orchestrator.http.asks import ask_of, named_by, writer_of
from orchestrator.http.batches import batch_paths
from orchestrator.http.chat import coe_field, route_headers
from orchestrator.http.console import console_routes
from orchestrator.http.decisions import Decisions
from orchestrator.http.embeddings import EmbeddingRequest, Embeddings
from orchestrator.http.events import Events, told_jobs
from orchestrator.http.feedback import Feedback, FeedbackQuery
from orchestrator.http.frame import Frame
from orchestrator.http.guards import Bounds, Cors, Guards, SafeHeaders
from orchestrator.http.health import Health, Serving
from orchestrator.http.models import Models
from orchestrator.http.once import Once, Rules
from orchestrator.http.openapi import ASKS, COUNTS, Described, document
from orchestrator.http.reading import deadline, parse, parse_route, read_body
from orchestrator.http.router import RouterAnswer, Routers
from orchestrator.http.routes import Path, routes
from orchestrator.http.wire import ChatRequest, FeedbackRequest, Generation, Limits, RouteRequest
from orchestrator.http.wire_coe import Names
from orchestrator.http.wire_completions import CompletionRequest
from orchestrator.http.wire_responses import ResponseRequest
from orchestrator.keys import KeyInfo, Keys
from orchestrator.metrics import CONTENT_TYPE, Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.routers_shown import ShownRouter
from routers.encoders.base import TokenEncoder
from workers.base import WorkerStats
from workers.tracing import names
from workers.tracing.spans import OFF, Tracing

T = TypeVar("T", bound=Generation)

log = structlog.stdlib.get_logger(__name__)


BOUNDS, NO_CORS = Bounds(), Cors()


def create_app(
    pipeline: Pipeline,
    registry: Registry,
    keys: Keys,
    limits: Limits,
    metrics: Metrics,
    encoder: TokenEncoder | None = None,
    *,
    ready_s: float = 600.0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    once: Rules | None = None,
    batches: Batches | None = None,
    bounds: Bounds = BOUNDS,
    cors: Cors = NO_CORS,
    serving: Serving | None = None,
    change: Change | None = None,
    tracing: Tracing = OFF,
    feed: Feed | None = None,
    routers: Mapping[str | None, ShownRouter] | None = None,
    console: bool = False,
) -> Starlette:
    """The ASGI application. encoder: for /v1/embeddings. ready_s: see `orchestrator.http.health.Serving`, which
    `serving` is, where an application went before this one in the process. settings: aggregator -> what is told of its
    settings. once: for requests with an Idempotency-Key. batches: None = there are none. change: takes a new
    configuration, None = nothing does. tracing: where requests are traced. feed: of what happens, so that who made it
    can end it. routers: by tenant, what is told of them. console: is the web console served?"""
    api = _Api(pipeline, registry, keys, limits, metrics)
    health = Health(pipeline.not_ready, keys.store, serving or Serving(len(registry), ready_s, time.monotonic()))
    feedback = Feedback(keys.store, metrics, limits.body_bytes, pipeline.recorded)
    models = Models(pipeline, registry, encoder, settings or {})
    embeddings = Embeddings(encoder, pipeline, limits)
    admin = Admin(keys, pipeline.limiter, registry.names, tuple(pipeline.ensembles), limits.body_bytes)
    events = Events(
        feed or Feed(pipeline.stats, told_jobs(batches.jobs) if batches else None), keys, limits.keep_alive_s
    )
    shown = Routers(routers or {}, pipeline, registry.names)
    paths = (
        Path("/v1/chat/completions", "POST", api.chat, body=ChatRequest, answer=told.ChatAnswer, errors=ASKS),
        Path(
            "/v1/completions", "POST", api.completion, body=CompletionRequest, answer=told.CompletionAnswer,
            errors=ASKS,
        ),
        Path("/v1/responses", "POST", api.response, body=ResponseRequest, answer=told.ResponseAnswer, errors=ASKS),
        Path(
            "/v1/embeddings", "POST", embeddings.create, body=EmbeddingRequest, answer=told.EmbeddingAnswer,
            errors=("model_not_found", *COUNTS),
        ),
        Path("/v1/route", "POST", api.route, body=RouteRequest, answer=told.RouteAnswer, errors=ASKS),
        Path(
            "/v1/feedback", "POST", feedback.put, body=FeedbackRequest, answer=told.FeedbackAnswer,
            errors=("answer_not_found",),
        ),
        Path("/v1/feedback", "GET", feedback.list, query=FeedbackQuery, answer=told.FeedbackList),
        *Decisions(keys.store, pipeline.recorded).paths(),
        Path("/v1/models", "GET", models.list, answer=told.ModelList),
        Path("/v1/models/{name:path}", "GET", models.one, answer=told.ModelAnswer, errors=("model_not_found",)),
        Path("/v1/experts", "GET", api.experts, answer=told.ExpertList),
        Path("/v1/swaps", "GET", api.swaps, answer=told.SwapList),
        Path("/v1/router", "GET", shown.one, answer=RouterAnswer),
        Path("/v1/events", "GET", events.stream, errors=("overloaded",), streams=True),
        *admin.paths(),
        *(Applying(change, limits.body_bytes).paths() if change else ()),
        *(batch_paths(batches, limits.body_bytes) if batches else ()),
        Path("/health/live", "GET", health.live, "none", answer=told.Live),
        Path("/health/ready", "GET", health.ready, "none", answer=told.ReadyState, unwell=True),
        Path("/health/serving", "GET", health.serving, "none", answer=told.ReadyState, unwell=True),
        Path("/health", "GET", health.health, "none", answer=told.HealthState, unwell=True),
        Path("/metrics", "GET", api.metrics, "none"),
    )  # fmt: skip
    described = Described(document(paths))
    app = Starlette(routes=routes((*paths, Path("/openapi.json", "GET", described, "none")), api.caller, only_admins))
    if console:
        app.routes.extend(console_routes())
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, _refused_by_framework)
    app.add_middleware(Once, store=keys.store, caller=api.caller, rules=once or Rules())
    app.add_middleware(Guards, bounds=bounds)  # the last one that is added is the first to see a request
    app.add_middleware(Frame, told=partial(_told, metrics), tracing=tracing)
    app.add_middleware(SafeHeaders, cors=cors)
    return app


class _Api:
    def __init__(self, pipeline: Pipeline, registry: Registry, keys: Keys, limits: Limits, metrics: Metrics) -> None:
        self._pipeline, self._registry, self._keys = pipeline, registry, keys
        self._limits, self._metrics = limits, metrics
        self._names = Names(registry.names, pipeline.aggregators)
        self._answers = Answers(pipeline, limits.keep_alive_s, partial(_told, metrics))

    async def caller(self, request: Request) -> KeyInfo:
        """The key of the request. Raises what errors.py maps to 401 and 503."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            text = "no API key; send it in the header 'Authorization: Bearer <key>'"
            raise ApiError("missing_api_key", text, headers={"www-authenticate": "Bearer"})
        known = await self._keys.verify(key)
        request.state.caller = known
        request.state.span.set({names.KEY_ID: known.lineage, names.KEY_CLASS: known.grant.priority})
        return known

    def _names_of(self, request: Request) -> Names:
        """What the request may name: what is outside of the scopes of its key does not exist for it."""
        return named_by(request.state.caller.grant, self._names.experts, self._names.aggregators)

    # Chat

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        return await self._generate(request, ChatRequest)

    async def completion(self, request: Request) -> Response:
        """POST /v1/completions"""
        return await self._generate(request, CompletionRequest)

    async def response(self, request: Request) -> Response:
        """POST /v1/responses"""
        return await self._generate(request, ResponseRequest)

    async def _generate(self, request: Request, kind: type[Generation]) -> Response:
        body = await self._body(request, kind)
        ask = self._ask(request, body)
        return await self._answers.respond(request, ask, writer_of(body, ask))

    async def _body(self, request: Request, kind: type[T]) -> T:
        return parse(await read_body(request, self._limits.body_bytes), kind, self._limits, self._names_of(request))

    def _ask(self, request: Request, body: Generation) -> Ask:
        caller: KeyInfo = request.state.caller
        until = deadline(request, self._limits.timeout_s)
        state = request.state
        return ask_of(body, state.request_id, until, caller.lineage, caller.name, caller.grant, state.span)

    # Route, experts

    async def route(self, request: Request) -> Response:
        """POST /v1/route"""
        raw = await read_body(request, self._limits.body_bytes)
        body = parse_route(raw, self._limits, self._names_of(request))
        ask = self._ask(request, body)
        routed = await self._pipeline.decide(ask)
        return _json(
            {"object": "route", "model": ask.model, **coe_field(routed, explain=True)},
            headers=route_headers(ask.request_id, routed),
        )

    async def experts(self, request: Request) -> Response:
        """GET /v1/experts"""
        grant: Grant = request.state.caller.grant
        stats = seen_by(grant, await self._pipeline.stats())
        data = []
        for spec in self._registry:
            if not grant.may_ask(spec.name):
                continue
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
                    "circuit": self._pipeline.circuit(spec.name),
                    "active": isinstance(worker, WorkerStats) and worker.active == spec.name,
                    "queued": worker.queued_by_expert.get(spec.name, 0) if isinstance(worker, WorkerStats) else 0,
                    "description": spec.description,
                }
            )
        families = {family: _worker_field(family, worker) for family, worker in stats.items()}
        return _json({"object": "list", "data": data, "families": families})

    async def swaps(self, request: Request) -> Response:
        """GET /v1/swaps"""
        stats = seen_by(request.state.caller.grant, await self._pipeline.stats())
        events = [
            {"family": family, **asdict(event)}
            for family, worker in stats.items()
            if isinstance(worker, WorkerStats)
            for event in worker.events
        ]
        return _json({"object": "list", "data": sorted(events, key=lambda event: event["at"])})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(self._metrics.render(await self._pipeline.stats()), headers={"content-type": CONTENT_TYPE})


async def _refused_by_framework(request: Request, error: Exception) -> Response:
    """An unknown path or a wrong method, for `Frame` to answer as everything else."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:100]}"
    if error.status_code == 404:
        raise ApiError("not_found", f"{where}: no such path; the API is under /v1, see docs/api.md")
    if error.status_code == 405:
        allowed = ", ".join(_methods_of(request))
        raise ApiError("method_not_allowed", f"{where}: allowed is {allowed}", headers={"allow": allowed})
    raise error


def _methods_of(request: Request) -> list[str]:
    """All that the path takes; the framework tells those of its first route alone."""
    paths = (route for route in request.app.routes if route.path_regex.match(request.scope["path"]))
    return sorted({method for route in paths for method in route.methods})


def _told(metrics: Metrics, told: ApiError, error: Exception) -> ApiError:
    """Counts an error; a fault of the service is logged with all that is known of it."""
    metrics.errors.labels(told.cause).inc()
    if told.row.status >= 500:
        trace = error if told.cause == "internal" and not isinstance(error, ApiError) else None
        log.error("error answered", cause=told.cause, why=told.message, exc_info=trace)
    return told


def _worker_field(family: str, worker: WorkerStats | str) -> dict[str, Any]:
    """A worker's state without its event log, which is long and has a path of its own."""
    if isinstance(worker, str):
        return {"family": family, "why": worker}
    return {key: value for key, value in asdict(worker).items() if key != "events"}


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
