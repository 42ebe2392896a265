"""The skill router: whom it recruits and why, who may join, and what it learns."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from routers.base import NoCandidate
from routers.encoders.hashed import HashEncoder
from routers.evaluation.decisions import Model
from routers.skill.router import SkillRouter
from routers.skill.tags import TagError
from tests.routers.skill.parts import EXPERTS, GOOD, KINDS, fitted, keywords, prompts_of, world

HOME = {"boiling": "cook", "verses": "poet", "history": "sage"}


@pytest.fixture(scope="module")
def router() -> SkillRouter:
    return fitted()


def new_prompt(kind: str) -> str:
    return KINDS[kind][0].format("lentils")


@pytest.mark.parametrize("options", [{}, {"vocabulary": ["boil water pot", "rhyming verse", "empire century"]}])
def test_a_prompt_goes_to_the_expert_that_is_good_at_its_skills(options: dict[str, list[str]]) -> None:
    router: Model = fitted(**options)
    for kind, expert in HOME.items():
        route = router.route(new_prompt(kind), EXPERTS)
        assert route.experts == (expert,)
        assert (route.router, route.aggregator, route.category) == ("skill", "single", None)
        assert 0 < route.margin <= 1


def test_expected_scores_are_near_the_truth_and_in_range(router: SkillRouter) -> None:
    for kind, chances in GOOD.items():
        predicted = router.predict([new_prompt(kind)])[0]
        np.testing.assert_allclose(predicted, chances, atol=0.35)
    assert router.predict([]).shape == (0, 3)
    strange = router.predict(["zebra xylophone", "", "\ud800"])
    assert ((strange >= 0) & (strange <= 1)).all()


def test_weights_sum_to_one_and_never_rise(router: SkillRouter) -> None:
    route = router.route(new_prompt("verses"), EXPERTS, k=3)
    weights = [choice.weight for choice in route.choices]
    assert route.experts[0] == "poet"
    assert sorted(route.experts) == list(EXPERTS)
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert route.aggregator == "vote"
    assert route.reason.endswith(f"; also asked: {', '.join(route.experts[1:])}")


def test_experts_that_are_away_are_masked_and_the_rest_renormalised(router: SkillRouter) -> None:
    prompt = new_prompt("verses")
    every = {choice.expert: choice.weight for choice in router.route(prompt, EXPERTS, k=3).choices}
    fewer = router.route(prompt, ("cook", "sage"), k=3).choices
    assert {choice.expert for choice in fewer} == {"cook", "sage"}
    total = every["cook"] + every["sage"]
    for choice in fewer:
        assert choice.weight == pytest.approx(every[choice.expert] / total)


def test_candidates_without_a_profile_come_last_in_their_order(router: SkillRouter) -> None:
    route = router.route(new_prompt("verses"), ("new", "cook", "newer", "poet"), k=4)
    assert route.experts == ("poet", "cook", "new", "newer")
    assert route.choices[1].weight == route.choices[2].weight == route.choices[3].weight
    alone = router.route(new_prompt("verses"), ("new",), k=2)
    assert (alone.experts, alone.choices[0].weight, alone.margin) == (("new",), 1.0, 1.0)
    assert alone.reason == "new, since no candidate has a profile"


def test_wrong_calls_are_refused(router: SkillRouter) -> None:
    with pytest.raises(NoCandidate):
        router.route("x", ())
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        router.route("x", EXPERTS, k=0)


def test_many_prompts_are_routed_as_one_by_one(router: SkillRouter) -> None:
    prompts = [prompt for kind in KINDS for prompt in prompts_of(kind)] * 3
    many = router.route_many(prompts, EXPERTS, k=2)
    for prompt, route in zip(prompts, many, strict=True):
        one = router.route(prompt, EXPERTS, k=2)
        assert route.experts == one.experts
        assert [c.weight for c in route.choices] == pytest.approx([c.weight for c in one.choices])
    assert router.route_many([], EXPERTS) == []


def test_the_explanation_names_the_skills_that_count_in_points() -> None:
    router = fitted(vocabulary=["boil water pot", "rhyming verse", "empire century"])
    told = router.explain(new_prompt("verses"))
    assert told.startswith("poet: rhyming verse +")
    points = int(told.split("+")[1].split(",")[0])
    lead = 0.9 - np.mean(GOOD["verses"]) - (np.mean([GOOD[k][1] for k in KINDS]) - np.mean(list(GOOD.values())))
    assert points == pytest.approx(100 * lead, abs=15)
    predicted = 100 * router.predict([new_prompt("verses")])[0]
    numbers = re.findall(r"; expected score (\d+), the mean of 3 experts is (\d+)$", told)[0]
    assert [int(number) for number in numbers] == pytest.approx([predicted[1], predicted.mean()], abs=0.51)


def test_a_route_has_the_skills_of_its_sentence_as_numbers(router: SkillRouter) -> None:
    prompt = new_prompt("verses")
    route = router.route(prompt, EXPERTS)
    sizes = [abs(points) for points in route.skills.values()]
    assert 1 <= len(sizes) <= 5
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 0.5
    assert set(route.skills) <= set(router.skills)
    first = ", ".join(f"{skill} {points:+.0f}" for skill, points in list(route.skills.items())[:3])
    assert route.reason.startswith(f"poet: {first}, in general "), "which is no skill"
    for name, points in router.route(prompt, ["cook", "sage"]).skills.items():
        assert points != route.skills.get(name), "they speak for another expert"


def test_where_no_profile_speaks_no_skill_does(router: SkillRouter) -> None:
    assert router.route(new_prompt("verses"), ["new"]).skills == {}


def test_skills_found_in_the_prompts_have_readable_names(router: SkillRouter) -> None:
    names = " ".join(router.skills)
    assert len(set(router.skills)) == len(router.skills)
    assert any(word in names for word in ("boil", "pot", "water"))
    assert any(word in names for word in ("verse", "rhyming", "friend"))


def test_the_same_seed_gives_the_same_router() -> None:
    prompts = [new_prompt(kind) for kind in KINDS]
    first, second = fitted(seed=3), fitted(seed=3)
    assert first.skills == second.skills
    np.testing.assert_array_equal(first.predict(prompts), second.predict(prompts))


def test_unmeasured_cells_do_not_count() -> None:
    router = SkillRouter.fit_labelled(world(missing=0.4), HashEncoder())
    for kind, expert in HOME.items():
        assert router.route(new_prompt(kind), EXPERTS).experts == (expert,)


def test_an_expert_that_was_never_measured_is_chosen_last() -> None:
    data = world()
    data.scores[:, EXPERTS.index("poet")] = np.nan
    router = SkillRouter.fit_labelled(data, HashEncoder())
    assert router.route(new_prompt("verses"), EXPERTS, k=3).experts[-1] == "poet"


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="got 5 different prompts; a skill router needs 6 at least"):
        SkillRouter.fit_labelled(world().rows(range(5)), HashEncoder())


# Keywords from a tagger


def test_keywords_become_skills_and_two_words_for_one_thing_are_one() -> None:
    router = fitted(tag=keywords)
    for kind, expert in HOME.items():
        assert router.route(new_prompt(kind), EXPERTS).experts == (expert,)
    assert {name.split()[0] for name in router.skills} == set(KINDS)
    assert router.explain(new_prompt("verses")).startswith("poet: verses ")


def test_a_tagger_that_fails_costs_the_skills_and_not_the_request() -> None:
    down = False

    def tag(prompts: Sequence[str]) -> list[list[str]]:
        if down:
            raise TagError("the tagger is down")
        return keywords(prompts)

    router = fitted(tag=tag)
    down = True
    route = router.route(new_prompt("verses"), EXPERTS)
    assert route.reason.startswith("the tagger is down; ")
    assert "no known skill" in route.reason
    assert route.skills == {}
    with pytest.raises(TagError):
        router.predict([new_prompt("verses")])


def test_a_tagger_is_needed_if_and_only_if_it_was_fitted_with(router: SkillRouter) -> None:
    with pytest.raises(ValueError, match="whose skills come from the encoder does not take a `tag`"):
        SkillRouter(router._fitted, HashEncoder(), keywords)
    with pytest.raises(ValueError, match="whose skills come from the tagger needs a `tag`"):
        SkillRouter(fitted(tag=keywords)._fitted, HashEncoder())


# Later


def test_a_new_expert_joins_from_a_few_scores_and_the_others_stay() -> None:
    router = fitted()
    prompts = prompts_of("history")[:20] + prompts_of("verses")[:20]
    before = router.predict(prompts)
    router.add_expert("dean", prompts, [1.0] * 20 + [0.0] * 20)
    assert router.experts == ("cook", "dean", "poet", "sage")
    np.testing.assert_allclose(router.predict(prompts)[:, [0, 2, 3]], before)
    every = router.experts
    assert router.route(new_prompt("history"), every).experts == ("dean",)
    assert router.route(new_prompt("verses"), every).experts == ("poet",)


@pytest.mark.parametrize(
    ("name", "prompts", "scores", "message"),
    [
        ("cook", ["x"], [1.0], "cook has a profile already"),
        ("dean", ["x"], [], "dean needs prompts with a score"),
        ("dean", [], [], "dean needs prompts with a score"),
        ("dean", ["x"], [1.5], "dean needs prompts with a score"),
        ("dean", ["x"], [float("nan")], "dean needs prompts with a score"),
    ],
)
def test_a_wrong_new_expert_is_refused(
    router: SkillRouter, name: str, prompts: list[str], scores: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        router.add_expert(name, prompts, scores)


def test_feedback_moves_the_expert_on_prompts_like_this_one() -> None:
    router = fitted()
    prompt = new_prompt("verses")
    for _ in range(60):
        router.observe(prompt, "poet", 0.0)
        router.observe(prompt, "sage", 1.0)
    assert router.route(prompt, EXPERTS).experts == ("sage",)
    assert router.route(new_prompt("boiling"), EXPERTS).experts == ("cook",)


def test_wrong_feedback_is_refused(router: SkillRouter) -> None:
    with pytest.raises(ValueError, match=r"a score must be in \[0, 1\], got 2"):
        router.observe("x", "cook", 2)
    with pytest.raises(ValueError, match="dean has no profile yet: give it one by `add_expert`"):
        router.observe("x", "dean", 1)
