"""A thousand events a second: the page shows the last of them, stays small, and does what it is asked meanwhile."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import expect

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.feed import Feed
from orchestrator.store import Store
from tests.browser.conftest import Open
from tests.orchestrator.parts import LIMITS, REGISTRY, Service
from tests.orchestrator.served import in_background
from workers.base import SwapEvent, WorkerStats

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
RATE = 1000
EVENTS = 10_000
NAMES = tuple(spec.name for spec in REGISTRY if spec.family_name == "small")


@dataclass
class Flooding:
    """Workers whose log grows by RATE events a second, up to EVENTS, once `began` is set."""

    began: float = 0.0
    events: list[SwapEvent] = field(default_factory=list)

    async def __call__(self) -> dict[str, WorkerStats | str]:
        if self.began:
            while len(self.events) < min(EVENTS, RATE * (time.monotonic() - self.began)):
                number = len(self.events)
                name, before = NAMES[number % len(NAMES)], NAMES[number % len(NAMES) - 1]
                self.events.append(
                    SwapEvent(number, time.time(), "swap", name, "host", "device", number, 0.001, f"after {before}")
                )
        active = NAMES[len(self.events) % len(NAMES)]
        queued = {name: (len(self.events) + place) % 9 for place, name in enumerate(NAMES)}
        tiers = dict.fromkeys(NAMES, "device")
        swaps = len(self.events)
        told = WorkerStats(
            "small", tiers, active, swaps, queued_by_expert=queued, swaps=swaps, events=tuple(self.events[-2000:])
        )
        return {"small": told}


@pytest.fixture
def flood(redis_server: EmbeddedRedis) -> Iterator[tuple[str, str, Flooding]]:
    """Address and key of a service, and its flood."""
    workers = Flooding()

    async def start() -> Service:
        feed = Feed(workers, look_s=0.02)
        return await Service.start(Store(redis_server.url, timeout=30), LIMITS, feed=feed, console=True)

    with in_background(start) as (url, service):
        yield url, service.key, workers


MEASURE = """
window.measured = {frames: 0, worst_ms: 0, tasks_ms: 0};
let last = performance.now();
const frame = now => {
    measured.frames += 1;
    measured.worst_ms = Math.max(measured.worst_ms, now - last);
    last = now;
    requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
new PerformanceObserver(list => { for (const each of list.getEntries()) measured.tasks_ms += each.duration; })
    .observe({entryTypes: ["longtask"]});
"""


def test_a_thousand_events_a_second(flood: tuple[str, str, Flooding], visit: Open, artifacts: Path) -> None:
    url, key, workers = flood
    console = visit(url).sign_in(key).open("timeline")
    console.is_live()
    page = console.page
    console.value(MEASURE)
    workers.began = time.monotonic()
    while len(workers.events) < EVENTS // 2:
        time.sleep(0.05)
    # In the midst of it, the page is used.
    console.open("chat")
    page.get_by_label("Your message").fill("still here")
    assert page.get_by_label("Your message").input_value() == "still here"
    assert len(workers.events) < EVENTS, "the flood was over before the page was used"
    console.open("timeline")
    page.get_by_role("button", name="30 s").click()
    expect(page.get_by_role("button", name="30 s")).to_have_attribute("aria-pressed", "true")
    while len(workers.events) < EVENTS:
        time.sleep(0.05)
    spent = time.monotonic() - workers.began
    log = page.get_by_role("region", name="Event log")
    last = log.get_by_role("row").nth(1)
    expect(last).to_contain_text(f"{(EVENTS - 1) / 1024:.1f} KiB")
    expect(log.get_by_role("row")).to_have_count(101)
    seen = int(page.get_by_text("events").first.inner_text().split()[0].replace(",", ""))
    assert seen >= EVENTS, "an event was lost"
    measured = console.value("measured") | {"seconds": spent, "events": EVENTS, "cores": os.cpu_count()}
    measured["frames_a_second"] = measured["frames"] / spent
    (artifacts / "flood.json").write_text(json.dumps(measured, indent=2))
    page.screenshot(path=artifacts / "flood.png")
