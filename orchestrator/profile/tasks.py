"""Tasks for who judges and who writes: a question with three drafts, one right and two wrong, asked as aggregators ask.

Drafts are what experts answered when the profile was made; where they are all right, or all wrong, others stand in.
A writer gets all three in the prompt of `synthesize`, and its answer is judged as any answer to the question is. A
judge gets the same three in the prompt of `judge`, or with `pairwise` the right one and a wrong one in that of
a comparison.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from random import Random

from aggregators import judgement
from aggregators.base import Draft, Messages, Request
from aggregators.judge import PAIR, Kind, judged_by, rubric_of, tokens_of
from aggregators.judgement import Scores
from aggregators.rubric import Rubric
from aggregators.settings import Role, Settings
from aggregators.synthesize import written_from
from orchestrator.profile.answers import Given
from orchestrator.profile.questions import ProfileQuestion

WRONG = 2
STATED, PLAIN = "The answer is {}.", "{}"
"""Drafts made from gold; the second for methods that compare the whole text."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A question with its drafts. right: the place of the right one. seed: of what a prompt draws by lot."""

    question: ProfileQuestion
    texts: tuple[str, ...]
    right: int
    seed: int


@dataclass(frozen=True)
class Task:
    """One thing to ask. asked: the question as an expert gets it."""

    role: Role
    drafted: Drafted
    settings: Settings

    @property
    def group(self) -> str:
        return self.drafted.question.group

    @property
    def rubric(self) -> Rubric:
        return rubric_of(self.settings, self.drafted.question.category)

    @cached_property
    def asked(self) -> ProfileQuestion:
        question, shown, limit = self.drafted.question, self._shown, self.settings.draft_characters
        message = {"role": "user", "content": question.prompt}
        request = Request(
            question.prompt_id, (message,), question.prompt, question.category, (), (), seed=self.drafted.seed
        )
        texts = [text for _, text in shown]
        if self.role == "writer":
            drafts = [Draft("", rank, 1 / len(texts), text) for rank, text in enumerate(texts)]
            return self._asked(written_from("synthesize", self.settings, request, drafts, limit), question.max_tokens)
        kind: Kind = "compare" if self.settings.is_pairwise else "judge"
        messages = judged_by(kind, self.settings, request, texts, [name for name, _ in shown], limit)
        return self._asked(messages, tokens_of(kind, self.settings, self.rubric, len(texts)))

    @property
    def _shown(self) -> tuple[tuple[str, str], ...]:
        """What drafts are called, and their texts."""
        drafted, is_pair = self.drafted, self.role == "judge" and self.settings.is_pairwise
        if not is_pair:
            return tuple((str(number), text) for number, text in enumerate(drafted.texts, 1))
        wrong = next(text for place, text in enumerate(drafted.texts) if place != drafted.right)
        pair = [drafted.texts[drafted.right], wrong]
        return tuple(zip(PAIR, pair if drafted.seed % 2 else reversed(pair), strict=True))

    def score(self, reply: str) -> float:
        """1.0 for the right answer or draft; its share where a judge finds several equally good."""
        if self.role == "writer":
            return self.drafted.question.score(reply)
        right = self.drafted.texts[self.drafted.right]
        if self.settings.is_pairwise:
            return float(dict(self._shown).get(judgement.preference(reply) or "") == right)
        scores = self.scores(reply)
        if scores is None:
            return 0.0
        totals = {text: round(self.rubric.total(scores[name]), 9) for name, text in self._shown}
        best = [text for text, total in totals.items() if total == max(totals.values())]
        return 1 / len(best) if right in best else 0.0

    def scores(self, reply: str) -> Scores | None:
        """What a judge gave the drafts, by their numbers in order; None where that cannot be used."""
        names = [name for name, _ in self._shown]
        return judgement.scores(reply, names, self.rubric, self.drafted.texts)

    def _asked(self, messages: Messages, max_tokens: int | None) -> ProfileQuestion:
        question, content = self.drafted.question, str(messages[-1]["content"])
        # With other drafts it is another task.
        name = f"{question.prompt_id}~{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        return replace(question, prompt_id=name, prompt=content, max_tokens=max_tokens)


def tasks(
    questions: Sequence[ProfileQuestion], answers: Iterable[Given], shots: int, seed: int, settings: Settings
) -> list[Task]:
    """Two for each of at most `shots` questions, a writer's and a judge's; the same for the same input.

    As many questions of each category as there are or can be, but no golden ones. The right draft is an expert's right
    answer, else one made from gold. Wrong ones are experts' wrong answers; then right answers to other questions of the
    category, then to others still, then such made from gold. A question for which all that is not enough is no task.
    """
    material = _Material([question for question in questions if question.gold and not question.golden], answers)
    by_category: dict[str, list[ProfileQuestion]] = {}
    for question in sorted(material.questions, key=lambda own: _lot(seed, own.prompt_id)):
        by_category.setdefault(question.group, []).append(question)
    waiting = [iter(by_category[name]) for name in sorted(by_category)]
    found: list[Drafted] = []
    while waiting and len(found) < shots:
        for category in list(waiting):
            drafted = next(_made(category, material, seed), None)
            if drafted is None:
                waiting.remove(category)
            elif len(found) < shots:
                found.append(drafted)
    roles: tuple[Role, ...] = ("writer", "judge")
    return [Task(role, drafted, settings) for drafted in found for role in roles]


def _made(questions: Iterator[ProfileQuestion], material: "_Material", seed: int) -> Iterator[Drafted]:
    """Those of the questions that can be a task."""
    for question in questions:
        lot = Random(_lot(seed, question.prompt_id))
        right, wrong = material.right(question, lot), material.wrong(question, lot)
        if right is not None and len(wrong) == WRONG:
            texts = [right, *wrong]
            lot.shuffle(texts)
            yield Drafted(question, tuple(texts), texts.index(right), lot.getrandbits(32))


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
