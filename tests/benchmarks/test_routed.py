"""The labelled sets that routers are measured on."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.route_speed import chosen_scores, large, milliseconds
from benchmarks.routed import cases, starter_case
from routers.encoders.hashed import HashEncoder
from routers.fixed import FixedRouter

ROWS = """prompt_id,prompt,expert,score,split
1,one,a,1,train
1,one,b,0,train
2,two,a,0,val
2,two,b,1,val
3,three,a,1,test
"""


def test_the_test_part_is_held_out_else_val(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.labelled.csv").write_text(ROWS)
    (tmp_path / "a.labelled.csv").write_text("\n".join(ROWS.splitlines()[:-1]) + "\n")
    first, second = cases(tmp_path)
    assert (first.name, first.train.prompts, first.test.prompts) == ("a", ("one",), ("two",))
    assert (second.name, second.train.prompts, second.test.prompts) == ("b", ("one", "two"), ("three",))


def test_a_folder_without_sets_and_a_set_without_parts_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no file"):
        list(cases(tmp_path))
    (tmp_path / "a.labelled.csv").write_text(ROWS.replace("val", "train").replace("test", "train"))
    with pytest.raises(SystemExit, match="a part 'test' or 'val'"):
        list(cases(tmp_path))


def test_the_starter_case_holds_nothing_back_that_it_shows() -> None:
    case = starter_case(held_out=5)
    assert not set(case.train.prompts) & set(case.test.prompts)
    assert case.train.experts == case.test.experts
    assert set(case.test.categories or ()) == set(case.train.categories or ())
    assert set(np.unique(case.train.scores)) == {0.0, 1.0}
    again = starter_case(held_out=5)
    np.testing.assert_array_equal(case.train.scores, again.train.scores)


def test_the_score_of_a_route_is_that_of_its_first_expert(tmp_path: Path) -> None:
    (tmp_path / "a.labelled.csv").write_text(ROWS)
    [case] = cases(tmp_path)
    np.testing.assert_array_equal(chosen_scores(FixedRouter("a"), case.train), [1, 0])
    np.testing.assert_array_equal(chosen_scores(FixedRouter("b"), case.test), [np.nan])


def test_the_largest_router_chooses_among_all_experts() -> None:
    router = large(HashEncoder(16), experts=30, skills=200)
    names = router.experts
    assert len(names) == 30
    chosen = {router.route(f"prompt {i}", names).experts[0] for i in range(50)}
    assert len(chosen) > 1


def test_calls_take_turns_on_every_prompt() -> None:
    seen: list[str] = []
    figures = milliseconds([lambda p: seen.append("a" + p), lambda p: seen.append("b" + p)], ["1", "2"])
    assert seen[4:] == ["a1", "b1", "a2", "b2"]
    assert len(figures) == 2
    assert all(0 <= p50 <= p99 and cpu >= 0 for p50, p99, cpu in figures)
