"""`coe profile --aggregators`: who finds the right one of three drafts, and so should judge and write.

questions, answers.jsonl -> tasks -> aggregators/answers.jsonl -> `aggregation` in profile.json
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregators.rubric import Rubric, fit_weights
from aggregators.settings import Role, Settings
from experts.profile import Aggregation, Profile, Share, share
from experts.profile_aggregation import best_aggregator
from orchestrator.profile.answers import Answers, Given
from orchestrator.profile.ask import Asker
from orchestrator.profile.files import ProfileError, read_profile, write_profile
from orchestrator.profile.questions import ProfileQuestion, check_same
from orchestrator.profile.run import BACKOFF, CONCURRENT, Progress, ask_all
from orchestrator.profile.tasks import Task, tasks

FOLDER = "aggregators"
"""Below the profile's folder: the answers to the tasks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left. tasks: for each expert; asked: answers that it added; missing: as in `profile.run`."""

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
    """Puts the tasks of `shots` questions to each of `experts`, but for those that are answered, and writes what they
    were worth.

    settings: with prompts, rubrics and the length of drafts. Raises ProfileError, AnswersError.
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
    by_id = {task.asked.prompt_id: task for task in todo}
    questions = [task.asked for task in todo]
    with Answers(folder / FOLDER) as answers:
        check_same(questions, {given.prompt_id: given.digest for given in answers}, answers.path)
        before = len(answers.known)
        missing = await ask_all(
            asker, dict.fromkeys(experts, questions), answers, on_progress, concurrent=concurrent, backoff=backoff
        )
        given = [each for each in answers if each.prompt_id in by_id]
        added = len(answers.known) - before
    if not given:
        whys = [f"{name}: {why}" for name, why in missing.items()]
        raise ProfileError("; ".join(["there is no answer to measure by", *whys]))
    found = profile.model_copy(update={"aggregation": measure(by_id, given)})
    write_profile(folder, found)
    return Outcome(found, len(todo), added, missing)


def measure(tasks: Mapping[str, Task], answers: Sequence[Given]) -> Aggregation:
    """Who was right how often, and what weights tell the right draft best. tasks: by the id of what was asked."""
    judging = _shares(tasks, answers, "judge")
    return Aggregation(
        writing=_shares(tasks, answers, "writer"), judging=judging, weights=_weights(tasks, answers, judging)
    )


def _shares(tasks: Mapping[str, Task], answers: Iterable[Given], role: Role) -> dict[str, dict[str, Share]]:
    """Category -> expert -> how often it was right, both in order of their names."""
    rows: dict[str, dict[str, list[float]]] = {}
    for given in answers:
        task = tasks[given.prompt_id]
        if task.role == role:
            score = task.score(given.text) if given.failure is None else 0.0
            rows.setdefault(task.group, {}).setdefault(given.expert, []).append(score)
    return {
        category: {expert: share(rows[category][expert]) for expert in sorted(rows[category])}
        for category in sorted(rows)
    }


@dataclass(frozen=True, slots=True)
class _Judgement:
    """scores: (drafts, dimensions), of one judge of one task."""

    scores: list[list[float]]
    right: int


def _weights(
    tasks: Mapping[str, Task], answers: Iterable[Given], judging: Mapping[str, Mapping[str, Share]]
) -> dict[str, dict[str, float]]:
    """Category -> dimension -> weight, from what the category's own judge said.

    Those of a category are shrunk to those of all categories with the same rubric. A rubric that has weights keeps
    them, and a category whose judge said nothing that can be used has none.
    """
    judge = {category: best_aggregator(judging, category, list(row)) for category, row in judging.items()}
    said: dict[Rubric, dict[str, list[_Judgement]]] = {}
    for given in answers:
        task = tasks[given.prompt_id]
        is_asked = task.role == "judge" and not task.settings.is_pairwise and task.rubric.weights is None
        if not is_asked or given.failure is not None or given.expert != judge[task.group]:
            continue
        if (scores := task.scores(given.text)) is not None:
            names = [dimension.name for dimension in task.rubric.dimensions]
            rows = [[own[name] for name in names] for own in scores.values()]
            by_category = said.setdefault(task.rubric, {})
            by_category.setdefault(task.group, []).append(_Judgement(rows, task.drafted.right))
    found = {}
    for rubric, by_category in said.items():
        overall = _fitted([own for row in by_category.values() for own in row])
        for category, row in by_category.items():
            weights = _fitted(row, overall)
            names = [dimension.name for dimension in rubric.dimensions]
            found[category] = {name: round(own, 4) for name, own in zip(names, weights, strict=True)}
    return {category: found[category] for category in sorted(found)}


def _fitted(row: Sequence[_Judgement], towards: Sequence[float] | None = None) -> tuple[float, ...]:
    scores = np.array([draft for own in row for draft in own.scores])
    right = np.array([float(place == own.right) for own in row for place in range(len(own.scores))])
    questions = np.repeat(np.arange(len(row)), [len(own.scores) for own in row])
    return fit_weights(scores, right, questions, towards)
