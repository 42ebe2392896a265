"""What `coe experts` and `coe experts --watch` draw."""

import io
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.experts import bars, plain, table, watch
from workers.base import SwapEvent


def event(at: float, kind: str, image: str, why: str = "") -> SwapEvent:
    return SwapEvent(0, at, kind, image, "device", "device", 0, 0.0, why)


def expert(
    name: str, tier: str | None = "device", *, family: str = "f", active: bool = False, queued: int = 0
) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "tier": tier,
        "state": "ready" if tier else "failed",
        "why": None if tier else "failed: no weights",
        "active": active,
        "queued": queued,
        "description": f"Expert {name}.",
    }


def swap(at: float, image: str, after: str | None = None, family: str = "f") -> dict[str, Any]:
    """As /v1/swaps gives it."""
    return {"family": family, **asdict(event(at, "swap", image, f"after {after}"))}


FAMILY = {
    "family": "f",
    "swaps": 4,
    "swap_seconds": 0.004,
    "swap_hits": 3,
    "loads": {"disk": 2},
    "oldest_wait": 1.5,
    "tier_bytes": {"device": 2**30, "host": 0},
}
REMOTE = {"family": "far", "swaps": 0, "swap_hits": 0, "loads": {}, "oldest_wait": 0.0, "tier_bytes": {}}
FOUND = {
    "data": [expert("a", active=True, queued=3), expert("bee", None), expert("gpt", "remote", family="far")],
    "families": {"f": FAMILY, "far": REMOTE, "gone": {"family": "gone", "why": "no answer"}},
}
EXPERTS = [expert("a", active=True), expert("b"), expert("c", "disk")]


def test_a_bar_has_a_character_for_each_part_of_the_window() -> None:
    events = [event(2.0, "swap", "b", "after a"), event(5.5, "swap", "a"), event(8.0, "swap", "b")]
    assert bars(events, EXPERTS, now=10.0, width=10, window=10.0) == {
        "a": "██···███··",
        "b": "··████··██",  # a part in which two had the turn shows both
        "c": "          ",
    }


def test_the_newest_part_is_the_last_at_any_width() -> None:
    events = [event(9.9, "swap", "b", "after a")]
    for width in (1, 3, 10, 77):
        drawn = bars(events, EXPERTS, now=10.0, width=width, window=10.0)
        assert (len(drawn["a"]), drawn["b"][-1]) == (width, "█")
    assert set(bars(events, EXPERTS, now=10.0, width=0).values()) == {""}


def test_the_only_expert_of_a_family_has_the_turn() -> None:
    assert bars([], [expert("a", active=True)], now=10.0, width=4) == {"a": "████"}


def test_an_image_that_was_given_up_is_not_drawn_any_more() -> None:
    events = [event(2.0, "swap", "a", "after None"), event(6.0, "evicted", "a")]
    assert bars(events, [expert("a", "disk")], now=10.0, width=10, window=10.0) == {"a": "··████    "}


def test_events_of_unknown_images_are_passed_over() -> None:
    assert bars([event(1.0, "swap", "gone")], [expert("a", "host")], now=2.0, width=2, window=2.0) == {"a": "  "}


def test_one_line_for_each_expert() -> None:
    assert plain(FOUND) == [
        "* a    device    Expert a.",
        "  bee  failed    failed: no weights",
        "  gpt  remote    Expert gpt.",
    ]


def test_the_table_has_tiers_queues_turns_and_counts() -> None:
    assert table(FOUND, {"data": [swap(70.0, "a")]}, now=100.0, width=37) == [
        "last 60 s: █ has the turn  · on the device",
        "  expert  tier    queue",
        "* a       device      3  ······██████",
        "  bee     failed",
        "  gpt     remote",
        "f: 4 swaps in 0.00 s, 75% of them to",
        "an image on the device; 2 loads;",
        "oldest wait 1.5 s; images: device 1.0",
        "GiB",
    ]


def test_names_are_whole_in_a_window_too_narrow_for_them() -> None:
    found = {"data": [expert("a-rather-long-name", active=True)], "families": {}}
    assert table(found, {"data": []}, now=0.0, width=10)[-1] == "* a-rather-long-name  device"


MANY = {
    "data": [expert(f"e{n:02}", active=n == 7, queued=n % 10) for n in range(20)],
    "families": {name: {**FAMILY, "family": name} for name in ("f", "g", "h")},
}


@pytest.mark.parametrize("height", [3, 4, 6, 10, 20, 24, 25])
def test_the_table_is_as_high_as_the_window_and_tells_what_is_left_out(height: int) -> None:
    lines = table(MANY, {"data": []}, now=100.0, width=150, height=height)
    shown = [line[2:5] for line in lines if "device  " in line]
    counts = [line for line in lines if " swaps in " in line]
    assert len(lines) == height
    if height == 25:
        assert (len(shown), len(counts)) == (20, 3)
        return
    hidden = [f"{20 - len(shown)} experts"] + [f"{3 - len(counts)} families' counts"] * (len(counts) < 3)
    assert lines[-1] == f"not shown: {', '.join(hidden)}; a taller window shows more"
    assert shown[:6] == ["e07", "e09", "e19", "e08", "e18", "e17"][: len(shown)]


class Service:
    """Answers the paths that `watch` asks for, so many rounds; then Ctrl-C."""

    def __init__(self, found: Mapping[str, Any], rounds: int) -> None:
        self._found, self._left = found, rounds

    def __call__(self, path: str) -> Mapping[str, Any]:
        if path == "/v1/swaps":
            return {"data": [swap(time.time() - 30, "e07")]}
        assert path == "/v1/experts"
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._found


def watched(console: Console, rounds: int = 3) -> str:
    assert isinstance(console.file, io.StringIO)
    with pytest.raises(KeyboardInterrupt):
        watch(Service(MANY, rounds), every=0.0, console=console)
    return console.file.getvalue()


def test_on_a_terminal_the_table_is_drawn_in_place() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=12, _environ={"TERM": "xterm"})
    text = watched(console)
    assert text.count("* e07") >= 3
    assert text.count("\x1b[1A") >= 2 * 11  # the cursor goes up to draw over the last round
    assert "not shown: 13 experts, 2 families' counts" in text
    assert "█" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_on_a_pipe_or_a_dumb_terminal_the_table_is_printed_whole_each_round(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, height=12, _environ={"TERM": "dumb"})
    text = watched(console)
    assert "\x1b" not in text
    assert [text.count(f" e{n:02} ") for n in range(20)] == [3] * 20
    assert "not shown" not in text


def test_the_table_tells_how_many_workers_a_family_has_and_is_to_have() -> None:
    def told(**own: int) -> str:
        found = {**FOUND, "families": {"f": {**FAMILY, **own}}}
        [line] = [line for line in table(found, {"data": []}, 10.0, 200) if line.startswith("f: ")]
        return line.split(";")[0]

    assert told(workers=2, workers_wanted=3) == "f: 2 of 3 workers"
    assert told(workers=2, workers_wanted=2) == told(workers=2, workers_wanted=0) == "f: 2 workers"
    assert "workers" not in told(workers=1, workers_wanted=1)
