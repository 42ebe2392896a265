"""Several experts as one answer over HTTP, a worker process each: the official client and LangChain's class."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import SecretStr

from benchmarks.live import ROOT, Live, service
from tests.processes import descendants

pytestmark = pytest.mark.service

FOUR, FIVE = "The answer is 4.", "The answer is 5."
LONG = "well " * 300
CONFIG = f"""
experts:
  - {{name: ada, kind: remote, source: "tests.service.canned:Canned", options: {{says: "{FOUR}"}}}}
  - {{name: bob, kind: remote, source: "tests.service.canned:Canned", options: {{says: "{FIVE}"}}}}
  - {{name: cyd, kind: remote, source: "tests.service.canned:Canned", options: {{says: "{FIVE}"}}}}
  - {{name: slow, kind: remote, source: "tests.service.canned:Canned", options: {{says: "{LONG}", delay: 0.2}}}}
families: {{ada: {{num_cpus: 0.1}}, bob: {{num_cpus: 0.1}}, cyd: {{num_cpus: 0.1}}, slow: {{num_cpus: 0.1}}}}
router: {{kind: fixed, fallback: ada}}
aggregation: {{expert: ada, end: vote}}
ensembles:
  vote: {{experts: [ada, bob, cyd], aggregator: vote}}
  judge: {{experts: [ada, bob, cyd], aggregator: judge}}
  synthesize: {{experts: [ada, bob, cyd], aggregator: synthesize}}
  refine: {{experts: [ada, bob, cyd], aggregator: refine, aggregation: {{layers: 2}}}}
  cascade: {{experts: [ada, bob, cyd], aggregator: cascade}}
  single: {{experts: [ada, bob, cyd], aggregator: single}}
  waiting: {{experts: [bob, cyd, slow], aggregator: synthesize}}
