"""`coe profile --aggregators`: which expert finds the right one of three drafts, and so should judge and write.

A task is a question of the file with three drafts, one right and two wrong, in the prompt with which the `synthesize`
aggregator asks its writer. The expert's answer is judged as any answer to the question is. Drafts are what experts
answered when the profile was made; where they are all right, or all wrong, others stand in, see `tasks`.

questions, answers.jsonl -> tasks -> aggregators/answers.jsonl -> `aggregation` in profile.json
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random

from aggregators.base import Draft, Request
from aggregators.settings import Settings
from aggregators.synthesize import written_from
from experts.profile import Profile, Share, share
from orchestrator.profile import BACKOFF, CONCURRENT, Progress, ask_all
from orchestrator.profile_answers import Answers, Given
from orchestrator.profile_ask import Asker
from orchestrator.profile_files import ProfileError, read_profile, write_profile
from orchestrator.profile_questions import ProfileQuestion, check_same

FOLDER = "aggregators"
"""Below the profile's folder: the answers to the tasks."""
WRONG = 2
STATED, PLAIN = "The answer is {}.", "{}"
"""Drafts made from gold; the second for methods that compare the whole text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left. tasks: how many; asked: answers that it added; missing: as in `orchestrator.profile`."""

    profile: Profile
    tasks: int
    asked: int
    missing: dict[str, str]


async def run(
    asker: Asker,
    experts: Sequence[str],
    questions: Sequence[ProfileQuestion],
    folder: Path,
    on_progress: Progress = lambda what, done, of: None,
    *,
    shots: int,
    settings: Settings | None = None,
    seed: int = 0,
    concurrent: int = CONCURRENT,
    backoff: Sequence[float] = BACKOFF,
) -> Outcome:
    """Puts `shots` tasks to each of `experts`, but for those that are answered, and writes who found how many.

    settings: with the prompt and the length of drafts. Raises ProfileError, AnswersError.
    """
    profile = read_profile(folder)
    if profile is None:
        raise ProfileError(
            f"there is no profile in {folder}, and so no drafts; make one: coe profile --data FILE --out {folder}"
        )
    with Answers(folder) as drafts:
        todo = tasks(questions, drafts, shots, seed, settings or Settings())
    if not todo:
        raise ProfileError("no question can be made a task: it takes gold answers, and at least three questions")
    by_id = {task.prompt_id: task for task in todo}
    with Answers(folder / FOLDER) as answers:
        check_same(todo, {given.prompt_id: given.digest for given in answers}, answers.path)
        before = len(answers.known)
        missing = await ask_all(
            asker, dict.fromkeys(experts, todo), answers, on_progress, concurrent=concurrent, backoff=backoff
        )
        given = [each for each in answers if each.prompt_id in by_id]
        added = len(answers.known) - before
    if not given:
        whys = [f"{name}: {why}" for name, why in missing.items()]
        raise ProfileError("; ".join(["there is no answer to measure by", *whys]))
    found = profile.model_copy(update={"aggregation": scores(by_id, given)})
    write_profile(folder, found)
    return Outcome(found, len(todo), added, missing)


def scores(tasks: Mapping[str, ProfileQuestion], answers: Iterable[Given]) -> dict[str, dict[str, Share]]:
    """Category -> expert -> the share of tasks in which it found the right draft, both in order of their names."""
    rows: dict[str, dict[str, list[float]]] = {}
    for given in answers:
        task = tasks[given.prompt_id]
        score = task.score(given.text) if given.failure is None else 0.0
        rows.setdefault(task.group, {}).setdefault(given.expert, []).append(score)
    return {
        category: {expert: share(rows[category][expert]) for expert in sorted(rows[category])}
        for category in sorted(rows)
    }


