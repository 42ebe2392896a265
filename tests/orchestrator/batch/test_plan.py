"""The order of the work, as pure arithmetic; and what a planner tells of a large file."""

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from orchestrator.batch.jobs import Tokens
from orchestrator.batch.lines import digest, repeated
from orchestrator.batch.logs import attempt, counted, draft, earlier, hit, records, result
from orchestrator.batch.plan import BAD, NOBODY, Group, Team, loads, make, seconds

A, B, C = Team(("a",)), Team(("b",)), Team(("c",))
AB = Team(("a", "b"), "c")
FAMILIES = dict.fromkeys("abc", "small") | {"x": "large"}


def codes(*of: int) -> NDArray[np.int32]:
    return np.array(of, np.int32)


def shown(groups: tuple[Group, ...]) -> list[tuple[int, str, int]]:
    return [(group.stage, group.expert, group.steps) for group in groups]


def test_each_expert_has_one_group_the_largest_first() -> None:
    plan = make(codes(0, 1, 1, 0, 1, 2), (A, B, C), FAMILIES, 2)
    assert shown(plan.groups) == [(1, "b", 3), (1, "a", 2), (1, "c", 1)]
    assert plan.lines.tolist() == [1, 2, 4, 0, 3, 5]
    assert loads(plan.groups) == 3


def test_what_is_loaded_comes_first() -> None:
    plan = make(codes(0, 1, 1, 0, 1, 2), (A, B, C), FAMILIES, 2, resident=["c"])
    assert [group.expert for group in plan.groups] == ["c", "b", "a"]


def test_blocks_are_of_one_group_and_hold_every_step_once() -> None:
    plan = make(codes(*[n % 3 for n in range(100)]), (A, B, C), FAMILIES, 7)
    steps: list[int] = []
    for number in range(sum(group.blocks for group in plan.groups)):
        group, own = plan.block(number)
        assert group.step <= own.start < own.stop <= group.step + group.steps
        assert 0 < len(own) <= 7
        steps += own
    assert steps == list(range(100))


def test_drafts_come_with_their_experts_and_answers_after_all_of_them() -> None:
    plan = make(codes(0, 1, 2, 2, 0), (A, B, AB), FAMILIES, 2)
    assert shown(plan.groups) == [(1, "a", 4), (1, "b", 3), (2, "c", 2)]
    assert plan.drafts(3, AB) == {"a": (1, 2), "b": (3, 6)}
    assert [int(plan.lines[step]) for _, step in plan.drafts(3, AB).values()] == [3, 3]


def test_who_writes_for_others_comes_last_and_is_not_loaded_twice() -> None:
    plan = make(codes(0, 2, 3, 2, 2), (A, B, C, AB), FAMILIES, 2)
    assert shown(plan.groups) == [(1, "a", 2), (1, "b", 1), (1, "c", 3), (2, "c", 1)]
    assert loads(plan.groups) == 3


def test_an_answer_that_nobody_writes_needs_no_expert() -> None:
    plan = make(codes(0), (Team(("a", "b")),), FAMILIES, 2)
    assert shown(plan.groups) == [(1, "a", 1), (1, "b", 1), (2, NOBODY, 1)]
    assert loads(plan.groups) == 2


def test_bad_lines_have_no_step() -> None:
    assert make(codes(0, BAD, 0), (A,), FAMILIES, 2).lines.tolist() == [0, 2]
    assert make(codes(BAD), (), FAMILIES, 2).groups == ()


def test_families_work_at_the_same_time() -> None:
    plan = make(codes(0, 0, 1, 2, 2, 2), (A, B, Team(("x",))), FAMILIES, 2)
    rates = {"a": 2.0, "b": 1.0, "x": 1.0}
    assert seconds(plan.groups, rates, {}) == 3.0
    assert seconds(plan.groups, rates, {"a": 5.0}) == 7.0
    assert seconds(plan.groups, {"a": 2.0}, {}) is None


def test_ids_that_stand_there_before_are_found() -> None:
    digests = np.array([digest(own) for own in ("a", "b", "a", "c", "b", "a")], np.uint64)
    again, first = repeated(digests)
    assert (again.tolist(), first.tolist()) == ([2, 4, 5], [0, 1, 0])


# Logs

LINE = orjson.dumps({"response": {"body": {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}}})
DONE = result(3, True, LINE)


def test_records_are_read_as_they_were_written() -> None:
    data = DONE + draft(12, b"[]") + attempt(4) + hit(5, is_alone=True)
    found = list(records(data))
    assert [(own.kind, own.step, own.is_ok) for own in found] == [
        ("R", 3, True),
        ("D", 12, True),
        ("A", 4, True),
        ("X", 5, True),
    ]
    assert [data[own.at : own.at + own.length] for own in found[:2]] == [LINE, b"[]"]
    assert b"".join(own.raw for own in found) == data
    log = counted(found, len(data))
    assert (log.steps, log.completed, log.failed, log.tokens) == (2, 1, 0, Tokens(7, 0, 2))


@pytest.mark.parametrize("cut", range(1, len(DONE)))
def test_half_a_record_at_the_end_is_none(cut: int) -> None:
    assert [own.step for own in records(result(1, False, b"{}") + DONE[:-cut])] == [1]


def test_what_counts_is_done_and_the_rest_is_taken_over_once() -> None:
    mine = result(1, True, LINE) + result(2, True, LINE) + attempt(9) + hit(8, is_alone=False)
    yours = result(2, False, b"{}") + result(3, True, LINE) + attempt(9) + hit(8, is_alone=True)
    left = earlier([(mine, len(result(1, True, LINE))), (yours, 0)])
    assert left.done == {1}
    assert [(own.step, own.is_ok) for own in left.found] == [(2, True), (3, True)]
    assert (left.tries[9], left.hits[8], left.downs[8]) == (2, 1, 1)
