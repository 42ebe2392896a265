"""Dashboards and alerts ask for what a service tells that has answered in every way."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from experts.registry import Registry
from experts.spec import ExpertSpec
from helm.dashboards import DASHBOARDS
from helm.metrics_page import RULES, described
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl
from tests.orchestrator.parts import MATH, REGISTRY, REMOTE, SQL, Service

ELSEWHERE = {"coe_batch_dead_letters_total", "coe_workers_wanted"}
"""What only accidents bring about, and what only Ray Serve knows; tests/orchestrator/test_metrics.py has it."""


def asked_for() -> dict[str, set[str]]:
    """Name of a sample -> the labels that queries choose by."""
    queries = [query for own in DASHBOARDS for panel in own.panels for query in panel.queries]
    queries += re.findall(r"expr: (.*?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)
    found: dict[str, set[str]] = {}
    for name, braces in re.findall(r"\b(coe_[a-z_]+)\{((?:[^{}]|\{\{|\}\})*)\}", "\n".join(queries)):
        found.setdefault(name, set()).update(re.findall(r'(\w+)(?:=~|!=|=)"', braces))
    return found


async def test_a_service_tells_all_that_dashboards_and_alerts_ask_for(store: Store, tmp_path: Path) -> None:
    priced = [
        ExpertSpec.model_validate({**spec.model_dump(exclude_unset=True), "price": {"input": 1, "output": 2}})
        for spec in REGISTRY
        if spec.name != REMOTE
    ]
    service = await Service.start(store, registry=Registry([*priced, REGISTRY.get(REMOTE)]), batch=tmp_path)
    service.router.category = "code"
    service.engine._images = 1
    await service.engine.start()
    http = service.http

    async def chat(**fields: Any) -> str:
        body = {"model": "auto", "messages": [{"role": "user", "content": "some sql please"}], **fields}
        return str((await http.post("/v1/chat/completions", json=body)).json().get("id"))

    answer = await chat()
    await chat(model=MATH)
    await chat(coe={"k": 2, "deny": [REMOTE]})
    await chat(model="nobody")
    await http.post(
        "/v1/chat/completions",
        json={"model": SQL, "stream": True, "messages": [{"role": "user", "content": "some sql"}]},
    )
    await http.post("/v1/feedback", json={"id": answer, "thumbs": "up"})
    limited, _ = await service.keys.create("limited")
    await service.keys.update((await service.keys.find("limited")).id, _with_a_limit)
    refused = await http.post(
        "/v1/chat/completions",
        json={"model": SQL, "messages": [{"role": "user", "content": "x"}]},
        headers={"authorization": f"Bearer {limited}"},
    )
    assert refused.json()["error"]["code"] == "request_over_limit"
    form: Any = {
        "files": {"file": ("in.jsonl", jsonl.file([jsonl.chat("a", "some sql")]))},
        "data": {"purpose": "batch"},
    }
    file = (await http.post("/v1/files", **form)).json()["id"]
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await http.post("/v1/batches", json=body)).json()["id"]
    service.run_batches()
    async with asyncio.timeout(60):
        while (await http.get(f"/v1/batches/{batch}")).json()["status"] != "completed":
            await asyncio.sleep(0.02)
    text = (await http.get("/metrics")).text
    await service.stop()

    told: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"(coe_[a-z_]+)(?:\{([^}]*)\})? ", line):
            told.setdefault(match[1], set()).update(re.findall(r'([a-z_]+)="', match[2] or ""))
    wanted = asked_for()
    assert len(wanted) > 40
    assert wanted.keys() - told.keys() <= ELSEWHERE
    for name in wanted.keys() & told.keys():
        assert wanted[name] <= told[name] | {"namespace", "job"}, name
    names = {own.name for own in described()}
    assert {re.sub("_(bucket|sum|count|created)$", "", name) for name in told} <= names | {
        name.removesuffix("_total") for name in names
    }


def _with_a_limit(info: Any) -> Any:
    return replace(info, grant=replace(info.grant, limits={"requests_per_minute": 0}))
