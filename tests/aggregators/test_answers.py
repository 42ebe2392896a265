"""What counts as the same answer."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregators.answers import extract

PATIENT = settings(deadline=None, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
# Where a fence or the notes of a model end is looked for in the text, not in what it means: not inside of strings.
STRING = st.text(max_size=8).filter(lambda text: "```" not in text and "</think>" not in text)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | STRING,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRING, inner, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict | list))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # Choices
        ("B", "B"),
        ("b.", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("(b) Paris", "B"),
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: **B** because it rains.", "B"),
        ("I thought about it.\nThe correct answer is C. It follows from the second line.", "C"),
        ("The answer is A, I think.", "A"),
        ("The answer is A\nB is wrong", "A"),
        ("The answer is B. To be exact, the answer is (B).", "B"),
        ("<think>The answer is A. No,</think>\nThe answer is B.", "B"),
        ("The template put the opening tag before.</think></think>(C)", "C"),
        ("J", "J"),
        ("K", "k"),
        # What looks like a choice and is none
        ("C. elegans", "c. elegans"),
        ("The answer is C. elegans", "c. elegans"),
        ("The answer is A dog", "a dog"),
        # Numbers
        ("1,000", "1000"),
        ("$1,000.50", "1000.5 $"),
        ("5 €", "5 €"),
        ("€5.00", "5 €"),
        ("50 %", "50 %"),
        (r"\boxed{50\%}", "50 %"),
        ("$5$", "5"),
        ("3.0", "3"),
        (".50", "0.5"),
        ("+7.", "7"),
        ("-0.0", "0"),
        ("−12", "-12"),
        ("The answer is 3.5. Not 4.", "3.5"),
        ("Three and four are seven.\n#### 7", "7"),
        ("3.0km", "3 km"),
        ("3 KM", "3 km"),
        ("3 m", "3 m"),
        ("60 km/h", "60 km/h"),
        ("1,00", "1,00"),
        ("10:30", "10:30"),
        ("2024-05-01", "2024-05-01"),
        # Boxed
        (r"So it is \boxed{42}.", "42"),
        (r"First \boxed{B}, then \boxed{\text{b.}}", "B"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"The answer is 3, so \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        # JSON
        ('{"b": 1.0, "a": [2, null]}', '{"a":[2,null],"b":1}'),
        ('```json\n{"a": [2, null],\n "b": 1}\n```', '{"a":[2,null],"b":1}'),
        ('{"answer": "the answer is 5"}', '{"answer":"the answer is 5"}'),
        # Text
        ("Paris.", "paris"),
        ('"PARIS"', "paris"),
        ("**Paris**.", "paris"),
        ("new\n  york", "new york"),
        ("The answer is: New York. It is large.", "new york"),
        ("**The answer is New York.**", "new york"),
        ("**The answer is B.**", "B"),
        # Code
        (r"\D+.", r"\D+."),
        ("```\n[A-Z]+\n```", "[A-Z]+"),
        ("`ls -la`", "ls -la"),
        ("Here it is:\n```sql\nSELECT A\n  FROM t\n```\nIt lists A.", "SELECT A FROM t"),
        ("```\nLs -LA.\n```", "Ls -LA."),
        ("As a number:\n```\n1,000.0\n```", "1000"),
        ("Run\n```python\nanswer = 5\n```", "answer = 5"),
        ("Answer:\n```\nNew York\n```", "New York"),
        ("```python\nprint(2 + 3)\n```\nThe answer is 5.", "5"),
        ("*/5 * * * *", "*/5 * * * *"),
        ("Answer: 0 9 * * *", "0 9 * * *"),
        # A stated text counts in the last line only, a stated number anywhere
        ("It has many sides.\nThe answer is blue.", "blue"),
        ("The answer is 7.\nThat was easy.", "7"),
        ("Answer: 10:30\nThat is when it opens.", "10:30"),
        # Scripts without spaces
        ("東京都", "東京都"),
        ("กรุงเทพมหานคร", "กรุงเทพมหานคร"),
        ("東" * 12, "東" * 12),
        # No vote
        ("", None),
        (" \n", None),
        (".", None),
        ("Answer:", None),
        ("word " * 12, ("word " * 12).strip()),
        ("word " * 13, None),
        ("東" * 13, None),
        ("ก" * 13, None),
        ("The answer is complicated.\nIt depends.", None),
        ("The answer is A, no wait. The answer is (D) since A is odd.", None),
        ("The answer is A or B", None),
        ("The answer is **A** or **B**.", None),
        ("The answer is either (A) or (B).", None),
        ("The answer is a or b.", None),
        ("The answer is A and something else.", None),
        ("Answer: A, B", None),
        ("Answer: (A) (C)", None),
        ("Answer: A/D", None),
        (r"First \boxed{1}, then \boxed{2}", None),
        (r"First \boxed{1}, then \boxed{2", None),
        (r"The answer is 2, so \boxed{2", None),
        ("```sql\nSELECT 1", None),
        ("The answer is 7.\n```python\nprint(", None),
        ("```\na\n```\nor\n```\nb\n```", None),
        ("```\n```", None),
        ("<think>The answer is B.", None),
        ("The answer is B.</think>", None),
        ('{"a": NaN}', None),
        ("[-Infinity]", None),
        ("[1e999]", None),
        ('```json\n{"a": [Infinity]}\n```', None),
        ("x" * 201, None),
        ("#### A heading\n\nThen a paragraph that goes on and on for a good many words more.", None),
    ],
)
def test_extract(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 km", "3 m"),
        ("5%", "5"),
        ("$5", "5"),
        ("$5", "5%"),
        ("$5", "5 €"),
        (r"\d+", r"\D+"),
        ("[A-Z]", "[a-z]"),
        ("-3", "3"),
        ("0 0 * * *", "0 0"),
        ('{"a":1}', '{"a":2}'),
        ("```\nls -a\n```", "```\nls -A\n```"),
    ],
)
def test_different_answers_stay_different(one: str, other: str) -> None:
    assert extract(one) != extract(other)


@PATIENT
@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_all_ways_to_write_a_number_are_one(number: int, zeros: int) -> None:
    fraction = "." + "0" * zeros if zeros else ""
    ways = [f"{number}{fraction}", f"{number:,}{fraction}", f"The answer is {number:,}.", rf"\boxed{{{number}}}"]
    assert {extract(way) for way in (*ways, *(f"**{way}**" for way in ways))} == {str(number)}


@PATIENT
@given(JSON)
def test_json_is_compared_by_value(value: object) -> None:
    pretty = json.dumps(value, indent=2, ensure_ascii=False)
    canonical = extract(pretty)
    assert canonical is not None
    assert json.loads(canonical) == value
    assert extract(f"```json\n{pretty}\n```") == canonical == extract(canonical)


@PATIENT
@given(st.text(alphabet=st.sampled_from(" \n.,$%*`'\"{}[]()\\#:=ABab01-answerisboxd"), max_size=60))
def test_any_text_is_an_answer_or_none(text: str) -> None:
    answer = extract(text)
    assert answer is None or (answer.strip() and answer == extract(text.strip() + "\n"))


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "*a",
        "answer is ",
        "9",
        r"\boxed{",
        '"a',
        r"\text{",
        "```\n",
        "1,",
        "$ ",
        "#",
        "“",
        r"\boxed{}",
        "A or ",
        "東",
    ],
)
def test_long_hostile_text_ends(piece: str) -> None:
    """A pattern that backtracks would not come back from this."""
    assert extract(piece * 20_000) is None
