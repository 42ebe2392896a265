"""/openapi.json: the API as OpenAPI 3.1 has it, made from the paths and from what reads their bodies."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import TABLE
from orchestrator.http.routes import Path

VERSION = "3.1.0"
_REF = "#/components/schemas/{model}"
_ALWAYS = (
    "malformed_request", "request_timeout", "path_too_long", "headers_too_large", "too_many_connections", "internal",
)  # fmt: skip
_WITH_KEY = ("missing_api_key", "invalid_api_key", "store_unavailable")
_WITH_BODY = (
    "invalid_json", "invalid_value", "unknown_parameter", "unsupported_parameter", "request_too_large",
    "unsupported_media_type",
)  # fmt: skip
_WITH_FORM = ("invalid_value", "unknown_parameter", "unsupported_parameter", "unsupported_media_type")
_WITH_QUERY = ("invalid_value", "unknown_parameter")
_WITHOUT_BODY = ("request_too_large", "unsupported_media_type")
"""Of a POST that needs no body and yet has one."""
_ONCE = ("idempotency_running", "idempotency_lost", "idempotency_mismatch")
COUNTS = (*(cause for cause, row in TABLE.items() if row.status == 429), "over_limit")
"""Causes of what is counted for the limits of a key and waits for room."""
ASKS = (
    "model_not_found", "prompt_too_long", "excluded", "invalid_request", *COUNTS, "expert_unavailable", "no_expert",
    "engine_died", "engine_starting", "deadline",
)  # fmt: skip
"""Causes of what is routed to experts."""
_KEYS = {"any": [{"key": []}], "admin": [{"key": []}], "none": list[Any]()}


def document(paths: Sequence[Path]) -> dict[str, Any]:
    """JSON-serialisable."""
    bodies = [body for own in paths for body in (own.body, own.form) if body is not None]
    answers = [own.answer for own in paths if own.answer not in (None, bytes)]
    kinds = list(dict.fromkeys((*bodies, *answers)))
    refs, schemas = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in kinds], ref_template=_REF
    )
    of = {kind: schema for (kind, _), schema in refs.items()}
    found: dict[str, dict[str, Any]] = {}
    for own in paths:
        found.setdefault(_without_kind(own.path), {})[own.method.lower()] = _operation(own, of)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Composition of Experts",
            "version": "1",
            "description": "One OpenAI-compatible endpoint in front of many whole LLMs. docs/api.md says more.",
        },
        "paths": found,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
        },
    }


class Described:
    """GET /openapi.json"""

    def __init__(self, document: dict[str, Any]) -> None:
        self._body = orjson.dumps(document)

    async def __call__(self, request: Request) -> Response:
        return Response(self._body, media_type="application/json")


_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": sorted({row.type for row in TABLE.values()})},
                "param": {"type": ["string", "null"]},
                "code": {"enum": sorted({row.code for row in TABLE.values()})},
            },
        }
    },
}


_EVENT: dict[str, Any] = {
    "description": "Each of the server-sent events; docs/api.md says what their data is.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}, "id": {"type": "string"}},
}


def _operation(own: Path, of: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """of: class of a body or an answer -> its schema."""
    if own.streams:
        content = {"text/event-stream": {"schema": _EVENT}}
    elif own.answer is None:
        content = {"text/plain": {"schema": {"type": "string"}}}
    elif own.answer is bytes:
        content = {"application/octet-stream": {"schema": {}}}
    else:
        content = {"application/json": {"schema": of[own.answer]}}
    responses: dict[str, Any] = {str(own.status): {"description": "The answer.", "content": content}}
    if own.unwell:
        responses["503"] = {"description": "The same, where something cannot answer.", "content": content}
    if own.body is not None and "stream" in own.body.model_fields:
        streamed = {"schema": {"description": "Server-sent events, for `stream`: true; see docs/api.md."}}
        responses["200"] = {**responses["200"], "content": {**content, "text/event-stream": streamed}}
    for status, codes in sorted(_errors(own).items()):
        error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
        responses.setdefault(str(status), {"description": "; ".join(codes), "content": error})
    made: dict[str, Any] = {
        "summary": own.summary,
        "operationId": f"{own.method.lower()}{re.sub(r'[^a-z0-9]+', '_', _without_kind(own.path))}".rstrip("_"),
        "security": _KEYS[own.key],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _names(own.path)
            ),
            *_query(own.query),
        ],
        "responses": responses,
    }
    if own.body is not None:
        made["requestBody"] = {
            "required": any(field.is_required() for field in own.body.model_fields.values()),
            "content": {"application/json": {"schema": of[own.body]}},
        }
    if own.form is not None:
        made["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": of[own.form]}}}
    return made


def _query(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    properties = query.model_json_schema()["properties"] if query is not None else {}
    return [
        {"name": name, "in": "query", "required": False, "schema": {k: v for k, v in schema.items() if k != "title"}}
        for name, schema in properties.items()
    ]


def _errors(own: Path) -> dict[int, list[str]]:
    """Status -> what may be wrong, in a sentence with its code each."""
    causes = [*_ALWAYS, *own.errors]
    if own.key != "none":
        causes += _WITH_KEY
    if own.key == "admin":
        causes += ["admin_only"]
    if own.body is not None:
        causes += _WITH_BODY
    if own.form is not None:
        causes += _WITH_FORM
    if own.query is not None:
        causes += _WITH_QUERY
    if own.method == "POST" and own.path.startswith("/v1/") and own.form is None:
        causes += (*_ONCE, *_WITHOUT_BODY)
    found: dict[int, list[str]] = {}
    for cause in dict.fromkeys(causes):
        row = TABLE[cause]
        found.setdefault(row.status, []).append(f"`{row.code}`: {row.meaning}")
    return found


def _without_kind(path: str) -> str:
    """`{name:path}` is Starlette's, `{name}` OpenAPI's."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _names(path: str) -> Iterable[str]:
    return re.findall(r"\{(\w+)", path)
