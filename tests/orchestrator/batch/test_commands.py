"""`coe batch` and the example, against a service that runs batches."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.store import Store
from tests.orchestrator.batch import conftest, jsonl
from tests.orchestrator.parts import MATH, SQL, Service
from tests.orchestrator.served import Served, served

ROOT = Path(__file__).parents[3]
LINES = [jsonl.chat(f"id-{n}", f"{(SQL, MATH)[n % 2]} {n}") for n in range(20)]


@pytest.fixture(autouse=True)
def _silent_logs(_plain_logs: None) -> None:
    """The service logs to standard output in tests, which here is the command's."""
    structlog.configure(processors=[structlog.testing.LogCapture()])


@pytest_asyncio.fixture
async def live(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A service, and an environment in which the commands find it."""
    for name in [name for name in os.environ if name.startswith("COE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    service = await Service.start(store, batch=tmp_path / "home")
    async with served(service) as it, conftest.running(service):
        monkeypatch.setenv("COE_PORT", str(it.port))
        monkeypatch.setenv("COE_API_KEY", service.key)
        put("in.jsonl", jsonl.file(LINES))
        yield it


async def coe(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, which runs in a thread beside the service."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["batch", *words])
    return result.exit_code, result.stdout, result.stderr


def put(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def program(*words: str | Path, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def content(name: str) -> bytes:
    return Path(name).read_bytes()


def rows(name: str) -> list[dict[str, Any]]:
    return jsonl.rows(content(name))


def written() -> list[str]:
    return [row["custom_id"] for row in rows("out.jsonl")]


async def test_a_file_is_run_and_its_answers_written(live: Served) -> None:
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert code == 0, told
    assert written() == [f"id-{n}" for n in range(20)]
    assert "20 answers in out.jsonl" in told
    assert sorted(os.listdir()) == ["home", "in.jsonl", "out.jsonl"]
    assert [own.purpose async for own in live.service.openai.files.list()] == ["batch_output"], "the input is here"


async def test_lines_without_an_answer_have_a_file_of_their_own(live: Served) -> None:
    put("in.jsonl", jsonl.file([*LINES[:2], "nonsense"]))
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert code == 0
    assert written() == ["id-0", "id-1"]
    [row] = rows("out.jsonl.errors")
    assert row["error"]["line"] == 3
    assert "1 lines without an answer in out.jsonl.errors" in told


async def test_a_dry_run_shows_experts_loads_and_time(live: Served) -> None:
    code, plan, _ = await coe("run", "in.jsonl", "--dry-run")
    assert code == 0
    first, *groups = plan.splitlines()
    assert first.startswith("2 experts, 2 loads, time not known yet")
    assert [line.split()[0] for line in groups] == [MATH, SQL]
    assert not live.service.engine.calls
    assert [own.id async for own in live.service.openai.files.list()] == []


async def test_the_same_command_again_goes_on_where_it_was(live: Served) -> None:
    live.service.engine.token_delay = 0.02
    words = ("-m", "orchestrator.cli", "batch", "run", "in.jsonl", "-o", "out.jsonl")
    first = await asyncio.to_thread(program, *words, PYTHONPATH=str(ROOT))
    await conftest.until(lambda: asyncio.to_thread(os.path.exists, "out.jsonl.batch"))
    first.kill()
    await asyncio.to_thread(first.communicate)
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert code == 0
    assert "goes on with batch_" in told
    assert written() == [f"id-{n}" for n in range(20)]
    assert len((await live.service.openai.batches.list()).data) == 1


async def test_an_output_is_replaced_only_by_force(live: Served) -> None:
    put("out.jsonl", b"dear")
    put("out.jsonl.errors", b"of old")
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert code == 1
    assert "out.jsonl: exists; choose another file with -o, or replace it with --force" in told
    assert content("out.jsonl") == b"dear"
    assert (await coe("run", "in.jsonl", "-o", "out.jsonl", "--force"))[0] == 0
    assert len(written()) == 20
    assert "out.jsonl.errors" not in os.listdir(), "this batch has none"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.jsonl"], "none.jsonl: No such file"),
        (["."], ".: Is a directory"),
        (["empty"], "empty: is empty"),
        (["text"], "text: no line is JSON with a 'url'"),
        (["in.jsonl", "-o", "nowhere/out"], "nowhere/out: there is no folder nowhere; make it first"),
        (["in.jsonl", "-o", "a-folder"], "a-folder: is a folder; name a file with -o"),
        (["in.jsonl", "--errors", "a-folder"], "a-folder: is a folder"),
        (["in.jsonl", "--endpoint", "/v1/models"], "endpoint: input should be '/v1/chat/completions'"),
        (["in.jsonl", "--api-key", "coe-" + "x" * 43], "the API key is not known"),
        (["in.jsonl", "--port", "1"], "no service answers at http://127.0.0.1:1; start it with `coe serve`"),
    ],
)
async def test_what_cannot_be_run_is_told_and_leaves_nothing_in_the_service(
    live: Served, words: list[str], says: str
) -> None:
    os.mkdir("a-folder")
    put("empty", b"")
    put("text", b"hello\nworld\n")
    code, _, told = await coe("run", *words)
    assert code == 1
    assert says in told
    assert [own.id async for own in live.service.openai.files.list()] == []
    assert (await live.service.openai.batches.list()).data == []


async def test_another_input_does_not_take_the_place_of_one_under_way(live: Served) -> None:
    put("out.jsonl.batch", b'{"batch": "batch_x", "input": "other"}')
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert code == 1
    assert "a batch with another input has this output" in told


async def test_a_batch_that_fails_says_why(live: Served) -> None:
    put("in.jsonl", b"\n")
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl", "--endpoint", jsonl.CHAT)
    assert code == 1
    assert "the file has no lines" in told


async def test_batches_are_listed_shown_and_cancelled(live: Served) -> None:
    await coe("run", "in.jsonl", "-o", "out.jsonl")
    code, listed, _ = await coe("list")
    batch_id = listed.split()[0]
    assert code == 0
    assert "completed" in listed
    code, shown, _ = await coe("show", batch_id)
    assert shown.splitlines()[0] == listed.splitlines()[0]
    assert f"{'#' * 30}        10 of 10 lines" in shown
    assert (await coe("cancel", batch_id))[1] == listed
    code, _, told = await coe("show", "batch_none")
    assert code == 1
    assert "there is no batch 'batch_none'" in told


async def test_the_example_runs(live: Served) -> None:
    url = f"http://127.0.0.1:{live.port}/v1"
    done = await asyncio.to_thread(program, ROOT / "examples" / "batch.py", COE_URL=url)
    said, _ = await asyncio.to_thread(done.communicate)
    assert done.returncode == 0, said
    assert len([line for line in said.splitlines() if line.startswith("question-")]) == 100


async def test_a_command_waits_for_a_service_that_is_away(live: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    away, asked = asyncio.Event(), 0
    inner = live.service.app

    async def flaky(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/v1/batches/"):
            asked += 1
            if asked <= 3:
                away.set()
                await send({"type": "http.response.start", "status": 503, "headers": []})
                await send({"type": "http.response.body", "body": b"{}"})
                return
        await inner(scope, receive, send)

    live.server.config.loaded_app = flaky
    code, _, told = await coe("run", "in.jsonl", "-o", "out.jsonl")
    assert (code, away.is_set()) == (0, True), told
    assert len(content("out.jsonl").splitlines()) == len(LINES)
