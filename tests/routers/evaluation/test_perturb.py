"""Ways to write a prompt otherwise."""

import re

import pytest

from routers.ask import ask
from routers.evaluation.perturb import PERTURBATIONS, perturbed

TEXT = "What is the area of a circle? Its radius isn't known. Answer with a formula, please."
ODD = ["", " ", "a", "\ud800", "日本語", "ſtrange iſ", "x" * 2000, "\n\n"]


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_text_is_always_changed_in_the_same_way(name: str) -> None:
    alone = perturbed([TEXT], name)
    assert perturbed(["other", TEXT], name)[1:] == alone
    assert alone != [TEXT]
    assert PERTURBATIONS[name].__doc__


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_any_text_can_be_changed(name: str) -> None:
    assert len(perturbed(ODD, name)) == len(ODD)


def test_another_seed_gives_other_typos() -> None:
    assert perturbed([TEXT], "typos", seed=1) != perturbed([TEXT], "typos", seed=2)


def test_typos_are_in_a_share_of_the_longer_words_and_never_in_a_first_letter() -> None:
    text = f"{TEXT} " * 50
    words = list(zip(re.findall(r"\w+", text), re.findall(r"\w+", perturbed([text], "typos")[0]), strict=True))
    assert all(old[0] == new[0] for old, new in words)
    assert all(old == new for old, new in words if len(old) < 4)
    long = [old != new for old, new in words if len(old) >= 4]
    assert 0.1 < sum(long) / len(long) < 0.2


def test_case_and_spacing_keep_the_letters() -> None:
    assert perturbed([TEXT], "case")[0].lower() == TEXT.lower()
    assert re.sub(r"[\s\u200b]", "", perturbed([TEXT], "spacing")[0]) == TEXT.replace(" ", "")


def test_order_keeps_the_sentences_and_one_alone_has_no_other() -> None:
    assert sorted(perturbed([TEXT], "order")[0].split()) == sorted(TEXT.split())
    assert perturbed(["One sentence."], "order") == ["One sentence."]


def test_language_keeps_the_words_of_the_matter() -> None:
    german_or_spanish = perturbed([TEXT], "language")[0]
    assert "area" in german_or_spanish
    assert re.search(r"was ist|qué es", german_or_spanish)


@pytest.mark.parametrize("name", ["agent", "retrieved"])
def test_the_ask_is_found_again(name: str) -> None:
    assert ask([{"role": "user", "content": perturbed([TEXT], name)[0]}]).strip() == TEXT


def test_a_quoted_ask_is_found_again() -> None:
    assert TEXT in ask([{"role": "user", "content": perturbed([TEXT], "mail")[0]}])


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        perturbed([TEXT], "nothing")
