"""The peer of the engine's benchmark is a policy that the engine can drive."""

import re
from pathlib import Path

from benchmarks.first_come import FcfsLru
from workers.swap_policy import SwapPolicy, SwapSettings


def test_it_has_all_that_the_engine_asks_of_a_policy() -> None:
    used = set(
        re.findall(
            r"self\._policy\.(\w+)",
            (Path(__file__).parents[2] / "workers/vllm_internals.py").read_text(encoding="utf-8"),
        )
    )
    assert {"decide", "arrive", "place"} <= used
    for policy in (FcfsLru, SwapPolicy):
        assert {name for name in used if not hasattr(policy, name)} == set()


def test_requests_are_served_in_their_order_and_the_image_used_longest_ago_goes() -> None:
    policy = FcfsLru(SwapSettings(), capacity=2)
    for expert, tier in (("a", "device"), ("b", "device"), ("c", "disk")):
        policy.place(expert, tier, 1)  # type: ignore[arg-type]
    for number, expert in enumerate("bca"):
        policy.arrive(str(number), expert, 0.0)
    assert policy.decide(0.0).expert == "b"
    policy.finish("0")
    decision = policy.decide(0.0)
    assert (decision.expert, decision.evict) == ("c", ("a",))
    policy.finish("1")
    policy.finish("no such")
    policy.resize({"a": 1}, 1)  # room for one image is left
    policy.place("a", "disk", 1)
    policy.place("c", "device", 1)
    assert policy.decide(0.0).evict == ("b", "c")
    policy.forget("b")
    assert policy.decide(0.0).evict == ("c",)
