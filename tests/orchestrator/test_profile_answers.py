"""The file of answers outlives the run."""

from pathlib import Path

import pytest

from orchestrator.profile.answers import NAME, Answers, AnswersError, Given

ONE, TWO = Given("q1", "ada", "d", text="yes\nno", prompt_tokens=3), Given("q2", "ada", "d", load_seconds=0.5)


def test_what_was_added_is_there_for_the_next_run_and_only_once(tmp_path: Path) -> None:
    with Answers(tmp_path / "new") as answers:
        for given in (ONE, TWO, ONE):
            answers.add(given)
        assert len(answers.path.read_bytes().splitlines()) == 2, "on the disk before the file is closed"
    with Answers(tmp_path / "new") as answers:
        assert list(answers) == [ONE, TWO]
        assert answers.known[ONE.key] == ONE


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        answers.add(ONE)
        answers.add(TWO)
    path = tmp_path / NAME
    whole = path.read_bytes()
    for length in range(len(whole.splitlines()[0]) + 2, len(whole)):
        path.write_bytes(whole[:length])
        with Answers(tmp_path) as answers:
            assert list(answers) == [ONE]
            answers.add(TWO)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"prompt_id": "q"}', b'{"prompt_id": "q", "colour": 1}', b"\xff"])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    with Answers(tmp_path) as answers:
        answers.add(ONE)
    with (tmp_path / NAME).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(AnswersError, match=r"answers\.jsonl, line 2: .*; mend the line or delete it"):
        Answers(tmp_path)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    with Answers(tmp_path), pytest.raises(AnswersError, match="another run is writing"):
        Answers(tmp_path)
    Answers(tmp_path).__exit__(None, None, None)
