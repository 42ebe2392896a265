"""Who is a stranger to whom, and that both kinds of errors are counted."""

import numpy as np
import pytest

from benchmarks.out_of_distribution import RULES, SUBJECTS, Part, domains, pairs, summary
from routers.encoders.hashed import HashEncoder
from routers.encoders.style import styles

FRAMES = {
    "mbpp": "Write a python function that sorts {} by {}.",
    "professional_law": "May the court hear {} in the appeal of {}?\n(A) Yes\n(B) No",
    "commongen": "{}, {}, walk, dog",
}
THINGS = "copper silver marble rubber cotton leather bronze nickel timber velvet".split()


def part(*categories: str) -> Part:
    """100 prompts of each category."""
    rows = [(FRAMES[c].format(a, b), c) for c in categories for a in THINGS for b in THINGS]
    prompts = [prompt for prompt, _ in rows]
    return Part(HashEncoder().encode(prompts), styles(prompts), np.array([category for _, category in rows]))


@pytest.mark.parametrize(
    ("category", "domain"),
    [
        ("professional_law", "law"),
        ("business_ethics", "business"),
        ("computer_security", "science"),
        ("high_school_european_history", "humanities"),
        ("human_eval", "code"),
        ("agentverse-mgsm", "mathematics"),
        ("cooking", "cooking"),
    ],
)
def test_a_category_has_a_domain_or_is_one(category: str, domain: str) -> None:
    assert domains(category) == {domain}


def test_a_category_of_all_subjects_makes_each_of_them_known() -> None:
    assert domains("mmlu") == set(SUBJECTS)


def test_strangers_share_no_domain_with_what_is_known() -> None:
    sets = {"exams": part("professional_law", "commongen"), "code": part("mbpp")}
    found = list(pairs(sets, sets))
    assert [(pair.how, pair.known, pair.strangers) for pair in found] == [
        ("set", "exams", "code: code"),
        ("without", "exams without law", "exams: law"),
        ("without", "exams without word lists", "exams: word lists"),
        ("only", "exams: law", "exams: word lists"),
        ("only", "exams: law", "code: code"),
        ("only", "exams: word lists", "exams: law"),
        ("only", "exams: word lists", "code: code"),
        ("set", "code", "exams: law"),
        ("set", "code", "exams: word lists"),
    ]
    assert all(pair.recall["router"] == 1 for pair in found)
    assert all(pair.false_fallback["router"] <= 0.05 for pair in found)
    assert all(set(pair.recall) == set(RULES) for pair in found)
    # Entropy says nothing where one category is known.
    assert all(pair.recall["entropy"] == 0 for pair in found if pair.how == "only")
    means = summary(found)
    assert list(means) == ["set", "without", "only"]
    assert means["set"]["pairs_over_90"]["router"] == 1
