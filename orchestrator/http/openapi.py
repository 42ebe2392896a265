"""/openapi.json: the API as OpenAPI 3.1 has it, made from the paths and from what reads their bodies."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import TABLE
from orchestrator.http.routes import Path

VERSION = "3.1.0"
_REF = "#/components/schemas/{model}"
_KEYS = {"any": [{"key": []}], "admin": [{"key": []}], "none": list[Any]()}


def document(paths: Sequence[Path]) -> dict[str, Any]:
    """JSON-serialisable."""
    bodies: list[type[BaseModel]] = list(dict.fromkeys(own.body for own in paths if own.body is not None))
    _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
    found: dict[str, dict[str, Any]] = {}
    for own in paths:
        found.setdefault(_without_kind(own.path), {})[own.method.lower()] = _operation(own)
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


def _operation(own: Path) -> dict[str, Any]:
    answers = {"application/json": {"schema": {"type": "object"}}}
    if own.body is not None and "stream" in own.body.model_fields:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    if own.path == "/metrics":
        answers = {"text/plain": {"schema": {"type": "string"}}}
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    made: dict[str, Any] = {
        "summary": own.summary,
        "operationId": f"{own.method.lower()}{re.sub(r'[^a-z0-9]+', '_', _without_kind(own.path))}".rstrip("_"),
        "security": _KEYS[own.key],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _names(own.path)
        ],
        "responses": {
            "2XX": {"description": "The answer.", "content": answers},
            "default": {"description": "An error.", "content": error},
        },
    }
    if own.body is not None:
        schema = {"$ref": _REF.format(model=own.body.__name__)}
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return made


def _without_kind(path: str) -> str:
    """`{name:path}` is Starlette's, `{name}` OpenAPI's."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _names(path: str) -> Iterable[str]:
    return re.findall(r"\{(\w+)", path)
