"""A service with a router of one's own: from a labelled file by `coe router fit` to answers of the official client."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from benchmarks.live import ROOT, Live, NotReady, service

pytestmark = pytest.mark.service

GOOD_AT = {"soup": "chef", "python": "coder", "haiku": "poet"}
"""Word of a prompt -> who answers it well."""

CONFIG = """
experts:
  - {name: chef, source: ./chef, family: staff}
  - {name: coder, source: ./coder, family: staff}
  - {name: poet, source: ./poet, family: staff}
router: {path: ./router}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """coe.yaml and its router, fitted by the command line."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "coe.yaml").write_text(CONFIG)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "expert", "score", "category", "answer"])
        for number in range(90):
            word = list(GOOD_AT)[number % 3]
            for expert in GOOD_AT.values():
                right = GOOD_AT[word] == expert
                row = [number, f"please help with {word} number {number}", expert, int(right), word, "AB"[right]]
                writer.writerow(row)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("COE_", "RAY_"))}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "orchestrator.cli",
            "router",
            "fit",
            folder / "labels.csv",
            "--out",
            folder / "router",
        ],
        cwd=ROOT,
        env=own,
        check=True,
        timeout=120,
    )
    return folder


@pytest.fixture(scope="module")
def live(folder: Path) -> Iterator[Live]:
    with service(folder / "home", ["--fake", "--config", str(folder / "coe.yaml")], within=120) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=30) as client:
        yield client


def post(live: Live, path: str, body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {live.key}"}
    return httpx.post(live.url + path, json=body, headers=headers, timeout=30, trust_env=False)


@pytest.mark.parametrize("word", list(GOOD_AT))
def test_each_prompt_goes_to_the_expert_that_was_measured_best(client: openai.OpenAI, word: str) -> None:
    answer = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": f"please help with {word} number 7"}]
    )
    assert answer.model == GOOD_AT[word]
    assert (answer.model_extra or {})["coe"]["reason"]


def test_several_experts_are_asked_and_feedback_is_taken(client: openai.OpenAI, live: Live) -> None:
    messages = [{"role": "user", "content": "please help with haiku number 7"}]
    route = post(live, "/v1/route", {"model": "auto", "messages": messages, "coe": {"k": 3}}).json()
    assert sorted(route["experts"]) == ["chef", "coder", "poet"]
    assert sum(route["explain"]["weights"].values()) == pytest.approx(1)
    answer = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "please help with haiku number 7"}],
        extra_body={"coe": {"k": 3}},
    )
    fields = (answer.model_extra or {})["coe"]
    assert sorted(fields["experts"]) == ["chef", "coder", "poet"]
    assert fields["aggregator"] == "vote"
    said = post(live, "/v1/feedback", {"id": answer.id, "thumbs": "up"})
    assert (said.status_code, said.json()["score"]) == (200, 1.0)


def test_a_damaged_router_is_told_at_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text(CONFIG.replace("./router", "./damaged"))
    damaged = tmp_path / "damaged"
    (damaged / "skill").mkdir(parents=True)
    for name in ("router.json", "prompts.npy", "skill/router.json"):
        (damaged / name).write_bytes((folder / "router" / name).read_bytes())
    (damaged / "skill" / "router.npz").write_bytes(b"")
    with (
        pytest.raises(NotReady, match=r"coe: .*damaged/.* is (missing|corrupt) ?.*: fit the router again"),
        service(tmp_path / "home", ["--fake", "--config", str(tmp_path / "coe.yaml")], within=120),
    ):
        pass
