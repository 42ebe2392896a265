"""What a key may do, as people write it."""

import pytest

from orchestrator.access.grant import (
    EVERYTHING,
    Grant,
    checked_limit,
    duration,
    expiry,
    parse_limit,
    strangers,
    with_limits,
)

NOW = 1_800_000_000.0


def test_without_scopes_everything_is_allowed_but_managing_keys() -> None:
    assert EVERYTHING.may_ask("sql")
    assert EVERYTHING.may_use("ensemble/pair")
    assert not EVERYTHING.admin


def test_scopes_name_what_is_allowed() -> None:
    grant = Grant(experts=("sql",), ensembles=())
    assert (grant.may_ask("sql"), grant.may_ask("math"), grant.may_use("ensemble/pair")) == (True, False, False)


def test_a_keys_own_limits_come_before_the_services() -> None:
    defaults = {"requests_per_minute": 60, "tokens_per_day": 1000, "usd_per_day": None}
    own = Grant(limits={"requests_per_minute": 5, "tokens_per_day": None, "concurrent": 2})
    assert own.caps(defaults) == {"requests_per_minute": 5, "concurrent": 2}
    assert EVERYTHING.caps(defaults) == {"requests_per_minute": 60, "tokens_per_day": 1000}


def test_a_requests_own_priority_orders_within_the_class_of_its_key() -> None:
    interactive, normal, batch = (Grant(priority=name) for name in ("interactive", "normal", "batch"))
    assert normal.band(0) == 0
    assert interactive.band(1000) < normal.band(-1000)
    assert normal.band(1000) < batch.band(-1000)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("tokens_per_day=1000", ("tokens_per_day", 1000.0)),
        ("usd-per-day = 2.5", ("usd_per_day", 2.5)),
        ("concurrent=none", ("concurrent", None)),
        ("requests_per_minute=default", ("requests_per_minute", "default")),
        ("tokens_per_minute=10_000", ("tokens_per_minute", 10000.0)),
    ],
)
def test_a_limit_is_written_with_an_equals_sign(text: str, limit: tuple[str, object]) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tokens_per_day", "allowed: NAME=NUMBER"),
        ("token_per_day=1", "did you mean 'tokens_per_day'"),
        ("tokens_per_day=many", "allowed: a whole number from 0"),
        ("tokens_per_day=1.5", "allowed: a whole number from 0"),
        ("usd_per_day=-1", "allowed: a number from 0"),
        ("usd_per_day=inf", "allowed: a number from 0"),
    ],
)
def test_a_wrong_limit_is_told_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_limit(text)


def test_a_limit_may_be_whole_or_money() -> None:
    assert checked_limit("usd_per_minute", 0.01) == 0.01
    with pytest.raises(ValueError, match="whole"):
        checked_limit("concurrent", 0.5)


def test_changes_of_limits_take_their_place_or_go() -> None:
    limits = {"concurrent": 2.0, "tokens_per_day": 10.0}
    assert with_limits(limits, {"concurrent": "default", "usd_per_day": None}) == {
        "tokens_per_day": 10.0,
        "usd_per_day": None,
    }


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86400), ("1.5d", 129600), ("2w", 1209600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    assert expiry(text, NOW) == NOW + seconds


@pytest.mark.parametrize("text", ["", "h", "24", "24 hours", "-1h", "1y"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="24h"):
        duration(text)


def test_an_end_may_be_a_date_or_never() -> None:
    assert expiry("never", NOW) is None
    assert expiry("2030-01-31", NOW) == 1896048000.0
    assert expiry("2030-01-31T00:00:00+01:00", NOW) == 1896048000.0 - 3600
    with pytest.raises(ValueError, match="is over"):
        expiry("2020-01-31", NOW)
    with pytest.raises(ValueError, match="allowed: never, a duration"):
        expiry("soon", NOW)


def test_names_that_nothing_has_are_told() -> None:
    grant = Grant(experts=("sql", "maths"), ensembles=("ensemble/pear",))
    assert strangers(grant, ["sql", "math"], ["ensemble/pair"]) == [
        "no expert is named 'maths'; did you mean 'math'?",
        "no ensemble is named 'ensemble/pear'; did you mean 'ensemble/pair'?",
    ]
