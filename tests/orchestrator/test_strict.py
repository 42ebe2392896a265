"""`strict`: true: which schemas it takes, and where it is heeded."""

from typing import Any

import openai
import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel

from orchestrator.http.strict import strict_problem
from tests.orchestrator.parts import SQL, Service

USER: Any = {"role": "user", "content": "call f for sql"}


class Place(BaseModel):
    street: str
    floor: int | None = None


class Person(BaseModel):
    name: str
    places: list[Place]
    best: "Person | None" = None


def an_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}}


def nested(levels: int) -> dict[str, Any]:
    return an_object(a=nested(levels - 1)) if levels > 1 else an_object()


@pytest.mark.parametrize(
    "schema",
    [
        to_strict_json_schema(Person),
        an_object(),
        an_object(a={"type": ["string", "null"]}, b={"anyOf": [{"type": "integer"}, an_object()]}),
        nested(10),
        an_object(properties={"type": "string"}, allOf={"type": "number"}),
        an_object(a={"type": "array", "items": {"$ref": "#"}}),
    ],
)
def test_schemas_that_are_strict(schema: dict[str, Any]) -> None:
    assert strict_problem(schema) is None


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "array", "items": {"type": "string"}}, "its outermost type must be 'object'"),
        ({"anyOf": [an_object()]}, "its outermost type must be 'object'"),
        (LOOSE, "an object needs 'additionalProperties': false"),
        ({**LOOSE, "additionalProperties": False}, "'required' must have every property; 'a' is missing"),
        (an_object(a={"allOf": [{"type": "string"}]}), "at 'properties.a' it has 'allOf', which is not allowed"),
        (an_object(a={"items": LOOSE}), "at 'properties.a.items' an object needs"),
        ({**an_object(), "$defs": {"x": LOOSE}}, "at '$defs.x' an object needs"),
        (an_object(a={"anyOf": [{"type": "null"}, LOOSE]}), "at 'properties.a.anyOf[1]' an object needs"),
        (an_object(a={"type": ["object", "null"]}), "at 'properties.a' an object needs"),
        (nested(11), "nested deeper than 10 levels"),
    ],
)
def test_schemas_that_are_not(schema: dict[str, Any], told: str) -> None:
    assert told in (strict_problem(schema) or "")


@pytest.mark.parametrize("strict", [None, False])
async def test_without_strict_any_schema_binds_the_answer(service: Service, strict: bool | None) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "f", "schema": LOOSE, "strict": strict}}
    await service.openai.chat.completions.create(model=SQL, messages=[USER], response_format=form)
    [call] = service.engine.calls
    assert call.sampling.form is not None
    assert call.sampling.form.schema == '{"type":"object","properties":{"a":{"type":"string"}}}'


async def test_strict_is_heeded_wherever_there_is_a_schema(service: Service) -> None:
    told = r"the schema is not one for 'strict': true: an object needs 'additionalProperties': false; change it"
    form: Any = {"name": "f", "schema": LOOSE, "strict": True}
    function: Any = {"name": "f", "parameters": LOOSE, "strict": True}
    text: Any = {"format": {"type": "json_schema", **form}}
    flat: Any = {"type": "function", **function}
    chat, responses = service.openai.chat.completions, service.openai.responses
    with pytest.raises(openai.BadRequestError, match=told):
        await chat.create(model=SQL, messages=[USER], response_format={"type": "json_schema", "json_schema": form})
    with pytest.raises(openai.BadRequestError, match=told):
        await chat.create(model=SQL, messages=[USER], tools=[{"type": "function", "function": function}])
    with pytest.raises(openai.BadRequestError, match=told):
        await responses.create(model=SQL, input="x", text=text)
    with pytest.raises(openai.BadRequestError, match=told):
        await responses.create(model=SQL, input="x", tools=[flat])
    assert not service.engine.calls


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": None},
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"type": "string", "minLength": 10**9},
    ],
)
async def test_a_schema_that_cannot_be_followed_is_the_caller_s_fault(service: Service, schema: dict[str, Any]) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="the schema cannot be followed") as caught:
        await service.openai.chat.completions.create(model=SQL, messages=[USER], response_format=form)
    assert caught.value.code == "invalid_request"
