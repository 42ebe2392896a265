"""A gateway whose workers are in this process, and a coe.yaml that it can take anew."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI

from experts.registry import Registry
from orchestrator.access.grant import Grant
from orchestrator.applying import Gateway
from orchestrator.config.load import load_config
from orchestrator.config.model import Config
from orchestrator.keys import Keys
from orchestrator.placement.planner import Planner
from orchestrator.plans import Plan, families_of, make_worker, plans
from orchestrator.preparing import Source, load_deciders, with_fake_engines
from orchestrator.site import Shared, Site, SwitchedWorkers
from orchestrator.store import Store
from tests.orchestrator.served import SilentReporter
from workers.base import ChatCall, Event, WorkerStats
from workers.worker import Worker

HEAD = """
router: {kind: fixed, fallback: one}
families:
  f: {engine: fake, engine_args: {fake_token_delay: 0.002}}
"""


def yaml(*experts: str, more: str = "") -> str:
    """experts: "name source", or "name source tokens" for the length of its answers; all of family f."""
    lines = []
    for expert in experts:
        name, source, *tokens = expert.split()
        sampling = f", sampling: {{max_tokens: {tokens[0]}}}" if tokens else ""
        family = "f" if name != "alone" else "g"
        lines.append(f"  - {{name: {name}, source: {source}, family: {family}{sampling}}}")
    return "\n".join(["experts:", *lines, HEAD, more])


@dataclass
class LocalFleet:
    """Workers in this process, which follow what is deployed."""

    owner: str | None = "test"
    running: dict[str, Worker] = field(default_factory=dict)
    deployed: list[dict[str, tuple[str, ...]]] = field(default_factory=list)
    full: Exception | None = None
    slow: asyncio.Event = field(default_factory=asyncio.Event)

    def workers(self, found: Mapping[str, Plan], registry: Registry, traces: str = "") -> SwitchedWorkers:
        return LocalWorkers(self, registry)

    def check_room(self, found: Mapping[str, Plan]) -> None:
        if self.full is not None:
            raise self.full

    def deploy(self, found: Mapping[str, Plan], drain_s: float) -> None:
        """From a thread, as the real one; workers live in the loop."""
        done = asyncio.run_coroutine_threadsafe(self.follow(found), self.loop)
        done.result(10)

    async def follow(self, found: Mapping[str, Plan]) -> None:
        self.loop = asyncio.get_running_loop()
        every = {own.family: own for plan in found.values() for own in families_of(plan)}
        self.deployed.append({family: own.roster.names for family, own in every.items()})
        for family, own in every.items():
            if family not in self.running:
                self.running[family] = make_worker(own)
                self.running[family].launch()
            self.running[family].adopt(own.roster)
        for family in self.running.keys() - every.keys():
            await self.running.pop(family).close()


class LocalWorkers:
    def __init__(self, fleet: LocalFleet, registry: Registry) -> None:
        self._fleet, self._registry = fleet, registry

    def followed_by(self, found: Mapping[str, Plan], registry: Registry) -> "LocalWorkers":
        return LocalWorkers(self._fleet, registry)

    async def open(self) -> None: ...

    def place(self, planned: Mapping[str, Planner]) -> None:
        assert not planned, "these are no workers on which experts could be placed"

    async def give_way(self, to: "LocalWorkers | None") -> None: ...

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        return self._fleet.running[self._registry.get(call.expert).family_name].generate(call)

    async def stats(self) -> dict[str, WorkerStats | str]:
        families = self._registry.families()
        return {name: await worker.stats() for name, worker in self._fleet.running.items() if name in families}


@dataclass
class Live:
    path: Path
    fleet: LocalFleet
    gateway: Gateway
    keys: Keys
    admin: str
    plain: str

    @classmethod
    async def start(
        cls, store: Store, redis_url: str, folder: Path, text: str, fleet: LocalFleet | None = None
    ) -> "Live":
        path = folder / "coe.yaml"
        path.write_text(text)

        def read() -> Config:
            return with_fake_engines(load_config(path, folder))

        config = read()
        shared = Shared.of(config, folder, redis_url)
        found, fleet = plans(config, config.registry(), folder), fleet or LocalFleet()
        await fleet.follow(found)
        gateway = Gateway(shared, fleet, Source(read, folder, attach=False))
        await gateway.start(config, found, load_deciders(config, folder, SilentReporter()))
        keys = Keys(store)
        admin, plain = (await keys.create("admin", Grant(admin=True)))[0], (await keys.create("plain"))[0]
        live = cls(path, fleet, gateway, keys, admin, plain)
        await live.ready()
        return live

    async def ready(self) -> None:
        async with asyncio.timeout(10):
            while await self.gateway.site.pipeline.not_ready():
                await asyncio.sleep(0.005)

    def http(self, key: str | None = None) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {key or self.admin}"}
        transport = httpx2.ASGITransport(self.gateway)
        return httpx2.AsyncClient(transport=transport, base_url="http://coe", headers=headers, timeout=30)

    @property
    def openai(self) -> AsyncOpenAI:
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.gateway), base_url="http://coe")
        return AsyncOpenAI(base_url="http://coe/v1", api_key=self.plain, max_retries=0, http_client=http)

    async def apply(self, *, key: str | None = None, **body: Any) -> httpx2.Response:
        async with self.http(key) as http:
            return await http.post("/admin/v1/apply", json=body)

    async def take(self, text: str) -> dict[str, Any]:
        """The answer to a change of the file, which must be taken."""
        self.path.write_text(text)
        answer = await self.apply()
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def ask(self, model: str, words: int = 5, **more: Any) -> Any:
        content = " ".join(["word"] * words)
        return await self.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], **more
        )

    async def old_ended(self, site: Site) -> None:
        async with asyncio.timeout(10):
            while site in self.gateway._ending:
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        await self.gateway.stop()
        for worker in self.fleet.running.values():
            with suppress(Exception):
                await worker.close()
        await self.gateway._shared.store.close()
