"""The live comparison of aggregators: the same questions for all, and what fails is a wrong answer that is told."""

from typing import Any

import openai

from benchmarks.aggregation_live import SINGLE, Said, ask, figures, told
from benchmarks.starter import held_out
from experts.domains.base import Question

NO_REQUEST: Any = None


async def right(name: str, question: Question) -> Said:
    return Said(question.answer, 1, 10, f"judge smol-sql chose smol-{name}'s draft: 7.5 of 10")


async def failing(name: str, question: Question) -> Said:
    raise openai.APIError("the service is full", NO_REQUEST, body=None)


async def test_a_failure_is_a_wrong_answer_and_told() -> None:
    both = {SINGLE: right, "vote of 3": failing}
    made = figures([await ask(both, name, held_out(name, 1)[0]) for name in ("sql", "cron")])
    single, vote = made["ways"][SINGLE], made["ways"]["vote of 3"]
    assert made["questions"] == 2
    assert (single["right"], single["calls"], single["tokens"], single["lead"]) == (100.0, 1.0, 10.0, 0.0)
    assert (vote["right"], vote["lead"], vote["errors"]) == (0.0, -100.0, ["the service is full"])
    assert vote["by_domain"] == {"sql": 0.0, "cron": 0.0}
    assert single["notes"] == {"judge X chose X's draft": 2}, "whoever it was"
    assert "vote of 3: the service is full" in told(made)
