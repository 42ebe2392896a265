"""Tool calls out of an output: what goes out, piece by piece, whatever the pieces are."""

import json

import pytest

from workers.base import CallPart, Tools
from workers.tool_calls import Reader, UnknownParser, check_parser, form_of, reader

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CLOCK = {"name": "clock"}
AUTO = Tools((WEATHER, CLOCK))
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'


def read(found: Reader | None, text: str, size: int) -> tuple[str, list[tuple[str, str]]]:
    """(text, (name, arguments) of each call) of a text that comes in pieces of so many characters."""
    assert found is not None
    out, parts = "", list[CallPart]()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for said, calls in [*(found.push(piece, [1]) for piece in pieces), found.flush()]:
        out += said
        parts += calls
    names = {part.index: part.name for part in parts if part.name}
    assert all(part.id for part in parts if part.name)
    return out, [
        (name, "".join(part.arguments for part in parts if part.index == index))
        for index, name in names.items()
        if name
    ]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("text", ["", "no call", "a < b", "ends with <", "ends with <tool_", "<b>bold</b>"])
def test_a_text_without_calls_goes_out_whole(text: str, size: int) -> None:
    found = reader(AUTO, "hermes", object())
    assert read(found, text, size) == (text, [])
    assert found is not None
    assert not found.called


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_is_read_out_of_an_expert_s_own_format(size: int) -> None:
    found = reader(AUTO, "hermes", object())
    out, [(name, arguments)] = read(found, "Let me see. " + CALL, size)
    assert (out, name, json.loads(arguments)) == ("Let me see. ", "weather", {"city": "Rome"})
    assert found is not None
    assert found.called


@pytest.mark.parametrize("parallel", [True, False])
def test_of_several_calls_all_go_out_or_the_first(parallel: bool) -> None:
    found = reader(Tools((WEATHER,), parallel=parallel), "hermes", object())
    assert len(read(found, CALL + CALL, 5)[1]) == (2 if parallel else 1)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_list_of_calls_is_read_one_by_one(size: int) -> None:
    calls = [{"name": "clock", "parameters": {}}, {"name": "weather", "parameters": {"city": "{}"}}]
    found = reader(Tools((WEATHER, CLOCK), "required"), None, object())
    assert read(found, json.dumps(calls), size) == ("", [("clock", "{}"), ("weather", '{"city": "{}"}')])


def test_arguments_of_a_named_function_stream() -> None:
    found = reader(Tools((WEATHER,), "required", "weather"), None, object())
    assert read(found, '{"city": "Rome"}', 2) == ("", [("weather", '{"city": "Rome"}')])


def test_without_a_parser_or_with_none_to_call_the_output_is_text() -> None:
    assert reader(AUTO, None, object()) is None
    assert reader(Tools((WEATHER,), "none"), "hermes", object()) is None


def test_what_must_be_called_binds_the_output() -> None:
    assert form_of(AUTO) is None
    named = form_of(Tools((WEATHER, CLOCK), "required", "weather"))
    assert named is not None
    assert json.loads(named.schema or "") == WEATHER["parameters"]
    one = form_of(Tools((WEATHER, CLOCK), "required", parallel=False))
    assert one is not None
    schema = json.loads(one.schema or "")
    assert (schema["minItems"], schema["maxItems"]) == (1, 1)
    assert [own["properties"]["name"]["const"] for own in schema["items"]["anyOf"]] == ["weather", "clock"]


def test_an_unknown_parser_is_told_with_those_that_there_are() -> None:
    check_parser("hermes")
    with pytest.raises(UnknownParser, match=r"got 'hermess'; vLLM has .*hermes"):
        check_parser("hermess")
