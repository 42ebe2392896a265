"""The two-level router from labelled prompts: what it learns, what it leaves alone, and that files keep it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers.encoders.base import Vectors
from routers.encoders.hashed import HashEncoder
from routers.labelled.data import Labelled
from routers.two_level.fit import Budgets
from routers.two_level.level1_fit import Doubt
from routers.two_level.planner import Limit
from routers.two_level.router import TwoLevelRouter
from tests.routers.two_level.world import EXPERTS, SKILL, labelled, prompts_of

SPECIALIST = {"chemistry": "chemist", "law": "lawyer", "verse": "poet"}
FAR = "zebra xylophone quartz jukebox fjord vex"


@pytest.fixture(scope="module")
def router() -> TwoLevelRouter:
    return TwoLevelRouter.fit_labelled(labelled(), HashEncoder())


def test_each_category_gets_its_specialist_and_the_scores_are_near_the_truth(router: TwoLevelRouter) -> None:
    for category, specialist in SPECIALIST.items():
        prompts = prompts_of(category)
        routes = router.route_many(prompts, EXPERTS)
        assert np.mean([route.experts == (specialist,) for route in routes]) > 0.9
        predicted = router.predict(prompts)
        assert predicted.shape == (len(prompts), len(EXPERTS))
        assert np.abs(predicted.mean(axis=0) - SKILL[category]).max() < 0.15


def test_figures_tell_what_was_seen_on_held_out_prompts(router: TwoLevelRouter) -> None:
    figures = router.figures
    assert figures["held_out_routed"] > figures["held_out_best_single"] + 0.2
    assert figures["held_out_calibration_error"] < 0.1
    assert figures["held_out_score_error"] < 0.1


def test_a_prompt_from_elsewhere_goes_to_the_general_category(router: TwoLevelRouter) -> None:
    route = router.route(FAR, EXPERTS)
    assert route.category == "general"
    assert route.reason.startswith("far from everything known (distance ")


def test_scores_that_were_not_measured_are_no_trouble() -> None:
    router = TwoLevelRouter.fit_labelled(labelled(hole=0.4), HashEncoder())
    for category, specialist in SPECIALIST.items():
        routes = router.route_many(prompts_of(category)[:20], EXPERTS)
        assert np.mean([route.experts == (specialist,) for route in routes]) > 0.8


def test_without_categories_there_are_clusters() -> None:
    router = TwoLevelRouter.fit_labelled(labelled(categories=False), HashEncoder())
    assert len(router.categories) > 2
    for category, specialist in SPECIALIST.items():
        routes = router.route_many(prompts_of(category)[:20], EXPERTS)
        assert np.mean([route.experts == (specialist,) for route in routes]) > 0.8


def test_a_rare_category_has_no_row_of_its_own() -> None:
    data = labelled(60)
    assert data.categories is not None
    rare = replace(data, categories=(*data.categories[:-5], *["odd"] * 5))
    router = TwoLevelRouter.fit_labelled(rare, HashEncoder())
    assert router.categories == ("chemistry", "law", "verse", "general")


def test_where_one_expert_dominates_it_is_chosen_everywhere() -> None:
    data = labelled(60)
    scores = data.scores.copy()
    scores[:, 1] = 1.0
    router = TwoLevelRouter.fit_labelled(replace(data, scores=scores), HashEncoder())
    assert {route.experts for route in router.route_many(data.prompts, EXPERTS)} == {("lawyer",)}


def test_the_same_data_and_seed_give_the_same_router(router: TwoLevelRouter) -> None:
    again = TwoLevelRouter.fit_labelled(labelled(), HashEncoder())
    assert (again.predict([FAR, *prompts_of("law")]) == router.predict([FAR, *prompts_of("law")])).all()
    assert again.figures == router.figures


def test_a_plan_stands_first_and_keeps_its_limit() -> None:
    price = Limit("cost", [9.0, 9.0, 1.0, 1.0], each=5.0)
    router = TwoLevelRouter.fit_labelled(labelled(60), HashEncoder(), budgets=Budgets(limits=[price]))
    assert router.route(prompts_of("verse")[0], EXPERTS).experts == ("poet",)
    route = router.route(prompts_of("law")[0], EXPERTS)
    assert route.experts[0] in ("novice", "poet")
    assert route.reason.endswith("is planned for this category")


def test_explaining_is_one_line(router: TwoLevelRouter) -> None:
    said = router.explain(prompts_of("law")[0])
    assert said.startswith("law (")
    assert "expected scores: lawyer 0." in said
    assert "\n" not in said


def test_unusable_data_is_told() -> None:
    data = labelled(20)
    scores = data.scores.copy()
    scores[:, 2] = np.nan
    with pytest.raises(ValueError, match="experts without a measured prompt: novice"):
        TwoLevelRouter.fit_labelled(replace(data, scores=scores), HashEncoder())
    with pytest.raises(ValueError, match="at least 10 different prompts; got 4"):
        TwoLevelRouter.fit_labelled(data.rows([0, 1, 2, 3, 3, 3]), HashEncoder())


def test_a_fitted_router_comes_back_from_its_files_as_it_was(router: TwoLevelRouter, tmp_path: Path) -> None:
    router.save(tmp_path)
    again = TwoLevelRouter.load(tmp_path, HashEncoder())
    prompts = [FAR, *prompts_of("chemistry"), *prompts_of("law")]
    assert (again.predict(prompts) == router.predict(prompts)).all()
    assert again.route_many(prompts, EXPERTS, 3) == router.route_many(prompts, EXPERTS, 3)


# Strangers


class Compass:
    """Texts are angles in degrees."""

    name, dim = "compass", 2

    def encode(self, texts: Sequence[str]) -> Vectors:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_unsure_prompts_keep_the_mixture_and_on_far_ones_the_general_category_has_half_a_say() -> None:
    """East and north overlap around 45 degrees."""
    angles = [*range(-10, 50), *range(40, 100)]
    east = np.array(angles) < 45
    data = Labelled(
        ids=tuple(map(str, range(len(angles)))),
        prompts=tuple(map(str, angles)),
        experts=("both", "easterner", "northerner"),
        scores=np.stack([np.full(len(angles), 0.4), east, ~east], axis=1).astype(np.float64),
        categories=("east",) * 60 + ("north",) * 60,
    )
    router = TwoLevelRouter.fit_labelled(data, Compass(), doubt=Doubt(false_fallback=0.2))
    between, behind = router.route_many(["44", "225"], data.experts)
    mixed = [
        [sum(p * router.quality(name, expert) for name, p in route.probabilities.items()) for expert in data.experts]
        for route in (between, behind)
    ]
    assert (between.category, between.reason.partition(":")[0]) == ("general", "unsure")
    assert router.predict(["44"])[0] == pytest.approx(mixed[0])
    assert (behind.category, behind.reason.partition(" (")[0]) == ("general", "far from everything known")
    general = [router.quality("general", expert) for expert in data.experts]
    assert router.predict(["225"])[0] == pytest.approx((np.array(mixed[1]) + general) / 2)
    assert router.predict(["225"])[0] != pytest.approx(general)
