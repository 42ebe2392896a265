"""Traces: arrivals, experts and lengths are those that were asked for, and the same every time."""

import asyncio
import itertools
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.traces import Job, Lengths, Outcome, azure, percentile, play, summarize, zipf

EXPERTS = [f"e{k}" for k in range(1, 17)]
LENGTHS = Lengths(prompt=(16, 48), output=(4, 12))
ROWS = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0799600,100,40
2023-11-16 18:17:05.9799600,300,200
2023-11-16 18:18:03.9799600,3,1
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(ROWS)
    return path


def test_equal_arguments_give_the_same_trace_and_another_seed_another_one() -> None:
    trace = zipf(50, EXPERTS, 2.0, 1.0, 7, LENGTHS)
    assert zipf(50, EXPERTS, 2.0, 1.0, 7, LENGTHS) == trace
    other = zipf(50, EXPERTS, 2.0, 1.0, 8, LENGTHS)
    assert [job.at for job in other] != [job.at for job in trace]
    assert [job.expert for job in other] != [job.expert for job in trace]


def test_a_longer_trace_begins_as_the_shorter_one() -> None:
    assert zipf(80, EXPERTS, 2.0, 1.0, 7, LENGTHS)[:50] == zipf(50, EXPERTS, 2.0, 1.0, 7, LENGTHS)


def test_another_rate_scales_the_arrivals_and_leaves_the_rest() -> None:
    slow, fast = (zipf(50, EXPERTS, rate, 1.0, 7, LENGTHS) for rate in (1.0, 4.0))
    assert [job.at for job in slow] == pytest.approx([4 * job.at for job in fast])
    assert [(job.expert, job.output_tokens) for job in slow] == [(job.expert, job.output_tokens) for job in fast]


def test_gaps_between_arrivals_are_exponential() -> None:
    at = [0.0, *(job.at for job in zipf(20_000, EXPERTS, 5.0, 1.0, 1, LENGTHS))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert min(gaps) > 0
    assert sum(gaps) / len(gaps) == pytest.approx(0.2, rel=0.03)
    for factor, share in ((0.5, 0.6065), (1.0, 0.3679), (2.0, 0.1353)):  # P(gap > f / rate) = exp(-f)
        assert sum(gap > factor * 0.2 for gap in gaps) / len(gaps) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.2])
def test_the_kth_expert_is_asked_in_proportion_to_its_rank(exponent: float) -> None:
    jobs = zipf(40_000, EXPERTS, 1.0, exponent, 3, LENGTHS)
    asked, norm = Counter(job.expert for job in jobs), sum(k**-exponent for k in range(1, 17))
    for k, expert in enumerate(EXPERTS, 1):
        assert asked[expert] / len(jobs) == pytest.approx(k**-exponent / norm, abs=0.008)


def test_every_length_within_the_limits_occurs_and_no_other() -> None:
    jobs = zipf(5_000, EXPERTS, 1.0, 1.0, 3, LENGTHS)
    assert {job.prompt_tokens for job in jobs} == set(range(16, 49))
    assert {job.output_tokens for job in jobs} == set(range(4, 13))


def test_azure_gaps_and_lengths_are_the_recorded_ones_scaled(rows: Path) -> None:
    wide = Lengths(prompt=(1, 10_000), output=(1, 10_000))
    jobs = azure(rows, 4, ["only"], 1.0, 0, time_scale=0.5, token_scale=0.1, lengths=wide)
    assert [job.at for job in jobs] == pytest.approx([0.0, 0.05, 1.0, 30.0])
    assert [(job.prompt_tokens, job.output_tokens) for job in jobs] == [(481, 1), (10, 4), (30, 20), (1, 1)]
    assert {job.expert for job in jobs} == {"only"}


def test_azure_lengths_outside_the_limits_are_put_on_their_border(rows: Path) -> None:
    jobs = azure(rows, 4, ["only"], 1.0, 0, time_scale=1, token_scale=0.1, lengths=LENGTHS)
    assert [(job.prompt_tokens, job.output_tokens) for job in jobs] == [(48, 4), (16, 4), (30, 12), (16, 4)]


def test_azure_draws_experts_as_zipf_does(rows: Path) -> None:
    jobs = azure(rows, 4, EXPERTS, 1.0, 5, time_scale=1, token_scale=1, lengths=LENGTHS)
    assert [job.expert for job in jobs] == [job.expert for job in zipf(4, EXPERTS, 1.0, 1.0, 5, LENGTHS)]


def test_azure_says_what_is_wrong_with_a_file(rows: Path, tmp_path: Path) -> None:
    def read(path: Path, n: int) -> list[Job]:
        return azure(path, n, EXPERTS, 1.0, 0, time_scale=1, token_scale=1, lengths=LENGTHS)

    with pytest.raises(ValueError, match="holds 4 requests, 5 are wanted"):
        read(rows, 5)
    (tmp_path / "other.csv").write_text("TIMESTAMP,ContextTokens\n")
    with pytest.raises(ValueError, match=r"no Azure LLM trace: it has no column GeneratedTokens"):
        read(tmp_path / "other.csv", 1)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.csv", 1)


