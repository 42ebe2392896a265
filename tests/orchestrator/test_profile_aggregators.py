"""Tasks with one right and two wrong drafts: what they are made of, who is asked, what is written."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregators.rubric import Dimension, Rubric
from aggregators.settings import Role, Settings
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.profile import aggregators as profile_aggregators
from orchestrator.profile.aggregators import FOLDER, Outcome, measure
from orchestrator.profile.answers import NAME, Given
from orchestrator.profile.ask import EngineAsker
from orchestrator.profile.files import ProfileError, read_profile
from orchestrator.profile.questions import ProfileQuestion
from orchestrator.profile.run import run
from orchestrator.profile.scoring import method
from orchestrator.profile.tasks import Task, tasks
from workers.base import ChatCall
from workers.fake_engine import FakeEngine

REGISTRY = Registry([ExpertSpec(name=name, source=name, family="one") for name in ("ada", "bob")])


def question(number: int, category: str, **changes: Any) -> ProfileQuestion:
    fields = {"gold": (f"{number}",), "category": category} | changes
    return ProfileQuestion(f"q{number}", f"{category} {number}?", method("exact"), **fields)


QUESTIONS = [question(number, ("sum", "word")[number % 2]) for number in range(12)]


def given(number: int, expert: str, text: str) -> Given:
    return Given(f"q{number}", expert, "", text=text)


def both(
    questions: Sequence[ProfileQuestion],
    answers: Sequence[Given] = (),
    shots: int = 99,
    settings: Settings | None = None,
) -> list[Task]:
    return tasks(questions, answers, shots, 0, settings or Settings())


def of(role: Role, found: Sequence[Task]) -> list[Task]:
    return [task for task in found if task.role == role]


def made(questions: Sequence[ProfileQuestion], answers: Sequence[Given] = (), shots: int = 99) -> list[ProfileQuestion]:
    """What writers are asked."""
    return [task.asked for task in of("writer", both(questions, answers, shots))]


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


def marks(draft: str) -> str:
    return json.dumps({str(place): {"correct": 9 if str(place) == draft else 2, "brief": 5} for place in (1, 2, 3)})


RUBRIC = Rubric((Dimension("correct", "Is it correct?"), Dimension("brief", "Is it brief?")))


def test_a_judge_is_asked_of_the_same_drafts_in_the_prompt_of_judges() -> None:
    found = both(QUESTIONS, settings=Settings(rubric=RUBRIC))
    for writer, judge in zip(of("writer", found), of("judge", found), strict=True):
        assert writer.drafted == judge.drafted
        assert drafts_of(judge.asked) == drafts_of(writer.asked) == list(judge.drafted.texts)
        assert "- brief: Is it brief?" in judge.asked.prompt
        assert judge.asked.max_tokens == 64 + 3 * (8 + 12 * 2)
        right = str(judge.drafted.right + 1)
        assert judge.score(marks(right)) == 1.0
        assert judge.score(marks("1" if right != "1" else "2")) == 0.0
        assert judge.score(marks("none")) == pytest.approx(1 / 3), "three are equal"
        assert judge.score(writer.drafted.texts[judge.drafted.right]) == 0.0, "an answer is no judgement"


def test_with_comparisons_a_judge_gets_the_right_draft_and_a_wrong_one_in_either_order() -> None:
    found = of("judge", both(QUESTIONS, settings=Settings(is_pairwise=True)))
    places = set()
    for task in found:
        shown = drafts_of(task.asked)
        assert [task.drafted.question.score(text) for text in sorted(shown, key=task.drafted.texts.index)].count(1) == 1
        [right] = [name for name, text in zip("AB", shown, strict=True) if task.drafted.question.score(text)]
        places.add(right)
        assert [task.score(name) for name in "AB"] == [float(name == right) for name in "AB"]
        assert task.score("I cannot tell.") == 0.0
    assert places == {"A", "B"}


def test_weights_are_those_by_which_the_best_judge_s_scores_tell_the_right_draft() -> None:
    found = of("judge", both(QUESTIONS, settings=Settings(rubric=RUBRIC)))
    by_id = {task.asked.prompt_id: task for task in found}

    def says(expert: str, told: str) -> list[Given]:
        """Ada's `told` dimension tells the right draft, and the other dimension is a lottery."""
        answers = []
        for number, task in enumerate(found):
            scores = {
                str(place + 1): {
                    name: (9 if place == task.drafted.right else 3) if name == told else 1 + (number + place) % 3
                    for name in ("correct", "brief")
                }
                for place in range(3)
            }
            answers.append(Given(task.asked.prompt_id, expert, "", text=json.dumps(scores)))
        return answers

    def mute(expert: str) -> list[Given]:
        return [Given(task.asked.prompt_id, expert, "", text="No.") for task in found]

    weights = measure(by_id, [*says("ada", "brief"), *mute("bob")]).weights
    assert list(weights) == ["sum", "word"]
    assert all(row["brief"] > 0.6 > 0.4 > row["correct"] for row in weights.values())
    assert measure(by_id, mute("bob")).weights == {}, "nobody gave scores"
    weighted = Rubric(RUBRIC.dimensions, (0.9, 0.1))
    own = of("judge", both(QUESTIONS, settings=Settings(rubric=weighted)))
    assert measure({task.asked.prompt_id: task for task in own}, says("ada", "brief")).weights == {}, "it has weights"


