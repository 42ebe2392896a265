"""What users say moves a profile, within bounds, and not past the golden set."""

import pytest

from experts.profile import Judged, Profile, measure
from experts.profile_feedback import HALF_LIFE_S, Judgement, freeze, opinions, update

NOW = 1e9


def rows(expert: str, category: str, right: int, of: int) -> list[Judged]:
    return [Judged(f"{category}{n}", expert, float(n < right), category) for n in range(of)]


def golden(expert: str, category: str, right: int, of: int) -> list[Judged]:
    return [Judged(f"g{category}{n}", expert, float(n < right), category, golden=True) for n in range(of)]


GOLDEN = [*golden("ada", "sql", 38, 40), *golden("bob", "sql", 10, 40)]


def profile(*, frozen: list[Judged] = GOLDEN) -> Profile:
    """ada is a little better in sql, and on the golden set far better."""
    experts = {
        "ada": measure([*rows("ada", "sql", 16, 20), *rows("ada", "math", 2, 20)], None, None),
        "bob": measure([*rows("bob", "sql", 15, 20), *rows("bob", "math", 18, 20)], None, None),
    }
    made = Profile(labels="gold", questions=40, concurrent=1, experts=experts)
    return made.model_copy(update={"golden": freeze(made.quality(), frozen)})


def said(expert: str, category: str, score: float, count: int = 1, at: float = NOW) -> list[Judgement]:
    return [Judgement(expert, category, score, at)] * count


def test_an_update_moves_the_quality_of_what_was_judged_only() -> None:
    before = profile()
    found = update(before, said("bob", "math", 0.0, 3), GOLDEN, NOW)
    assert found.profile is not None
    assert found.why == (
        "taken: golden score 0.950 as measured, 0.950 with the feedback, not below the interval that starts at 0.835"
    )
    old, new = before.quality(), found.profile.quality()
    assert (old["math"]["bob"][0], new["math"]["bob"][0]) == (0.9, 0.8)  # 18 of 23 would be a larger step
    assert new["sql"] == old["sql"]
    assert new["math"]["ada"] == old["math"]["ada"]
    assert found.profile.quality(feedback=False) == old


def test_an_update_that_lowers_the_golden_score_is_refused() -> None:
    found = update(profile(), [*said("bob", "sql", 1.0, 50), *said("ada", "sql", 0.0, 50)], GOLDEN, NOW)
    assert found.profile is None
    assert found.why == (
        "refused: golden score 0.950 as measured, 0.250 with the feedback, below the interval that starts at 0.835"
    )
    assert (found.used, found.unused) == (100, 0)


def test_the_same_change_is_taken_where_the_golden_set_allows_it() -> None:
    allowed = [*golden("ada", "sql", 30, 40), *golden("bob", "sql", 29, 40)]
    word = [*said("bob", "sql", 1.0, 50), *said("ada", "sql", 0.0, 50)]
    found = update(profile(frozen=allowed), word, allowed, NOW)
    assert found.profile is not None
    quality = found.profile.quality()["sql"]
    assert quality["bob"][0] > quality["ada"][0]


def test_an_update_applied_twice_is_applied_once() -> None:
    word = said("bob", "math", 0.0, 3)
    once = update(profile(), word, GOLDEN, NOW).profile
    assert once is not None
    assert update(once, word, GOLDEN, NOW).profile == once


def test_small_steps_do_not_creep_past_the_golden_set() -> None:
    current = profile()
    for count in range(1, 60):
        word = [*said("bob", "sql", 1.0, count), *said("ada", "sql", 0.0, count)]
        current = update(current, word, GOLDEN, NOW).profile or current
    quality = current.quality()["sql"]
    assert quality["ada"][0] >= quality["bob"][0]


def test_judgements_fade() -> None:
    found, used = opinions(profile(), [*said("ada", "sql", 1.0), *said("ada", "sql", 0.0, at=NOW - HALF_LIFE_S)], NOW)
    assert used == 2
    opinion = found["ada", "sql"]
    assert (opinion.n, opinion.mean) == pytest.approx((1.5, 2 / 3))


def test_what_was_not_measured_is_told() -> None:
    word = [*said("eve", "sql", 1.0), *said("ada", "cooking", 1.0), Judgement(None, "sql", 1.0, NOW)]
    found = update(profile(), word, GOLDEN, NOW)
    assert (found.used, found.unused) == (0, 3)


def test_feedback_that_has_expired_is_forgotten() -> None:
    once = update(profile(), said("bob", "math", 0.0, 3), GOLDEN, NOW).profile
    assert once is not None
    assert update(once, [], GOLDEN, NOW).profile == profile()


def test_a_profile_without_categories_takes_every_word() -> None:
    made = Profile(
        labels="gold", questions=20, concurrent=1, experts={"ada": measure(rows("ada", "all", 10, 20), None, None)}
    )
    found, used = opinions(made, said("ada", "sql", 1.0), NOW)
    assert (list(found), used) == ([("ada", "all")], 1)


@pytest.mark.parametrize(
    ("frozen", "given", "message"),
    [
        ([], GOLDEN, "no golden set to check an update with"),
        (GOLDEN, GOLDEN[:-1], "not the one that the profile was made with"),
        (GOLDEN, [*GOLDEN[:-1], Judged("gsql39", "bob", 1.0, "sql", golden=True)], "not the one"),
    ],
)
def test_an_update_needs_the_golden_set_of_the_profile(frozen: list[Judged], given: list[Judged], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        update(profile(frozen=frozen), [], given, NOW)
