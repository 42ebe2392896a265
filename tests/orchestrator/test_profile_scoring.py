"""The scoring methods of `coe profile`."""

import random
import re
from pathlib import Path

import pytest

from experts.domains import NAMES, domain
from orchestrator.profile.scoring import DOMAIN, METHODS, UnknownMethod, method

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"


@pytest.mark.parametrize(
    ("name", "gold", "right", "wrong"),
    [
        (
            "exact",
            "Paris",
            ["paris", "The answer is **Paris**.", "<think>Rome?</think>Paris"],
            ["Rome", "Paris, Texas", ""],
        ),
        ("exact", "1,000", ["1000", "#### 1000.0"], ["100", "1000 km"]),
        ("exact", "a " * 20, ["A  " * 20], ["a " * 19]),
        (
            "choice",
            "B",
            ["B", "(B) Paris", "The answer is B.", "B. Paris", "b"],
            ["A", "A. B", "I think so", "B or C", ""],
        ),
        (
            "number",
            "$1,200",
            ["1200", "The answer is 1200 dollars.", "3 * 400 makes 1200"],
            ["1200.5", "12", "many", ""],
        ),
        ("number", "-0.5", ["-.5", "x = −0.50"], ["0.5"]),
        ("contains", "New York", ["It is NEW\n york, I think"], ["York", ""]),
        ("regex", r"^\d{4}-\d\d$", ["2024-05"], ["in 2024-05", ""]),
        (
            "json",
            '{"a": 1, "b": [2]}',
            ['{"b":[2.0],"a":1}', '```json\n{"a": 1, "b": [2]}\n```'],
            ['{"a": 1}', "a", ""],
        ),
    ],
)
def test_what_is_right(name: str, gold: str, right: list[str], wrong: list[str]) -> None:
    found = method(name)
    assert found.gold_problem(gold, {}) is None
    assert [found.right(answer, gold, {}) for answer in right] == [True] * len(right)
    assert [found.right(answer, gold, {}) for answer in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(
    ("name", "gold", "problem"),
    [
        ("choice", "Paris", "must be a letter from A to J"),
        ("number", "many", "must be a number"),
        ("contains", " ", "must not be empty"),
        ("regex", "(", "is no regular expression: missing )"),
        ("json", "3", "must be a JSON object or array"),
        ("domain:sql", "SELECT 1", "cannot be scored by domain:sql; 'check' lacks 'create'"),
    ],
)
def test_gold_that_is_of_no_use(name: str, gold: str, problem: str) -> None:
    found = method(name).gold_problem(gold, {})
    assert found is not None
    assert found.startswith(problem)


def test_the_docs_list_the_methods() -> None:
    table = DOCS.read_text().split("| method | an answer is right if |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == list(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_scores_as_it_does_itself(name: str) -> None:
    found = method(DOMAIN + name)
    for question in domain(name).held_out(random.Random(1), 5):
        assert found.gold_problem(question.answer, question.check) is None
        for answer in (question.answer, "no idea", ""):
            assert found.right(answer, question.answer, question.check) == domain(name).score(question, answer)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].states_gold])
def test_where_gold_is_stated_equal_means_right(name: str) -> None:
    found = METHODS[name]
    for gold in ("B", "(C)", "1,000.0", '{"a": 1}', "Paris"):
        for answer in ("The answer is B.", "C", "1000", '{"a":1.0}', "paris.", "", "x y " * 30):
            if found.gold_problem(gold, {}) is None:
                assert found.right(answer, gold, {}) == (found.value(answer) == found.value(gold))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exakt", "did you mean 'exact'"),
        ("domain:sqll", "did you mean 'domain:sql'"),
        ("x" * 999, "allowed are 'exact', "),
    ],
)
def test_a_method_that_there_is_not(name: str, told: str) -> None:
    with pytest.raises(UnknownMethod) as caught:
        method(name)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500
