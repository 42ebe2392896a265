"""A whole service in one process: real API, pipeline, keys and Redis, fake engines, and a router by keyword."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI
from starlette.applications import Starlette

from aggregators.base import Aggregator, Draft, Drafts, Experts, Piece, Request, Verdict
from aggregators.drafts import all_of, failed, usable
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.batch.replays import Replays
from orchestrator.batch.service import Batches, Engines, batches_of, open_storage
from orchestrator.calls import LocalWorkers, Workers
from orchestrator.config.batch import BatchConfig
from orchestrator.ensembles import Ensemble
from orchestrator.feed import Feed
from orchestrator.http.api import BOUNDS, NO_CORS, create_app
from orchestrator.http.guards import Bounds, Cors
from orchestrator.http.once import Rules
from orchestrator.http.wire import Limits
from orchestrator.keys import Keys
from orchestrator.metrics import Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.records import KEPT, Kept
from orchestrator.routers_shown import ShownRouter
from orchestrator.routing import Tenant
from orchestrator.store import Store
from orchestrator.turns import Turns
from routers.base import Choice, NoCandidate, Route, Router
from routers.encoders.base import TokenEncoder
from routers.policies.policy_set import PolicySet
from tests.aggregators.judging import judging
from workers.base import ChatCall, WorkerStats
from workers.fake_engine import FakeEngine

GENERALIST, SQL, MATH, REMOTE = "generalist", "sql", "math", "remote"
REGISTRY = Registry(
    [
        ExpertSpec(name=GENERALIST, source="models/generalist", family="small", context_length=2000),
        ExpertSpec(name=SQL, source="models/sql", family="small", context_length=50, tags=("code",), tools=True),
        ExpertSpec(name=MATH, source="models/math", family="small", context_length=200),
        ExpertSpec(name=REMOTE, kind="remote", source="some.module:Chat", options={"api_key": "env:SECRET"}),
    ]
)


NO_POLICIES = PolicySet()
BATCH = BatchConfig(block=8, lease_s=30)
LIMITS = Limits(body_bytes=20_000, messages=10, max_tokens=500, timeout_s=60.0, keep_alive_s=10.0)


class KeywordRouter:
    """Chooses the expert whose name stands in the prompt, else the generalist; more experts follow in order."""

    name = "keyword"

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.category = "catégorie\r\nx-evil: 1"
        self.error: Exception | None = None

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        if self.error:
            raise self.error
        if not candidates:
            raise NoCandidate("no expert may answer")
        self.prompts.append(prompt)
        named = [name for name in candidates if name in prompt.lower()]
        chosen = [*named, *(name for name in candidates if name not in named)][:k]
        return Route(
            choices=tuple(Choice(name, 1 / len(chosen)) for name in chosen),
            reason="the word stands there — naïve",
            router=self.name,
            category=self.category,
            probabilities={"a": 0.75, "b": 0.25},
            margin=0.5,
            aggregator="single" if len(chosen) == 1 else "joined",
            skills={"joins": 4.25, "'the'": -1.5},
        )

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        return [self.route(prompt, candidates, k) for prompt in prompts]


class Joined:
    """The texts of all drafts in the route's order, which is nobody's answer alone."""

    name = "joined"

    def calls(self, drafts: int) -> int:
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        every = await all_of(request, drafts, request.deadline)
        good = usable(every)
        for draft in good:
            yield Piece(f"[{draft.text}]")
        yield Verdict(None, "stop", tuple(draft.expert for draft in good), failed(every), {"all": 1.0})


class First:
    """The first draft that comes; the others are not waited for."""

    name = "first"

    def calls(self, drafts: int) -> int:
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        drafts.ask(len(request.seats))
        async for draft in drafts:
            if isinstance(draft, Draft) and draft.error is None:
                yield Piece(draft.text)
                yield Verdict(draft.expert, draft.finish_reason, (draft.expert,))
                return


class Broken:
    name = "broken"

    def calls(self, drafts: int) -> int:
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        drafts.ask(len(request.seats))
        async for _ in drafts:
            raise ZeroDivisionError("a secret of the inside")
        yield Piece("never")


class Unheard(LocalWorkers):
    """Workers whose stats never come: that an expert has failed is learned by asking it."""

    async def stats(self) -> dict[str, WorkerStats | str]:
        raise ConnectionError("no stats")


AGGREGATORS: dict[str, Aggregator] = {"joined": Joined(), "first": First(), "broken": Broken()}


def saying(call: ChatCall) -> str:
    """Math finds the answer, and whoever judges knows it."""
    shown = call.messages[-1]["content"]
    if " draft 1]\n" in shown:
        role = "judge" if "JSON" in shown else "writer"
        return str(judging(lambda text: 9 if "42" in text else 2, "they say 42")(call.expert, role, call.messages))
    return "it is 42" if call.expert == MATH else f"{call.expert} does not know"


@dataclass
class Service:
    store: Store
    keys: Keys
    key: str
    engines: dict[str, FakeEngine]
    router: KeywordRouter
    pipeline: Pipeline
    metrics: Metrics
    app: Starlette
    batches: Batches | None = None
    clients: list[Any] = field(default_factory=list)
    runner: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        store: Store,
        limits: Limits = LIMITS,
        concurrent: int = 8,
        key: str | None = None,
        router: Router | None = None,
        policies: PolicySet = NO_POLICIES,
        turns: Turns | None = None,
        others: Mapping[str, Tenant] | None = None,
        ensembles: Iterable[Ensemble] = (),
        aggregators: Mapping[str, Aggregator] = AGGREGATORS,
        registry: Registry = REGISTRY,
        encoder: TokenEncoder | None = None,
        once: Rules | None = None,
        waiting: int = 0,
        batches: Mapping[str, int] | None = None,
        bounds: Bounds = BOUNDS,
        cors: Cors = NO_CORS,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        batch: Path | None = None,
        batch_config: BatchConfig = BATCH,
        records: Kept = KEPT,
        feed: Feed | None = None,
        routers: Mapping[str | None, ShownRouter] | None = None,
        console: bool = False,
    ) -> "Service":
        """key: one that need not be valid, where there is no Redis to make a valid one in.

        router: in place of the one by keyword. batch: a folder for batches; `batches.runner` is to be run by the test.
        """
        keys, metrics, keywords = Keys(store), Metrics(), KeywordRouter()
        key = key or (await keys.create("test"))[0]
        engines = {family: FakeEngine(family, experts) for family, experts in registry.families().items()}
        for engine in engines.values():
            await engine.start()
        replays = Replays(LocalWorkers(engines, registry))
        pipeline = Pipeline(
            default=Tenant(router or keywords, policies, turns),
            others=others,
            ensembles={ensemble.model: ensemble for ensemble in ensembles},
            workers=LocalWorkers(engines, registry) if batch is None else replays,
            registry=registry,
            aggregators=aggregators,
            store=store,
            metrics=metrics,
            concurrent=concurrent,
            waiting=waiting,
            batches=batches,
            backoff=(0.01, 0.02),
            records=records,
        )
        of_batches = None
        if batch is not None:
            families = dict.fromkeys(registry.families(), 4)
            parts = Engines({family: family for family in families}, families)
            storage = open_storage(batch_config.files_url, batch)
            of_batches = batches_of(
                batch_config, parts, registry, storage, store, pipeline, replays, limits, encoder, metrics, poll_s=0.02
            )
        app = create_app(
            pipeline,
            registry,
            keys,
            limits,
            metrics,
            encoder,
            settings=settings,
            once=once,
            batches=of_batches,
            bounds=bounds,
            cors=cors,
            feed=feed,
            routers=routers,
            console=console,
        )
        return cls(store, keys, key, engines, keywords, pipeline, metrics, app, of_batches)

    @property
    def engine(self) -> FakeEngine:
        """That of the family 'small'."""
        return self.engines["small"]

    @property
    def openai(self) -> AsyncOpenAI:
        """The official client, without retries of its own."""
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://coe")
        client = AsyncOpenAI(base_url="http://coe/v1", api_key=self.key, max_retries=0, http_client=http)
        self.clients.append(client)
        return client

    @property
    def http(self) -> httpx2.AsyncClient:
        """A plain client that sends the key."""
        headers = {"authorization": f"Bearer {self.key}"}
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app), base_url="http://coe", headers=headers, timeout=30
        )
        self.clients.append(client)
        return client

    def work_with(self, workers: Workers) -> None:
        """In place of the engines."""
        self.pipeline._calls.workers = workers

    def run_batches(self) -> None:
        """Until `stop_batches` or `stop`."""
        assert self.batches is not None
        self.runner = asyncio.create_task(self.batches.runner.run())

    async def stop_batches(self) -> None:
        """Raises what the runner did."""
        runner, self.runner = self.runner, None
        if runner is not None:
            runner.cancel()
            with suppress(asyncio.CancelledError):
                await runner

    async def stop(self) -> None:
        await self.stop_batches()
        await self.pipeline.drain()
        for client in self.clients:
            await (client.close() if isinstance(client, AsyncOpenAI) else client.aclose())
