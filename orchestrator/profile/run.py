"""`coe profile`: every expert answers the questions, its answers are judged, and a profile is written.

ask (`ask_all`, one expert after the other) -> answers.jsonl -> judge -> labelled.jsonl and profile.json
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experts.profile import Profile, matrix
from experts.profile_consensus import FEWEST
from experts.profile_sample import choose
from orchestrator.profile.answers import Answers, Given
from orchestrator.profile.ask import Asker, CannotAsk
from orchestrator.profile.files import (
    ProfileError,
    judge,
    labelled_rows,
    profile_of,
    read_profile,
    write_labelled,
    write_profile,
)
from orchestrator.profile.questions import ProfileQuestion, check_same

CONCURRENT = 32
BACKOFF = (1.0, 5.0, 15.0)
LOST_IN_A_ROW = 8
"""So many questions that failed for good, with no answer between, and an expert's turn is over."""
SHOWN_STEPS = 50
"""Progress is told about so many times in a run."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left. asked: answers that it added; missing: expert -> why it has not answered all that it was to be
    asked; strangers: answers in the folder to questions that are not in the file; disagreed: questions without two
    equal answers, which have no score where there is no gold."""

    profile: Profile
    asked: int
    missing: dict[str, str]
    strangers: int
    disagreed: int


async def run(
    asker: Asker,
    experts: Sequence[str],
    questions: Sequence[ProfileQuestion],
    folder: Path,
    on_progress: Progress = lambda what, done, of: None,
    *,
    label_free: bool = False,
    shots: int | None = None,
    seed: int = 0,
    concurrent: int = CONCURRENT,
    backoff: Sequence[float] = BACKOFF,
) -> Outcome:
    """Asks `experts` what they have not answered yet, and writes the files of all that have answered in `folder`.

    shots: ask each only so many questions, chosen by what the other experts in the folder answered. label_free: judge
    by agreement. Raises ProfileError, AnswersError, QuestionsError.
    """
    former = read_profile(folder)
    with Answers(folder) as answers:
        digests = {given.prompt_id: given.digest for given in answers}
        check_same(questions, digests, answers.path)
        before = len(answers.known)
        todo = {
            name: questions if shots is None else few(name, questions, answers, shots, seed, label_free=label_free)
            for name in experts
        }
        missing = await ask_all(asker, todo, answers, on_progress, concurrent=concurrent, backoff=backoff)
        given = list(answers)
    try:
        judged, disagreed = judge(questions, given, label_free=label_free)
        if not any(not answer.judged.golden for answer in judged):
            raise ProfileError("there is no answer to make a profile from")
    except ProfileError as error:
        whys = [f"{name}: {why}" for name, why in missing.items()]
        raise ProfileError("; ".join([str(error), *whys])) from None
    place = {question.prompt_id: index for index, question in enumerate(questions)}
    judged.sort(key=lambda answer: (place[answer.judged.prompt_id], answer.judged.expert))
    known = {name: expert.price for name, expert in former.experts.items()} if former else {}
    prices = known | dict(asker.prices)
    profile = profile_of(judged, former, prices, label_free=label_free, concurrent=concurrent)
    write_labelled(folder, labelled_rows(judged, prices, label_free=label_free))
    write_profile(folder, profile)
    for name in {each.expert for each in given} - profile.experts.keys():
        missing.setdefault(name, "none of its answers counts, outside the golden set")
    strangers = sum(each.prompt_id not in place for each in given)
    return Outcome(profile, len(given) - before, missing, strangers, disagreed)


