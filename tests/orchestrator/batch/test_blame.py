"""Who is to blame when a runner goes down: the line that it ran alone, or whoever kills runners anyway."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.batch.blame import CONTROL, LEAST, LONGEST_S, Span, at_least, is_to_blame, wait_s

counts = st.integers(0, 500)
seconds = st.floats(0.001, 1e5)
spans = st.builds(Span, counts, seconds)


@dataclass
class World:
    """A line that takes so long, and ends its runner after `fatal_s` of that; runners that somebody kills so often a
    second. It is tried until it is done, blamed, or has been tried so often."""

    line_s: float
    fatal_s: float | None
    kills: float
    chance: random.Random

    def run(self, tries: int) -> tuple[str, int]:
        own, others = Span(), Span()
        for number in range(1, tries + 1):
            while not (blamed := is_to_blame(own, others)) and (wait := wait_s(own, others)) > 1e-9:
                others = self._without(others, wait)
            if blamed:
                return "blamed", number - 1
            killed_s = self.chance.expovariate(self.kills) if self.kills else float("inf")
            end = self.line_s if self.fatal_s is None else self.fatal_s
            if killed_s >= end and self.fatal_s is None:
                return "done", number
            own = Span(own.deaths + 1, own.seconds + min(killed_s, end))
        return "open", tries

    def _without(self, others: Span, wanted: float) -> Span:
        """Runners live on without the line for so long, one after the other."""
        deaths, left = others.deaths, wanted
        while self.kills and (life := self.chance.expovariate(self.kills)) < left:
            deaths, left = deaths + 1, left - life
        return Span(deaths, others.seconds + wanted)


@given(st.integers(0, 2**32), st.floats(0.01, 3.0))
def test_an_innocent_line_is_never_blamed_however_often_runners_are_killed(seed: int, kills_a_line: float) -> None:
    end, _ = World(1.0, None, kills_a_line, random.Random(seed)).run(200)
    assert end in ("done", "open")


@given(st.integers(0, 2**32), st.floats(0.001, 600))
def test_a_line_that_ends_its_runner_is_blamed_after_a_few_deaths(seed: int, fatal_s: float) -> None:
    end, deaths = World(2 * fatal_s, fatal_s, 0.0, random.Random(seed)).run(11)
    assert end == "blamed"
    assert LEAST <= deaths <= 10


@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_it_is_also_found_out_while_others_are_killed(seed: int, kills_a_line: float) -> None:
    end, deaths = World(2.0, 1.0, kills_a_line, random.Random(seed)).run(60)
    assert end == "blamed"
    assert deaths < 60


@given(spans, spans)
def test_deaths_without_the_line_speak_for_it(own: Span, others: Span) -> None:
    if not is_to_blame(own, others):
        assert not is_to_blame(own, Span(others.deaths + 1, others.seconds))


@given(spans, spans)
def test_deaths_with_the_line_speak_against_it(own: Span, others: Span) -> None:
    if is_to_blame(own, others):
        assert is_to_blame(Span(own.deaths + 1, own.seconds), others)


@given(spans, spans, st.floats(0.01, 100))
def test_only_the_share_of_time_counts(own: Span, others: Span, scale: float) -> None:
    share = own.seconds / (own.seconds + others.seconds)
    chance = at_least(own.deaths, own.deaths + others.deaths, share)
    scaled = Span(own.deaths, own.seconds * scale), Span(others.deaths, others.seconds * scale)
    if not 0.99e-6 < chance < 1.01e-6:
        assert is_to_blame(*scaled) == is_to_blame(own, others)


@given(seconds)
def test_nobody_is_blamed_for_a_death_or_two(own_s: float) -> None:
    for deaths in range(LEAST):
        assert not is_to_blame(Span(deaths, own_s), Span(0, 1e9))


@given(spans, spans)
@example(Span(3, 1.0), Span(0, 0.0))
@example(Span(3, 1e6), Span(0, 0.0))
def test_a_line_that_met_a_death_waits_until_there_is_time_without_it_to_compare_with(own: Span, others: Span) -> None:
    waited = wait_s(own, others)
    assert 0 <= waited <= LONGEST_S
    if own.deaths and waited < LONGEST_S:
        assert others.seconds + waited >= CONTROL * own.seconds * (1 - 1e-9)
    if not own.deaths:
        assert waited == 0


@pytest.mark.parametrize(
    ("hits", "tries", "share", "chance"),
    [
        (0, 10, 0.3, 1.0),
        (10, 10, 0.5, 2**-10),
        (1, 2, 0.5, 0.75),
        (2, 3, 0.25, 10 / 64),
        (1, 1, 0.0, 0.0),
        (5, 9, 1, 1),
    ],
)
def test_the_chance_is_that_of_the_binomial_distribution(hits: int, tries: int, share: float, chance: float) -> None:
    assert at_least(hits, tries, share) == pytest.approx(chance)
