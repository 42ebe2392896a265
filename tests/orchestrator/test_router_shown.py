"""GET /v1/router and GET /v1/key: what a key is told of its router and of itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from experts.registry import Registry
from orchestrator.access.grant import Grant
from orchestrator.routers_shown import ShownRouter, shown_router
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from routers.evaluation.kept import EVALUATION, keep, kept
from routers.fitted import FittedRouter, fit
from routers.fixed import FixedRouter
from tests.orchestrator.parts import REGISTRY, Service

REPORT = {"n": 9, "default": 80.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a router that was fitted on two experts of the service."""
    prompts = [f"{word} number {number}" for number in range(30) for word in ("select", "integral")]
    scores = {"sql": [1.0, 0.0] * 30, "math": [0.0, 1.0] * 30}
    router = fit(prompts, scores, categories=["data", "calculus"] * 30, encoder=HashEncoder(16))
    router.save(made := tmp_path_factory.mktemp("router"))
    return made


@pytest.fixture
def shown(folder: Path) -> ShownRouter:
    (folder / EVALUATION).unlink(missing_ok=True)
    return shown_router(FittedRouter.load(folder, HashEncoder(16)), folder)


@pytest_asyncio.fixture
async def service(store: Store, shown: ShownRouter) -> AsyncIterator[Service]:
    service = await Service.start(store, routers={None: shown})
    yield service
    await service.stop()


async def test_it_tells_what_was_measured(service: Service) -> None:
    told = (await service.http.get("/v1/router")).json()
    assert (told["name"], told["experts"], told["evaluation"]) == ("fitted", ["math", "sql"], None)
    assert told["quality"]["data"] == {"math": {"score": 0.0, "prompts": 30}, "sql": {"score": 1.0, "prompts": 30}}
    assert told["fit"]["prompts"] == 60
    assert told["fit"]["means"] == {"math": 0.5, "sql": 0.5}
    assert set(told["fit"]["scores"]) >= {"best_single", "two_level"}


async def test_a_kept_evaluation_is_told_until_the_router_is_another_one(service: Service, folder: Path) -> None:
    keep(folder, REPORT, "labels.csv, test")
    told = (await service.http.get("/v1/router")).json()["evaluation"]
    assert (told["report"], told["prompts"]) == (REPORT, "labels.csv, test")
    header = folder / "router.json"
    was = header.read_bytes()
    header.write_bytes(was + b"\n")
    assert (await service.http.get("/v1/router")).json()["evaluation"] is None
    header.write_bytes(was)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"router": 1}', "null"])
def test_a_damaged_evaluation_is_none(folder: Path, content: str) -> None:
    (folder / EVALUATION).write_text(content)
    assert kept(folder) is None


async def test_a_key_sees_its_own_experts_alone(service: Service, folder: Path) -> None:
    keep(folder, REPORT, "labels.csv")
    service.key, _ = await service.keys.create("scoped", Grant(experts=("sql",)))
    told = (await service.http.get("/v1/router")).json()
    assert (told["experts"], told["fit"], told["evaluation"]) == (["sql"], None, None)
    assert set(told["quality"]["data"]) == {"sql"}


async def test_an_expert_that_the_service_has_no_more_hides_nothing(
    store: Store, shown: ShownRouter, folder: Path
) -> None:
    keep(folder, REPORT, "labels.csv")
    left = Registry([spec for spec in REGISTRY if spec.name != "math"])
    service = await Service.start(store, routers={None: shown}, registry=left)
    told = (await service.http.get("/v1/router")).json()
    assert (told["experts"], told["fit"]["prompts"], told["evaluation"]["report"]) == (["sql"], 60, REPORT)
    service.key, _ = await service.keys.create("scoped", Grant(experts=("generalist",)))
    told = (await service.http.get("/v1/router")).json()
    assert (told["experts"], told["fit"], told["evaluation"]) == ([], None, None)
    await service.stop()


async def test_a_router_that_was_fitted_on_nothing_says_only_its_name(store: Store) -> None:
    service = await Service.start(store, routers={None: shown_router(FixedRouter("sql"), None)})
    told = (await service.http.get("/v1/router")).json()
    assert (told["name"], told["experts"], told["quality"], told["fit"]) == ("fixed", [], {}, None)
    await service.stop()


async def test_a_key_is_told_of_itself_and_what_it_used(service: Service) -> None:
    body = {"model": "sql", "messages": [{"role": "user", "content": "hi"}]}
    assert (await service.http.post("/v1/chat/completions", json=body)).status_code == 200
    await service.pipeline.drain()
    told = (await service.http.get("/v1/key")).json()
    assert (told["name"], told["admin"], told["state"]) == ("test", False, "active")
    assert told["usage"]["requests_per_day"] == {"used": 1, "limit": None}
    assert "hash" not in told
    assert service.key not in str(told)
