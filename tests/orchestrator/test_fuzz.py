"""Bodies and headers by chance: no 5xx from input, no hang, every error in OpenAI's shape.

COE_FUZZ_CASES=100000 for the whole run; the default is for every day. COE_FUZZ_SEED for other cases.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.http.wire import ChatRequest
from orchestrator.http.wire_fields import NOT_YET
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.parts import MATH, SQL, Service

CASES = int(os.environ.get("COE_FUZZ_CASES", "600"))
SEED = int(os.environ.get("COE_FUZZ_SEED", "0"))
WITHIN_S = 60.0
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
PATHS = (
    *[CHAT] * 12, *["/v1/route"] * 4, *["/v1/feedback"] * 3, *["/v1/completions"] * 4, *["/v1/embeddings"] * 2,
    *["/v1/responses"] * 4, *["/v1/batches"] * 3, "/v1/files", "/v1/files/file-x", "/v1/batches/batch_x/cancel",
    "/v1/models", "/v1/models/sql", "/v1/experts", "/v1/swaps", "/health", "/metrics", "/nowhere",
)  # fmt: skip
ODD = ("nothing", "nothing", "nothing", "nothing", "nothing", "path", "method", "headers", "headers", "key")
"""Beside the body, or else few requests come as far as that."""
READ = ("/v1/models", "/v1/experts", "/v1/swaps", "/health", "/metrics")
METHODS = ("POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
MAY_BE_AWAY = {"expert_unavailable", "no_expert"}
"""A remote expert without its package is away, whoever asks for it: no fault of the input."""

# What is nearly right is what finds faults: fields that exist, with values of any kind.
words = st.sampled_from(
    ["", "auto", SQL, MATH, "remote", "ensemble/x", "user", "system", "tool", "text", "none", "\x00", "💥", "a" * 70]
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, -1, 2**31, 2**63, 1e308, -0.0, 0.5]),
    st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20), words,
)  # fmt: skip
keys = st.one_of(
    words, st.text(max_size=8), st.sampled_from(sorted({*ChatRequest.model_fields, *NOT_YET, "type", "role"}))
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
contents = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.one_of(anything, st.fixed_dictionaries({"type": words, "text": scalars}, optional={"image_url": anything}))
    ),
    anything,
)
messages = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.just("user"), "content": st.text(min_size=1, max_size=30)}),
        st.fixed_dictionaries({"role": words, "content": contents}, optional={"name": scalars, "tool_calls": anything}),
        anything,
    ),
    max_size=12,
)
coe_fields = st.dictionaries(
    st.sampled_from("k allow deny force include exclude needs languages aggregator budget explain".split()),
    st.one_of(anything, st.lists(words, max_size=3), st.sampled_from([{"calls": 1}, {"usd": 0}, "joined", ["en"], 2])),
    max_size=3,
)  # fmt: skip
prompts = st.one_of(
    st.text(min_size=1, max_size=30),
    st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=70),
    st.lists(st.one_of(st.text(max_size=9), scalars), max_size=5),
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3),
)
items = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.just("user"), "content": st.text(min_size=1, max_size=30)}),
        st.fixed_dictionaries(
            {"type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"])},
            optional={
                "role": words,
                "content": contents,
                "call_id": scalars,
                "name": words,
                "arguments": st.one_of(st.just("{}"), scalars),
                "output": contents,
                "id": scalars,
            },
        ),
    ),
    max_size=6,
)
kinds = st.sampled_from(["object", "array", "string", "integer", "null", ["object", "null"], "x", 1])
schemas = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": kinds, "enum": st.lists(scalars, max_size=3), "maximum": scalars, "pattern": scalars}
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": kinds},
        optional={
            "properties": st.one_of(st.dictionaries(words, inner, max_size=3), anything),
            "required": st.one_of(st.lists(words, max_size=3), anything),
            "additionalProperties": st.one_of(st.booleans(), inner),
            "items": inner,
            "anyOf": st.one_of(st.lists(inner, max_size=3), anything),
            "$defs": st.one_of(st.dictionaries(words, inner, max_size=2), anything),
            "allOf": st.lists(inner, max_size=2),
            "$ref": words,
        },
    ),
    max_leaves=8,
)
functions = st.fixed_dictionaries(
    {"name": st.sampled_from(["f", "g", "f.g", ""])},
    optional={"parameters": st.one_of(schemas, anything), "strict": st.one_of(st.booleans(), scalars)},
)
tools = st.one_of(
    st.fixed_dictionaries({"type": st.just("function"), "function": functions}),
    functions.map(lambda function: {"type": "function", **function}),
    anything,
)
choices = st.one_of(
    st.sampled_from(["none", "auto", "required", "any"]),
    st.sampled_from([{"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}]),
    anything,
)
form_parts = {"name": words, "schema": schemas}
forms = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("json_schema"), "json_schema": st.fixed_dictionaries(form_parts, optional={"strict": scalars})}
    ),
    st.fixed_dictionaries({"type": st.just("json_schema"), **form_parts}, optional={"strict": st.booleans()}),
    st.fixed_dictionaries({"type": words}),
    anything,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "model": st.one_of(words, scalars),
        "messages": messages,
        "stream": st.one_of(st.booleans(), scalars),
        "max_tokens": st.one_of(st.integers(-1, 600), anything),
        "temperature": st.one_of(st.floats(-1, 3), anything),
        "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=18), anything),
        "seed": scalars,
        "stream_options": st.one_of(anything, st.just({"include_usage": True})),
        "coe": st.one_of(coe_fields, anything),
        "metadata": st.one_of(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), anything),
        "prompt": st.one_of(prompts, anything),
        "input": st.one_of(prompts, items, anything),
        "n": st.one_of(st.integers(1, 40), scalars),
        "best_of": scalars,
        "echo": st.one_of(st.booleans(), scalars),
        "logprobs": st.one_of(st.booleans(), st.integers(0, 25), scalars),
        "encoding_format": st.one_of(st.sampled_from(["float", "base64"]), scalars),
        "dimensions": st.one_of(st.just(16), scalars),
        "response_format": forms,
        "text": st.one_of(st.fixed_dictionaries({"format": forms}), anything),
        "tools": st.lists(tools, max_size=3),
        "tool_choice": choices,
        "id": st.one_of(st.text(max_size=120), scalars),
        "input_file_id": st.one_of(words, scalars),
        "endpoint": st.one_of(st.sampled_from([CHAT, RESPONSES]), scalars),
        "completion_window": st.one_of(st.just("24h"), scalars),
        "score": st.one_of(st.floats(-1, 2), anything),
        "thumbs": st.one_of(st.sampled_from(["up", "down"]), anything),
    },
)
chats = st.fixed_dictionaries(
    {"model": words, "messages": messages},
    optional={"stream": st.booleans(), "coe": coe_fields, "max_tokens": st.integers(1, 40)},
)
plain = st.sampled_from(["auto", SQL, MATH, "hash-16"])
given_fields = {"n": st.integers(1, 9), "echo": st.booleans(), "stream": st.booleans(), "coe": coe_fields}
completions = st.fixed_dictionaries({"model": plain, "prompt": prompts}, optional=given_fields)
vectors = st.fixed_dictionaries(
    {"model": plain, "input": prompts}, optional={"encoding_format": st.sampled_from(["float", "base64"])}
)
bound = st.fixed_dictionaries(
    {"model": plain, "messages": st.just([{"role": "user", "content": "call f for sql"}])},
    optional={
        "tools": st.lists(tools, min_size=1, max_size=3),
        "tool_choice": choices,
        "response_format": forms,
        "stream": st.booleans(),
        "n": st.integers(1, 3),
    },
)
responses = st.fixed_dictionaries(
    {"model": plain, "input": st.one_of(items, st.text(max_size=20))},
    optional={
        "tools": st.lists(tools, max_size=3),
        "tool_choice": choices,
        "text": st.fixed_dictionaries({"format": forms}),
        "stream": st.booleans(),
    },
)
batches = st.fixed_dictionaries(
    {
        "input_file_id": st.sampled_from(["file-" + "0" * 24, "../x", "file-x"]),
        "endpoint": st.sampled_from([CHAT, RESPONSES, "/v1/models"]),
        "completion_window": st.just("24h"),
    },
    optional={
        "metadata": st.one_of(st.dictionaries(st.text(max_size=70), st.text(max_size=600), max_size=18), anything),
        "coe": st.one_of(st.fixed_dictionaries({"dry_run": scalars}), anything),
    },
)
made = st.one_of(fields, chats, completions, vectors, bound, responses, batches)
further = st.dictionaries(keys, anything, max_size=3)
objects = st.builds(lambda base, more: {**more, **base}, made, st.one_of(st.just({}), further))


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """JSON with a byte or a part of it changed."""
    body = bytearray(json.dumps(draw(objects)).encode())
    at = draw(st.integers(0, len(body)))
    body[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(body)


bodies = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    anything.map(lambda value: json.dumps(value).encode()),
    broken(),
    st.binary(max_size=60),
    st.builds(
        lambda part, times: part * times,
        st.sampled_from([b"[", b'{"a":', b'"', b"0,", b" ", b'\\"']),
        st.integers(0, 9000),
    ),
)
fitting = [
    ("/v1/completions", completions), ("/v1/embeddings", vectors), (CHAT, bound), (RESPONSES, responses),
    ("/v1/batches", batches),
]  # fmt: skip
asked = st.one_of(
    st.tuples(st.sampled_from(PATHS), bodies),
    st.tuples(st.sampled_from(PATHS), bodies),
    *[st.tuples(st.just(path), body.map(lambda value: json.dumps(value).encode())) for path, body in fitting],
)
values = st.one_of(
    st.binary(max_size=30).filter(lambda value: not set(value) & set(b"\r\n\x00")), words.map(str.encode)
)
names = (
    "content-type content-encoding content-length transfer-encoding host accept origin authorization x-request-id "
    "idempotency-key expect upgrade connection cookie access-control-request-method x-forwarded-for range if-none-match"
).split()
likely = "application/json text/plain gzip chunked [ a:b:c https://evil.example -1 POST".split()
headers = st.lists(
    st.tuples(st.sampled_from(names).map(str.encode), st.one_of(values, st.sampled_from(likely).map(str.encode))),
    max_size=4,
)
tails = st.one_of(
    st.just(""),
    st.just(""),
    st.text(max_size=10),
    st.sampled_from(["/..", "?a=b", "%00", "/%2e%2e", "//", "?" + "a" * 5000]),
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def target(
    loop: asyncio.Runner, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("batch")

    async def start() -> Service:
        return await Service.start(Store(redis_server.url, timeout=30), encoder=HashEncoder(16), batch=home)

    service = loop.run(start())
    yield service
    loop.run(service.stop())
    loop.run(service.store.close())


async def answered(service: Service, scope: dict[str, Any], parts: list[bytes]) -> tuple[int, dict[str, str], bytes]:
    """What the app answers to this request, whose body comes in these parts."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(WITHIN_S):
        await service.app(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert not rest[-1].get("more_body"), "the answer has no end"
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], found, b"".join(message["body"] for message in rest)


