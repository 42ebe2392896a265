"""What the starter pool is measured with."""

from collections import Counter

from experts.domains import NAMES
from orchestrator.training import QUESTIONS, validation_questions


def test_every_domain_has_its_validation_questions_and_its_own_scorer() -> None:
    questions = validation_questions()
    assert Counter(question.category for question in questions) == dict.fromkeys(NAMES, QUESTIONS)
    assert len({question.prompt_id for question in questions}) == len(questions)
    for question in questions[::QUESTIONS]:
        assert question.method.name == f"domain:{question.category}"
        assert (question.score(question.gold[0]), question.score("no idea")) == (1.0, 0.0)