def tasks(
    questions: Sequence[ProfileQuestion], answers: Iterable[Given], shots: int, seed: int, settings: Settings
) -> list[ProfileQuestion]:
    """At most `shots` tasks, as many of each category as there are or can be; the same for the same input.

    Golden questions are none. The right draft is an expert's right answer, else one made from gold. Wrong ones are
    experts' wrong answers; then right answers to other questions of the category, then to others still, then such made
    from gold. A question for which all that is not enough is no task.
    """
    material = _Material([question for question in questions if question.gold and not question.golden], answers)
    by_category: dict[str, list[ProfileQuestion]] = {}
    for question in sorted(material.questions, key=lambda own: _lot(seed, own.prompt_id)):
        by_category.setdefault(question.group, []).append(question)
    waiting = [iter(by_category[name]) for name in sorted(by_category)]
    found: list[ProfileQuestion] = []
    while waiting and len(found) < shots:
        for category in list(waiting):
            task = next(_made(category, material, seed, settings), None)
            if task is None:
                waiting.remove(category)
            elif len(found) < shots:
                found.append(task)
    return found


def _made(
    questions: Iterator[ProfileQuestion], material: "_Material", seed: int, settings: Settings
) -> Iterator[ProfileQuestion]:
    """The tasks of those that can be one."""
    for question in questions:
        lot = Random(_lot(seed, question.prompt_id))
        right, wrong = material.right(question, lot), material.wrong(question, lot)
        if right is not None and len(wrong) == WRONG:
            texts = [right, *wrong]
            lot.shuffle(texts)
            yield _task(question, texts, lot.getrandbits(32), settings)


def _task(question: ProfileQuestion, texts: Sequence[str], seed: int, settings: Settings) -> ProfileQuestion:
    message = {"role": "user", "content": question.prompt}
    request = Request(question.prompt_id, (message,), question.prompt, question.category, (), (), seed=seed)
    drafts = [Draft("", rank, 1 / len(texts), text) for rank, text in enumerate(texts)]
    [asked] = written_from("synthesize", settings, request, drafts, settings.draft_characters)
    prompt = str(asked["content"])
    # With other drafts it is another task.
    name = f"{question.prompt_id}~{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
    return replace(question, prompt_id=name, prompt=prompt)


class _Material:
    """What drafts are made of."""

    def __init__(self, questions: Sequence[ProfileQuestion], answers: Iterable[Given]) -> None:
        self.questions = sorted(questions, key=lambda question: question.prompt_id)
        by_id = {question.prompt_id: question for question in questions}
        self._right: dict[str, list[str]] = {}
        self._wrong: dict[str, list[str]] = {}
        for given in sorted(answers, key=lambda own: own.key):
            question = by_id.get(given.prompt_id)
            if question is not None and given.failure is None and given.text.strip():
                kind = self._right if question.score(given.text) else self._wrong
                kind.setdefault(given.prompt_id, []).append(given.text)

    def right(self, question: ProfileQuestion, lot: Random) -> str | None:
        """None where not even gold is right by the question's own method, as a regular expression is not."""
        given = self._right.get(question.prompt_id)
        if given:
            return lot.choice(given)
        form = _form(question)
        return None if form is None else form.format(question.gold[0])

    def wrong(self, question: ProfileQuestion, lot: Random) -> list[str]:
        own = list(dict.fromkeys(self._wrong.get(question.prompt_id, [])))
        lot.shuffle(own)
        others = [other for other in self.questions if other.prompt_id != question.prompt_id]
        lot.shuffle(others)
        others.sort(key=lambda other: other.group != question.group)
        said = (lot.choice(self._right[other.prompt_id]) for other in others if other.prompt_id in self._right)
        made = ((_form(question) or PLAIN).format(other.gold[0]) for other in others)
        found = dict.fromkeys(own[:WRONG])
        for text in chain(said, made):
            if len(found) == WRONG:
                break
            if not question.score(text):
                found[text] = None
        return list(found)


def _form(question: ProfileQuestion) -> str | None:
    """How gold is written so that it is right by the question's own method."""
    return next((form for form in (STATED, PLAIN) if question.score(form.format(question.gold[0]))), None)


def _lot(seed: int, prompt_id: str) -> str:
    return hashlib.sha256(f"{seed} {prompt_id}".encode()).hexdigest()