def test_what_cannot_be_a_trace_is_refused(rows: Path) -> None:
    with pytest.raises(ValueError, match=r"rate is 0 .* must be positive"):
        zipf(1, EXPERTS, 0, 1.0, 0, LENGTHS)
    with pytest.raises(ValueError, match="0 experts"):
        zipf(1, [], 1.0, 1.0, 0, LENGTHS)
    with pytest.raises(ValueError, match=r"exponent -0\.5"):
        zipf(1, EXPERTS, 1.0, -0.5, 0, LENGTHS)
    with pytest.raises(ValueError, match=r"scales are 0 \(time\)"):
        azure(rows, 1, EXPERTS, 1.0, 0, time_scale=0, token_scale=1, lengths=LENGTHS)
    with pytest.raises(ValueError, match=r"output lengths are 5\.\.4 tokens"):
        Lengths(prompt=(1, 1), output=(5, 4))


async def test_play_starts_each_job_when_it_is_due_and_does_not_wait_for_others() -> None:
    jobs = [Job(at, "e", 1, 1) for at in (0.0, 0.04, 0.02)]
    events: list[tuple[str, float]] = []
    last = asyncio.Event()

    async def serve(number: int, job: Job, arrival: float) -> Outcome:
        assert jobs[number] is job
        assert time.monotonic() >= arrival
        events.append(("begin", job.at))
        if job.at == 0.04:
            last.set()
        await last.wait()
        events.append(("end", job.at))
        return Outcome(job, 0.0, 0.0, 1)

    outcomes = await play(jobs, serve)
    assert [outcome.job for outcome in outcomes] == jobs
    assert events[:3] == [("begin", 0.0), ("begin", 0.02), ("begin", 0.04)]
    assert sorted(events[3:]) == [("end", 0.0), ("end", 0.02), ("end", 0.04)]


async def test_jobs_that_are_due_at_once_go_in_their_order() -> None:
    order: list[int] = []

    async def serve(number: int, job: Job, arrival: float) -> Outcome:
        order.append(number)
        await asyncio.sleep(0)
        return Outcome(job, 0.0, 0.0, number)

    outcomes = await play([Job(0.0, "e", 1, 1)] * 200, serve)
    assert order == [outcome.tokens for outcome in outcomes] == list(range(200))


async def test_arrivals_are_the_times_of_the_trace_even_if_the_loop_is_late() -> None:
    arrivals: list[float] = []

    async def serve(number: int, job: Job, arrival: float) -> Outcome:
        arrivals.append(arrival)
        time.sleep(0.05)  # noqa: ASYNC251  # the loop is late on purpose
        return Outcome(job, 0.0, 0.0, 1)

    await play([Job(0.01 * k, "e", 1, 1) for k in range(4)], serve)
    assert [at - arrivals[0] for at in arrivals] == pytest.approx([0.0, 0.01, 0.02, 0.03])


async def test_play_ends_when_serving_raises() -> None:
    async def serve(number: int, job: Job, arrival: float) -> Outcome:
        raise RuntimeError("down")

    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await play([Job(0.0, "e", 1, 1), Job(3600.0, "e", 1, 1)], serve)


def test_a_summary_counts_what_came_in_time_and_what_failed() -> None:
    jobs = [Job(at, "e", 8, 4) for at in (10.0, 11.0, 12.0, 13.0, 14.0)]
    outcomes = [
        Outcome(jobs[0], 1.0, 5.0, 4),
        Outcome(jobs[1], 2.0, 4.0, 4),
        Outcome(jobs[2], 30.0, 40.0, 4),  # late; the last to end: at 52, 42 s after the first arrival
        Outcome(jobs[3], 1.5, 2.0, 2, failure="deadline"),
        Outcome(jobs[4], None, 0.1, 0, failure="overloaded"),
    ]
    summary = summarize(outcomes, slo=2.0)
    assert (summary.wait_s_p50, summary.wait_s_p99) == (1.5, 30.0)
    assert summary.tokens_per_s == pytest.approx(14 / 42)
    assert summary.goodput == pytest.approx(2 / 42)
    assert summary.attained == pytest.approx(2 / 5)
    assert summary.failed == 2
    with pytest.raises(ValueError, match="none of 1 requests was answered"):
        summarize(outcomes[4:], slo=2.0)


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(v) for v in range(1, 201)]
    assert [percentile(values, share) for share in (0, 50, 99, 99.5, 100)] == [1, 100, 198, 199, 200]
    assert percentile([7.0], 99) == 7.0
