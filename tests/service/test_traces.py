"""One connected trace a request across the processes of a real service: gateway, Ray Serve replica, collector."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.live import Live, service
from tests.otlp import FAST, Collector, Seen, collector, tree
from workers.tracing import names

pytestmark = pytest.mark.service

CONFIG = """
experts:
  - {name: ada, source: /models/ada, family: one}
  - {name: bob, source: /models/bob, family: one}
  - {name: cyd, source: /models/cyd, family: one}
router: {kind: fixed, fallback: ada}
ensembles:
  both: {experts: [ada, bob, cyd], aggregator: vote}
families:
  one: {num_cpus: 0.1, engine_args: {fake_images: 1, fake_token_delay: 0.01}}
"""
PROMPT = "Rumpelstiltskin, what is two and two?"


@pytest.fixture(scope="module")
def own() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture(scope="module")
def live(own: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Its workers learn of the collector from the gateway alone."""
    folder = tmp_path_factory.mktemp("traces")
    (folder / "coe.yaml").write_text(f"{CONFIG}traces: {{endpoint: '{own.url}'}}\n")
    with service(folder / "home", ["--fake", "--config", str(folder / "coe.yaml")], FAST, 120) as running:
        yield running


def ask(live: Live, trace: str, **fields: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], **fields}
    headers = {"authorization": f"Bearer {live.key}", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = httpx.post(f"{live.base_url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


def processes(spans: list[Seen]) -> dict[str, set[int]]:
    """Service -> its processes."""
    found: dict[str, set[int]] = {}
    for span in spans:
        found.setdefault(span.service, set()).add(span.process)
    return found


def test_a_routed_chat_is_one_trace(live: Live, own: Collector) -> None:
    ask(live, "a" * 32)
    spans = own.trace("a" * 32, 7)
    found = tree(spans)
    engine = found.pop("engine ada")
    assert found == {
        "": ["POST /v1/chat/completions"],
        "POST /v1/chat/completions": ["route", "chat ada"],
        "chat ada": ["engine ada"],
    }
    assert [name for name in engine if name != "swap"] == ["queue", "prefill", "decode"]
    [gateway], [worker] = processes(spans)["coe-gateway"], processes(spans)["coe-worker"]
    assert gateway == live.process.pid != worker


def test_an_ensemble_is_one_trace_with_a_swap(live: Live, own: Collector) -> None:
    answer = ask(live, "b" * 32, model="ensemble/both")
    spans = own.trace("b" * 32, 18)
    found = tree(spans)
    assert found["POST /v1/chat/completions"] == ["route", "aggregate vote"]
    assert {"chat ada", "chat bob", "chat cyd"} <= set(found["aggregate vote"])
    assert {"engine ada"} == set(found["chat ada"])
    assert "swap" in {span.name for span in spans}, "its device holds one of the three images"
    record = live.get(f"/v1/routes/{answer.json()['id']}").json()
    assert record["trace_id"] == "b" * 32


def test_a_stream_is_one_trace(live: Live, own: Collector) -> None:
    answer = ask(live, "c" * 32, model="bob", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    found = tree(own.trace("c" * 32, 7))
    assert found["chat bob"] == ["engine bob"]
    assert found["POST /v1/chat/completions"] == ["route", "chat bob"]


def test_a_stream_that_is_left_has_not_failed(live: Live, own: Collector) -> None:
    body = {"model": "cyd", "messages": [{"role": "user", "content": "word " * 1000}], "stream": True}
    headers = {"authorization": f"Bearer {live.key}", "traceparent": f"00-{'d' * 32}-00f067aa0ba902b7-01"}
    with httpx.stream(
        "POST", f"{live.base_url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False
    ) as answer:
        next(line for line in answer.iter_lines() if "cyd" in line)
    spans = {span.name: span for span in own.trace("d" * 32, 4)}
    assert not any(span.failed for span in spans.values())
    top = spans["POST /v1/chat/completions"].attributes
    assert (top[names.HTTP_STATUS], top[names.ERROR_TYPE]) == (200, "client_gone")
    assert {spans[name].attributes[names.ERROR_TYPE] for name in ("chat cyd", "engine cyd")} == {"cancelled"}


def test_neither_content_nor_the_key_was_sent(live: Live, own: Collector) -> None:
    sent = b"".join(own.bodies)
    assert b"chat ada" in sent
    assert b"Rumpel" not in sent
    assert live.key.encode() not in sent
