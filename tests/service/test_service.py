"""The whole service over HTTP with the fake engine: real Ray Serve, real Redis, the official client."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from benchmarks.live import Live, free_port, service, stop
from tests.processes import descendants
from tests.service.commands import coe

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with service(tmp_path_factory.mktemp("fake"), ["--fake"], within=120) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=30) as client:
        yield client


def told(result: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said: a sentence or more, never a traceback."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_the_client_gets_a_routed_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hello there"}])
    assert answer.model == "smol-general"
    assert answer.choices[0].message.content == "smol-general heard: hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert (answer.model_extra or {})["coe"]["expert"] == "smol-general"


def test_a_named_expert_answers_itself_and_says_so_in_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="smol-sql", messages=[{"role": "user", "content": "hello"}]
    )
    assert raw.parse().model == "smol-sql"
    own = {name: value for name, value in raw.headers.items() if name.startswith("x-coe-")}
    assert own["x-coe-expert"] == "smol-sql"
    assert len(own) <= 5


def test_a_stream_has_the_same_text_and_its_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smol-cron",
        messages=[{"role": "user", "content": "one two three " * 100}],
        max_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "smol-cron heard: " + "one two three " * 100
    assert (chunks[0].model_extra or {})["coe"]["expert"] == "smol-cron"
    assert chunks[-1].usage is not None
    # In pieces, of which those that are there already when one is written go together.
    assert sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content) > 1


def test_errors_have_the_shape_that_the_client_knows(client: openai.OpenAI, live: Live) -> None:
    hello: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError, match="smol-sql"):
        client.chat.completions.create(model="smol-sqll", messages=hello)
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.chat.completions.create(model="auto", messages=hello, max_tokens=0)
    with pytest.raises(openai.BadRequestError, match="temperture"):
        client.chat.completions.create(model="auto", messages=hello, extra_body={"temperture": 1})
    stranger = openai.OpenAI(base_url=live.base_url, api_key="coe-" + "x" * 43, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    answer = httpx.post(live.url + "/v1/chat/completions", content=b"{", trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"


def test_policies_decide_who_is_asked(client: openai.OpenAI) -> None:
    def ask(**coe: object) -> dict[str, object]:
        answer = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "hello"}],
            metadata={"conversation_id": "7"},
            extra_body={"coe": {"explain": True, **coe}},
        )
        fields: dict[str, object] = (answer.model_extra or {})["coe"]
        return fields

    assert ask(force=["smol-json"])["used"] == ["smol-json"]
    told = ask(deny=["smol-general"], allow=["smol-general", "smol-cron", "smol-sql"], k=2)
    assert told["experts"] == ["smol-sql", "smol-cron"]
    with pytest.raises(openai.BadRequestError, match="needs: takes no image: smol-sql") as caught:
        ask(allow=["smol-sql"], needs=["image"])
    assert caught.value.code == "no_expert_allowed"


def test_models_health_and_metrics(client: openai.OpenAI, live: Live) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "auto"
    assert {"smol-general", "smol-sql"} <= set(names)
    assert live.get("/health/live").status_code == 200
    assert live.get("/health/ready").status_code == 200
    assert "coe_requests_total" in live.get("/metrics").text


def test_many_clients_at_once_each_get_their_own_answer(live: Live) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=live.base_url, api_key=live.key, max_retries=0) as many:
            answers = await asyncio.gather(
                *(
                    many.chat.completions.create(
                        model=("smol-sql", "smol-json", "smol-general")[n % 3],
                        messages=[{"role": "user", "content": f"number {n}"}],
                    )
                    for n in range(60)
                )
            )
        return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(ask()) == [
        f"{('smol-sql', 'smol-json', 'smol-general')[n % 3]} heard: number {n}" for n in range(60)
    ]


def test_nothing_listens_beyond_loopback(live: Live) -> None:
    """Every listening TCP socket of the service's processes is on 127.0.0.1 or ::1."""
    inodes = set()
    for pid in (live.process.pid, *descendants(live.process.pid)):
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].rpartition(":")[0])
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert listening
    assert set(listening) <= loopback


def test_the_command_line_talks_to_it(live: Live) -> None:
    port, key = live.url.rpartition(":")[2], live.key
    shown = coe("experts", "--json", COE_PORT=port, COE_API_KEY=key)
    assert {expert["state"] for expert in json.loads(shown.stdout)["data"]} == {"ready"}
    assert coe("chat", "good morning", COE_PORT=port, COE_API_KEY=key).stdout == "smol-general heard: good morning\n"
    assert "smol-general" in coe("route", "good morning", COE_PORT=port, COE_API_KEY=key).stdout
    assert "set COE_API_KEY" in told(coe("route", "good morning", COE_PORT=port))
    assert "revoked" in told(coe("chat", "hi", COE_PORT=port, COE_API_KEY="coe-" + "x" * 43))


