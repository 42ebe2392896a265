"""Who judges and writes, by what was measured of it."""

from experts.profile import Share, share
from experts.profile_aggregation import best_aggregator


def found(right: int, tasks: int) -> Share:
    return share([1.0] * right + [0.0] * (tasks - right))


SCORES = {
    "law": {"ada": found(30, 40), "bob": found(20, 40), "cyd": found(3, 3)},
    "math": {"ada": found(10, 40), "bob": found(36, 40)},
}


def test_the_best_of_the_category_is_chosen() -> None:
    assert best_aggregator(SCORES, "law", ["bob", "ada"]) == "ada"
    assert best_aggregator(SCORES, "math", ["ada", "bob"]) == "bob"


def test_three_tasks_prove_little() -> None:
    assert best_aggregator(SCORES, "law", ["cyd", "ada"]) == "ada"


def test_an_unknown_category_goes_by_all_of_them() -> None:
    for category in (None, "poetry"):
        assert best_aggregator(SCORES, category, ["ada", "bob"]) == "bob"


def test_who_was_never_measured_is_as_good_as_the_others_are_on_the_whole() -> None:
    assert best_aggregator(SCORES, "math", ["dan", "ada"]) == "dan"
    assert best_aggregator(SCORES, "math", ["dan", "bob"]) == "bob"


def test_without_measurements_the_first_candidate_is_chosen() -> None:
    assert best_aggregator({}, "law", ["bob", "ada"]) == "bob"
    assert best_aggregator({}, None, ["ada", "bob"]) == "ada"
