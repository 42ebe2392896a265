"""The fake engine fills forms and calls tools as a model would that reads its user's message."""

import json
from typing import Any

import pytest

from workers.base import ChatCall, Form, Sampling, Tools
from workers.fake_forms import Found, calls, text, value

INT, TEXT = {"type": "integer"}, {"type": "string"}


def filled(message: str, **properties: Any) -> Any:
    return json.loads(text(Form(json.dumps({"type": "object", "properties": properties})), message))


@pytest.mark.parametrize(
    ("message", "properties", "made"),
    [
        ("What is 1 + 2?", {"a": INT, "b": INT, "c": INT}, {"a": 1, "b": 2, "c": 0}),
        ("f(3)", {"a": {**INT, "exclusiveMinimum": 3}}, {"a": 4}),
        ("f(-2.5)", {"a": INT, "b": {"type": "number"}}, {"a": 0, "b": -2.5}),
        ("v2 of 007", {"a": {**INT, "minimum": 5}}, {"a": 5}),
        ("How is it in San Francisco, CA?", {"place": TEXT, "more": TEXT}, {"place": "San Francisco, CA", "more": "x"}),
        ("call Mira Stone on 0171 22", {"name": TEXT, "phone": TEXT}, {"name": "Mira Stone", "phone": "0171 22"}),
        ("Make '你好' of (Hello Group)", {"a": TEXT, "b": TEXT}, {"a": "你好", "b": "Hello Group"}),
        ("in Rome", {"a": {**TEXT, "maxLength": 3}, "b": TEXT}, {"a": "x", "b": "Rome"}),
        ("in Rome", {"a": {**TEXT, "pattern": "("}, "b": {**TEXT, "format": "date"}}, {"a": "x", "b": "x"}),
        ("it's nothing", {"a": TEXT, "b": {"enum": ["p", "q"]}, "c": {"default": 7}}, {"a": "x", "b": "p", "c": 7}),
    ],
)  # fmt: skip
def test_a_form_is_filled_with_what_the_message_says(message: str, properties: Any, made: Any) -> None:
    assert filled(message, **properties) == made


def test_without_a_schema_the_keys_are_those_that_the_message_quotes() -> None:
    assert json.loads(text(Form(), "JSON with 'setup' and \"punchline\", 'not this one'")) == {
        "setup": "x",
        "punchline": "x",
    }


def called(said: str, *names: str, role: str = "user", **tools: Any) -> list[tuple[str | None, Any]]:
    parameters = {"type": "object", "properties": {"n": INT}}
    functions = tuple({"name": name, "parameters": parameters} for name in names)
    messages = ({"role": "user", "content": "before 9"}, {"role": role, "content": said})
    call = ChatCall("req-1", "a", messages, Sampling(), float("inf"))
    made: dict[int, list[Any]] = {}
    for parts in calls(call, Tools(functions, **{"choice": "auto", "name": None, "parallel": True, **tools})):
        for part in parts:
            made.setdefault(part.index, [part.name, ""])[1] += part.arguments
    return [(name, json.loads(arguments)) for name, arguments in made.values()]


@pytest.mark.parametrize(
    ("said", "options", "made"),
    [
        ("get_weather and adder of 4", {}, [("get_weather", {"n": 4}), ("adder", {"n": 4})]),
        ("get_weather and adder of 4", {"parallel": False}, [("get_weather", {"n": 4})]),
        ("What is the weather at 4?", {}, [("get_weather", {"n": 4})]),
        ("Hello", {}, []),
        ("Hello", {"choice": "required"}, [("get_weather", {"n": 0})]),
        ("weather", {"choice": "required", "name": "adder"}, [("adder", {"n": 0})]),
        ("get_weather", {"choice": "none"}, []),
    ],
)
def test_the_tools_that_the_message_means_are_called(said: str, options: Any, made: Any) -> None:
    assert called(said, "get_weather", "adder", **options) == made


def test_what_a_tool_said_calls_none() -> None:
    assert called("get_weather", "get_weather", role="tool") == []
    assert called("adder", "get_weather", "adder", role="tool", choice="required") == [("get_weather", {"n": 9})]


def test_a_value_of_endless_size_is_refused() -> None:
    schema: dict[str, object] = {"type": "integer"}
    for _ in range(9):
        schema = {"type": "array", "minItems": 9999, "items": schema}
    with pytest.raises(OverflowError):
        value(schema, Found(""))
