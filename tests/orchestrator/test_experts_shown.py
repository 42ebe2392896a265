"""/v1/models, /v1/experts and /v1/swaps: which experts there are, their state and tier, and what happened to them."""

from dataclasses import asdict
from pathlib import Path
from typing import get_args, get_type_hints
from unittest.mock import AsyncMock

import openai
import pytest

from tests.orchestrator.chat_parts import CHAT
from tests.orchestrator.parts import MATH, REGISTRY, REMOTE, SQL, Service
from workers.base import SwapEvent, WorkerStats
from workers.images import ImageEvent

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


async def test_models_are_auto_and_the_experts(service: Service) -> None:
    models = await service.openai.models.list()
    assert [model.id for model in models.data] == ["auto", *REGISTRY.names]
    sql = await service.openai.models.retrieve(SQL)
    assert sql.model_extra is not None
    assert sql.model_extra["coe"]["context_length"] == 50
    assert sql.model_extra["coe"]["tags"] == ["code"]
    auto = await service.openai.models.retrieve("auto")
    assert auto.model_extra is not None
    assert auto.model_extra["coe"]["aggregators"] == ["joined", "first", "broken"]
    with pytest.raises(openai.NotFoundError, match="did you mean 'math'"):
        await service.openai.models.retrieve("maths")
    everything = (await service.http.get("/v1/models")).text
    assert "models/sql" not in everything
    assert "env:SECRET" not in everything


async def test_experts_tell_state_and_tier(service: Service) -> None:
    service.engine.fail_start(MATH, "no weights")
    await service.http.post("/v1/chat/completions", json=CHAT)
    told = (await service.http.get("/v1/experts")).json()
    experts = {expert["name"]: expert for expert in told["data"]}
    assert (experts[SQL]["state"], experts[SQL]["tier"], experts[SQL]["active"]) == ("ready", "device", True)
    assert (experts[MATH]["state"], experts[MATH]["tier"], experts[MATH]["active"]) == ("failed", None, False)
    assert experts[MATH]["why"] == "failed: no weights"
    assert told["families"]["small"]["active"] == SQL


async def test_swaps_are_the_events_of_all_families_in_their_order(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happened(at: float, kind: str, image: str) -> SwapEvent:
        return SwapEvent(1, at, kind, image, "disk", "device", 7, 0.5, "why")

    def log(family: str, *events: SwapEvent) -> None:
        stats = WorkerStats(family, {}, events=events)
        monkeypatch.setattr(service.engines[family], "stats", AsyncMock(return_value=stats))

    log("small", happened(1.0, "loaded", SQL), happened(3.0, "swap", SQL))
    log("remote", happened(2.0, "note", REMOTE))
    told = (await service.http.get("/v1/swaps")).json()
    assert told["object"] == "list"
    assert [(event["family"], event["at"], event["kind"]) for event in told["data"]] == [
        ("small", 1.0, "loaded"),
        ("remote", 2.0, "note"),
        ("small", 3.0, "swap"),
    ]
    assert told["data"][0] == {"family": "small", **asdict(happened(1.0, "loaded", SQL))}


def test_the_docs_name_every_kind_of_event() -> None:
    kinds = {"swap", "woke", "slept", *get_args(get_type_hints(ImageEvent)["kind"])}
    [row] = [line for line in DOCS.read_text().splitlines() if "`/v1/swaps`" in line]
    assert {kind for kind in kinds if f"`{kind}`" not in row} == set()
