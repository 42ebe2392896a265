"""The two-level router: what it decides, for whom, and how sure it must be."""

import dataclasses
import math
import re
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routers.base import NoCandidate, Route, Router
from routers.encoders.base import Vectors
from routers.encoders.hashed import HashEncoder
from routers.two_level.fit import Budgets
from routers.two_level.level1_fit import Doubt
from routers.two_level.planner import PlanError
from routers.two_level.router import TwoLevelRouter

PATIENT = settings(
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

WORDS = {
    "sql": ("select rows from the table where", "customers orders invoices products suppliers payments".split()),
    "cron": ("schedule a job with five fields every", "monday morning midnight hour weekend month".split()),
    "units": ("convert metres into feet for a", "wall fence river bridge ladder rope".split()),
    "general": ("tell me what you think about", "friendship winter music cooking travel football".split()),
}
QUALITY: dict[str, dict[str, tuple[float, int]]] = {
    "sql": {"smol-sql": (0.95, 60), "smol-cron": (0.0, 60), "smol-units": (0.1, 60), "smol": (0.2, 60)},
    "cron": {"smol-sql": (0.1, 60), "smol-cron": (0.9, 60), "smol-units": (0.0, 60), "smol": (0.3, 60)},
    "units": {"smol-sql": (0.0, 60), "smol-cron": (0.2, 60), "smol-units": (0.92, 60), "smol": (0.25, 60)},
}
ALL = ("smol", "smol-cron", "smol-sql", "smol-units")
FAR = "zebra xylophone quartz jukebox fjord vex"
MIXED = "select rows from the table where every monday schedule a job with five fields"


def training(each: int = 36) -> tuple[list[str], list[str]]:
    prompts, categories = [], []
    for category, (frame, things) in WORDS.items():
        for i in range(each):
            first, second = things[i % len(things)], things[(i // len(things)) % len(things)]
            prompts.append(f"{frame} {first} and {second} number {i}")
            categories.append(category)
    return prompts, categories


def fit(quality: Mapping[str, Mapping[str, tuple[float, int]]] = QUALITY, **changes: object) -> TwoLevelRouter:
    prompts, categories = training()
    return TwoLevelRouter.fit(prompts, categories, quality, HashEncoder(), **{"fallback": "smol", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def router() -> TwoLevelRouter:
    return fit()


def asked(category: str) -> str:
    frame, things = WORDS[category]
    return f"{frame} {things[1]} and {things[4]} number 40"


# Level 1


@pytest.mark.parametrize("category", ["sql", "cron", "units"])
def test_a_prompt_goes_to_its_category_and_the_best_expert_of_it(router: TwoLevelRouter, category: str) -> None:
    route = router.route(asked(category), ALL)
    assert route.category == category
    assert route.experts == (f"smol-{category}",)
    assert next(iter(route.probabilities)) == category
    assert route.reason.startswith(f"{category} (")
    assert route.reason.endswith(f" %): smol-{category} is the best of 4 for this category")
    assert (route.router, route.aggregator) == ("two-level", "single")


def test_general_prompts_go_to_the_generalist(router: TwoLevelRouter) -> None:
    route = router.route(asked("general"), ALL)
    assert (route.category, route.experts) == ("general", ("smol",))
    assert route.reason.endswith(" %): generalist smol")


def test_far_prompts_go_to_the_generalist(router: TwoLevelRouter) -> None:
    route = router.route(FAR, ALL)
    assert (route.category, route.experts) == ("general", ("smol",))
    assert route.reason.startswith("far from everything known (distance ")
    assert route.reason.endswith("): generalist smol")


class Compass:
    """Texts are angles in degrees."""

    name, dim = "compass", 2

    def encode(self, texts: Sequence[str]) -> Vectors:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_near_and_unsure_and_far_are_told_apart() -> None:
    """sql is in the east, cron in the north, and north-east belongs to both."""
    east, north = [str(angle) for angle in range(-10, 50)], [str(angle) for angle in range(40, 100)]
    quality = {name: QUALITY[name] for name in ("sql", "cron")}
    compass = TwoLevelRouter.fit(
        east + north, ["sql"] * 60 + ["cron"] * 60, quality, Compass(), fallback="smol", doubt=Doubt(false_fallback=0.3)
    )
    assert compass.route("0", ALL).experts == ("smol-sql",)
    assert compass.route("90", ALL).experts == ("smol-cron",)
    between, behind = compass.route("45", ALL), compass.route("225", ALL)
    for route in (between, behind):
        assert (route.category, route.experts) == ("general", ("smol",))
    assert re.fullmatch(
        r"unsure: (sql|cron) \(5\d %\) or (sql|cron) \(4\d %\) "
        r"\(distance 0.\d\d, limit 0.\d\d; entropy [01].\d\d, limit 0.\d\d\): generalist smol",
        between.reason,
    )
    assert behind.reason.startswith("far from everything known (distance 9.")


def test_probabilities_are_the_largest_first_and_the_margin_is_between_the_first_two(router: TwoLevelRouter) -> None:
    for prompt in (FAR, MIXED, asked("sql"), ""):
        route = router.route(prompt, ALL)
        shares = list(route.probabilities.values())
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)  # four categories: all of them are told
        assert route.margin == pytest.approx(shares[0] - shares[1])
        assert 0 <= route.margin <= 1


def test_at_most_five_probabilities_are_told() -> None:
    words = "ant bee cow dog emu fox gnu".split()
    prompts = [f"{word} {word}s live here {i}" for word in words for i in range(10)]
    categories = [word for word in words for _ in range(10)]
    many = TwoLevelRouter.fit(prompts, categories, {word: {"one": (0.5, 9)} for word in words}, HashEncoder())
    assert len(many.route("a cow", ["one"]).probabilities) == 5


def test_false_fallbacks_on_held_out_prompts_stay_under_the_share_that_is_allowed() -> None:
    for share in (0.0, 0.1, 0.3):
        assert fit(doubt=Doubt(false_fallback=share)).figures["held_out_false_fallback"] <= share


def test_a_smaller_share_of_false_fallbacks_lets_fewer_prompts_fall_back() -> None:
    prompts = training(90)[0][36:90]
    fallen = [
        sum(route.category == "general" for route in fit(doubt=Doubt(false_fallback=share)).route_many(prompts, ALL))
        for share in (0.5, 0.0)
    ]
    assert len(prompts) > fallen[0] > fallen[1]


def test_probabilities_are_calibrated_by_the_temperature() -> None:
    """A third of the labels is wrong at random: nobody can be sure, so the router must not be."""
    prompts, categories = training(60)
    names = list(WORDS)
    noisy = [names[(names.index(c) + 1) % 4] if i % 3 == 0 else c for i, c in enumerate(categories)]
    router = TwoLevelRouter.fit(prompts, noisy, QUALITY, HashEncoder(), doubt=Doubt(false_fallback=0.0))
    routes = router.route_many(prompts, ALL)
    assert 0.5 < np.mean([route.probabilities[c] for route, c in zip(routes, categories, strict=True)]) < 0.85


def test_one_category_and_two_categories_work() -> None:
    prompts, categories = training()
    for names in (["sql"], ["cron", "sql"]):
        kept = [(p, c) for p, c in zip(prompts, categories, strict=True) if c in names]
        quality = {name: QUALITY[name] for name in names}
        router = TwoLevelRouter.fit([p for p, _ in kept], [c for _, c in kept], quality, HashEncoder(), fallback="smol")
        for name in names:
            route = router.route(kept[[c for _, c in kept].index(name)][0], ALL)
            assert (route.category, route.experts) == (name, (f"smol-{name}",))
        assert router.route(FAR, ALL).experts == ("smol",)
        assert router.categories == (*names, "general")


def test_equal_prompts_are_no_trouble() -> None:
    prompts = ["select it"] * 10 + ["convert it"] * 10
    router = TwoLevelRouter.fit(
        prompts, ["sql"] * 10 + ["units"] * 10, {c: QUALITY[c] for c in ("sql", "units")}, HashEncoder()
    )
    assert router.route("select it", ALL).experts == ("smol-sql",)


# Level 2


def test_k_choices_are_ranked_by_quality_and_weighted_by_what_their_word_is_worth(router: TwoLevelRouter) -> None:
    route = router.route(asked("sql"), ALL, k=3)
    assert route.experts == ("smol-sql", "smol", "smol-units")
    worth = [-math.log(1 - router.quality("sql", expert)) for expert in route.experts]
    assert [choice.weight for choice in route.choices] == pytest.approx([w / sum(worth) for w in worth])
    assert route.aggregator == "vote"
    assert route.reason.endswith("; also asked: smol, smol-units")


def test_quality_is_shrunk_to_the_mean_of_the_expert() -> None:
    items = {"sql": (1.0, 5), "cron": (0.2, 95), "units": (0.2, 100)}
    quality = {category: {"a": a, "b": (0.9, 200)} for category, a in items.items()}
    router = fit(quality, fallback=None, shrinkage=20)
    overall = (1.0 * 5 + 0.2 * 195) / 200
    assert router.quality("sql", "a") == pytest.approx((5 * 1.0 + 20 * overall) / 25)
    assert router.quality("sql", "b") == pytest.approx(0.9)
    # Five lucky items do not beat two hundred good ones.
    assert router.route(asked("sql"), ["a", "b"]).experts == ("b",)
    assert fit(quality, fallback=None, shrinkage=0).route(asked("sql"), ["a", "b"]).experts == ("a",)


def test_a_specialist_that_was_measured_at_home_only_does_not_win_abroad() -> None:
    quality = {c: {e: v for e, v in row.items() if e in (f"smol-{c}", "smol")} for c, row in QUALITY.items()}
    router = fit(quality)
    assert router.route(asked("cron"), ALL).experts == ("smol-cron",)
    # smol-sql has 0.95 on average, all of it in sql; nothing is known of it in cron.
    assert router.route(asked("cron"), ["smol", "smol-sql"]).experts == ("smol",)


def test_without_a_named_fallback_the_best_on_the_whole_is_the_generalist() -> None:
    quality = {c: {**row, "broad": (0.6, 60)} for c, row in QUALITY.items()}
    assert fit(quality, fallback=None).route(FAR, [*ALL, "broad"]).experts == ("broad",)
    # Its own measurements in the general category count if there are any.
    measured = {**quality, "general": {"broad": (0.1, 60), "smol": (0.8, 60)}}
    assert fit(measured, fallback=None).route(FAR, [*ALL, "broad"]).experts == ("smol",)


def test_a_named_fallback_is_the_generalist_whatever_was_measured() -> None:
    router = fit({**QUALITY, "general": {"smol-sql": (0.9, 60), "smol": (0.1, 60)}})
    route = router.route(FAR, ALL, k=2)
    assert route.experts == ("smol", "smol-sql")
    assert [choice.weight for choice in route.choices] == pytest.approx([0.5, 0.5])  # weights never rise


def test_experts_that_are_all_useless_have_equal_weights() -> None:
    router = fit({c: {"a": (0.0, 10), "b": (0.0, 10)} for c in QUALITY}, fallback=None)
    assert [choice.weight for choice in router.route(asked("sql"), ["a", "b"], k=2).choices] == [0.5, 0.5]


# Masking


def test_a_missing_expert_is_replaced_by_the_next_best_without_fitting_again(router: TwoLevelRouter) -> None:
    route = router.route(asked("sql"), ["smol", "smol-cron", "smol-units"])
    assert (route.category, route.experts) == ("sql", ("smol",))
    assert route.reason.endswith("smol-sql is not available, smol is the best of the 3 that are")


def test_a_missing_generalist_is_replaced(router: TwoLevelRouter) -> None:
    route = router.route(FAR, ["smol-cron", "smol-sql"])
    assert len(route.experts) == 1
    assert "the generalist smol is not available" in route.reason


def test_an_expert_that_was_never_measured_comes_last(router: TwoLevelRouter) -> None:
    assert router.route(asked("sql"), ["new", "smol-cron"], k=2).experts == ("smol-cron", "new")
    alone = router.route(asked("sql"), ["newer", "new"])
    assert alone.experts == ("newer",)
    assert alone.reason.endswith("newer, since no candidate was measured")


def test_no_candidate_and_no_k_are_errors(router: TwoLevelRouter) -> None:
    with pytest.raises(NoCandidate, match="every candidate was excluded"):
        router.route("x", [])
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        router.route("x", ALL, k=0)


@PATIENT
@given(
    candidates=st.lists(st.sampled_from([*ALL, "new", "newer"]), min_size=1, max_size=8),
    k=st.integers(1, 8),
    prompt=st.sampled_from([FAR, MIXED, *(asked(category) for category in WORDS)]) | st.text(max_size=40),
)
def test_every_route_keeps_the_promises_of_the_interface(
    router: TwoLevelRouter, candidates: list[str], k: int, prompt: str
) -> None:
    route = router.route(prompt, candidates, k)
    assert set(route.experts) <= set(candidates)  # no call to an excluded expert, ever
    assert len(route.experts) == len(set(route.experts)) == min(k, len(set(candidates)))
    weights = [choice.weight for choice in route.choices]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert route.aggregator == ("single" if len(weights) == 1 else "vote")


@PATIENT
@given(candidates=st.lists(st.sampled_from(ALL), min_size=1, unique=True), data=st.data())
def test_taking_a_candidate_away_leaves_the_order_of_the_others(
    router: TwoLevelRouter, candidates: list[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(candidates))
    rest = [expert for expert in candidates if expert != gone]
    for category in WORDS:
        before = router.route(asked(category), candidates, k=4).experts
        if rest:
            assert router.route(asked(category), rest, k=4).experts == tuple(e for e in before if e != gone)


# Many prompts


class Counting(HashEncoder):
    """Counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.sizes.append(len(texts))
        return super().encode(texts)


def same(one: Route, other: Route) -> bool:
    """Equal but for the last bits: a matrix product sums in another order than a vector product."""
    close = list(one.probabilities.values()) == pytest.approx(list(other.probabilities.values()), abs=1e-5)
    plain = [dataclasses.replace(route, probabilities={}, margin=0.0) for route in (one, other)]
    return close and list(one.probabilities)[:1] == list(other.probabilities)[:1] and plain[0] == plain[1]


def test_route_many_gives_the_same_routes_with_the_prompts_embedded_in_batches() -> None:
    prompts, categories = training()
    encoder = Counting()
    router = TwoLevelRouter.fit(prompts, categories, QUALITY, encoder, fallback="smol")
    encoder.sizes.clear()
    several = [*prompts[::9], FAR, MIXED, ""] * 20
    routes = router.route_many(several, ALL, k=2)
    assert encoder.sizes == [256, len(several) - 256]
    for prompt, route in list(zip(several, routes, strict=True))[:19]:
        assert same(router.route(prompt, ALL, k=2), route)
    assert router.route_many([], ALL) == []


def test_threads_can_share_a_router(router: TwoLevelRouter) -> None:
    prompts = [FAR, MIXED, *(asked(category) for category in WORDS)]
    expected = [router.route(prompt, ALL) for prompt in prompts]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            wrong.extend(p for p, route in zip(prompts, expected, strict=True) if router.route(p, ALL) != route)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Fitting


def test_a_router_is_a_router() -> None:
    accepted: Router = fit()
    assert accepted.name == "two-level"


def test_the_same_seed_gives_the_same_router() -> None:
    one, other = fit(seed=3), fit(seed=3)
    for prompt in (FAR, MIXED, asked("sql")):
        assert one.route(prompt, ALL, k=4) == other.route(prompt, ALL, k=4)
    assert one.figures == other.figures


def test_progress_counts_the_prompts() -> None:
    seen: list[tuple[int, int]] = []
    prompts, categories = training(100)
    TwoLevelRouter.fit(prompts, categories, QUALITY, HashEncoder(), on_progress=lambda *now: seen.append(now))
    assert seen == [(256, 400), (400, 400)]


def test_budgets_put_the_planned_expert_first_and_keep_the_ranking_behind_it() -> None:
    sizes = {"smol": 135, "smol-sql": 1000, "smol-cron": 135, "smol-units": 135}
    router = fit(budgets=Budgets(sizes, total=500))
    route = router.route(asked("sql"), ALL, k=4)
    assert route.experts == ("smol", "smol-sql", "smol-units", "smol-cron")
    assert "smol is planned for this category" in route.reason
    weights = [choice.weight for choice in route.choices]
    assert weights == sorted(weights, reverse=True)
    assert router.route(asked("sql"), ["smol-units", "smol-sql"]).experts == ("smol-sql",)
    assert router.route(asked("cron"), ALL).experts == ("smol-cron",)
    assert router.route(FAR, ALL).experts == ("smol",)


def test_the_fallback_must_fit_the_budget() -> None:
    sizes = {"smol": 900, "smol-sql": 100, "smol-cron": 100, "smol-units": 100}
    with pytest.raises(PlanError, match="total_budget of 800 parameters cannot be met"):
        fit(budgets=Budgets(sizes, total=800))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quality": {**QUALITY, "cooking": {"smol": (0.5, 9)}}}, "without training prompts: cooking"),
        ({"quality": {"sql": QUALITY["sql"]}}, "no expert was measured in cron, units"),
        ({"quality": {**QUALITY, "cron": {"smol": (0.5, 0)}}}, "no expert was measured in cron"),
        ({"quality": {**QUALITY, "cron": {**QUALITY["cron"], "idle": (0.5, 0)}}}, "without a measured item: idle"),
        ({"quality": {**QUALITY, "sql": {"smol": (95.0, 9)}}}, r"smol in sql must be a mean in \[0, 1\]"),
        ({"quality": {**QUALITY, "sql": {"smol": (float("nan"), 9)}}}, "smol in sql must be a mean"),
        ({"quality": {**QUALITY, "sql": {"smol": (0.5, -1)}}}, "smol in sql must be a mean"),
        ({"fallback": "gpt"}, "fallback 'gpt' has no measured quality; experts: smol, smol-cron"),
        ({"shrinkage": -1.0}, "shrinkage must be at least 0; got -1.0"),
        ({"budgets": Budgets(total=9)}, "missing: smol, smol-cron"),
        ({"budgets": Budgets({"smol": 1}, active=9)}, "missing: smol-cron, smol-sql, smol-units"),
        ({"prior": {"sql": 1.0, "cooking": 1.0}}, "prior must give shares"),
        ({"prior": {"sql": -1.0}}, "prior must give shares"),
    ],
)
def test_input_that_cannot_be_fitted_is_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0.6, -0.1, float("nan")])
def test_doubt_that_makes_no_sense_is_told(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"false_fallback must be in \[0, 0.5\]; got {wrong}"):
        Doubt(false_fallback=wrong)


def test_too_few_prompts_are_told() -> None:
    with pytest.raises(ValueError, match="at least 10 training prompts; got sql: 9"):
        TwoLevelRouter.fit(["x"] * 9, ["sql"] * 9, QUALITY, HashEncoder())
    with pytest.raises(ValueError, match="no training prompts"):
        TwoLevelRouter.fit([], [], {}, HashEncoder())
    with pytest.raises(ValueError, match="got 2 prompts and 1 categories"):
        TwoLevelRouter.fit(["x", "y"], ["sql"], QUALITY, HashEncoder())
