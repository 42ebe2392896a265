"""How texts are written, as numbers."""

import numpy as np
import pytest

from routers.encoders.style import CHARACTERS, STYLE, style, styles

EXAM = "Which of these is a noble gas?\n(A) Neon\n(B) Iron\n(C) Zinc\n(D) Lead"
CODE = "def area(width, height):\n    return width * height  # in metres"


@pytest.mark.parametrize(
    "otherwise",
    [
        EXAM.upper(),
        EXAM.replace("\n", "  \n\t"),
        EXAM.replace("\n", "\u00a0"),
        f"\n {EXAM} ",
    ],
)
def test_case_and_white_space_do_not_count(otherwise: str) -> None:
    np.testing.assert_array_equal(style(otherwise), style(EXAM))


def test_typeset_quotes_and_dashes_are_those_of_a_typewriter() -> None:
    np.testing.assert_array_equal(style("it\u2019s \u201cso\u201d \u2013 no"), style('it\'s "so" - no'))


def test_options_are_counted_however_they_are_marked() -> None:
    marked = ["(A) tin (B) zinc", "A) tin B) zinc", "A. tin B. zinc", "a: tin b: zinc"]
    assert len({float(style(text)[-1]) for text in marked}) == 1
    assert style(marked[0])[-1] > style("tin zinc")[-1] == 0


def test_exams_and_code_differ_more_than_two_exams() -> None:
    other = "What does a barometer measure?\n(A) Heat\n(B) Pressure\n(C) Light\n(D) Mass"
    exam, same, code = styles([EXAM, other, CODE])
    assert np.linalg.norm(exam - same) < np.linalg.norm(exam - code) / 2


@pytest.mark.parametrize("odd", ["", " \n", "a\ud800b", "日本語", "\x00", "x" * 100_000])
def test_any_text_has_a_style(odd: str) -> None:
    values = style(odd)
    assert values.shape == (STYLE,)
    assert np.isfinite(values).all()


def test_only_the_head_of_a_long_text_counts() -> None:
    long = "all work and no play " * (CHARACTERS // 21 + 1)
    np.testing.assert_array_equal(style(long + "!?!"), style(long + "(A) 7"))


def test_no_texts_have_no_rows() -> None:
    assert styles([]).shape == (0, STYLE)
