"""The body of a request: what is accepted, what is refused, and in which words."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import ApiError
from orchestrator.http.reading import parse as parse_body
from orchestrator.http.reading import parse_route
from orchestrator.http.wire import ChatRequest
from orchestrator.http.wire_fields import NOT_YET, NOT_YET_IN_MESSAGE
from tests.orchestrator.parts import LIMITS
from tests.orchestrator.wire_parts import NAMES, USER, parse, refused
from workers.base import Form, Sampling, Tools


def test_sampling_is_what_the_caller_asked_for() -> None:
    request = parse(
        temperature=0, top_p=0.5, max_tokens=7, seed=-3, stop="END", presence_penalty=1, frequency_penalty=-1
    )
    assert request.sampling == Sampling(0, 0.5, 7, -3, ("END",), 1, -1)
    assert parse().sampling == Sampling()
    assert parse(max_completion_tokens=9).sampling.max_tokens == 9
    assert parse(stop=["a", "b"]).sampling.stop == ("a", "b")


def test_null_is_not_given() -> None:
    optional = set(ChatRequest.model_fields) - {"model", "messages"}
    assert parse(**dict.fromkeys(optional | set(NOT_YET))) == parse()
    assert parse() == parse(coe={"k": None, "aggregator": None}, stream_options=None, stream=None)
    assert not parse(stream=True, stream_options={"include_usage": None}).stream_options.include_usage


def test_content_may_come_in_text_parts() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert parse(messages=[{"role": "user", "content": parts}]).messages[0].plain() == {
        "role": "user",
        "content": "one\ntwo",
    }


def test_developer_is_system_for_templates_and_names_are_kept() -> None:
    messages = [{"role": "developer", "content": "be brief"}, {**USER, "name": "ada"}]
    assert [message.plain() for message in parse(messages=messages).messages] == [
        {"role": "system", "content": "be brief"},
        {**USER, "name": "ada"},
    ]


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([("user", "first"), ("assistant", "answer"), ("user", "last")], "last"),
        ([("user", "first"), ("assistant", "answer")], "first"),
        ([("system", "only this"), ("assistant", "")], "only this"),
    ],
)
def test_the_last_user_message_is_routed_on(messages: list[tuple[str, str]], prompt: str) -> None:
    assert parse(messages=[{"role": role, "content": content} for role, content in messages]).prompt == prompt


def test_an_answer_of_openai_can_be_sent_back_as_it_came() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "hi",
        **dict.fromkeys(NOT_YET_IN_MESSAGE),
        "tool_calls": [],
    }
    assert parse(messages=[USER, answer, USER]).messages[1].plain() == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize(
    ("messages", "param", "words"),
    [
        ([], "messages", "at least 1"),
        ("hello", "messages", "valid list; got 'hello'"),
        ([USER] * 11, "messages", "there are 11; the limit is 10"),
        (["hello"], "messages[0]", "got 'hello'"),
        ([{"role": "user"}], "messages[0].content", "required"),
        ([{"content": "x"}], "messages[0].role", "required"),
        ([USER, {"role": "boss", "content": "x"}], "messages[1].role", "'system', 'developer'"),
        ([{"role": "user", "content": ""}], "messages[0]", "must not be empty"),
        ([{"role": "user", "content": " \n"}], "messages[0]", "must not be empty"),
        ([{"role": "user", "content": []}], "messages[0]", "must not be empty"),
        ([{"role": "system", "content": ""}], None, "no text in any message"),
        ([{"role": "user", "content": None}], "messages[0].content", "string or a list"),
        ([{"role": "user", "content": 5}], "messages[0].content", "got 5"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content", 'part 0 must be {"type": "text"'),
        ([{"role": "user", "content": ["x"]}], "messages[0].content", "part 0 must be"),
        ([{**USER, "name": 5}], "messages[0].name", "got 5"),
    ],
)
def test_malformed_messages_are_told_where_and_why(messages: Any, param: str | None, words: str) -> None:
    error = refused(messages=messages)
    assert (error.cause, error.param) == ("invalid_value", param)
    assert words in error.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x", "name": "f"}, "messages[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
    ],
)
def test_messages_that_are_not_supported_yet(message: Any, param: str) -> None:
    error = refused(messages=[message])
    assert (error.cause, error.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""), ("model", 5),
        ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 501), ("max_tokens", 10**400), ("max_tokens", "5"),
        ("max_tokens", 1.5), ("max_tokens", True), ("max_completion_tokens", 0), ("max_completion_tokens", 501),
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"), ("temperature", True),
        ("top_p", 0), ("top_p", 1.1), ("presence_penalty", 3), ("frequency_penalty", -3),
        ("seed", 2**63), ("seed", 1.5), ("stop", [1]), ("stop", [""]), ("stop", ""), ("stop", ["x"] * 17), ("stop", 1),
        ("stream", "yes"), ("stream", 1), ("stream_options", {"include_usage": True}), ("metadata", {"a": 1}),
        ("metadata", {"k" * 65: ""}), ("metadata", {"k": "v" * 513}), ("metadata", {str(n): "" for n in range(17)}),
        ("coe", {"k": 0}), ("coe", {"k": 9}), ("coe", {"k": "2"}), ("coe", []), ("coe", {"explain": 1}),
    ],
)  # fmt: skip
def test_values_out_of_range_or_of_a_wrong_type_are_refused(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert error.cause == "invalid_value"
    assert (error.param or "").startswith(field)
    assert error.message.startswith(field)
    assert len(error.message) < 400


def test_fields_that_contradict_each_other_are_refused() -> None:
    assert "differ" in refused(max_tokens=5, max_completion_tokens=6).message
    assert parse(max_tokens=5, max_completion_tokens=5).sampling.max_tokens == 5


def test_a_conversation_is_named_in_the_metadata() -> None:
    assert parse(metadata={"conversation_id": "7"}).conversation == "7"
    assert parse(metadata={"other": "7"}).conversation is None
    assert parse().conversation is None


@pytest.mark.parametrize("field", sorted(NOT_YET))
def test_what_is_not_supported_yet_may_only_ask_for_nothing(field: str) -> None:
    for neutral in NOT_YET[field]:
        assert parse(**{field: neutral}) == parse()
    for value in ("something", 7, {"type": "json_object"}, ["x"], 0.5):
        error = refused(**{field: value})
        assert (error.cause, error.param) == ("unsupported_parameter", field)


def test_neutral_is_meant_by_type_too() -> None:
    assert refused(store=0).cause == "unsupported_parameter"
    assert refused(logprobs=0).cause == refused(n=True).cause == "invalid_value"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"temprature": 1}, "unknown field 'temprature'; did you mean 'temperature'?"),
        ({"x" * 5000: 1}, "unknown field"),
        ({"coe": {"kk": 1}}, "unknown field 'coe.kk'"),
        ({"messages": [{**USER, "mood": "good"}]}, "unknown field 'messages[0].mood'"),
    ],
)
def test_unknown_fields_are_named(body: dict[str, Any], words: str) -> None:
    error = refused(**body)
    assert error.cause == "unknown_parameter"
    assert words in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"{}x", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a": NaN}', b'{"a": -Infinity}',
        b'{"a": ' * 5000 + b"1" + b"}" * 5000, b"[" * 200_000, b'{"model": "\\ud800"}', b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_told(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(body, ChatRequest, LIMITS, NAMES)
    assert caught.value.cause == "invalid_json"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ApiError, match=r"^model: field required$") as caught:
        parse_body(b'{"messages": [{"role": "user", "content": "x"}]}', ChatRequest, LIMITS, NAMES)
    assert caught.value.param == "model"


def test_route_takes_a_prompt_or_a_chat() -> None:
    request = parse_route(b'{"prompt": "hi", "coe": {"k": 3}}', LIMITS, NAMES)
    assert (request.model, request.prompt, request.coe.k) == ("auto", "hi", 3)
    chat = {"model": "sql", "messages": [USER], "stream": True}
    assert parse_route(json.dumps(chat).encode(), LIMITS, NAMES).model == "sql"


@pytest.mark.parametrize("body", [b'{"prompt": ""}', b'{"prompt": 5}', b'{"prompt": null}', b"{}"])
def test_route_needs_one_of_them(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_route(body, LIMITS, NAMES)
    assert caught.value.cause == "invalid_value"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
roles = st.sampled_from(["system", "user", "assistant", "developer", "tool"]) | json_values
content = json_values | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": json_values}), max_size=2)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": roles, "content": content}, optional={"name": json_values, "tool_calls": json_values}
    )
    | json_values,
    max_size=3,
)
fields = st.dictionaries(st.sampled_from(sorted([*ChatRequest.model_fields, *NOT_YET])), json_values, max_size=4)
good = st.fixed_dictionaries({"model": st.just("auto"), "messages": st.just([USER])})
bodies = st.builds(lambda body, more: {**more, **body}, good | st.fixed_dictionaries({"messages": messages}), fields)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies)
def test_any_json_is_a_request_or_an_error_for_the_caller(body: Any) -> None:
    raw = json.dumps(body).encode()
    try:
        request = parse_body(raw, ChatRequest, LIMITS, NAMES)
    except ApiError as caught:
        error = caught
    else:
        assert request.prompt.strip()
        assert 0 < (request.sampling.max_tokens or 1) <= LIMITS.max_tokens
        return
    assert error.row.status == 400
    orjson.dumps(error.body("req-1"))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_for_the_caller(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(body, ChatRequest, LIMITS, NAMES)
    assert caught.value.row.status == 400


# Tools, forms, several answers

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def test_tools_and_their_choice() -> None:
    function = {"name": "weather", "parameters": {"type": "object"}}
    assert parse(tools=[TOOL]).called_tools == Tools((function,))
    assert parse(tools=[TOOL], tool_choice="required", parallel_tool_calls=False).called_tools == Tools(
        (function,), "required", parallel=False
    )
    named = {"type": "function", "function": {"name": "weather"}}
    assert parse(tools=[TOOL], tool_choice=named).called_tools == Tools((function,), "required", "weather")
    assert parse(tools=[], tool_choice="auto").called_tools is None


def test_calls_and_results_are_messages() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALLED], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]
    assert [message.plain() for message in parse(messages=messages).messages] == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]


def test_an_answer_may_be_bound_to_a_schema() -> None:
    properties = {"a": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}
    form = parse(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    ).sampling.form
    assert form is not None
    assert json.loads(form.schema or "") == schema
    assert parse(response_format={"type": "json_object"}).sampling.form == Form()
    assert parse(response_format={"type": "text"}).sampling.form is None


def test_probabilities_several_answers_and_vllm_s_fields() -> None:
    assert parse(logprobs=True, top_logprobs=3).sampling.logprobs == 3
    assert parse(logprobs=True).sampling.logprobs == 0
    assert parse().sampling.logprobs is None
    assert parse(n=4).n_answers == 4
    assert parse(top_k=5, min_p=0.1, repetition_penalty=1.5).sampling == Sampling(
        top_k=5, min_p=0.1, repetition_penalty=1.5
    )
    assert parse(model="sql", logit_bias={"7": -100}).sampling.logit_bias == ((7, -100.0),)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function", "required"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice", "must be 'none', 'auto', 'required' or {"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function"}},
            "tool_choice",
            "must be 'none', 'auto', 'required' or",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "pattern"),
        ({"tools": [TOOL] * 129}, "tools", "at most 128"),
        ({"tools": [TOOL, TOOL]}, None, "'weather' twice"),
        ({"tool_choice": "required"}, None, "'tool_choice' needs 'tools'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "wether"}}},
            None,
            "names 'wether', which is not in 'tools'; did you mean 'weather'?",
        ),
        (
            {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
            None,
            "'response_format' does not go with",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format", "'json_schema' is needed"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        ({"top_logprobs": 3}, None, "'top_logprobs' needs 'logprobs'"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"n": 17}, "n", "less than or equal to 16"),
        ({"logit_bias": {"7": 1}}, None, "needs a named expert"),
        ({"model": "sql", "logit_bias": {"x": 1}}, "logit_bias.x", "pattern"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1]", "'tool_call_id' is needed"),
        ({"messages": [{**USER, "tool_calls": [CALLED]}]}, "messages[0]", "is for messages of the role 'assistant'"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{**CALLED, "function": {"name": "f", "arguments": "["}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
            "must be a JSON object",
        ),
    ],
)
def test_what_binds_an_answer_wrongly_is_told_where(body: dict[str, Any], param: str | None, words: str) -> None:
    error = refused(**body)
    assert (error.cause, error.param) == ("invalid_value", param)
    assert words in error.message
    assert len(error.message) < 400


def test_schemas_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(25):
        deep = {"properties": {"a": deep}}
    wide = {"enum": ["x" * 100] * 1000}
    for schema, words in (
        (deep, "is nested deeper than 40"),
        (wide, "bytes; the limit is 65,536"),
        ({"$ref": "http://x"}, "$ref"),
    ):
        error = refused(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        assert error.param == "response_format.json_schema.schema"
        assert words in error.message
        assert len(error.message) < 400
