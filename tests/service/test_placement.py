"""Experts of one family on two workers of a shared cluster: where they live, where calls go, and what changes that.

Real Ray, real channels, `coe serve --attach`, and the process that keeps workers; the fake engine, whose device holds
four images of six experts.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.live import ROOT, Live, service, stop
from orchestrator.embedded_redis import EmbeddedRedis
from tests.service.commands import coe
from tests.service.ray_parts import RAY, ask, in_cluster, ray_cluster

pytestmark = pytest.mark.service

NAMES = tuple("abcdef")
CONFIG = "experts:\n" + "".join(f"  - {{name: {name}, source: /models/{name}, family: one}}\n" for name in NAMES)
CONFIG += """
router: {kind: fixed, fallback: a}
families:
  one: {num_cpus: 0.1, replicas: 2, engine_args: {fake_images: 4, fake_token_delay: 0.02}}
"""
WINDOW_S = 3
KEEP = """
import sys
from pathlib import Path
from orchestrator.config import load
from orchestrator.keeping import keep
from orchestrator.preparing import with_fake_engines
home, address = Path(sys.argv[1]), sys.argv[2]
_, config = load.load({"config": str(home / "coe.yaml"), "home": str(home)}, {}, home)
keep(with_fake_engines(config), home, address, None, window_s=float(sys.argv[3]))
"""
"""As `coe workers keep`, with shorter windows."""
WATCH = """
import asyncio, json, sys
from orchestrator.cluster import _Finder, joined
from workers.channel.client import Links

async def watch():
    async with Links(_Finder("coe-one")) as links:
        while True:
            told = {one.address.worker: [sorted(one.placed), one.asked] for one in links.up if one.told}
            print(json.dumps(told), flush=True)
            await asyncio.sleep(0.5)

with joined(sys.argv[1], lambda line: None):
    asyncio.run(watch())
"""
KILL = """
[own] = [a for a in ray.util.list_named_actors(all_namespaces=True) if a["name"].endswith({worker!r})]
ray.kill(ray.get_actor(own["name"], own["namespace"]))
"""


class Watch:
    """What the workers tell, as a process that has joined the cluster hears it. placed: worker -> who lives there."""

    def __init__(self, output: Iterator[bytes]) -> None:
        self.placed: dict[str, frozenset[str]] = {}
        self.asked: dict[str, dict[str, int]] = {}
        self._changed = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._thread.start()

    def _read(self, output: Iterator[bytes]) -> None:
        for line in output:
            told = json.loads(line)
            self.asked = {w: {name: calls for name, (calls, _) in asked.items()} for w, (_, asked) in told.items()}
            placed = {worker: frozenset(names) for worker, (names, _) in told.items()}
            if placed != self.placed:
                self._changed = time.monotonic()
            self.placed = placed

    @property
    def quiet_s(self) -> float:
        """Seconds since who lives where changed last."""
        return time.monotonic() - self._changed

    @property
    def all_live(self) -> bool:
        return {name for placed in self.placed.values() for name in placed} == {*NAMES}

    def until(self, done: Callable[[], bool], what: str, within_s: float = 150) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < deadline, f"{what}: {self.placed}"
            time.sleep(0.2)


@contextmanager
def process(code: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        own = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT, env={**os.environ, **RAY}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        yield own
    finally:
        stop(own)
        assert own.stdout is not None
        own.stdout.close()


@contextmanager
def load(live: Live, experts: frozenset[str], at_once: int = 4) -> Iterator[None]:
    """Requests for these experts all the time, so many of each."""
    over = threading.Event()

    def asks(expert: str) -> set[int]:
        codes = set()
        while not over.is_set():
            codes.add(ask(live, expert).status_code)
        return codes

    with ThreadPoolExecutor(len(experts) * at_once) as pool:
        found = [pool.submit(asks, expert) for expert in experts for _ in range(at_once)]
        try:
            yield
        finally:
            over.set()
        assert {code for codes in found for code in codes.result()} == {200}


def test_experts_live_where_the_load_and_the_workers_that_are_there_let_them(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text(CONFIG)
    arguments = ["--fake", "--attach", "--config", str(tmp_path / "coe.yaml")]
    with (
        EmbeddedRedis(tmp_path / "redis") as redis,
        ray_cluster(tmp_path) as address,
        process(KEEP, str(tmp_path), address, str(WINDOW_S), log=tmp_path / "keep.log") as keeper,
        process(WATCH, address, log=tmp_path / "watch.log") as watcher,
        service(tmp_path / "gateway", arguments, {"COE_REDIS_URL": redis.url, "RAY_ADDRESS": address, **RAY}) as live,
    ):
        assert watcher.stdout is not None
        watch = Watch(iter(watcher.stdout))
        watch.until(lambda: len(watch.placed) == 2 and watch.all_live, "all are placed, nobody having asked")
        assert sorted(len(placed) for placed in watch.placed.values()) == [3, 3]

        # Each call goes to the home of its expert.
        first = dict(watch.placed)
        for _ in range(4):
            for name in NAMES:
                assert ask(live, name).status_code == 200
        watch.until(lambda: sum(sum(asked.values()) for asked in watch.asked.values()) >= 24, "calls are counted")
        assert watch.placed == first
        assert {worker: {*asked} for worker, asked in watch.asked.items()} == first

        # A load that stays on the experts of one worker makes some of them live on the other too, and then all stay.
        busy, idle = sorted(first)
        with load(live, first[busy]):
            watch.until(lambda: watch.placed != first, "the load has shifted")
            watch.until(lambda: watch.quiet_s > 4 * WINDOW_S, "the plan has settled")
        shifted = dict(watch.placed)
        assert shifted[idle] & first[busy]
        assert watch.all_live

        # What a worker that is lost had is answered by the other one, and lives there.
        in_cluster(address, KILL.format(worker=busy))
        with ThreadPoolExecutor(len(NAMES)) as pool:
            assert {answer.status_code for answer in pool.map(lambda name: ask(live, name), NAMES)} == {200}
        watch.until(lambda: bool(watch.placed) and busy not in watch.placed and watch.all_live, "all live on the rest")
        assert shifted[idle] <= watch.placed[idle]
        assert keeper.poll() is None


def test_a_service_with_workers_of_its_own_places_experts_too(tmp_path: Path) -> None:
    config = tmp_path / "coe.yaml"
    config.write_text(CONFIG)
    with service(tmp_path, ["--fake", "--config", str(config)], within=120) as live:

        def told(what: str) -> None:
            deadline = time.monotonic() + 60
            while what not in live.output.read_text(errors="replace"):
                assert time.monotonic() < deadline, live.output.read_text(errors="replace")
                time.sleep(0.2)

        told("experts are placed anew")
        with ThreadPoolExecutor(len(NAMES)) as pool:
            assert {answer.status_code for answer in pool.map(lambda name: ask(live, name), NAMES)} == {200}

        # One that is added while it runs gets a place, too.
        admin = coe("keys", "create", "admin", "--admin", COE_HOME=str(tmp_path)).stdout.split()[0]
        config.write_text(CONFIG.replace("\nrouter:", "  - {name: new, source: /models/new, family: one}\nrouter:"))
        port = live.url.rpartition(":")[2]
        done = coe("experts", "apply", "--config", str(config), COE_API_KEY=admin, COE_PORT=port)
        assert (done.returncode, done.stdout) == (0, "+ new\n"), done.stderr
        told("experts are placed anew: missing ('new',)")
        assert ask(live, "new").status_code == 200
