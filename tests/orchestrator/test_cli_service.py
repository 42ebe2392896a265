"""The commands that ask a running service, against one that is served over HTTP."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from typer.testing import CliRunner

from orchestrator.cli.load import (
    Load,
    PromptsError,
    Sample,
    lines,
    percentile,
    read_prompts,
    summary,
    words,
)
from orchestrator.cli.main import app
from orchestrator.listening import tls_context
from orchestrator.store import Store
from tests.orchestrator.certificates import certificate
from tests.orchestrator.parts import MATH, SQL, Service
from tests.orchestrator.served import Served, served


@pytest.fixture(autouse=True)
def _silent_logs(_plain_logs: None) -> None:
    """The service logs to standard output in tests, which here is the command's."""
    structlog.configure(processors=[structlog.testing.LogCapture()])


@pytest_asyncio.fixture
async def running(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A service, and an environment in which the commands find it."""
    for name in [name for name in os.environ if name.startswith("COE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    async with served(await Service.start(store, concurrent=100)) as it:
        monkeypatch.setenv("COE_PORT", str(it.port))
        monkeypatch.setenv("COE_API_KEY", it.service.key)
        yield it


async def coe(*words: str, typed: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, which runs in a thread beside the service."""
    result = await asyncio.to_thread(CliRunner().invoke, app, words, input=typed)
    return result.exit_code, result.stdout, result.stderr


# chat


async def test_an_answer_streams_to_standard_output_and_its_route_to_standard_error(running: Served) -> None:
    code, answer, route = await coe("chat", "which sql?")
    assert (code, answer) == (0, "sql heard: which sql?\n")
    assert route == "[sql] the word stands there — naïve\n"


async def test_a_conversation_goes_on_until_the_end_of_the_input(running: Served) -> None:
    code, answer, _ = await coe("chat", "--model", SQL, "--system", "Be brief.", typed="one\n\ntwo\n")
    assert code == 0
    assert "sql heard: one" in answer
    assert "sql heard: two" in answer
    [first, second] = list(running.service.engine.calls)
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert [message["content"] for message in second.messages] == ["Be brief.", "one", "sql heard: one", "two"]


async def test_calls_are_told_where_that_is_wanted(running: Served) -> None:
    _, _, told = await coe("chat", "-v", "-m", SQL, "one two")
    assert "sql (answer): 2 + 4 tokens, 0.0" in told


async def test_an_error_in_a_stream_ends_the_command(running: Served) -> None:
    running.service.engine.fail_next("engine_died", "it went down", after=2, times=10)
    code, answer, told = await coe("chat", "-m", SQL, "one two three")
    assert code == 1
    assert answer.startswith("sql heard:")
    assert "coe: it went down" in told


async def test_what_is_wrong_is_told_in_a_sentence(running: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await coe("chat", "-m", "nobody", "x"))[::2] == (
        1,
        "coe: no expert is named 'nobody' (there are 4); 'auto' lets the router choose\n",
    )
    monkeypatch.setenv("COE_API_KEY", "coe-" + "x" * 43)
    assert (await coe("chat", "x"))[0] == 1
    assert "revoked" in (await coe("chat", "x"))[2]
    monkeypatch.delenv("COE_API_KEY")
    assert "set COE_API_KEY" in (await coe("chat", "x"))[2]


async def test_nobody_there(running: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("chat", "x"), ("route", "x"), ("experts",), ("bench",)):
        code, _, told = await coe(*command, "--port", "1")
        assert code == 1
        assert told.startswith("coe: no service answers at http://127.0.0.1:1; start it with `coe serve`")


# route, experts


async def test_a_route_with_its_candidates(running: Served) -> None:
    code, told, _ = await coe("route", "--explain", "some math")
    assert code == 0
    assert told.splitlines()[:2] == ["math", "the word stands there — naïve"]
    assert "candidates:" in told
    assert "math                     1.000" in told
    decision = json.loads((await coe("route", "--json", "some math"))[1])
    assert decision["experts"] == [MATH]


async def test_experts_are_listed(running: Served) -> None:
    code, told, _ = await coe("experts")
    assert code == 0
    assert "sql         device" in told
    assert {expert["name"] for expert in json.loads((await coe("experts", "--json"))[1])["data"]} == {
        "generalist", "sql", "math", "remote",
    }  # fmt: skip


# bench


async def test_load_is_measured(running: Served) -> None:
    code, told, _ = await coe("bench", "-n", "30", "-c", "5", "--words", "3", "-m", SQL, "--max-tokens", "4", "--json")
    found = json.loads(told)
    assert code == 0
    assert (found["requests"], found["answered"], found["errors"]) == (30, 30, {})
    assert (found["prompt_tokens"], found["completion_tokens"]) == (90, 120)
    assert found["experts"] == {SQL: 30}
    for times in ("latency_ms", "first_token_ms", "between_tokens_ms"):
        assert found[times]["p50"] <= found[times]["p99"]
    assert running.service.engine.finished == 30


async def test_whole_answers_have_no_first_token(running: Served) -> None:
    found = json.loads(
        (await coe("bench", "-n", "5", "--whole", "-m", SQL, "--words", "2", "--max-tokens", "8", "--json"))[1]
    )
    assert (found["answered"], found["first_token_ms"]["p50"]) == (5, None)


async def test_prompts_may_come_from_a_file(running: Served, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "some sql"}\n\n{"messages": [{"role": "user", "content": "some math"}]}\n')
    code, told, _ = await coe("bench", "-n", "4", "-c", "1", "--prompts", str(file), "--max-tokens", "8")
    assert code == 0
    assert "4 of 4 requests answered" in told
    assert "2 x sql" in told
    assert "2 x math" in told


async def test_errors_are_counted_by_kind(running: Served) -> None:
    running.service.engine.fail_next("expert_unavailable", times=3)
    code, told, _ = await coe("bench", "-n", "5", "-c", "1", "-m", SQL, "--words", "2", "--max-tokens", "8", "--whole")
    assert code == 0
    assert "2 of 5 requests answered" in told
    assert "3 x error: 503 expert_unavailable" in told


async def test_no_answer_at_all_is_a_failure(running: Served) -> None:
    code, told, _ = await coe("bench", "-n", "3", "-m", "nobody", "--json")
    assert (code, json.loads(told)["errors"]) == (1, {"404 model_not_found": 3})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no prompts"),
        ("{}", r':1: must be an object with "prompt"'),
        ('{"prompt": "x"}\nx', ":2: not JSON"),
        ("[1]", ":1: must be an object"),
    ],
)
def test_files_that_are_no_prompts(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(PromptsError, match=told):
        read_prompts(file)
    with pytest.raises(PromptsError, match="cannot be read"):
        read_prompts(tmp_path / "missing")


def test_percentiles_are_those_of_numpy() -> None:
    assert percentile([], 50) is None
    assert percentile([3.0], 99) == 3
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([float(number) for number in range(101)], 99) == 99


def test_made_up_prompts_are_the_same_for_a_seed_and_differ_from_each_other() -> None:
    assert words(5, 3, seed=1) == words(5, 3, seed=1) != words(5, 3, seed=2)
    assert len({message["content"] for [message] in words(20, 100, seed=0)}) == 100
    assert len(words(7, 1, 0)[0][0]["content"].split()) == 7


def test_a_summary_of_nothing_answered_has_no_times() -> None:
    load = Load([], "auto", 1, 1, None, True, 1.0)
    found = summary(load, [Sample(0.5, "ReadTimeout")], 2.0)
    assert (found["requests_per_s"], found["latency_ms"]["p50"]) == (0, None)
    assert lines(found, "http://x")[-1].split() == ["1", "x", "error:", "ReadTimeout"]


# TLS


async def test_a_service_with_its_own_certificate_is_trusted_by_the_coe_yaml_that_names_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificate(tmp_path, "server")
    (tmp_path / "coe.yaml").write_text(f"server: {{tls_cert: {made.cert}, tls_key: {made.key}}}\n")
    monkeypatch.chdir(tmp_path)
    from orchestrator.config.load import load_config

    tls = tls_context(load_config(tmp_path / "coe.yaml", tmp_path))
    async with served(await Service.start(store), tls=tls) as it:
        monkeypatch.setenv("COE_API_KEY", it.service.key)
        assert (await coe("chat", "which sql?", "--port", str(it.port)))[:2] == (0, "sql heard: which sql?\n")
        assert (await coe("route", "which sql?", "--port", str(it.port)))[0] == 0
        assert (await coe("bench", "-n", "2", "--words", "2", "--port", str(it.port)))[0] == 0
        monkeypatch.setenv("COE_CONFIG", str(tmp_path / "other.yaml"))
        other = certificate(tmp_path, "other")
        (tmp_path / "other.yaml").write_text(f"server: {{tls_cert: {other.cert}, tls_key: {other.key}}}\n")
        code, _, told = await coe("route", "x", "--port", str(it.port))
        assert code == 1
        assert "its certificate is not trusted here" in told
