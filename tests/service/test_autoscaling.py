"""Workers that come for a load and go with it: real Ray and Serve, `coe serve` with workers of its own, fake engines
that answer two calls at a time."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.live import Live, service
from tests.service.commands import coe
from tests.service.ray_parts import ask

pytestmark = pytest.mark.service

CONFIG = """
experts:
  - {name: asked, source: /models/asked, family: one}
  - {name: other, source: /models/other, family: one}
router: {kind: fixed, fallback: asked}
families:
  one:
    num_cpus: 0.1
    max_num_seqs: 2
    engine_args: {fake_slots: 2, fake_token_delay: 0.1}
    autoscaling: {max_replicas: 2, queue_s: 1, upscale_delay_s: 2, downscale_delay_s: 4, look_back_period_s: 5}
"""


class Callers:
    """So many ask all the time; codes: of what they got."""

    def __init__(self, live: Live, at_once: int, stream: bool = False) -> None:
        self._live, self._over, self._stream = live, threading.Event(), stream
        self.codes: Counter[int] = Counter()
        self._pool = ThreadPoolExecutor(at_once)
        self._found = [self._pool.submit(self._ask) for _ in range(at_once)]

    def _ask(self) -> None:
        while not self._over.is_set():
            answer = ask(self._live, "asked", stream=self._stream)
            whole = not self._stream or answer.text.rstrip().endswith("[DONE]")
            self.codes[answer.status_code if whole else 0] += 1

    def end(self) -> None:
        self._over.set()
        for one in self._found:
            one.result()
        self._pool.shutdown()


@contextmanager
def callers(live: Live, at_once: int, stream: bool = False) -> Iterator[Callers]:
    own = Callers(live, at_once, stream)
    try:
        yield own
    finally:
        own.end()


def family(live: Live) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {live.key}"}
    told = httpx.get(f"{live.url}/v1/experts", headers=headers, timeout=60, trust_env=False).json()
    found: dict[str, Any] = told["families"]["one"]
    return found


def until(live: Live, done: Callable[[dict[str, Any]], bool], what: str, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not done(told := family(live)):
        assert time.monotonic() < deadline, f"{what}: {told}"
        time.sleep(0.2)


def metric(live: Live, name: str) -> float | None:
    text = httpx.get(f"{live.url}/metrics", timeout=60, trust_env=False).text
    found = re.search(rf'^{name}{{family="one"}} (\S+)$', text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_a_second_worker_comes_for_a_load_and_goes_with_it_and_no_request_fails(tmp_path: Path) -> None:
    config = tmp_path / "coe.yaml"
    config.write_text(CONFIG)
    with service(tmp_path, ["--fake", "--config", str(config)], within=120) as live:
        until(live, lambda told: told["workers_wanted"] == 1, "Serve says how many it wants")
        with callers(live, 1, stream=True) as steady:
            time.sleep(3)  # one caller alone has nobody to wait for
            assert family(live)["workers"] == 1
            with callers(live, 14) as load:
                until(live, lambda told: told["workers"] == 2, "a second worker has come")
                # Seconds of computing are more than those that pass: no one engine does that, so both have calls.
                one, began = family(live)["busy_seconds"], time.monotonic()
                until(live, lambda told: told["busy_seconds"] - one > time.monotonic() - began + 3, "both compute")
                assert (metric(live, "coe_workers"), metric(live, "coe_workers_wanted")) == (2, 2)
            answered = steady.codes.total()
            until(live, lambda told: told["workers"] == told["workers_wanted"] == 1, "it has gone again")
            before = steady.codes.total()
            until(live, lambda told: steady.codes.total() >= before + 5, "the one that is left answers")
            assert steady.codes.total() > answered
            assert family(live)["workers"] == 1

            # Other bounds, while all runs: the worker that is there goes on.
            config.write_text(CONFIG.replace("autoscaling: {", "autoscaling: {min_replicas: 2, "))
            admin = coe("keys", "create", "admin", "--admin", COE_HOME=str(tmp_path)).stdout.split()[0]
            port = live.url.rpartition(":")[2]
            done = coe("experts", "apply", "--config", str(config), COE_API_KEY=admin, COE_PORT=port)
            assert done.returncode == 0, done.stderr
            assert "families.one.autoscaling" in done.stdout
            kept = family(live)["busy_seconds"]
            until(live, lambda told: told["workers"] == 2, "the least is two now")
            assert family(live)["busy_seconds"] >= kept
        assert {*steady.codes} == {*load.codes} == {200}, (steady.codes, load.codes)
