"""The picture of the engine's turns that `coe experts --watch` draws."""

from typing import Any

from rich.console import Console

from orchestrator.console_experts import plain, table, timeline


def event(at: float, kind: str, image: str, **more: Any) -> dict[str, Any]:
    return {"family": "f", "at": at, "kind": kind, "image": image, **more}


TIERS = {"a": "device", "b": "device", "c": "disk"}


def test_an_expert_computes_from_its_swap_to_the_next_one() -> None:
    events = [event(2.0, "swap", "b"), event(5.0, "swap", "a"), event(8.0, "swap", "b")]
    assert timeline(events, TIERS, now=10.0, width=10, window=10.0) == {
        "a": "·····████·",  # a part in which two computed shows both
        "b": "··████··██",
        "c": "          ",
    }


def test_loads_and_evictions_show_where_an_image_was() -> None:
    events = [event(3.0, "evicted", "c"), event(4.0, "loaded", "b"), event(6.0, "swap", "b")]
    drawn = timeline(events, {"a": "device", "b": "device", "c": "disk"}, now=10.0, width=10, window=10.0)
    assert drawn["b"] == "    ··████"
    assert drawn["a"] == "·" * 10


def test_what_happened_before_the_window_counts_from_its_edge() -> None:
    events = [event(-50.0, "swap", "a")]
    assert timeline(events, TIERS, now=10.0, width=5, window=10.0)["a"] == "█████"


def test_events_of_unknown_images_are_passed_over() -> None:
    assert timeline([event(1.0, "swap", "gone")], {"a": "host"}, now=2.0, width=2, window=2.0) == {"a": "  "}


FOUND = {
    "data": [
        {
            "name": name,
            "family": "f",
            "tier": tier,
            "state": state,
            "why": why,
            "active": name == "a",
            "queued": queued,
            "description": f"Expert {name}.",
        }
        for name, tier, state, why, queued in [
            ("a", "device", "ready", None, 3),
            ("bee", None, "failed", "failed: no weights", 0),
        ]
    ],
    "families": {
        "f": {
            "family": "f",
            "swaps": 4,
            "swap_seconds": 0.004,
            "swap_hits": 3,
            "loads": {"disk": 2},
            "oldest_wait": 1.5,
            "tier_bytes": {"device": 2**30, "host": 0},
        },
        "gone": {"family": "gone", "why": "no answer"},
    },
}


def test_one_line_for_each_expert() -> None:
    assert plain(FOUND) == ["* a    device    Expert a.", "  bee  failed    failed: no weights"]


def test_the_table_has_tiers_queues_turns_and_counts() -> None:
    console = Console(width=140, force_terminal=False)
    with console.capture() as captured:
        console.print(table(FOUND, {"data": [event(70.0, "swap", "a")]}, now=100.0, width=12))
    text = captured.get()
    assert "a       device      3  ······██████" in text
    assert "bee     failed" in text
    assert (
        "4 swaps in 0.00 s, 75% of them to an image on the device; 2 loads; oldest wait 1.5 s; images: device 1.0"
        in text
    )
