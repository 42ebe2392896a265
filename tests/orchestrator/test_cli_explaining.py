"""`coe explain` and `coe router export`, against a service that is served over HTTP."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from typer.testing import CliRunner

from aggregators.base import Drafts, Experts, Piece, Request, Verdict
from aggregators.drafts import all_of
from orchestrator.access.grant import Grant
from orchestrator.cli import router as cli_router
from orchestrator.cli.main import app
from orchestrator.records import Kept
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from routers.labelled.data import read
from tests.orchestrator.parts import GENERALIST, MATH, SQL, Service
from tests.orchestrator.served import Served, served
from tests.routers.fitted_parts import quick_models

__all__ = ["quick_models"]


@pytest.fixture(autouse=True)
def _silent_logs(_plain_logs: None) -> None:
    """The service logs to standard output in tests, which here is the command's."""
    structlog.configure(processors=[structlog.testing.LogCapture()])


@pytest_asyncio.fixture(params=[False])
async def running(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Served]:
    """A service, and an environment in which the commands find it. param: does it keep prompts?"""
    for name in [name for name in os.environ if name.startswith("COE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    async with served(await Service.start(store, records=Kept(content=request.param))) as it:
        monkeypatch.setenv("COE_PORT", str(it.port))
        monkeypatch.setenv("COE_API_KEY", it.service.key)
        yield it


keeping = pytest.mark.parametrize("running", [True], indirect=True)


async def coe(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, which runs in a thread beside the service."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


async def asked(running: Served, prompt: str, score: float | None = None, **fields: Any) -> str:
    """The id of the answer, with what its user says of it."""
    http = running.service.http
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **fields}
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    if score is not None:
        assert (await http.post("/v1/feedback", json={"id": answer["id"], "score": score})).status_code == 200
    return str(answer["id"])


async def test_an_answer_is_explained(running: Served) -> None:
    answer_id = await asked(running, "some sql please", 0.5)
    code, told, _ = await coe("explain", answer_id)
    assert code == 0
    first, second, *rest = told.splitlines()
    assert first.startswith(f"req-{answer_id.removeprefix('chatcmpl-')}  20")
    assert first.endswith("  auto -> sql")
    assert second == "ok: the word stands there — naïve"
    assert rest[0] == "answered by sql"
    assert "sql                      1.000" in told
    assert "skills:\n  joins                    +4.2\n  'the'                    -1.5\ncandidates:" in told
    assert any(line.startswith("  sql (answer): 3 + 5 tokens; 0.0") and "prefill 0.0" in line for line in rest)
    assert "feedback: 0.5, 20" in told
    assert "prompt:" not in told
    record = json.loads((await coe("explain", "--json", answer_id))[1])
    assert record["object"] == "route.record"


async def test_an_ensemble_shows_its_calls_and_votes(running: Served) -> None:
    running.service.engine.fail_next("expert_unavailable", "gone")
    answer_id = await asked(running, "sql and math", coe={"k": 2})
    code, told, _ = await coe("explain", answer_id)
    assert code == 0
    assert told.count("(draft):") == 2
    assert "gave nothing: expert_unavailable: gone" in told
    assert re.search("^made of the drafts of (sql|math), nobody's alone$", told, re.M)
    assert "votes: answer 1 = 1" in told


EVIL = "\x1b]0;owned\x07\x9b2J\r\u202ewords"


class Evil:
    """An aggregator whose every text is a command for a terminal."""

    name = "evil"

    def calls(self, drafts: int) -> int:
        return 0

    async def aggregate(
        self, request: Request, drafts: Drafts, experts: Experts
    ) -> AsyncGenerator[Piece | Verdict, None]:
        await all_of(request, drafts, request.deadline)
        yield Piece("x")
        yield Verdict(
            None, "stop", (), {SQL: f"failed{EVIL}"}, {f"vote{EVIL}": 1.0}, {f"score{EVIL}": 2.0}, f"note{EVIL}"
        )


async def test_what_others_have_written_commands_no_terminal(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    service = await Service.start(store, records=Kept(content=True), aggregators={"joined": Evil()})
    service.router.category = f"category{EVIL}"
    async with served(service) as it:
        monkeypatch.setenv("COE_PORT", str(it.port))
        monkeypatch.setenv("COE_API_KEY", service.key)
        service.engine.fail_next("expert_unavailable", f"error{EVIL}")
        answer_id = await asked(it, f"prompt{EVIL} of sql", coe={"k": 2})
        for words in ((answer_id,), ()):
            code, told, _ = await coe("explain", *words)
            assert code == 0
            assert [letter for letter in told if not letter.isprintable() and letter != "\n"] == []
            found = {"category"} if not words else {"prompt", "failed", "vote", "score", "note", "error"}
            assert {word for word in found if f"{word}]0;owned2J words" in told} == found


async def test_without_an_id_the_latest_are_listed(running: Served) -> None:
    for prompt in ("some sql", "some math", "other"):
        await asked(running, prompt)
    code, told, _ = await coe("explain", "--limit", "2")
    assert code == 0
    head, *rows = told.splitlines()
    assert head.split()[:3] == ["id", "ended", "outcome"]
    assert [row.split()[6] for row in rows] == [GENERALIST, MATH]
    assert [row.split()[6] for row in (await coe("explain", "--expert", "sql"))[1].splitlines()[1:]] == [SQL]


async def test_what_is_not_there_is_told_in_a_sentence(running: Served) -> None:
    code, _, told = await coe("explain", "req-0")
    assert code == 1
    assert told == ("coe: there is no decision record 'req-0': it is none, is another key's, or has expired\n")


# Export


@keeping
async def test_a_router_is_fitted_on_what_users_said(
    running: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_models: None
) -> None:
    for number in range(30):
        for expert in (SQL, MATH):
            kind = "rhyme" if number % 2 else "boil"
            await asked(running, f"{kind} number {number}", float((expert == SQL) == (kind == "rhyme")), model=expert)
    code, told, _ = await coe("router", "export", "--out", "rated.jsonl")
    assert code == 0
    assert told == "60 rows of 30 prompts in rated.jsonl; next: coe router fit rated.jsonl --out DIR\n"
    data = read(tmp_path / "rated.jsonl")
    assert (data.experts, len(data)) == ((MATH, SQL), 30)
    assert data.measured.all()
    monkeypatch.setattr(cli_router, "_encoder", lambda kind, home, reporter: HashEncoder())
    code, told, err = await coe("router", "fit", "rated.jsonl", "--out", "fitted")
    assert code == 0, err
    assert "fitted on 30 prompts, 2 experts" in told


@keeping
async def test_of_other_keys_only_an_admin_exports(running: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await asked(running, "some sql", 1.0)
    other, _ = await running.service.keys.create("other")
    admin, _ = await running.service.keys.create("boss", Grant(admin=True))
    monkeypatch.setenv("COE_API_KEY", other)
    code, _, told = await coe("router", "export", "--out", "rated.jsonl")
    assert code == 1
    assert "1 ratings have no prompt" in told
    monkeypatch.setenv("COE_API_KEY", admin)
    assert (await coe("router", "export", "--out", "rated.jsonl"))[0] == 0


@keeping
async def test_a_prompt_without_a_category_takes_them_from_all_or_is_left_out(running: Served, tmp_path: Path) -> None:
    await asked(running, "some sql", 1.0)
    await asked(running, "some math", 0.0, model=MATH)
    code, _, told = await coe("router", "export", "--out", "rated.jsonl")
    assert (code, told.split(",")[0]) == (0, "1 prompts have no category")
    rows = [json.loads(line) for line in (tmp_path / "rated.jsonl").read_text().splitlines()]
    assert [(row["expert"], "category" in row) for row in rows] == [(SQL, False), (MATH, False)]
    code, _, told = await coe("router", "export", "--out", "rated.jsonl", "--with-category")
    assert (code, told) == (0, "1 ratings have no category and are left out\n")
    rows = [json.loads(line) for line in (tmp_path / "rated.jsonl").read_text().splitlines()]
    assert [(row["expert"], "category" in row) for row in rows] == [(SQL, True)]


async def test_prompts_come_from_ones_own_log_where_none_are_kept(running: Served, tmp_path: Path) -> None:
    first = await asked(running, "some sql", 1.0)
    await asked(running, "some math", 0.0)
    code, _, told = await coe("router", "export", "--out", "rated.jsonl")
    assert code == 1
    assert "2 ratings have no prompt: set records.content to true" in told
    assert "there is nothing to export" in told
    (tmp_path / "log.jsonl").write_text(json.dumps({"id": first, "prompt": "some sql"}) + "\n\n")
    code, told, err = await coe("router", "export", "--out", "rated.jsonl", "--prompts", "log.jsonl")
    assert (code, told.split(" in ")[0]) == (0, "1 rows of 1 prompts")
    assert "1 ratings have no prompt" in err


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": "x"}', '{"id": 1, "prompt": "x"}'])
async def test_a_log_that_is_none_is_told_with_its_line(running: Served, tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f"\n{line}\n")
    code, _, told = await coe("router", "export", "--out", "rated.jsonl", "--prompts", "log.jsonl")
    assert code == 1
    assert told.startswith("coe: log.jsonl, line 2: each line must be a JSON object with")
    assert (await coe("router", "export", "--out", "rated.csv"))[2].startswith("coe: --out: got 'rated.csv'")