def few(
    expert: str,
    questions: Sequence[ProfileQuestion],
    answers: Iterable[Given],
    shots: int,
    seed: int = 0,
    *,
    label_free: bool = False,
) -> list[ProfileQuestion]:
    """The questions to put to a new expert: `shots` by `experts.profile_sample.choose`, and all golden ones.

    The choice depends on the other experts' answers alone, so a run that goes on makes the same one.
    Raises ProfileError for fewer shots than categories.
    """
    open_ones = [question for question in questions if not question.golden]
    others = [given for given in answers if given.expert != expert]
    names = sorted({given.expert for given in others})
    enough = len(names) >= FEWEST if label_free else bool(names)
    rows = [answer.judged for answer in judge(open_ones, others, label_free=label_free)[0]] if enough else []
    known = matrix(rows, [question.prompt_id for question in open_ones], names)
    try:
        chosen = choose([question.group for question in open_ones], known, shots, seed)
    except ValueError as error:
        raise ProfileError(f"--shots: {error}") from None
    return [open_ones[index] for index in chosen] + [question for question in questions if question.golden]


async def ask_all(
    asker: Asker,
    todo: Mapping[str, Sequence[ProfileQuestion]],
    answers: Answers,
    on_progress: Progress = lambda what, done, of: None,
    *,
    concurrent: int = CONCURRENT,
    backoff: Sequence[float] = BACKOFF,
) -> dict[str, str]:
    """Asks each expert what it has not answered yet: all questions of one before the next, so that it is loaded once.

    concurrent: questions at a time. backoff: seconds before a question that failed is asked again.
    Returns expert -> why it has not answered everything; it does not hold up the others.
    """
    left = {
        name: [question for question in todo[name] if (question.prompt_id, name) not in answers.known]
        for name in asker.order(todo)
    }
    of = sum(map(len, todo.values()))
    done = of - sum(map(len, left.values()))
    step = max(1, of // SHOWN_STEPS)
    missing = {}
    for expert, questions in left.items():
        on_progress(expert, done, of)

        def answered(expert: str = expert) -> None:
            nonlocal done
            done += 1
            if done % step == 0:
                on_progress(expert, done, of)

        turn = _Turn(asker, answers, expert, concurrent, backoff, answered)
        await turn.run(questions)
        if turn.why is not None:
            missing[expert] = turn.why
    on_progress("", of, of)
    return missing


class _Turn:
    """The turn of one expert."""

    def __init__(
        self,
        asker: Asker,
        answers: Answers,
        expert: str,
        concurrent: int,
        backoff: Sequence[float],
        answered: Callable[[], None],
    ) -> None:
        self._asker, self._answers, self._expert, self._backoff = asker, answers, expert, backoff
        self._answered = answered
        self._gate = asyncio.Semaphore(concurrent)
        self._load_asked = False
        self._down: str | None = None
        self._lost: list[str] = []
        self._in_a_row = 0

    @property
    def why(self) -> str | None:
        """What kept the expert from answering everything; None if nothing did."""
        if not self._lost:
            return self._down
        rest = "" if self._down is None else "; the rest was not asked"
        return f"{len(self._lost)} questions failed again and again, the last one with: {self._lost[-1]}{rest}"

    async def run(self, questions: Sequence[ProfileQuestion]) -> None:
        tasks = [asyncio.create_task(self._one(question)) for question in questions]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, question: ProfileQuestion) -> None:
        async with self._gate:
            waits = iter(self._backoff)
            while self._down is None:  # else so much is known without asking
                try:
                    given = await self._asker.ask(self._expert, question)
                except CannotAsk as error:
                    self._down = str(error)
                    return
                if isinstance(given, Given):
                    self._answers.add(await self._with_load(given))
                    self._in_a_row = 0
                    self._answered()
                    return
                wait = next(waits, None)
                if wait is None:
                    self._lose(given.message)
                    return
                await asyncio.sleep(wait)

    def _lose(self, why: str) -> None:
        self._lost.append(why)
        self._in_a_row += 1
        if self._in_a_row >= LOST_IN_A_ROW:
            self._down = why

    async def _with_load(self, given: Given) -> Given:
        """The turn's first answer also tells what the load took."""
        if self._load_asked:
            return given
        self._load_asked = True
        return replace(given, load_seconds=await self._asker.load_seconds(self._expert))
