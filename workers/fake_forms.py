"""What the fake engine writes where an answer is bound to a form: the least value that a JSON schema allows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workers.base import CallPart, ChatCall, Form, Tools

MOST = 10_000
"""Characters of a text and entries of a list that are written for a schema."""


def problem(call: ChatCall) -> str | None:
    """Why nothing can be written for the schemas of this call: some are none, and some have no end."""
    try:
        if call.tools:
            calls(call, call.tools)
        if call.sampling.form:
            text(call.sampling.form)
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        return f"the schema cannot be followed: {type(error).__name__}"
    return None


def text(form: Form) -> str:
    return json.dumps(value(json.loads(form.schema)) if form.schema else {})


def calls(call: ChatCall, tools: Tools) -> tuple[CallPart, ...]:
    """Of the function that must be called; else of each that the last message names, if a user wrote it; else of the
    first where one must be."""
    last = call.messages[-1]
    said = str(last.get("content") or "") if last["role"] == "user" else ""
    names = [each["name"] for each in tools.functions if each["name"] in said]
    if tools.choice == "required":
        names = [tools.name] if tools.name else names or [tools.functions[0]["name"]]
    elif tools.choice == "none":
        names = []
    by_name = {each["name"]: each for each in tools.functions}
    return tuple(
        CallPart(
            index,
            json.dumps(value(by_name[name].get("parameters") or {"type": "object"})),
            f"call_{call.request_id}_{index}",
            name,
        )
        for index, name in enumerate(names[: None if tools.parallel else 1])
    )


def value(schema: Any, root: Any = None) -> Any:
    """One that fits the schema, as far as it is made of the words below."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        return value(_at(root, schema["$ref"]), root)
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return value(schema[word][0], root)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = kind[0]
    match kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: value(properties.get(name, {}), root) for name in schema.get("required", properties)}
        case "array":
            return [value(schema.get("items", {}), root) for _ in range(_few(schema.get("minItems", 0)))]
        case "string":
            return "x" * _few(schema.get("minLength", 1))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
    return None


def _few(number: int) -> int:
    if number > MOST:
        raise OverflowError
    return number


def _at(root: Any, pointer: str) -> Any:
    found = root
    for part in pointer.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return found
