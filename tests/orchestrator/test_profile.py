"""A profile run on the fake engine: who is asked what and how often, and what is written."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from experts.profile import Profile
from experts.registry import Registry
from experts.spec import ExpertSpec, Price
from orchestrator.profile.answers import NAME
from orchestrator.profile.ask import EngineAsker
from orchestrator.profile.files import LABELLED, PROFILE, ProfileError, read_golden, read_profile
from orchestrator.profile.questions import ProfileQuestion, QuestionsError
from orchestrator.profile.run import LOST_IN_A_ROW, Outcome, run
from orchestrator.profile.scoring import method
from routers.labelled.data import read
from workers.base import ChatCall
from workers.fake_engine import FakeEngine

REGISTRY = Registry(
    [
        ExpertSpec(name="ada", source="a", family="small", price=Price(input=1, output=2)),
        ExpertSpec(name="cyd", source="c", family="large"),
        ExpertSpec(name="bob", source="b", family="small", context_length=20),
        ExpertSpec(name="dan", source="d", family="small"),
    ]
)
SKILL = {"ada": {"sum"}, "bob": {"sum", "word"}, "cyd": set[str](), "dan": {"word"}}
"""What each expert is right in."""


def questions(n: int = 12, **changes: Any) -> list[ProfileQuestion]:
    """Sums and words by turns; the right answer is the number of the question."""
    return [
        ProfileQuestion(
            f"q{number}",
            f"{('sum', 'word')[number % 2]} {number}",
            method("exact"),
            **{"gold": (str(number),), "category": ("sum", "word")[number % 2], "skills": ("all",)} | changes,
        )
        for number in range(n)
    ]


def answer(call: ChatCall) -> str:
    kind, number = call.messages[-1]["content"].split()[:2]
    return number if kind in SKILL[call.expert] else f"I am {call.expert} and number {number} is no use to me"


class Bench:
    """Fake engines that remember what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[FakeEngine] = []
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None
        self.progress: list[tuple[str, int, int]] = []

    def make(self, family: str) -> FakeEngine:
        engine = FakeEngine(family, REGISTRY.families()[family], answer=answer)
        self.prepare(engine)
        self.made.append(engine)
        return engine

    async def run(self, experts: Sequence[str] = REGISTRY.names, asked: Any = None, **options: Any) -> Outcome:
        asker = EngineAsker(REGISTRY, self.make, lambda line: None)
        fast: dict[str, Any] = {"concurrent": 4, "backoff": (0, 0)}
        try:
            return await run(
                asker,
                experts,
                questions() if asked is None else asked,
                self.folder,
                lambda *step: self.progress.append(step),
                **fast | options,
            )
        finally:
            await asker.close()

    @property
    def calls(self) -> Iterator[ChatCall]:
        return (call for engine in self.made for call in engine.calls)

    @property
    def asked(self) -> Counter[tuple[str, str]]:
        """(prompt, expert) -> how often."""
        return Counter((call.messages[-1]["content"], call.expert) for call in self.calls)

    def profile(self) -> Profile:
        found = read_profile(self.folder)
        assert found is not None
        return found

    def file(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "out")


async def test_every_expert_has_one_turn_and_every_family_one_start(bench: Bench) -> None:
    outcome = await bench.run()
    assert [expert for expert, _ in groupby(call.expert for call in bench.calls)] == ["ada", "bob", "dan", "cyd"]
    assert [engine.family for engine in bench.made] == ["small", "large"]
    assert not any(engine._up for engine in bench.made), "every engine is closed"
    assert set(bench.asked.values()) == {1}
    assert len(bench.asked) == outcome.asked == 48
    assert all(call.sampling.temperature == 0 for call in bench.calls)
    assert bench.progress[-1] == ("", 48, 48)
    assert [done for _, done, _ in bench.progress] == sorted(done for _, done, _ in bench.progress)


async def test_the_profile_says_who_is_good_at_what(bench: Bench) -> None:
    profile = (await bench.run()).profile
    assert read_profile(bench.folder) == profile
    assert profile.quality() == {
        "sum": {"ada": (1.0, 6), "bob": (1.0, 6), "cyd": (0.0, 6), "dan": (0.0, 6)},
        "word": {"ada": (0.0, 6), "bob": (1.0, 6), "cyd": (0.0, 6), "dan": (1.0, 6)},
    }
    ada = profile.experts["ada"]
    assert (ada.skills["all"].mean, ada.prompt_tokens, ada.price) == (0.5, 2.0, Price(input=1, output=2))
    assert ada.cost == pytest.approx((2 * 1 + ada.completion_tokens * 2) / 1e6)
    assert ada.latency.p95 >= ada.latency.p50 > 0
    assert profile.experts["bob"].cost is None
    assert (profile.labels, profile.questions, profile.concurrent, profile.golden) == ("gold", 12, 4, None)