"""
USER: Any = [{"role": "user", "content": "What is two and three?"}]
EXPERTS = ["ada", "bob", "cyd"]
ANSWERS = {"single": FOUR, "vote": FIVE, "judge": FOUR, "synthesize": FOUR, "refine": FIVE, "cascade": FIVE}
"""Aggregator -> what it makes of one 4 and two 5, where ada, who says 4, is first, judges and writes."""
MODES: dict[str, tuple[str, dict[str, Any], str]] = {
    "auto": ("auto", {}, FOUR),
    "named": ("bob", {}, FIVE),
    **{f"auto {name}": ("auto", {"k": 3, "aggregator": name, "include": EXPERTS}, a) for name, a in ANSWERS.items()},
    **{f"ensemble {name}": (f"ensemble/{name}", {"budget": {"calls": 9}}, a) for name, a in ANSWERS.items()},
}
"""Mode -> (model, `coe` options, answer)."""
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("aggregation")
    (folder / "coe.yaml").write_text(CONFIG)
    with service(folder / "home", ["--config", str(folder / "coe.yaml")], {"PYTHONPATH": str(ROOT)}, 120) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=60) as client:
        yield client


def langchain(live: Live, model: str, coe: dict[str, Any]) -> ChatOpenAI:
    return ChatOpenAI(
        model_name=model,
        openai_api_base=live.base_url,
        openai_api_key=SecretStr(live.key),
        max_retries=0,
        extra_body={"coe": coe},
    )


def coe_of(answer: Any) -> dict[str, Any]:
    field: dict[str, Any] = answer.model_extra["coe"]
    return field


@pytest.mark.parametrize(("model", "coe", "text"), MODES.values(), ids=MODES)
def test_the_client_drives_every_mode(client: openai.OpenAI, model: str, coe: dict[str, Any], text: str) -> None:
    answer = client.chat.completions.create(model=model, messages=USER, extra_body={"coe": coe} if coe else None)
    assert answer.choices[0].message.content == text
    told = coe_of(answer)
    several = model.startswith("ensemble") or "k" in coe
    assert told["experts"] == (EXPERTS if several else [model.replace("auto", "ada")])
    assert answer.model == (told["expert"] or model)
    assert answer.usage is not None
    spent = [call["usage"]["total_tokens"] for call in told["calls"] if call["usage"]]
    assert answer.usage.total_tokens == sum(spent) > 0
    assert sum(usage["total_tokens"] for usage in told["usage_by_expert"].values()) == sum(spent)


@pytest.mark.parametrize(("model", "coe", "text"), MODES.values(), ids=MODES)
def test_a_stream_of_every_mode_has_the_same_text(
    client: openai.OpenAI, model: str, coe: dict[str, Any], text: str
) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=USER,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"coe": coe} if coe else None,
    )
    chunks: list[ChatCompletionChunk] = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert usage.usage is not None
    assert usage.usage.total_tokens == sum(
        call["usage"]["total_tokens"] for call in coe_of(last)["calls"] if call["usage"]
    )


@pytest.mark.parametrize(("model", "coe", "text"), MODES.values(), ids=MODES)
def test_langchain_drives_every_mode(live: Live, model: str, coe: dict[str, Any], text: str) -> None:
    chat = langchain(live, model, coe)
    answer = chat.invoke(USER)
    assert answer.text == text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.text for chunk in chat.stream(USER)) == text


def test_route_tells_who_would_answer(client: openai.OpenAI) -> None:
    decided = route(client, "ensemble/vote")
    assert (decided["experts"], decided["aggregator"]) == (EXPERTS, "vote")


def test_models_tell_what_an_ensemble_does(client: openai.OpenAI) -> None:
    models = {model.id: coe_of(model) for model in client.models.list()}
    assert list(models)[:2] == ["auto", "ensemble/vote"]
    assert models["ensemble/judge"]["experts"] == EXPERTS
    assert models["ensemble/judge"]["expert"] == "ada"
    assert models["ensemble/refine"]["aggregator"] == "refine"


def test_what_one_expert_answers_alone_is_refused_with_several(live: Live, client: openai.OpenAI) -> None:
    why = "one expert alone can answer it, and model 'ensemble/vote' asks several"
    for field in ({"tools": [TOOL]}, {"logprobs": True}, {"n": 2}, {"response_format": {"type": "json_object"}}):
        with pytest.raises(openai.BadRequestError, match=why) as caught:
            client.chat.completions.create(model="ensemble/vote", messages=USER, extra_body=field)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", *field)
    with pytest.raises(openai.BadRequestError, match=why):
        langchain(live, "ensemble/vote", {}).bind_tools([TOOL]).invoke(USER)


def test_mistakes_are_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'ensemble/judge'"):
        client.chat.completions.create(model="ensemble/jugde", messages=USER)
    with pytest.raises(openai.BadRequestError, match=r"coe\.aggregator: got 'vot'.*did you mean 'vote'"):
        client.chat.completions.create(model="auto", messages=USER, extra_body={"coe": {"k": 3, "aggregator": "vot"}})
    with pytest.raises(openai.BadRequestError, match="has its own"):
        client.chat.completions.create(model="ensemble/vote", messages=USER, extra_body={"coe": {"k": 3}})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_one_of_three_is_killed_in_mid_answer(live: Live, client: openai.OpenAI, streamed: bool) -> None:
    wait_until(
        lambda: "slow" in route(client, "ensemble/waiting")["experts"]
    )  # who failed lately has no seat for a while
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, client, streamed)
        wait_until(lambda: running(live, "slow") == 1)
        [replica] = [pid for pid, command in descendants(live.process.pid).items() if ":coe-slow:" in command]
        os.kill(replica, signal.SIGKILL)
        text, told = future.result(60)
    assert text == FOUR  # ada wrote it, and has no seat
    assert told["used"] == ["bob", "cyd"]
    assert list(told["failed"]) == ["slow"]
    assert told["note"] == "ada wrote the answer from 2 drafts; slow failed; 2 of 3 drafts took part"
    [lost] = [call for call in told["calls"] if call["expert"] == "slow"]
    assert (lost["role"], lost["usage"], lost["error"]) == ("draft", None, told["failed"]["slow"])


def route(client: openai.OpenAI, model: str) -> dict[str, Any]:
    decided: Any = client.post("/route", body={"model": model, "messages": USER}, cast_to=object)
    return dict(decided)


def ask(client: openai.OpenAI, streamed: bool) -> tuple[str, dict[str, Any]]:
    """(text, `coe` field)"""
    if not streamed:
        answer = client.chat.completions.create(model="ensemble/waiting", messages=USER)
        return answer.choices[0].message.content or "", coe_of(answer)
    chunks = list(client.chat.completions.create(model="ensemble/waiting", messages=USER, stream=True))
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), coe_of(chunks[-1])


def running(live: Live, family: str) -> float:
    found = re.search(rf'^coe_worker_running{{family="{family}"}} (\S+)', live.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else -1.0


def wait_until(condition: Any, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
