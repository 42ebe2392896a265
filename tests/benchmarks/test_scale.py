"""What the simulated cluster does with a load: the requests go to their experts' homes, and too many are told."""

from collections import Counter

import pytest

from benchmarks import scale
from benchmarks.scale import engines, trace
from benchmarks.traces import Job
from orchestrator.placement.model import Placement

FEW = 40


def test_a_trace_has_the_rate_that_was_asked_for() -> None:
    jobs = trace(50.0, 2.0, None, seed=1, experts=FEW)
    assert len(jobs) / jobs[-1].at == pytest.approx(50.0, rel=0.05)
    asked = Counter(job.expert for job in jobs)
    assert asked["e0000"] > 5 * asked["e0020"]


def test_every_request_goes_to_one_home_of_its_expert() -> None:
    placement = Placement({"a": ("w0", "w1"), "b": ("w2",)})
    jobs = [Job(float(k), "ab"[k % 2], 1, 1) for k in range(100)]
    shares = scale._shares(placement, jobs, seed=1)
    assert [job.at for job in shares["w2"]] == [float(k) for k in range(1, 100, 2)]
    assert shares["w0"]
    assert shares["w1"]
    assert sum(map(len, shares.values())) == 100


def test_a_load_beyond_the_engines_leaves_them_behind() -> None:
    few, many = (engines(1, rate, trace(rate, 0.2, None, 1, FEW), 1, FEW) for rate in (2.0, 100.0))
    assert few.busy < 0.5 < many.busy <= 1.0
    assert many.behind_s > few.behind_s
    assert many.wait_p99_s > few.wait_p99_s


def test_what_is_used_is_told_of_one_part_each() -> None:
    found = engines(1, 1.0, trace(2.0, 0.2, None, 1, FEW), 1, FEW)
    costs = {"gateway_ms_streamed": 4.0, "redis_ms_streamed": 0.5, "worker_ms_streamed": 8.0}
    costs |= {"decision_ms": 0.5, f"decision_ms_{scale.EXPERTS}": 1.5}
    shares = scale.used(100.0, 8, costs, found)
    assert shares["gateways"] == pytest.approx(100 * 0.005 / scale.GATEWAYS)
    assert shares["Redis"] == pytest.approx(0.05)
    assert shares["worker process"] == pytest.approx(0.1)
    assert shares["engines"] == found.busy
