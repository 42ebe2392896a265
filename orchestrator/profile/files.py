"""From answers to what a profile run leaves in its folder.

labelled.jsonl  the judged answers in the form that `coe router fit` takes, a row for each question and expert
profile.json    the figures of each expert (`experts.profile`)

`ProfileError`  the folder cannot be used; the message says why and what to do
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from experts.profile import ALL, GOLDEN, Judged, Profile, cost, measure
from experts.profile_consensus import consensus
from experts.profile_feedback import freeze
from experts.spec import Price
from orchestrator.profile.answers import Given
from orchestrator.profile.questions import ProfileQuestion
from routers.files import replace_file

PROFILE, LABELLED = "profile.json", "labelled.jsonl"


class ProfileError(RuntimeError):
    """A profile cannot be made or used. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, what an expert answered, and the verdict."""

    question: ProfileQuestion
    given: Given
    judged: Judged


def judge(
    questions: Sequence[ProfileQuestion], answers: Iterable[Given], *, label_free: bool
) -> tuple[list[Answer], int]:
    """Every answer scored, and the number of questions that agreement gives no score for, whose answers are left out.

    Raises ProfileError for label-free judging of fewer than `experts.profile_consensus.FEWEST` experts.
    """
    if not label_free:
        return _by_gold(questions, answers), 0
    try:
        return _by_consensus(questions, answers)
    except ValueError as error:
        raise ProfileError(f"label-free: {error}; name more, or give the questions gold answers") from None


def _by_gold(questions: Sequence[ProfileQuestion], answers: Iterable[Given]) -> list[Answer]:
    """Every answer scored against gold, by the question's method."""
    by_id = {question.prompt_id: question for question in questions}
    return [
        Answer(question, given, _judged(question, given, question.score(given.text) if given.failure is None else 0.0))
        for given in answers
        if (question := by_id.get(given.prompt_id))
    ]


def _by_consensus(questions: Sequence[ProfileQuestion], answers: Iterable[Given]) -> tuple[list[Answer], int]:
    """Every answer scored by the experts' agreement, and the number of questions without any."""
    by_id = {question.prompt_id: (row, question) for row, question in enumerate(questions)}
    own = [given for given in answers if given.prompt_id in by_id]
    column = {name: place for place, name in enumerate(sorted({given.expert for given in own}))}
    said = np.full((len(questions), len(column)), None, object)
    asked = np.zeros(said.shape, bool)
    for given in own:
        row, question = by_id[given.prompt_id]
        asked[row, column[given.expert]] = True
        said[row, column[given.expert]] = short_answer(question, given)
    found = consensus(said, asked)
    judged = []
    for given in own:
        row, question = by_id[given.prompt_id]
        score = float(found.scores[row, column[given.expert]])
        if not np.isnan(score):
            judged.append(Answer(question, given, _judged(question, given, score)))
    return judged, int((found.agreement == 0).sum())


def short_answer(question: ProfileQuestion, given: Given) -> str | None:
    """The answer in the form in which the question's method compares it."""
    return None if given.failure is not None else question.method.value(given.text)


def _judged(question: ProfileQuestion, given: Given, score: float) -> Judged:
    return Judged(
        prompt_id=question.prompt_id,
        expert=given.expert,
        score=score,
        category=question.group,
        skills=question.skills,
        golden=question.golden,
        failure=given.failure,
        prompt_tokens=given.prompt_tokens,
        completion_tokens=given.completion_tokens,
        seconds=given.seconds,
        first_token_seconds=given.first_token_seconds,
    )


def profile_of(
    answers: Sequence[Answer],
    former: Profile | None,
    prices: Mapping[str, Price | None],
    *,
    label_free: bool,
    concurrent: int,
) -> Profile:
    """The profile of all experts that have answered anything outside the golden set; from `former`, the one in the
    folder, what users said and who aggregates well."""
    rows: dict[str, list[Answer]] = {}
    for answer in answers:
        rows.setdefault(answer.given.expert, []).append(answer)
    experts = {}
    for name in sorted(rows):
        before = former.experts.get(name) if former else None
        if all(row.judged.golden for row in rows[name]):
            continue
        loads = [(row.given.at, row.given.load_seconds) for row in rows[name] if row.given.load_seconds is not None]
        figures = measure((row.judged for row in rows[name]), prices.get(name), max(loads)[1] if loads else None)
        experts[name] = figures.model_copy(update={"feedback": before.feedback if before else {}})
    made = Profile(
        labels="consensus" if label_free else "gold",
        questions=len({answer.question.prompt_id for answer in answers}),
        concurrent=concurrent,
        experts=experts,
        aggregation=former.aggregation if former else None,
    )
    return made.model_copy(update={"golden": freeze(made.quality(feedback=False), golden_of(answers))})


def golden_of(answers: Iterable[Answer]) -> list[Judged]:
    return [answer.judged for answer in answers if answer.judged.golden]


def labelled_rows(
    answers: Iterable[Answer], prices: Mapping[str, Price | None], *, label_free: bool
) -> Iterable[dict[str, Any]]:
    """Rows in the form of `routers.labelled.data`. `gold` only where an answer equal to it is right; without gold
    answers `labels` says "consensus" in every row, and scores are probabilities."""
    for answer in answers:
        question, judged = answer.question, answer.judged
        price = prices.get(judged.expert)
        row = {
            "prompt_id": question.prompt_id,
            "prompt": question.prompt,
            "expert": judged.expert,
            "score": round(judged.score, 6),
            "category": question.category,
            "cost": None if price is None else cost(judged, price),
            "answer": short_answer(question, answer.given),
            "gold": _gold(question),
            "split": question.split,
        }
        yield {name: value for name, value in row.items() if value is not None} | (
            {"labels": "consensus"} if label_free else {}
        )


def _gold(question: ProfileQuestion) -> str | None:
    method = question.method
    return method.value(question.gold[0]) if method.states_gold and len(question.gold) == 1 else None


def read_profile(folder: Path) -> Profile | None:
    """The profile in the folder, None if there is none. Raises ProfileError."""
    path = folder / PROFILE
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(
            f"{path} is no profile ({where}: {first['msg']}); delete it and run `coe profile` again"
        ) from None


def read_golden(folder: Path) -> list[Judged]:
    """The judged answers of the golden set in the folder's labelled file. Raises ProfileError."""
    path = folder / LABELLED
    try:
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return [
            Judged(row["prompt_id"], row["expert"], row["score"], row.get("category", ALL), golden=True)
            for row in rows
            if row.get("split") == GOLDEN
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProfileError(f"{path} is damaged; run `coe profile` again, which writes it anew") from None


def write_profile(folder: Path, profile: Profile) -> None:
    replace_file(folder / PROFILE, profile.model_dump_json(indent=1).encode() + b"\n")


def write_labelled(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    replace_file(folder / LABELLED, b"".join(orjson.dumps(row) + b"\n" for row in rows))
