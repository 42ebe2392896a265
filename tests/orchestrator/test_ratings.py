"""From what users said of answers to a labelled file."""

from typing import Any

from orchestrator.ratings import labelled_rows


def rating(number: int, score: float, **fields: Any) -> dict[str, Any]:
    row = {"id": f"req-{number}", "at": float(number), "score": score, "expert": "a", "category": "c", "prompt": "p"}
    return row | fields


def test_a_prompt_that_was_rated_twice_has_the_mean_for_each_expert() -> None:
    ratings = [rating(1, 1.0), rating(2, 0.5, expert="b"), rating(3, 0.0, category="d"), rating(4, 1.0, prompt="q")]
    found = labelled_rows(ratings, {})
    assert [(row["prompt"], row["expert"], row["score"], row["category"]) for row in found.rows] == [
        ("p", "a", 0.5, "d"),
        ("p", "b", 0.5, "d"),
        ("q", "a", 1.0, "c"),
    ]
    ids = [row["prompt_id"] for row in found.rows]
    assert ids[0] == ids[1] != ids[2]
    assert (found.without_prompt, found.without_expert) == (0, 0)


def test_what_cannot_be_learned_from_is_left_out_and_counted() -> None:
    ratings = [rating(1, 1.0, prompt=None), rating(2, 1.0, prompt=" "), rating(3, 1.0, expert=None), rating(4, 1.0)]
    found = labelled_rows(ratings, {})
    assert (len(found.rows), found.without_prompt, found.without_expert) == (1, 2, 1)


def test_prompts_of_ones_own_log_stand_in_for_those_that_are_not_kept() -> None:
    found = labelled_rows([rating(1, 1.0, prompt=None), rating(2, 0.0)], {"req-1": "mine", "req-2": "not this one"})
    assert [row["prompt"] for row in found.rows] == ["mine", "p"]


def test_a_category_that_one_has_not_is_left_out_of_all() -> None:
    found = labelled_rows([rating(1, 1.0), rating(2, 1.0, prompt="q", category=None)], {})
    assert ["category" in row for row in found.rows] == [False, False]
    assert found.without_category == 1