def answer(call: ChatCall) -> str:
    """Ada tells the right draft from the others, Bob believes the first one and gives no scores."""
    prompt = call.messages[-1]["content"]
    number = prompt.split("?")[0].split()[-1]
    if "draft" not in prompt:
        return f"The answer is {number}."
    texts = [block.partition("]\n")[2].strip() for block in prompt.split("[")[1:] if " draft " in block][::2]
    is_judge = '"1": {' in prompt
    if call.expert == "bob":
        return "They are all good." if is_judge else texts[0]
    if not is_judge:
        return f"The answer is {number}."
    right = texts.index(f"The answer is {number}.") + 1
    names = json.loads(prompt[prompt.index("{") : prompt.rindex("}") + 1].replace("<1 to 10>", "1"))["1"]
    return json.dumps({str(place): dict.fromkeys(names, 9 if place == right else 2) for place in (1, 2, 3)})


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


async def test_who_judges_and_writes_well_stands_in_the_profile(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.profile()
    asked = bench.calls
    outcome = await bench.aggregators()
    assert (outcome.tasks, outcome.asked, outcome.missing) == (24, 48, {})
    assert bench.calls - asked == 48
    found = read_profile(tmp_path)
    assert found is not None
    assert found == outcome.profile
    assert found.aggregation is not None
    for scores in (found.aggregation.writing, found.aggregation.judging):
        assert list(scores) == ["sum", "word"]
        for row in scores.values():
            assert (row["ada"].mean, row["ada"].n) == (1.0, 6)
            assert row["bob"].mean < 1.0
    assert all(row["bob"].mean == 0.0 for row in found.aggregation.judging.values())
    assert found.experts["bob"].overall.mean == 1.0, "the figures of its own answers stay"


async def test_a_run_goes_on_where_it_was_and_a_new_profile_keeps_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.profile()
    await bench.aggregators(["ada"], shots=2)
    kept = tmp_path / FOLDER / NAME
    kept.write_bytes(b"".join(kept.read_bytes().splitlines(keepends=True)[:-1]))
    outcome = await bench.aggregators(shots=2)
    assert outcome.asked == 5, "the one that was lost, and Bob's four"
    await bench.profile()
    again = read_profile(tmp_path)
    assert again is not None
    assert again.aggregation == outcome.profile.aggregation


async def test_without_a_profile_there_are_no_drafts(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"there is no profile in .*, and so no drafts; make one: coe profile"):
        await Bench(tmp_path).aggregators()
