"""What the path costs: the service with a fake engine beside uvicorn alone and LiteLLM; same client, same run.

    python -m benchmarks.overhead [--json] [--litellm COMMAND] [--requests N] [--soak N] [--observed]

uvicorn alone answers with a canned chat from a FastAPI route. LiteLLM forwards to that same server; its command comes
from an environment of its own (`pip install 'litellm[proxy]'`), since it is no part of the lock. The service adds key,
routing by the starter router with the static encoder, the channel to a worker, the fake engine and the decision record;
model "auto". Every figure is taken by a client in a process of its own; the peers take turns, for the same noise.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

from benchmarks import observed
from benchmarks.http_load import Load, closed, opened, request
from benchmarks.live import ROOT, Live, free_port, service, stop
from benchmarks.report import emit, table
from experts.starter import starter_experts
from routers import starter

PATH = "/v1/chat/completions"
OVERLOAD_S = 8.0
PACED = {"smollm2-135m": {"dtype": "float32", "engine_args": {"fake_slots": 8, "fake_token_delay": 0.005}}}
"""An engine with a pace: some 100 answers of 16 tokens a second."""
ROUNDS = 3
"""Of each closed load and peer; the best one counts, since noise only slows down."""
KB = (0.1, 10, 100)
CONTEXT = 65_536
"""Tokens that the fake experts take, so that the longest prompts fit."""
WORDS = "please list all users that have signed in since monday and sort them by name ".split()

_BARE = """
import asyncio, json, sys, uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
app = FastAPI()
ANSWER = json.loads(open(sys.argv[2]).read())
PIECES = ANSWER["choices"][0]["message"]["content"].split(" ")
def chunk(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    told = {"id": ANSWER["id"], "object": "chat.completion.chunk", "created": 1, "model": ANSWER["model"]}
    return b"data: " + json.dumps({**told, "choices": [choice]}).encode() + b"\\n\\n"
async def stream():
    yield chunk({"role": "assistant", "content": ""})
    for piece in PIECES:
        await asyncio.sleep(0)
        yield chunk({"content": piece + " "})
    yield chunk({}, "stop") + b"data: [DONE]\\n\\n"
@app.post("/v1/chat/completions")
async def chat(request: Request):
    body = await request.json()
    if body.get("stream"):
        return StreamingResponse(stream(), media_type="text/event-stream")
    return Response(json.dumps(ANSWER), media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


@dataclass(frozen=True)
class Peer:
    name: str
    url: str
    key: str
    model: str

    def requests(self, number: int, kb: float = 0.1, *, stream: bool = False, tokens: int = 16) -> list[bytes]:
        """Different prompts of that size, so that no cache of prompts helps, for answers of so many tokens at most."""
        made = []
        for index in range(number):
            words = [WORDS[(index + place) % len(WORDS)] for place in range(max(8, int(kb * 1000 / 6)))]
            text = f"{index} {' '.join(words)}"
            body = {"model": self.model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
            made.append(
                request(self.url, PATH, self.key, json.dumps(body | ({"stream": True} if stream else {})).encode())
            )
        return made


@contextlib.contextmanager
def process(arguments: Sequence[str], url: str, within: float, **environment: str) -> Iterator[None]:
    """A server, ended with the block; ready once it answers anything at all."""
    with tempfile.TemporaryFile() as log:
        own = subprocess.Popen(
            arguments, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + within
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url, trust_env=False, timeout=5)
                    break
                if own.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{arguments[0]} did not come up: {log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.2)
            yield
        finally:
            stop(own, within=10)


@contextlib.contextmanager
def bare_uvicorn(answer: bytes) -> Iterator[Peer]:
    port = free_port()
    with tempfile.NamedTemporaryFile() as canned:
        canned.write(answer)
        canned.flush()
        url = f"http://127.0.0.1:{port}"
        with process([sys.executable, "-c", _BARE, str(port), canned.name], url, 60):
            yield Peer("uvicorn", url, "none", "canned")


@contextlib.contextmanager
def litellm(command: str, upstream: Peer) -> Iterator[Peer]:
    port, key = free_port(), "sk-benchmark"
    model = {"model": "openai/canned", "api_base": f"{upstream.url}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "canned", "litellm_params": model}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "litellm.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        arguments = [command, "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        with process(arguments, f"{url}/health/liveliness", 180, LITELLM_LOG="ERROR", NO_PROXY="127.0.0.1"):
            yield Peer("litellm", url, key, "canned")


class Client:
    """Another process for the loads."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def closed(self, peer: Peer, requests: list[bytes], concurrency: int) -> Load:
        return self._pool.submit(_run, partial(closed, peer.url, requests, concurrency)).result()

    def opened(self, peer: Peer, requests: list[bytes], rate: float) -> Load:
        return self._pool.submit(_run, partial(opened, peer.url, requests, rate)).result()

    def end(self) -> None:
        self._pool.shutdown()


def fitted_router(home: Path) -> Path:
    """The starter pool's router with the static encoder, fitted under `home` if it is not there."""
    if not starter.is_fitted(home, "static"):
        starter.fit(home, encoder="static")
    return starter.folder(home, "static").resolve()


def fake_service(stack: contextlib.ExitStack, router: Path, **config: object) -> Live:
    """The service with fake engines and a real router, for as long as the stack."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (home / "encoders").symlink_to(router.parent.parent / "encoders")
    experts = [
        spec.model_dump(mode="json", exclude_unset=True) | {"context_length": CONTEXT} for spec in starter_experts(home)
    ]
    told = {"router": {"encoder": "static", "path": str(router)}, "experts": experts, **config}
    (home / "coe.yaml").write_text(json.dumps(told))  # JSON is YAML
    return stack.enter_context(service(home, ["--fake", "--config", str(home / "coe.yaml")], within=600))


def _run(load: Any) -> Load:
    made: Load = uvloop.run(load())
    return made


def measure(client: Client, peers: Sequence[Peer], requests: int) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
    """Rows of the table, and figures by name."""
    rows: list[tuple[Any, ...]] = []
    figures: dict[str, float] = {}
    for peer in peers:  # warm
        client.closed(peer, peer.requests(50), 4)
    for concurrency in (1, 32, 256):
        # LiteLLM takes its time: as many requests of each, that it ends at all.
        number = max(concurrency * 2, requests * (1 if concurrency == 1 else 3))
        best: dict[str, Load] = {}
        for _ in range(ROUNDS):
            for peer in peers:
                load = client.closed(peer, peer.requests(number), concurrency)
                if peer.name not in best or load.rate > best[peer.name].rate:
                    best[peer.name] = load
        for name, load in best.items():
            rows.append((f"c={concurrency}", name, load.rate, load.milliseconds(0.5), load.milliseconds(0.99)))
            figures[f"rps_c{concurrency}_{name}"] = load.rate
            figures[f"p50_ms_c{concurrency}_{name}"] = load.milliseconds(0.5)
            figures[f"p99_ms_c{concurrency}_{name}"] = load.milliseconds(0.99)
            figures[f"lost_c{concurrency}_{name}"] = number - load.statuses[200]
    for kb in KB[1:]:
        for peer in peers:
            load = client.closed(peer, peer.requests(requests // 2, kb), 1)
            rows.append((f"{kb} kB", peer.name, load.rate, load.milliseconds(0.5), load.milliseconds(0.99)))
            figures[f"p50_ms_{kb}kb_{peer.name}"] = load.milliseconds(0.5)
    for peer in peers:
        load = client.closed(peer, peer.requests(requests // 2, stream=True), 1)
        rows.append(
            ("first chunk", peer.name, load.rate, load.milliseconds(0.5, "first"), load.milliseconds(0.99, "first"))
        )
        figures[f"first_chunk_ms_{peer.name}"] = load.milliseconds(0.5, "first")
        figures[f"chunk_gap_ms_{peer.name}"] = load.gap_ms
    for peer in peers:
        for share in (0.25, 0.5, 0.75):
            rate = share * figures[f"rps_c32_{peer.name}"]
            load = client.opened(peer, peer.requests(max(50, int(rate * 3))), rate)
            rows.append(
                (f"{share:.0%} of capacity", peer.name, load.rate, load.milliseconds(0.5), load.milliseconds(0.99))
            )
            figures[f"p99_ms_at_{share:g}_{peer.name}"] = load.milliseconds(0.99)
    return rows, figures


def overload(client: Client, ours: Peer) -> dict[str, Any]:
    """Ten times the capacity for OVERLOAD_S: good answers a second over the capacity, and what became of the others.

    The capacity is what the same client gets with 32 requests at a time, just before and just after: the mean of both.
    """

    def most() -> float:
        tried = client.closed(ours, ours.requests(300), 32).rate
        return client.closed(ours, ours.requests(int(4 * tried)), 32).rate

    before = most()
    load = client.opened(ours, ours.requests(int(before * 10 * OVERLOAD_S)), before * 10)
    capacity = (before + most()) / 2
    return {
        "goodput": round(load.rate / capacity, 3),
        "capacity": round(capacity, 1),
        "offered": round(before * 10),
        "answers": {str(status): count for status, count in sorted(load.statuses.items())},
        "without_answer": load.lost.total(),
        "lost": dict(load.lost),
        "unsent": load.unsent,
        "p99_ms_good": round(load.milliseconds(0.99), 1),
        "p50_ms_refused": round(load.milliseconds(0.5, status=429), 1),
        "p99_ms_refused": round(load.milliseconds(0.99, status=429), 1),
        "client_cpu_s": round(load.cpu, 2),
        "wall_s": round(load.wall, 2),
    }


def overloaded(client: Client, live: Live, paced: Live) -> dict[str, Any]:
    """Both kinds of overload: of the gateway, whose engine answers at once, and of an engine with a pace of its own."""
    told: dict[str, Any] = {}
    for end, found in (("", live), ("_engine", paced)):
        load = overload(client, Peer("ours", found.url, found.key, "auto"))
        told |= {f"goodput_at_10x{end}": load["goodput"], f"without_answer_at_10x{end}": load["without_answer"]}
        told[f"overload{end}"] = load
    return told


def soak(client: Client, ours: Peer, pid: int, requests: int) -> dict[str, Any]:
    """Resident memory of the gateway after a tenth of the requests and at the end."""
    gateway, part = psutil.Process(pid), requests // 10
    sizes = []
    for _ in range(10):
        load = client.closed(ours, ours.requests(part), 32)
        assert load.statuses[200] == part, load.statuses
        sizes.append(gateway.memory_info().rss / 2**20)
    return {
        "soak_requests": requests,
        "soak_mib": [round(size) for size in sizes],
        "soak_growth": round(sizes[-1] / sizes[0] - 1, 4),
    }


def traced_and_not(client: Client, router: Path, requests: int, as_json: bool) -> None:
    """What traces and metrics add; see `benchmarks.observed`."""
    with contextlib.ExitStack() as stack:
        url, taken = stack.enter_context(observed.collector())
        configs = {"traced": {"traces": {"endpoint": url}}}
        lives = {name: fake_service(stack, router, **configs.get(name, {})) for name in observed.SERVICES}
        peers = {name: Peer(name, live.url, live.key, "auto") for name, live in lives.items()}

        def load(name: str, concurrency: int) -> Load:
            return client.closed(peers[name], peers[name].requests(requests), concurrency)

        def cpu(name: str) -> float:
            times = psutil.Process(lives[name].process.pid).cpu_times()
            return float(times.user + times.system)

        for name in peers:
            load(name, 4)  # warm
        rows, figures = observed.compare(load, cpu, requests, taken)
    print(table(("load", "", "good/s", "p50 ms", "gateway's CPU, ms", "p50, of untraced"), rows))
    emit({"requests": requests, "rounds": observed.ROUNDS}, figures, as_json)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--litellm", help="command that starts the LiteLLM proxy; without it there is no such peer")
    parser.add_argument("--requests", type=int, default=300, help="requests one at a time (default 300)")
    parser.add_argument("--soak", type=int, default=0, help="requests of a soak at the end, for the gateway's memory")
    parser.add_argument("--observed", action="store_true", help="only this: what traces and metrics add")
    parser.add_argument("--home", type=Path, help="where the router is fitted (default: COE_HOME or ~/.coe)")
    arguments = parser.parse_args()
    client = Client()
    router = fitted_router(arguments.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser())
    if arguments.observed:
        traced_and_not(client, router, arguments.requests, arguments.json)
        client.end()
        return
    with contextlib.ExitStack() as stack:
        live = fake_service(stack, router)
        ours = Peer("ours", live.url, live.key, "auto")
        headers = {"Authorization": f"Bearer {live.key}"}
        body = {"model": "smol-general", "messages": [{"role": "user", "content": "hello there"}]}
        canned = httpx.post(live.url + PATH, json=body, headers=headers, trust_env=False).content
        bare = stack.enter_context(bare_uvicorn(canned))
        peers = [ours, bare]
        if arguments.litellm:
            peers.append(stack.enter_context(litellm(arguments.litellm, bare)))
        rows, figures = measure(client, peers, arguments.requests)
        told: dict[str, Any] = {name: round(value, 3) for name, value in figures.items()}
        told["p50_over_uvicorn_ms"] = round(figures["p50_ms_c1_ours"] - figures["p50_ms_c1_uvicorn"], 2)
        if arguments.litellm:
            told["rps_over_litellm"] = round(figures["rps_c32_ours"] / figures["rps_c32_litellm"], 2)
            told["p50_of_litellm"] = round(figures["p50_ms_c1_ours"] / figures["p50_ms_c1_litellm"], 3)
        told |= overloaded(client, live, fake_service(stack, router, families=PACED))
        if arguments.soak:
            told |= soak(client, ours, live.process.pid, arguments.soak)
    client.end()
    print(table(("load", "", "good/s", "p50 ms", "p99 ms"), rows))
    settings = {"requests_c1": arguments.requests, "rounds": ROUNDS, "soak": arguments.soak}
    emit(settings, told, arguments.json)


if __name__ == "__main__":
    main()