def error_of(content: Any) -> dict[str, Any]:
    assert content.keys() == {"error"}
    error: dict[str, Any] = content["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert len(error["message"]) < 3000
    assert isinstance(error["code"], str)
    return error


def check(path: str, method: str, status: int, found: dict[str, str], body: bytes) -> None:
    assert found["x-request-id"].startswith("req-")
    assert found["x-content-type-options"] == "nosniff"
    if status >= 400 and path.startswith("/health"):
        assert status in (404, 405, 503) or json.loads(body).keys() == {"error"}
    elif status >= 400:
        error = error_of(json.loads(body))
        assert status < 500 or error["code"] in MAY_BE_AWAY, (status, error)
    elif found.get("content-type", "").startswith("text/event-stream"):
        events = body.decode().removesuffix("\n\n").split("\n\n")
        last = ("response.completed", "response.incomplete", "response.failed")
        ends = events[-1].startswith(tuple(f"event: {kind}\n" for kind in last)) if path == RESPONSES else None
        assert events[-1] == "data: [DONE]" if ends is None else ends
        for event in events[:-1]:
            if event.startswith("data: ") and "error" in (content := json.loads(event[6:])):
                assert error_of(content)["code"] not in ("internal_error",)
    elif path == CHAT and method == "POST":
        assert json.loads(body)["object"] == "chat.completion"


@seed(SEED)
@settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    asked=asked,
    tail=tails,
    method=st.sampled_from(METHODS),
    more=headers,
    cut=st.integers(0, 3),
    odd=st.sampled_from(ODD),
)
@pytest.mark.timeout(0)  # by WITHIN_S for each case
def test_no_input_is_a_fault_of_the_service(
    target: Service, loop: asyncio.Runner, asked: tuple[str, bytes], tail: str, method: str,
    more: list[tuple[bytes, bytes]], cut: int, odd: str,
) -> None:  # fmt: skip
    path, body = asked
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what is told of errors fills the memory
    if odd != "path":
        tail = ""
    if odd != "method":
        method = "GET" if path.startswith(READ) else "POST"
    if odd != "headers":
        more = []
    there, _, query = (path + tail).partition("?")
    own = [(b"host", b"coe")] if not any(name == b"host" for name, _ in more) else []
    if odd != "key" and not any(name == b"authorization" for name, _ in more):
        own.append((b"authorization", f"Bearer {target.key}".encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": there,
        "raw_path": there.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": query.encode("utf-8", "replace"),
        "headers": [*own, *more],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    size = -(-len(body) // (cut + 1)) or 1
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    check(there, method, *loop.run(answered(target, scope, parts)))
