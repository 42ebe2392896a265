"""How the time of a request is shared between its drafts and what comes after them."""

import time

import pytest

from aggregators.stages import by


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)


@pytest.mark.parametrize(("stages", "expected"), [(0, 1100.0), (1, 1075.0), (2, 1060.0), (3, 1050.0)])
def test_a_share_of_the_time_is_kept_for_each_stage(stages: int, expected: float) -> None:
    assert by(1100.0, stages, None) == pytest.approx(expected)


@pytest.mark.parametrize(("reserve", "expected"), [(10.0, 1080.0), (25.0, 1050.0), (90.0, 1050.0), (0.0, 1100.0)])
def test_a_reserve_in_seconds_takes_up_to_half_of_the_time(reserve: float, expected: float) -> None:
    assert by(1100.0, 2, reserve) == pytest.approx(expected)


def test_without_a_deadline_nothing_is_kept_and_after_it_nothing_is_left() -> None:
    assert by(float("inf"), 2, None) == float("inf")
    assert by(900.0, 2, None) == 900.0
