"""Uploads and queries by chance: no 5xx from input, every error in OpenAI's shape, and no file but those answered with.

COE_FUZZ_CASES and COE_FUZZ_SEED as for test_fuzz.py.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl
from tests.orchestrator.parts import BATCH, Service
from tests.orchestrator.test_fuzz import CASES, SEED, answered, check

BYTES = 3000
"""The most of a file."""
names = st.sampled_from(["file", "file", "purpose", "purpose", "expires_after[anchor]", "", "x" * 3000, "💥", "\x00"])
filenames = st.one_of(
    st.sampled_from(
        ["a.jsonl", "../../etc/passwd", "..", "", "C:\\x", "a\x00b", "~", "%2e%2e%2f", "\u202eb", "n" * 500]
    ),
    st.text(max_size=20),
)
LINE = jsonl.file([jsonl.chat("a")])
contents = st.one_of(
    st.sampled_from([b"batch", b"fine-tune"]), st.binary(max_size=40),
    st.sampled_from([b"", LINE, b"x" * 2999, b"x" * 5000, b"\r\n--b", b"\r\n--b--", b"\r\n--", b"--b\r\n"]),
)  # fmt: skip
more_headers = st.sampled_from(
    ["", "", "content-type: text/plain; charset=utf-7\r\n", "content-transfer-encoding: base64\r\n", "x: y\r\n" * 20,
     "x: " + "y" * 9000 + "\r\n", "content-disposition: form-data\r\n", "x\r\n", ": \r\n"]
)  # fmt: skip
ends = st.sampled_from(["", "; filename*=utf-8''%2e%2e", '; filename="', "; name=file", ";;=;", "; filename=a"])


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    name, filename = draw(names), draw(st.none() | filenames)
    shown = "" if filename is None else f'; filename="{filename}"'
    head = f'content-disposition: form-data; name="{name}"{shown}{draw(ends)}\r\n{draw(more_headers)}\r\n'
    return b"--b\r\n" + head.encode("utf-8", "replace") + draw(contents) + b"\r\n"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    shown = "" if filename is None else f'; filename="{filename}"'
    head = f'content-disposition: form-data; name="{name}"{shown}\r\n\r\n'
    return b"--b\r\n" + head.encode("utf-8", "replace") + content + b"\r\n"


good = st.builds(
    lambda filename, content, is_first: b"".join(
        [part("file", content, filename), part("purpose", b"batch")][:: 1 if is_first else -1]
    ),
    filenames,
    contents,
    st.booleans(),
)
forms = st.builds(
    lambda preamble, some, end: preamble + b"".join(some) + end,
    st.sampled_from([b"", b"", b"", b"\r\n", b"x", b"\n" + b"y" * 9000]),
    st.one_of(
        good.map(lambda one: [one]), st.lists(st.one_of(parts(), good), max_size=5), st.just([part("a", b"")] * 40)
    ),
    st.sampled_from([b"--b--\r\n", b"--b--\r\n", b"--b--", b"--b", b"", b"--b--\r\nmore", b"--b--" + b"z" * 400_000]),
)
bodies = st.one_of(forms, forms, st.binary(max_size=80))
types = st.sampled_from(
    [*["multipart/form-data; boundary=b"] * 8, 'multipart/form-data; boundary="b"', "multipart/form-data",
     "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 300,
     "multipart/form-data; boundary=b; charset=utf-16", 'multipart/form-data; boundary="', "multipart/form-data;;;=",
     "multipart/form-data; boundary=c", "multipart/form-data; boundary=\xff", "multipart/mixed; boundary=b", ""]
)  # fmt: skip
some = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["0", "1", "2", "100", "-1", "1e9", "9" * 500, "asc", "batch", " 3 ", "file-x"]),
)
queries = st.lists(
    st.tuples(st.sampled_from(["limit", "limit", "after", "order", "purpose", "color", "LIMIT"]), some), max_size=3
)
ids = st.one_of(
    st.sampled_from(["file-" + "0" * 24, "batch_" + "0" * 32, "..", "%2e%2e", "x\x00y", "💥"]), st.text(max_size=40)
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch")


@pytest.fixture(scope="module")
def target(loop: asyncio.Runner, redis_server: EmbeddedRedis, home: Path) -> Iterator[Service]:
    async def start() -> Service:
        config = BATCH.model_copy(update={"file_bytes": BYTES})
        return await Service.start(Store(redis_server.url, timeout=30), batch=home, batch_config=config)

    service = loop.run(start())
    yield service
    loop.run(service.stop())
    loop.run(service.store.close())


def ask(
    target: Service, loop: asyncio.Runner, method: str, path: str, query: str, kind: str | None, body: bytes, cut: int
) -> tuple[int, Any]:
    """Status and content of what is answered, which is checked. cut: in so many more pieces the body comes."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what is told of errors fills the memory
    headers = [(b"host", b"coe"), (b"authorization", f"Bearer {target.key}".encode())]
    if kind is not None:
        headers.append((b"content-type", kind.encode("latin-1")))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": query.encode(),
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    size = -(-len(body) // (cut + 1)) or 1
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    status, found, content = loop.run(answered(target, scope, pieces))
    check(path, method, status, found, content)
    return status, json.loads(content)


def kept(home: Path) -> set[str]:
    """Names of what there is on the disk."""
    return {path.name for path in home.rglob("*") if path.is_file()}


@seed(SEED)
@settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=bodies, kind=types, cut=st.integers(0, 3) | st.just(200))
@pytest.mark.timeout(0)  # by WITHIN_S for each case
def test_an_upload_is_taken_whole_or_refused_and_leaves_nothing(
    target: Service, loop: asyncio.Runner, home: Path, body: bytes, kind: str, cut: int
) -> None:
    status, told = ask(target, loop, "POST", "/v1/files", "", kind, body, cut)
    if status != 200:
        assert kept(home) == set()
        return
    assert kept(home) == {told["id"], f"{told['id']}.json"}
    assert told["bytes"] <= BYTES
    assert told["filename"]
    assert told["filename"].isprintable()
    assert "/" not in told["filename"]
    assert ask(target, loop, "DELETE", f"/v1/files/{told['id']}", "", None, b"", 0)[0] == 200
    assert kept(home) == set()


@seed(SEED)
@settings(max_examples=CASES // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(["/v1/files", "/v1/batches"]), query=queries)
@pytest.mark.timeout(0)
def test_a_list_answers_or_says_what_is_wrong(
    target: Service, loop: asyncio.Runner, path: str, query: list[tuple[str, str]]
) -> None:
    status, told = ask(target, loop, "GET", path, urlencode(query, errors="replace"), None, b"", 0)
    assert status == 200 or told["error"]["param"] in {name for name, _ in query}


@seed(SEED)
@settings(max_examples=CASES // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(own=st.sampled_from(["files/{}", "files/{}/content", "batches/{}", "batches/{}/cancel"]), name=ids)
@pytest.mark.timeout(0)
def test_an_id_of_nothing_is_not_found(target: Service, loop: asyncio.Runner, own: str, name: str) -> None:
    method = "POST" if own.endswith("cancel") else "GET"
    status, _ = ask(target, loop, method, f"/v1/{own.format(name)}", "", None, b"", 0)
    assert status in ((404,) if "/" not in name and name else (200, 404, 405, 415))