async def test_the_labelled_file_is_what_a_router_is_fitted_on(bench: Bench) -> None:
    await bench.run()
    data = read(bench.folder / LABELLED, None)
    assert data.experts == ("ada", "bob", "cyd", "dan")
    assert data.scores[:2].tolist() == [[1, 1, 0, 0], [0, 1, 0, 1]]
    assert data.categories == ("sum", "word") * 6
    assert data.gold == tuple(map(str, range(12)))
    assert data.answers is not None
    useless = [f"i am {name} and number 0 is no use to me" for name in ("cyd", "dan")]
    assert data.answers[0].tolist() == ["0", "0", *useless]
    assert data.costs is not None
    assert (data.costs[:, 0] > 0).all()


async def test_a_run_goes_on_where_it_was_killed(bench: Bench) -> None:
    killed = asyncio.create_task(bench.run())
    while len(bench.asked) < 20:
        await asyncio.sleep(0)
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    answered = {(row["prompt_id"], row["expert"]) for row in bench.file(NAME)}
    assert 12 < len(answered) < 24
    assert not (bench.folder / PROFILE).exists()
    with (bench.folder / NAME).open("a") as file:
        file.write('{"prompt_id": "q')  # the line that was being written
    bench.made.clear()
    await bench.run()
    again = {(f"q{prompt.split()[1]}", expert) for prompt, expert in bench.asked}
    assert not again & answered
    assert len(again | answered) == len(bench.file(NAME)) == 48
    first, *_ = bench.progress[-2:]
    assert first[2] == 48


async def test_a_run_that_has_all_answers_starts_nothing(bench: Bench) -> None:
    before = (await bench.run()).profile
    bench.made.clear()
    outcome = await bench.run()
    assert (bench.made, outcome.asked, outcome.profile) == ([], 0, before)


