"""The running service against its own document, by schemathesis: requests that the document allows, and others.

COE_FUZZ_REQUESTS for more requests to each path, COE_FUZZ_SEED for others.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import httpx2
import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: where two threads compile at once, Python 3.11 may fail at it
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as of_documents

from aggregators.registry import NAMES, build
from aggregators.settings import Settings
from aggregators.shown import shown
from experts.registry import Registry
from orchestrator.access.grant import Grant
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.ensembles import Ensemble
from orchestrator.http.guards import WATCHED
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.batch import jsonl
from tests.orchestrator.parts import BATCH, LIMITS, REGISTRY, REMOTE, Service
from tests.orchestrator.served import in_background

CASES = int(os.environ.get("COE_FUZZ_REQUESTS", "20"))
SEED = int(os.environ.get("COE_FUZZ_SEED", "0"))
MODELS = ["auto", "sql", "math", "ensemble/both", "hash-16"]
CHECKS = [
    checks.not_a_server_error,
    of_documents.status_code_conformance,
    of_documents.content_type_conformance,
    of_documents.response_headers_conformance,
    of_documents.response_schema_conformance,
    of_documents.negative_data_rejection,
    of_documents.unsupported_method,
    of_documents.ignored_auth,
]
"""Not `positive_data_acceptance`: JSON Schema cannot say which fields go together, nor which models there are."""


class Live(NamedTuple):
    """A service's address and a key, and ids of a file and of a batch that the key has."""

    url: str
    key: str
    file: str
    batch: str


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with every kind of model, whose experts can all answer, and which runs batches."""

    async def start() -> Service:
        own = {name: shown(name, Settings()) for name in NAMES}
        service = await Service.start(
            Store(redis_server.url, timeout=30),
            replace(LIMITS, body_bytes=1 << 20),
            registry=Registry([spec for spec in REGISTRY if spec.name != REMOTE]),
            encoder=HashEncoder(16),
            ensembles=[Ensemble("ensemble/both", 2, build()["synthesize"], settings=own["synthesize"])],
            settings=own,
            batch=tmp_path_factory.mktemp("batch"),
            batch_config=BATCH.model_copy(update={"per_key": None}),
        )
        service.key, _ = await service.keys.create("all", Grant(admin=True))
        service.run_batches()
        return service

    with in_background(start) as (url, service):
        with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {service.key}"}) as http:
            content = jsonl.file([jsonl.chat("a", "some sql"), "nonsense"])
            form: Any = {"files": {"file": ("in.jsonl", content)}, "data": {"purpose": "batch"}}
            file = http.post("/v1/files", **form).json()["id"]
            body = {"input_file_id": file, "endpoint": jsonl.CHAT, "completion_window": "24h"}
            batch = http.post("/v1/batches", json=body).json()["id"]
        yield Live(url, service.key, file, batch)


@pytest.fixture(scope="module")
def described(live: Live) -> Any:
    """The document, in which no answer has a field that it does not name, and models, files and batches are some that
    there are."""
    document = httpx2.get(f"{live.url}/openapi.json").json()
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if schema.get("properties", {}).keys() & {"messages", "prompt", "input"}:
            schema["properties"]["model"] = {"enum": MODELS}
        if "input_file_id" in schema.get("properties", {}) and "errors" not in schema["properties"]:
            schema["properties"]["input_file_id"] = {"enum": [live.file]}
    for path, methods in document["paths"].items():
        for method, own in methods.items():
            for parameter in own["parameters"]:
                there = {"file_id": live.file, "batch_id": live.batch}.get(parameter["name"])
                if there is not None and method != "delete":
                    parameter["schema"] = {"enum": [there]}
                if parameter["name"] == "after":
                    parameter["schema"] = {"enum": [live.file if path == "/v1/files" else live.batch]}
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=live.url)
    return schema


@pytest.mark.timeout(0)  # by the time-out of each request
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_service_does_what_its_document_says(described: Any, live: Live, mode: GenerationMode) -> None:
    """mode: requests as the document has them, or with something in them that it has not."""
    faults, paths = [], 0
    for operation in (found.ok() for found in described.get_all_operations()):
        if mode is GenerationMode.NEGATIVE and not has_input(operation):
            continue
        if operation.path == WATCHED:  # it has no end; test_events.py reads it
            continue
        paths += 1
        try:
            ask(operation, mode, live.key)
        except (AssertionError, FailureGroup, Failure) as fault:
            faults.append(f"{operation.label}: {fault}")
    assert not faults, "\n\n".join(faults)
    assert paths >= 10


def has_input(operation: Any) -> bool:
    return bool(len(operation.body) or len(operation.headers) or len(operation.query))


def ask(operation: Any, mode: GenerationMode, key: str) -> None:
    @seed(SEED)
    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=CHECKS, timeout=60)

    one()
