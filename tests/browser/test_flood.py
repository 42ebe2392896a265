"""A thousand events a second: the page shows the last of them, loses none, and does what it is asked meanwhile."""

import json
import os
import re
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
from tests.browser.console import LONGEST_MS
from tests.orchestrator.parts import LIMITS, REGISTRY, Service
from tests.orchestrator.served import in_background
from workers.base import SwapEvent, WorkerStats

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
RATE = 1000
EVENTS = 10_000
"""At least; the flood goes on until the page was used."""
LOG = 512
"""Events that a worker keeps."""
NEW = 400
"""Events between two looks at most, however late a look is: with LOG, none is gone before it was seen."""
LEAST_RATE = 400
"""Events a second that come through, while the page is used."""
LONGEST_INPUT_MS = 500
"""From a press or a key to what is seen of it."""
REDRAWS = 12
"""A second, at most: ten, and of each a frame before its time."""
SPANS = ("30 s", "10 min", "2 min")
NAMES = tuple(spec.name for spec in REGISTRY if spec.family_name == "small")


@dataclass
class Flooding:
    """Workers whose log grows by RATE events a second from `begin` to `end`."""

    began: float | None = None
    ended: bool = False
    made: int = 0
    log: tuple[SwapEvent, ...] = field(default_factory=tuple)

    def begin(self) -> None:
        self.began = time.monotonic()

    def reach(self, events: int) -> None:
        while self.made < events:
            time.sleep(0.05)

    def end(self) -> int:
        """How many events there were, once no more come."""
        self.ended = True
        last = -1
        while last != self.made:  # a look may be under way
            last = self.made
            time.sleep(0.2)
        return last

    async def __call__(self) -> dict[str, WorkerStats | str]:
        if self.began is not None and not self.ended:
            due = int(RATE * (time.monotonic() - self.began))
            until = min(due, self.made + NEW)
            self.log = (*self.log, *map(self._event, range(self.made + 1, until + 1)))[-LOG:]
            self.made = max(self.made, until)
        active = NAMES[self.made % len(NAMES)]
        queued = {name: (self.made + place) % 9 for place, name in enumerate(NAMES)}
        tiers = dict.fromkeys(NAMES, "device")
        told = WorkerStats("small", tiers, active, self.made, queued_by_expert=queued, swaps=self.made, events=self.log)
        return {"small": told}

    def _event(self, number: int) -> SwapEvent:
        name = NAMES[number % len(NAMES)]
        return SwapEvent(number, time.time(), "swap", name, "host", "device", 512, 0.001, f"number {number}")


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
window.measured = {frames: 0, worst_frame_ms: 0, long_tasks_ms: 0, worst_input_ms: 0, redraws: 0};
let last = performance.now();
const frame = now => {
    measured.frames += 1;
    measured.worst_frame_ms = Math.max(measured.worst_frame_ms, now - last);
    last = now;
    requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
const watch = (type, see, more) => new PerformanceObserver(list => list.getEntries().forEach(see))
    .observe({type, ...more});
watch("longtask", each => { measured.long_tasks_ms += each.duration; });
watch("event", each => { measured.worst_input_ms = Math.max(measured.worst_input_ms, each.duration); },
    {durationThreshold: 16});
// Each time that more events are shown the number in the head of the page is another one.
let told = null;
new MutationObserver(() => {
    const now = document.querySelector(".page-head .grow")?.textContent;
    if (!now || now === told || !/ events/.test(now)) return;
    told = now;
    measured.redraws += 1;
    measured.first_ms ??= performance.now();
    measured.last_ms = performance.now();
}).observe(document.body, {subtree: true, childList: true, characterData: true});
"""


def test_a_thousand_events_a_second(flood: tuple[str, str, Flooding], visit: Open, artifacts: Path) -> None:
    url, key, workers = flood
    console = visit(url).sign_in(key).open("timeline")
    console.is_live()
    page = console.page
    console.value(MEASURE)
    workers.begin()
    began = time.monotonic()
    workers.reach(EVENTS // 2)

    # In the midst of it the page is used: whatever is pressed or written is answered.
    for span in 4 * SPANS:
        button = page.get_by_role("button", name=span, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
    console.open("chat")
    page.get_by_label("Your message").fill("still here")
    expect(page.get_by_label("Your message")).to_have_value("still here")
    console.open("timeline")
    workers.reach(EVENTS)
    log = page.get_by_role("region", name="Event log")
    expect(log.get_by_role("row")).to_have_count(101)
    made = workers.end()
    spent = time.monotonic() - began

    # It has shown all, the last one too, and has had one stream for them.
    expect(log.get_by_role("row").nth(1)).to_contain_text(re.compile(rf"number {made}$"), timeout=LONGEST_MS)
    expect(log.get_by_role("row")).to_have_count(101)
    head = page.get_by_text(re.compile(r"^[\d,]+ events"))
    expect(head).to_have_text(re.compile(r"^[\d,]+ events$"))  # else it says how many are lost, or that there is a gap
    assert int(head.inner_text().split()[0].replace(",", "")) >= made
    assert sum(address == f"{url}/v1/events" for address in console.asked) == 1

    measured = console.value("measured") | {"seconds": spent, "events": made, "cores": os.cpu_count()}
    (artifacts / "flood.json").write_text(json.dumps(measured, indent=2))
    page.screenshot(path=artifacts / "flood.png")
    # Wide bounds, so that a busy machine breaks none; the file has what it was.
    assert made / spent > LEAST_RATE
    assert measured["worst_input_ms"] < LONGEST_INPUT_MS
    assert 2 <= measured["redraws"] <= 2 + REDRAWS * (measured["last_ms"] - measured["first_ms"]) / 1000