async def test_a_passing_failure_is_asked_again(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.fail_next("overloaded", times=2)
    outcome = await bench.run(["ada"])
    assert outcome.missing == {}
    assert bench.asked.total() == 14
    assert len(bench.file(NAME)) == 12


async def test_a_failure_that_stays_is_no_answer_and_told(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.fail_next("internal", "no luck", times=1000)
    told = r"no answer to make a profile from; ada: \d+ questions failed again and again, the last one with: no luck"
    with pytest.raises(ProfileError, match=told):
        await bench.run(["ada"])
    assert bench.file(NAME) == []
    assert LOST_IN_A_ROW <= bench.asked.total() / 3 < 12, "each three times, and not all of them"
    bench.prepare = lambda engine: None
    assert (await bench.run(["ada"])).missing == {}


async def test_an_engine_that_dies_is_started_again(bench: Bench) -> None:
    def dies_once(engine: FakeEngine) -> None:
        def dies(call: ChatCall) -> str:
            if bench.asked.total() == 6:
                engine.die()
            return answer(call)

        engine.answer = dies if not bench.made else answer

    bench.prepare = dies_once
    outcome = await bench.run(["ada"], backoff=(0, 0, 0))
    assert outcome.missing == {}
    assert len(bench.made) == 2
    assert len(bench.file(NAME)) == 12


async def test_the_words_of_another_expert_are_no_answer(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.stamp_next("bob")
    await bench.run(["ada"])
    assert bench.asked.total() == 13


async def test_an_expert_that_is_down_does_not_hold_up_the_others(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.fail_start("bob", "no weights")
    outcome = await bench.run()
    assert outcome.missing == {"bob": "expert 'bob': no weights"}
    assert sum(count for (_, expert), count in bench.asked.items() if expert == "bob") <= 4
    assert sorted(outcome.profile.experts) == ["ada", "cyd", "dan"]


async def test_a_family_that_does_not_start_is_told(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.fail_next_start("no memory") if engine.family == "large" else None
    outcome = await bench.run(["ada", "cyd"])
    assert outcome.missing == {"cyd": "the engine of large does not start: no memory"}


async def test_a_prompt_that_is_too_long_is_scored_as_wrong(bench: Bench) -> None:
    long = ProfileQuestion("long", "sum 99 " + "x " * 20, method("exact"), ("99",), category="sum")
    outcome = await bench.run(["bob"], [*questions(4), long])
    bob = outcome.profile.experts["bob"]
    assert bob.failed == 1
    assert bob.categories["sum"].mean == pytest.approx(2 / 3, abs=1e-6)
    assert [row["failure"] for row in bench.file(NAME) if row["prompt_id"] == "long"] == ["prompt_too_long"]
    assert sum(prompt.startswith("sum 99") for prompt, _ in bench.asked.elements()) == 1


async def test_a_new_expert_is_asked_few_questions_and_the_others_stay(bench: Bench) -> None:
    await bench.run(["ada", "bob", "cyd"], questions(40))
    before = {name: bench.file(name) for name in (NAME, LABELLED)}
    known = bench.profile()
    bench.made.clear()
    outcome = await bench.run(["dan"], questions(40), shots=8)
    assert {expert for _, expert in bench.asked} == {"dan"}
    assert len(bench.asked) == outcome.asked == 8
    assert bench.file(NAME)[: len(before[NAME])] == before[NAME]
    assert [row for row in bench.file(LABELLED) if row["expert"] != "dan"] == before[LABELLED]
    new = bench.profile()
    assert {name: new.experts[name] for name in known.experts} == known.experts
    assert {name: (each.mean, each.n) for name, each in new.experts["dan"].categories.items()} == {
        "sum": (0.0, 4),
        "word": (1.0, 4),
    }
    bench.made.clear()
    await bench.run(["dan"], questions(40), shots=8)
    assert not bench.asked, "the same questions are chosen again"


async def test_a_new_expert_also_answers_the_golden_set(bench: Bench) -> None:
    golden = questions(4, split="golden")
    rest = [question for question in questions(24, split="train") if question not in golden][4:]
    await bench.run(["ada"], golden + rest)
    outcome = await bench.run(["dan"], golden + rest, shots=4)
    assert outcome.asked == 8
    assert outcome.profile.golden is not None
    assert outcome.profile.golden.questions == 4
    assert outcome.profile.experts["dan"].overall.n == 4
    assert len(read_golden(bench.folder)) == 8


async def test_too_few_shots(bench: Bench) -> None:
    with pytest.raises(ProfileError, match="--shots: 1 questions are too few for 2 categories"):
        await bench.run(["dan"], shots=1)


async def test_without_gold_agreement_is_the_measure_and_the_files_say_so(bench: Bench) -> None:
    outcome = await bench.run(asked=questions(gold=()), label_free=True)
    profile = outcome.profile
    assert profile.labels == bench.profile().labels == "consensus"
    assert {row["labels"] for row in bench.file(LABELLED)} == {"consensus"}
    assert not any("gold" in row for row in bench.file(LABELLED))
    assert outcome.disagreed == 0
    quality = profile.quality()
    assert quality["sum"]["ada"][0] > 0.5 > quality["sum"]["dan"][0]
    assert quality["word"]["bob"][0] > 0.5 > quality["word"]["cyd"][0]


async def test_without_gold_it_takes_three_experts(bench: Bench) -> None:
    with pytest.raises(ProfileError, match="label-free: a consensus takes at least 3 experts; got 2; name more"):
        await bench.run(["ada", "bob"], questions(gold=()), label_free=True)


async def test_without_gold_questions_that_divide_all_are_told(bench: Bench) -> None:
    odd = ProfileQuestion("odd", "tea 1", method("exact"), category="sum")
    outcome = await bench.run(asked=[*questions(gold=()), odd], label_free=True)
    assert outcome.disagreed == 1
    assert not any(row["prompt_id"] == "odd" for row in bench.file(LABELLED))


async def test_without_gold_it_is_told_who_did_not_answer(bench: Bench) -> None:
    bench.prepare = lambda engine: engine.fail_start("bob", "no weights")
    with pytest.raises(ProfileError, match=r"got 2; name more, .*; bob: expert 'bob': no weights"):
        await bench.run(["ada", "bob", "dan"], questions(gold=()), label_free=True)


async def test_an_expert_with_golden_answers_alone_has_no_figures(bench: Bench) -> None:
    golden = questions(4, split="golden")
    rest = questions(12, split="train")[4:]
    await bench.run(["ada"], golden + rest)
    with bench.folder.joinpath(NAME).open("a") as file:
        file.write(json.dumps({"prompt_id": "q0", "expert": "bob", "digest": golden[0].digest}) + "\n")
    outcome = await bench.run(["ada"], golden + rest)
    assert outcome.missing == {"bob": "none of its answers counts, outside the golden set"}
    assert list(outcome.profile.experts) == ["ada"]


async def test_a_question_that_changed_is_not_mixed_with_its_old_answers(bench: Bench) -> None:
    await bench.run(["ada"])
    changed = [*questions()[1:], ProfileQuestion("q0", "sum 1000", method("exact"), ("1000",), category="sum")]
    with pytest.raises(QuestionsError, match="'q0' is not the one"):
        await bench.run(["ada"], changed)


async def test_another_gold_answer_needs_no_new_questions(bench: Bench) -> None:
    await bench.run(["ada"])
    bench.made.clear()
    outcome = await bench.run(["ada"], questions(gold=("0",)))
    assert not bench.made
    assert outcome.profile.experts["ada"].overall.mean == pytest.approx(1 / 12, abs=1e-6)


async def test_answers_to_questions_that_are_gone_are_told(bench: Bench) -> None:
    await bench.run(["ada"])
    outcome = await bench.run(["ada"], questions(10))
    assert (outcome.strangers, outcome.profile.questions) == (2, 10)


async def test_a_damaged_profile_is_told(bench: Bench) -> None:
    await bench.run(["ada"])
    (bench.folder / PROFILE).write_text('{"format": 2}')
    with pytest.raises(ProfileError, match=r"profile\.json is no profile .*; delete it and run `coe profile` again"):
        await bench.run(["ada"])
