"""However many processes plan a batch, and whatever becomes of them, it is the same plan."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.access.grant import EVERYTHING
from orchestrator.batch.apart import Apart, Here, PlannersDied, Stopped, Watch
from orchestrator.batch.jobs import Caller
from orchestrator.batch.lines import Line, UnreadableFile
from orchestrator.batch.pieces import Decide, Job, Part, Parts, Piece, cut, plan_piece
from orchestrator.batch.plan import BAD, Team
from orchestrator.batch.planner import Planner, Rules, load, save
from orchestrator.batch.storage import Folder
from orchestrator.batch.teams import Teams
from orchestrator.ensembles import Ensemble
from orchestrator.http.asks import named_by
from orchestrator.routing import Deciding, Tenant
from routers.encoders.hashed import HashEncoder
from routers.policies.policy_set import PolicySet
from routers.two_level.router import TwoLevelRouter
from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import ENDS, create, running
from tests.orchestrator.parts import AGGREGATORS, LIMITS, MATH, REGISTRY, SQL, Joined, Service

JOB_ID = "batch_" + "0" * 32
PIECE = 4096
PANEL = Ensemble("ensemble/panel", 2, Joined(), experts=(SQL, MATH), expert=MATH)


def router() -> TwoLevelRouter:
    prompts = [f"{word} {n}" for n in range(10) for word in ("select rows", "add numbers", "chat with me")]
    quality = {
        "sql": {"sql": (0.9, 50), "math": (0.1, 50), "generalist": (0.5, 50)},
        "math": {"sql": (0.2, 50), "math": (0.8, 50), "generalist": (0.7, 50)},
        "general": {"sql": (0.2, 50), "math": (0.3, 50), "generalist": (0.6, 50)},
    }
    return TwoLevelRouter.fit(
        prompts, ["sql", "math", "general"] * 10, quality, HashEncoder(), fallback="generalist", aggregator="joined"
    )


def job(source: Path, decide: Decide | None = None) -> Job:
    deciding = Deciding(Tenant(router(), PolicySet()), {}, REGISTRY, AGGREGATORS, {PANEL.model: PANEL})
    teams = decide or Teams(deciding, None, Caller("", "", EVERYTHING))
    return Job(source, "/v1/chat/completions", LIMITS, named_by(EVERYTHING, REGISTRY.names, AGGREGATORS), teams)


def lines() -> Iterator[str]:
    """All that a line may be, in some hundred kilobytes."""
    for n in range(600):
        yield jsonl.chat(f"line-{n}", f"{('select rows', 'add numbers', 'say something')[n % 3]} {n}")
        if n % 7 == 0:
            yield jsonl.chat(f"several-{n}", f"select and add {n}", coe={"k": 2 + n % 2})
        if n % 11 == 0:
            yield jsonl.chat(f"panel-{n}", f"add the rows {n}", model=PANEL.model)
        if n % 13 == 0:
            yield from ("", "   ", "nonsense", jsonl.chat(f"hot-{n}", temperature=3), jsonl.chat("x", model="sqll"))
            yield jsonl.chat(f"none-{n}", coe={"needs": ["image"]})
        if n % 17 == 0:
            yield jsonl.chat(f"line-{n // 2}", "an id of another piece")
        if n == 300:
            yield jsonl.chat("huge", "y" * 30_000)


def planned(folder: Path, of: Job, parts: Parts) -> tuple[bytes, bytes]:
    """(the plan, the records of lines that cannot be run), as they are in the storage."""
    storage, rules = Folder(folder), Rules(LIMITS, 10_000, 8, {spec.name: "f" for spec in REGISTRY}, PIECE)
    with storage.upload("bad") as errors:
        prepared = Planner(of, rules, parts).run(errors, JOB_ID)
        errors.commit()
    save(storage, "plan", prepared)
    return storage.read("plan"), storage.read("bad")


def nothing() -> None:
    pass


HERE = Here(Watch())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines()).encode())  # and no last end
    return path


@pytest.mark.parametrize("processes", [3])
def test_several_processes_make_the_plan_of_one(tmp_path: Path, source: Path, processes: int) -> None:
    own = job(source)
    assert planned(tmp_path / "apart", own, Apart(processes, Watch(), refuse)) == planned(tmp_path / "here", own, HERE)


def refuse(of: Job, pieces: Iterable[Piece]) -> Iterator[Part]:
    raise AssertionError("it was to be planned by others")


def test_a_plan_of_pieces_is_that_of_the_whole(tmp_path: Path, source: Path) -> None:
    planned(tmp_path / "home", job(source), HERE)
    prepared = load(Folder(tmp_path / "home"), "plan")
    whole = plan_piece(job(source), Piece(0, source.stat().st_size), nothing)
    assert prepared.offsets.tolist() == whole.offsets.tolist()
    assert prepared.lengths.tolist() == whole.lengths.tolist()
    assert prepared.numbers.tolist() == whole.numbers.tolist()
    told = [whole.teams[code] if code != BAD else None for code in whole.codes]
    again = {n for n, digest in enumerate(whole.digests) if digest in whole.digests[:n] and told[n]}
    twice = [n for n in again if source.read_bytes()[whole.offsets[n] :].find(b"an id of another") in range(200)]
    assert len(twice) == 36
    assert [prepared.teams[code] if code != BAD else None for code in prepared.codes] == [
        None if n in twice else team for n, team in enumerate(told)
    ]
    assert {Team((SQL, MATH), None), Team((MATH, SQL), None)} & set(prepared.teams)


@pytest.mark.parametrize("size", [1, 7, 100, PIECE, 1 << 20])
def test_pieces_hold_all_of_the_file_and_end_with_lines(source: Path, size: int) -> None:
    data, at = source.read_bytes(), 0
    for piece in cut(source, size):
        assert piece.start == at
        at = piece.end
        assert data[at - 1 : at] == b"\n" or at == len(data)
    assert at == len(data)


def test_too_many_lines_are_found_in_whatever_piece(tmp_path: Path, source: Path) -> None:
    rules = Rules(LIMITS, 700, 8, {}, PIECE)
    with Folder(tmp_path).upload("bad") as errors, pytest.raises(UnreadableFile, match="more than 700 lines"):
        Planner(job(source), rules, Apart(2, Watch(), refuse)).run(errors, JOB_ID)


# Processes that do not do what they should


@dataclass(frozen=True)
class Deadly:
    """Kills the process that it is in, `times` in all, when it comes to a line with that word."""

    decide: Decide
    folder: Path
    times: int
    parent: int

    def __call__(self, lines: Sequence[Line]) -> Sequence[Team | Exception]:
        if os.getpid() != self.parent and any(line.custom_id == "several-322" for line in lines):
            deaths = len(list(self.folder.iterdir()))
            if deaths < self.times:
                (self.folder / str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.decide(lines)


@pytest.mark.parametrize("times", [2])
def test_what_a_process_that_died_had_under_way_is_planned_again(tmp_path: Path, source: Path, times: int) -> None:
    (tmp_path / "deaths").mkdir()
    own = job(source)
    deadly = replace(own, decide=Deadly(own.decide, tmp_path / "deaths", times, os.getpid()))
    assert planned(tmp_path / "apart", deadly, Apart(2, Watch(), refuse)) == planned(tmp_path / "here", own, HERE)
    assert len(list((tmp_path / "deaths").iterdir())) == times


def test_a_line_that_ends_processes_again_and_again_ends_the_planning_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / "deaths").mkdir()
    own = job(source)
    deadly = replace(own, decide=Deadly(own.decide, tmp_path / "deaths", 100, os.getpid()))
    with pytest.raises(PlannersDied, match="died 3 times"):
        planned(tmp_path / "apart", deadly, Apart(2, Watch(), refuse))


def test_what_cannot_be_sent_is_planned_here(tmp_path: Path, source: Path) -> None:
    own = job(source)
    here = replace(own, decide=lambda lines: own.decide(lines))
    assert planned(tmp_path / "apart", here, Apart(2, Watch(), HERE)) == planned(tmp_path / "here", own, HERE)


@dataclass(frozen=True)
class Unloadable:
    """It can be sent, and not be received."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)

    def __call__(self, lines: Sequence[Line]) -> Sequence[Team | Exception]:
        return [Team((SQL,))] * len(lines)


def test_where_no_process_starts_it_is_planned_here(tmp_path: Path, source: Path) -> None:
    own = job(source, Unloadable())
    assert planned(tmp_path / "apart", own, Apart(2, Watch(), HERE)) == planned(tmp_path / "here", own, HERE)


def test_a_plan_that_is_given_up_ends_at_once(tmp_path: Path, source: Path) -> None:
    watch = Watch()
    watch.stop()
    for parts in (Here(watch), Apart(2, watch, refuse)):
        with pytest.raises(Stopped):
            planned(tmp_path / "home", job(source), parts)


async def test_a_service_plans_a_large_file_apart_and_goes_on_answering(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Here, "__call__", lambda self, job, pieces: refuse(job, pieces))
    content = jsonl.file(jsonl.chat(f"line-{n}", f"{(SQL, MATH)[n % 2]} {'x' * 16_000}") for n in range(600))
    async with running(service):
        batch = await create(service, content, extra_body={"coe": {"dry_run": True}})
        while (batch := await service.openai.batches.retrieve(batch.id)).status not in ENDS:
            answer = await service.openai.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "some sql"}]
            )
            assert answer.choices[0].message.content == "sql heard: some sql"
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.total == 600
