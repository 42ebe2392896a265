"""The service as a user has it: starter pool, real router, real vLLM, the official client."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from benchmarks.live import Live, service
from experts.domains import NAMES, domain
from experts.starter import GENERALIST, specialist
from tests.processes import descendants

pytestmark = pytest.mark.engine

HOME = Path(os.environ["COE_HOME"])


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with service(HOME, within=400) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=300) as client:
        yield client


def test_questions_of_each_domain_reach_its_specialist_and_most_are_right(live: Live) -> None:
    """A sample of the benchmark: routed over HTTP, computed by the engine, judged by the domain's scorer."""

    async def ask() -> list[tuple[str, str, bool]]:
        async with openai.AsyncOpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=300) as many:

            async def one(name: str, number: int) -> tuple[str, str, bool]:
                question = domain(name).held_out(random.Random(1), 12)[number]
                answer = await many.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": question.prompt}], temperature=0
                )
                coe = (answer.model_extra or {})["coe"]
                assert coe["expert"] == answer.model == coe["experts"][0]
                assert coe["usage_by_expert"].keys() == {answer.model}
                return name, answer.model, domain(name).score(question, answer.choices[0].message.content or "")

            return list(await asyncio.gather(*(one(name, number) for name in NAMES for number in range(4))))

    results = asyncio.run(ask())
    routed = [expert == specialist(name) for name, expert, _ in results]
    right = [flag for *_, flag in results]
    assert sum(routed) >= 0.85 * len(routed)
    assert sum(right) >= 0.6 * len(right)


def test_chat_goes_to_the_generalist_and_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Hello! How are you today?"}],
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert (chunks[0].model_extra or {})["coe"]["expert"] == GENERALIST
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 3
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 24


def test_three_experts_vote(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Which language is this? One word: Das Wetter ist heute sehr schön"}],
        extra_body={"coe": {"k": 3, "aggregator": "vote"}},
    )
    coe = (answer.model_extra or {})["coe"]
    assert len(coe["experts"]) == 3
    assert coe["experts"][0] == "smol-language"
    assert answer.choices[0].message.content == "German"
    assert "smol-language" in coe["used"]


def test_a_prompt_over_the_context_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smol-sql", messages=[{"role": "user", "content": "word " * 9000}])
    assert refused.value.code == "context_length_exceeded"
    assert "8192" in refused.value.message


def test_a_client_that_leaves_frees_the_engine(client: openai.OpenAI, live: Live) -> None:
    stream = client.chat.completions.create(
        model=GENERALIST,
        messages=[{"role": "user", "content": "Tell a very long story."}],
        max_tokens=2000,
        stream=True,
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(e["queued"] for e in live.get("/v1/experts").json()["data"]):
        time.sleep(0.2)
    assert not any(expert["queued"] for expert in live.get("/v1/experts").json()["data"])


def test_a_killed_vllm_worker_is_told_in_the_stream_and_comes_back(client: openai.OpenAI, live: Live) -> None:
    stream = iter(
        client.chat.completions.create(
            model=GENERALIST,
            messages=[{"role": "user", "content": "Tell a very long story."}],
            max_tokens=2000,
            stream=True,
        )
    )
    for _ in range(3):
        next(stream)
    [worker] = [pid for pid, command in descendants(live.process.pid).items() if command.startswith("VLLM::Worker")]
    threading.Timer(0.2, os.kill, (worker, signal.SIGKILL)).start()
    with pytest.raises(openai.APIError) as died:
        list(stream)
    assert died.value.code == "engine_died"
    # The next request waits for the new engine and is answered.
    answer = client.chat.completions.create(
        model="smol-language", messages=[{"role": "user", "content": "Which language is 'guten Morgen'? One word."}]
    )
    assert answer.choices[0].message.content == "German"
    deadline = time.monotonic() + 200
    while live.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert live.get("/health/ready").status_code == 200
