"""The swap policy under a virtual clock."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from workers.swap_policy import Active, Demand, SwapSettings, choose

SETTINGS = SwapSettings(overhead=0.1, max_wait=5.0)  # quantum = 9 swap costs


def demand(expert: str, requests: int = 1, served_at: float = 0.0, swap_cost: float = 0.1) -> Demand:
    return Demand(expert, requests, served_at, swap_cost)


def test_nothing_waits() -> None:
    assert choose([], None, 0.0, SETTINGS) is None
    assert choose([], Active("a", 0.0), 100.0, SETTINGS) is None


def test_the_only_expert_with_work_is_chosen_and_kept() -> None:
    assert choose([demand("b")], None, 0.0, SETTINGS) == "b"
    assert choose([demand("a")], Active("a", 0.0), 1000.0, SETTINGS) == "a"
    assert choose([demand("b")], Active("a", 0.0), 0.0, SETTINGS) == "b"


def test_the_active_expert_stays_for_its_quantum_and_no_longer() -> None:
    demands = [demand("a"), demand("b", requests=9)]
    assert choose(demands, Active("a", 10.0), 10.89, SETTINGS) == "a"
    assert choose(demands, Active("a", 10.0), 10.91, SETTINGS) == "b"


def test_more_work_goes_first() -> None:
    assert choose([demand("a", 2), demand("b", 3)], None, 0.0, SETTINGS) == "b"


def test_a_cheap_swap_goes_before_a_dear_one_with_the_same_work() -> None:
    assert choose([demand("a", swap_cost=2.0), demand("b", swap_cost=0.1)], None, 0.0, SETTINGS) == "b"


def test_who_waited_too_long_goes_before_who_has_more_work() -> None:
    demands = [demand("a", 50, served_at=9.0), demand("b", 1, served_at=3.0), demand("c", 1, served_at=2.0)]
    assert choose(demands, None, 10.0, SETTINGS) == "c"


def test_less_overhead_is_a_longer_quantum() -> None:
    assert SwapSettings(overhead=0.5).quantum(0.2) == 0.2
    assert SwapSettings(overhead=0.01).quantum(0.2) > 19


@dataclass
class Bench:
    """A virtual engine: each step takes `step` seconds and serves one request of the chosen expert."""

    step: float = 0.1
    swap_cost: float = 0.2
    now: float = 0.0
    swaps: int = 0
    active: Active | None = None
    waiting: dict[str, list[float]] = field(default_factory=dict)
    longest: float = 0.0

    def run_one(self, settings: SwapSettings) -> str | None:
        demands = [
            Demand(expert, len(arrived), arrived[0], self.swap_cost)
            for expert, arrived in self.waiting.items()
            if arrived
        ]
        expert = choose(demands, self.active, self.now, settings)
        if expert is None:
            return None
        if self.active is None or self.active.expert != expert:
            self.swaps += 1
            self.now += self.swap_cost
            self.active = Active(expert, self.now)
        self.longest = max(self.longest, self.now - self.waiting[expert].pop(0))
        self.now += self.step
        return expert


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60))
def test_a_burst_that_fits_its_quantum_costs_one_swap_an_expert(arrivals: list[str]) -> None:
    bench = Bench(step=0.01)  # 60 steps are 0.6 s, less than the quantum of 1.8 s
    for expert in arrivals:
        bench.waiting.setdefault(expert, []).append(0.0)
    while bench.run_one(SETTINGS):
        pass
    assert bench.swaps == len(set(arrivals))


@given(st.integers(1, 5), st.integers(1, 40))
def test_an_endless_stream_starves_nobody(others: int, burst: int) -> None:
    bench = Bench()
    for number in range(others):
        bench.waiting[f"other{number}"] = [0.0]
    bench.waiting["flood"] = [0.0] * burst
    bound = SETTINGS.max_wait + others * (bench.swap_cost + bench.step) + SETTINGS.quantum(bench.swap_cost) + bench.step
    while any(bench.waiting[f"other{number}"] for number in range(others)):
        bench.waiting["flood"].append(bench.now)
        if bench.run_one(SETTINGS) != "flood":
            assert bench.longest <= bound
        assert bench.now < bound + 1
