"""Tasks with one right and two wrong drafts: what they are made of, who is asked, what is written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregators.settings import Settings
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator import profile_aggregators
from orchestrator.profile import run
from orchestrator.profile_aggregators import FOLDER, Outcome, tasks
from orchestrator.profile_answers import NAME, Given
from orchestrator.profile_ask import EngineAsker
from orchestrator.profile_files import ProfileError, read_profile
from orchestrator.profile_questions import ProfileQuestion
from orchestrator.profile_scoring import method
from workers.base import ChatCall
from workers.fake_engine import FakeEngine

REGISTRY = Registry([ExpertSpec(name=name, source=name, family="one") for name in ("ada", "bob")])


def question(number: int, category: str, **changes: Any) -> ProfileQuestion:
    fields = {"gold": (f"{number}",), "category": category} | changes
    return ProfileQuestion(f"q{number}", f"{category} {number}?", method("exact"), **fields)


QUESTIONS = [question(number, ("sum", "word")[number % 2]) for number in range(12)]


def given(number: int, expert: str, text: str) -> Given:
    return Given(f"q{number}", expert, "", text=text)


def made(questions: Sequence[ProfileQuestion], answers: Sequence[Given] = (), shots: int = 99) -> list[ProfileQuestion]:
    return tasks(questions, answers, shots, 0, Settings())


def drafts_of(task: ProfileQuestion) -> list[str]:
    """The texts between the marks."""
    blocks = task.prompt.split("[")[1:]
    return [block.partition("]\n")[2].strip() for block in blocks if " draft " in block and "end of" not in block]


def test_experts_answers_are_the_drafts() -> None:
    texts = ["The answer is 0.", "The answer is 70.", "It is 80: the answer is 80."]
    answers = [given(0, name, text) for name, text in zip("abc", texts, strict=True)]
    [task] = [task for task in made(QUESTIONS, answers) if task.prompt_id.startswith("q0~")]
    assert sorted(drafts_of(task)) == sorted(texts)
    assert task.prompt.startswith("sum 0?")
    assert (task.gold, task.category, task.method) == (("0",), "sum", method("exact"))


def test_what_is_missing_is_taken_from_other_questions_of_the_category() -> None:
    answers = [given(0, "a", "The answer is 0."), given(0, "b", "0"), given(2, "a", "Two: the answer is 2.")]
    [task] = [task for task in made(QUESTIONS, answers) if task.prompt_id.startswith("q0~")]
    shown = drafts_of(task)
    assert "Two: the answer is 2." in shown
    assert sum(QUESTIONS[0].score(text) for text in shown) == 1
    [other] = set(shown) - {"Two: the answer is 2.", "The answer is 0.", "0"}
    assert other in {f"The answer is {number}." for number in (2, 4, 6, 8, 10)}


def test_every_task_has_one_right_draft_and_two_wrong_ones_in_any_place() -> None:
    found = made(QUESTIONS)
    assert len(found) == len(QUESTIONS)
    places = set()
    for task in found:
        right = [task.score(text) for text in drafts_of(task)]
        assert sorted(right) == [0.0, 0.0, 1.0]
        places.add(right.index(1.0))
    assert places == {0, 1, 2}


def test_categories_share_the_tasks_and_a_small_one_gives_all_it_has() -> None:
    questions = [*QUESTIONS[::2], QUESTIONS[1]]
    assert [task.category for task in made(questions, shots=4)].count("word") == 1
    assert len(made(questions, shots=4)) == 4
    assert made(QUESTIONS, shots=5) == made(QUESTIONS[::-1], shots=5), "the order of the file is of no matter"


def test_golden_questions_and_those_without_gold_are_no_tasks() -> None:
    assert made([replace(own, split="golden") for own in QUESTIONS]) == []
    assert made([replace(own, gold=()) for own in QUESTIONS]) == []
    assert made(QUESTIONS[:2]) == [], "there are not two wrong drafts"


def test_other_drafts_make_another_task() -> None:
    [before], [after] = made(QUESTIONS, shots=1), made(QUESTIONS, [given(n, "a", "99") for n in range(12)], shots=1)
    assert before.prompt_id.split("~")[0] == after.prompt_id.split("~")[0]
    assert before.prompt_id != after.prompt_id


def answer(call: ChatCall) -> str:
    """Ada tells the right draft from the others, Bob believes the first one."""
    prompt = call.messages[-1]["content"]
    number = prompt.split("?")[0].split()[-1]
    if "draft" not in prompt or call.expert == "ada":
        return f"The answer is {number}."
    return prompt.split("draft 1]\n")[1].partition("\n")[0]  # type: ignore[no-any-return]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, 0

    def engine(self, family: str) -> FakeEngine:
        def reply(call: ChatCall) -> str:
            self.calls += 1
            return answer(call)

        return FakeEngine(family, list(REGISTRY), answer=reply)

    async def profile(self) -> None:
        asker = EngineAsker(REGISTRY, self.engine, lambda line: None)
        await run(asker, ["ada", "bob"], QUESTIONS, self.folder)
        await asker.close()

    async def aggregators(self, experts: Sequence[str] = ("ada", "bob"), shots: int = 12) -> Outcome:
        asker = EngineAsker(REGISTRY, self.engine, lambda line: None)
        try:
            return await profile_aggregators.run(asker, experts, QUESTIONS, self.folder, shots=shots)
        finally:
            await asker.close()


async def test_who_finds_the_right_draft_stands_in_the_profile(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.profile()
    asked = bench.calls
    outcome = await bench.aggregators()
    assert (outcome.tasks, outcome.asked, outcome.missing) == (12, 24, {})
    assert bench.calls - asked == 24
    found = read_profile(tmp_path)
    assert found is not None
    assert found == outcome.profile
    assert list(found.aggregation) == ["sum", "word"]
    for row in found.aggregation.values():
        assert (row["ada"].mean, row["ada"].n) == (1.0, 6)
        assert row["bob"].mean < 1.0
    assert found.experts["bob"].overall.mean == 1.0, "the figures of its own answers stay"


async def test_a_run_goes_on_where_it_was_and_a_new_profile_keeps_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.profile()
    await bench.aggregators(["ada"], shots=4)
    kept = tmp_path / FOLDER / NAME
    kept.write_bytes(b"".join(kept.read_bytes().splitlines(keepends=True)[:-1]))
    outcome = await bench.aggregators(shots=4)
    assert outcome.asked == 5, "the one that was lost, and Bob's four"
    await bench.profile()
    again = read_profile(tmp_path)
    assert again is not None
    assert again.aggregation == outcome.profile.aggregation


async def test_without_a_profile_there_are_no_drafts(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"there is no profile in .*, and so no drafts; make one: coe profile"):
        await Bench(tmp_path).aggregators()