def test_keys_made_beside_the_running_service_work_until_revoked(live: Live) -> None:
    home = str(live.output.parent)
    made = coe("keys", "create", "second", COE_HOME=home).stdout.split()[0]
    assert httpx.get(live.url + "/v1/models", headers={"Authorization": f"Bearer {made}"}, trust_env=False).is_success
    assert made not in live.output.read_text()
    assert "second" in coe("keys", "list", COE_HOME=home).stdout
    assert coe("keys", "revoke", "second", COE_HOME=home).returncode == 0
    assert "second" not in coe("keys", "list", COE_HOME=home).stdout


def test_a_killed_redis_comes_back_and_known_keys_work_meanwhile(live: Live) -> None:
    [redis] = [pid for pid, command in descendants(live.process.pid).items() if "redis-server" in command]
    os.kill(redis, signal.SIGKILL)
    assert live.get("/v1/models").status_code == 200  # a key that was seen before
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        again = [pid for pid, command in descendants(live.process.pid).items() if "redis-server" in command]
        if again and again != [redis]:
            break
        time.sleep(0.2)
    assert "test-" not in coe("keys", "list", COE_HOME=str(live.output.parent)).stderr
    assert live.get("/v1/models").status_code == 200


def test_a_killed_worker_process_is_replaced(live: Live, client: openai.OpenAI) -> None:
    [replica] = [pid for pid, command in descendants(live.process.pid).items() if "ServeReplica" in command]
    os.kill(replica, signal.SIGKILL)
    codes: list[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not codes or codes[-1] != 200):
        try:
            answer = client.chat.completions.create(model="smol-sql", messages=[{"role": "user", "content": "back?"}])
            assert answer.choices[0].message.content == "smol-sql heard: back?"
            codes.append(200)
        except openai.InternalServerError as error:
            codes.append(error.status_code)
            time.sleep(0.5)
    assert codes[-1] == 200
    assert set(codes) <= {503, 200}  # an explicit error while it is away, and then answers


def test_what_cannot_start_says_why(live: Live, tmp_path: Path) -> None:
    taken = live.url.rpartition(":")[2]
    assert f"cannot listen on 127.0.0.1:{taken}" in told(
        coe("serve", "--fake", "--port", taken, COE_HOME=str(tmp_path))
    )
    nobody = f"redis://127.0.0.1:{free_port()}"
    problem = told(coe("serve", "--fake", "--redis-url", nobody, COE_HOME=str(tmp_path), COE_PORT=str(free_port())))
    assert "Redis" in problem
    assert "unset COE_REDIS_URL" in problem
    file = tmp_path / "coe.yaml"
    file.write_text("expertz: []\n")
    problem = told(coe("serve", "--fake", "--config", str(file), COE_HOME=str(tmp_path)))
    assert "coe.yaml:1" in problem
    assert "did you mean 'experts'" in problem
    same = told(coe("serve", "--fake", COE_HOME=str(live.output.parent), COE_PORT=str(free_port())))
    assert f"in use by process {live.process.pid}" in same


def test_ctrl_c_ends_everything_that_was_started(tmp_path: Path) -> None:
    with service(tmp_path, ["--fake"], within=120) as live:
        started = descendants(live.process.pid)
        assert any("redis-server" in command for command in started.values())
        assert any("raylet" in command for command in started.values())
        assert stop(live.process) == 0
        deadline = time.monotonic() + 15
        while (left := [pid for pid in started if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, {pid: started[pid] for pid in left}
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(live.url.rpartition(":")[2]))) != 0
    assert "Traceback" not in live.output.read_text()


def test_an_answer_outlives_a_killed_gateway_under_its_idempotency_key(tmp_path: Path) -> None:
    body = {"model": "smol-sql", "messages": [{"role": "user", "content": "once and for all"}]}

    def ask(live: Live) -> httpx.Response:
        headers = {"Authorization": f"Bearer {live.key}", "Idempotency-Key": "order-66"}
        return httpx.post(live.url + "/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=60)

    with service(tmp_path, ["--fake"], within=120) as live:
        first = ask(live)
        started = descendants(live.process.pid)
        live.process.kill()
        live.process.wait()
        with service(tmp_path, ["--fake"], {"COE_API_KEY": live.key}, within=120) as again:
            second = ask(Live(again.url, live.key, again.process, again.output))
    for pid in started:  # what a process that is killed leaves behind
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert first.status_code == second.status_code == 200
    assert second.content == first.content
    assert second.headers["x-coe-replayed"] == "true"


def test_a_batch_runs_beside_other_requests(client: openai.OpenAI) -> None:
    """Its lines are answered as the endpoint answers them, in their order."""
    bodies = [{"model": "auto", "messages": [{"role": "user", "content": f"line {n}"}]} for n in range(20)]
    lines = [
        {"custom_id": f"id-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.status != "completed" and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None, batch
    rows = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(20)]
    direct = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "line 7"}])
    assert rows[7]["response"]["body"]["choices"][0]["message"]["content"] == direct.choices[0].message.content
