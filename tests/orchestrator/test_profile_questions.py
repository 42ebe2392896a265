"""The file of questions: what it says, and what is wrong with it, by the line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.profile.questions import FIELDS, ProfileQuestion, QuestionsError, check_same, read

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


GOOD = {"prompt": "2 + 2?", "gold": 4}


def test_a_line_needs_a_prompt_and_gold_and_may_say_more(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "prompt_id": 7,
            "prompt": "2 + 2?",
            "gold": 4,
            "category": "math",
            "skills": ["sum", "sum"],
            "split": "golden",
            "method": "number",
            "max_tokens": 8,
            "check": {"a": 1},
        },
    )
    [question] = read(path, default="choice", max_tokens=99).items
    assert (question.prompt_id, question.gold, question.category, question.skills) == ("7", ("4",), "math", ("sum",))
    assert (question.method.name, question.max_tokens, question.golden) == ("number", 8, True)
    assert (question.score("4.0"), question.score("5")) == (1.0, 0.0)


def test_the_docs_list_the_fields() -> None:
    table = DOCS.read_text().split("| field | meaning |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(FIELDS)


def test_what_is_left_out_has_a_meaning(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, "", {"prompt": "3?", "gold": "x"})
    first, second = read(path, default="exact", max_tokens=99).items
    assert (first.method.name, first.max_tokens, first.category, first.group) == ("exact", 99, None, "all")
    assert first.prompt_id != second.prompt_id
    assert read(path).items[0].prompt_id == first.prompt_id, "the id of a prompt is the same in every run"


def test_a_repeated_line_is_one_question(tmp_path: Path) -> None:
    questions = read(written(tmp_path, GOOD, GOOD, {"prompt": "3?", "gold": "x"}))
    assert (len(questions.items), questions.repeated) == (2, 1)


@pytest.mark.parametrize(
    ("gold", "kind", "texts"),
    [
        (["Paris", "Lutetia"], "exact", ("Paris", "Lutetia")),
        (True, "exact", ("true",)),
        (2.5, "number", ("2.5",)),
        ({"a": 1}, "json", ('{"a": 1}',)),
        ([1, 2], "json", ("[1, 2]",)),
        ('{"a": 1}', "json", ('{"a": 1}',)),
    ],
)
def test_gold_may_be_any_of_several_and_json(tmp_path: Path, gold: Any, kind: str, texts: tuple[str, ...]) -> None:
    [question] = read(written(tmp_path, {"prompt": "x", "gold": gold, "method": kind})).items
    assert question.gold == texts
    assert question.score(texts[-1]) == 1.0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not valid JSON"),
        ('{"prompt": "x", "gold": NaN}', "not valid JSON"),
        ([1], "got [1]; a JSON object is wanted"),
        ({"gold": 1}, "no 'prompt', which every line needs"),
        ({"prompt": "  ", "gold": 1}, "prompt: it must not be blank"),
        ({"prompt": 5, "gold": 1}, "prompt: input should be a valid string; got 5"),
        ({"prompt": "x"}, "no 'gold', the right answer; where nobody knows it, use --label-free"),
        ({"prompt": "x", "gold": []}, "gold: the list is empty; name at least one right answer"),
        ({"prompt": "x", "gold": {"a": 1}}, "gold: text, a number, or a list of them is wanted; got {'a': 1}"),
        ({"prompt": "x", "gold": "y", "method": "choice"}, "gold must be a letter from A to J for the method 'choice'"),
        ({"prompt": "x", "gold": "(", "method": "regex"}, "gold is no regular expression: missing )"),
        ({"prompt": "x", "gold": "y", "method": "magic"}, "no scoring method 'magic'"),
        (
            {"prompt": "x", "gold": "y", "max_tokens": 0},
            "max_tokens: input should be greater than or equal to 1; got 0",
        ),
        ({"prompt": "x", "gold": "y", "skills": "z"}, "skills: input should be a valid list; got 'z'"),
        ({"prompt": "x", "gold": "y", "categry": "z"}, "unknown field 'categry'; did you mean 'category'?"),
        ({"prompt": "2 + 2?", "gold": 5}, "with another prompt, gold or category"),
        (
            {"prompt": "x", "gold": "y", "category": "z"},
            "it has a 'category', unlike line 1; give one to every line or",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: Any, told: str) -> None:
    path = written(tmp_path, GOOD, "", line)
    with pytest.raises(QuestionsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_labels_gold_may_be_missing(tmp_path: Path) -> None:
    [question] = read(written(tmp_path, {"prompt": "x"}), label_free=True).items
    assert question.gold == ()


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "holds no question"), (b"\xff\n", "not UTF-8"), (None, "cannot be read: No such file")]
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "q.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuestionsError, match=told):
        read(path)


def test_answers_count_as_long_as_the_question_is_the_same(tmp_path: Path) -> None:
    [question] = read(written(tmp_path, GOOD)).items
    check_same([question], {question.prompt_id: question.digest, "another": "x"}, Path("answers.jsonl"))
    with pytest.raises(QuestionsError, match=r"is not the one that answers\.jsonl has answers to"):
        check_same([question], {question.prompt_id: "x"}, Path("answers.jsonl"))


def test_only_what_an_expert_is_asked_makes_it_another_question(tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        found: ProfileQuestion = read(written(tmp_path, GOOD | changes)).items[0]
        return found.digest

    assert digest() == digest(gold=5) == digest(category="z", method="number")
    assert len({digest(), digest(prompt="3?"), digest(max_tokens=5)}) == 3
