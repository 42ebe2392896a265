"""/openapi.json: complete, and true of what the API takes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from orchestrator.errors import TABLE
from orchestrator.store import Store
from tests.orchestrator.parts import Service

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest_asyncio.fixture
async def service(store: Store, tmp_path: Path) -> AsyncIterator[Service]:
    """One that takes batches too."""
    service = await Service.start(store, batch=tmp_path)
    yield service
    await service.stop()


async def document(service: Service) -> dict[str, Any]:
    """It takes no key."""
    response = await service.http.get("/openapi.json", headers={"authorization": ""})
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def validator(found: dict[str, Any], path: str) -> jsonschema.Draft202012Validator:
    """Of the bodies of a POST."""
    schema = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator({**schema, "components": found["components"]})


async def test_every_path_is_described(service: Service) -> None:
    found = await document(service)
    served = {
        (getattr(route, "path", "").replace(":path", ""), method.lower())
        for route in service.app.routes
        for method in set(getattr(route, "methods", ())) - {"HEAD"}
    }
    assert {(path, method) for path, methods in found["paths"].items() for method in methods} == served - {
        ("/openapi.json", "get")
    }


async def test_operations_are_told_apart_and_have_a_sentence(service: Service) -> None:
    operations = [own for methods in (await document(service))["paths"].values() for own in methods.values()]
    assert len({own["operationId"] for own in operations}) == len(operations)
    assert all(own["summary"].strip() for own in operations)


async def test_schemas_are_schemas_and_lead_nowhere_else(service: Service) -> None:
    found = await document(service)
    for schema in found["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    named = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    text = json.dumps(found)
    assert {part.split('"')[0] for part in text.split('"$ref": "')[1:]} <= named


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "stop": ["a"], "n": 2}),
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "tools": [TOOL], "tool_choice": "none"}),
        ("/v1/completions", {"model": "sql", "prompt": "hi", "max_tokens": 3}),
        ("/v1/responses", {"model": "sql", "input": [USER], "max_output_tokens": 3}),
        ("/v1/route", {"model": "auto", "messages": [USER], "coe": {"k": 2}}),
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "stop": "a", "seed": None, "store": False}),
        ("/v1/chat/completions", {"model": "sql", "messages": [{**USER, "content": [TEXT]}], "audio": None}),
        ("/v1/chat/completions", {"model": "auto", "messages": [USER], "coe": {"include": ["sql"], "k": None}}),
        ("/v1/completions", {"model": "sql", "prompt": ["a", "b"], "echo": True, "suffix": "", "best_of": 1}),
        ("/v1/responses", {"model": "sql", "input": "hi", "store": False, "reasoning": {}}),
        ("/v1/responses", {"model": "sql", "input": [{**USER, "id": "msg_1", "status": "completed"}]}),
        ("/v1/route", {"prompt": "hi"}),
    ],
)
async def test_what_the_document_allows_is_taken(service: Service, path: str, body: dict[str, Any]) -> None:
    validator(await document(service), path).validate(body)
    assert (await service.http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "sql", "messages": []}),
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "temperature": 3}),
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "mood": "good"}),
        ("/v1/completions", {"model": "sql", "prompt": "hi", "logprobs": 99}),
        ("/v1/completions", {"model": "sql", "prompt": [1, 2]}),
        ("/v1/completions", {"model": "sql", "prompt": ["a"] * 65}),
        ("/v1/chat/completions", {"model": "sql", "messages": [USER], "store": True}),
        ("/v1/chat/completions", {"model": "sql", "messages": [{**USER, "content": [{"type": "image_url"}]}]}),
        ("/v1/route", {"model": "sql"}),
        ("/v1/responses", {"model": "sql", "input": [USER], "max_output_tokens": 0}),
        ("/v1/embeddings", {"model": "auto", "input": []}),
        ("/v1/feedback", {"id": ""}),
        ("/v1/batches", {"input_file_id": "file-x", "endpoint": "/v1/models", "completion_window": "24h"}),
        ("/v1/batches", {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "1h"}),
    ],
)
async def test_what_it_refuses_is_refused_in_its_shape_of_errors(
    service: Service, path: str, body: dict[str, Any]
) -> None:
    found = await document(service)
    assert not validator(found, path).is_valid(body)
    response = await service.http.post(path, json=body)
    assert response.status_code == 400
    error = {**found["components"]["schemas"]["Error"], "components": found["components"]}
    jsonschema.Draft202012Validator(error).validate(response.json())


async def test_it_knows_every_code_of_an_error(service: Service) -> None:
    schema = (await document(service))["components"]["schemas"]["Error"]["properties"]["error"]
    assert set(schema["properties"]["code"]["enum"]) == {row.code for row in TABLE.values()}


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("post", "/v1/chat/completions", "", "401"),
        ("get", "/v1/models/{name}", None, "404"),
        ("get", "/admin/v1/keys", None, "403"),
        ("post", "/v1/feedback", None, "400"),
        ("get", "/health/ready", None, "200"),
        ("post", "/v1/files", None, "415"),
        ("get", "/v1/files", None, "200"),
        ("delete", "/v1/files/{file_id}", None, "404"),
        ("get", "/v1/files/{file_id}/content", None, "404"),
        ("post", "/v1/batches/{batch_id}/cancel", None, "404"),
    ],
)
async def test_the_statuses_that_come_are_described(
    service: Service, method: str, path: str, key: str | None, status: str
) -> None:
    own = (await document(service))["paths"][path][method]
    headers = {} if key is None else {"authorization": key}
    response = await service.http.request(method, path, headers=headers)
    assert str(response.status_code) == status
    assert response.headers["content-type"] in own["responses"][status]["content"]
    assert "default" not in own["responses"], "which would describe anything"


async def test_files_are_uploaded_as_a_form_and_come_back_as_bytes(service: Service) -> None:
    paths = (await document(service))["paths"]
    [(kind, form)] = paths["/v1/files"]["post"]["requestBody"]["content"].items()
    assert kind == "multipart/form-data"
    schema = (await document(service))["components"]["schemas"][form["schema"]["$ref"].rpartition("/")[2]]
    assert schema["required"] == ["file", "purpose"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert schema["properties"]["purpose"]["const"] == "batch"
    assert "application/octet-stream" in paths["/v1/files/{file_id}/content"]["get"]["responses"]["200"]["content"]


@pytest.mark.parametrize(
    ("path", "names"), [("/v1/files", ["limit", "after", "order", "purpose"]), ("/v1/batches", ["limit", "after"])]
)
async def test_what_may_stand_in_a_query_is_described_and_nothing_else_taken(
    service: Service, path: str, names: list[str]
) -> None:
    own = (await document(service))["paths"][path]["get"]
    assert [one["name"] for one in own["parameters"]] == names
    limit = own["parameters"][0]["schema"]
    assert (await service.http.get(f"{path}?limit={limit['maximum']}")).status_code == 200
    for wrong, code in (
        (f"limit={limit['maximum'] + 1}", "invalid_value"),
        ("limit=many", "invalid_value"),
        ("limit=1&limit=1", "invalid_value"),
        ("color=red", "unknown_parameter"),
    ):
        answer = await service.http.get(f"{path}?{wrong}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert answer.json()["error"]["param"] == wrong.partition("=")[0]
    missing = await service.http.get(f"{path}?after=nobody")
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "after")
