"""A fitted router chooses its default honestly, comes back from its folder, and knows what it has seen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers import fitted_choice
from routers.encoders.base import Vectors
from routers.encoders.embedded import Embedded
from routers.encoders.hashed import HashEncoder
from routers.evaluation.decisions import Model
from routers.files import RouterFileError
from routers.fitted import FittedRouter, fit, fit_labelled, open_router
from routers.fitted_file import ModelName, is_fitted_router
from routers.two_level.router import TwoLevelRouter
from tests.routers.fitted_parts import EXPERTS, Contrary, FirstWord, labelled, quick_models

__all__ = ["quick_models"]
pytestmark = pytest.mark.usefixtures("quick_models")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_that_gains_is_the_default() -> None:
    router = fit_labelled(labelled(), HashEncoder())
    assert router.facts.default == "both"
    assert router.facts.chosen.gains["both"][0] > 0
    assert router.route("boil tea").experts == ("cook",)
    assert router.route("rhyme tea").experts == ("poet",)
    assert router.explain("rhyme tea") == "first-word: begins with rhyme; first-word: begins with rhyme"
    assert router.predict(["rhyme tea"]).argmax() == EXPERTS.index("poet")


def test_a_model_that_the_other_one_spoils_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt: dict[ModelName, type[Model]] = {"two_level": FirstWord, "skill": Contrary}
    monkeypatch.setattr(fitted_choice, "models", lambda: spoilt)
    router = fit_labelled(labelled(), HashEncoder())
    assert router.facts.chosen.scores["two_level"] > router.facts.chosen.scores["both"] + 0.1
    assert router.facts.default == "two_level"


def test_without_a_gain_the_best_single_expert_answers() -> None:
    data = labelled(gain=False)
    router = fit_labelled(data, HashEncoder())
    assert router.facts.default == "best_single"
    assert router.facts.best_single == EXPERTS[int(data.means().argmax())]
    assert router.route("boil tea").experts == router.route("rhyme tea").experts == (router.facts.best_single,)


def test_one_expert_that_dominates_is_chosen() -> None:
    data = labelled()
    data.scores[:, EXPERTS.index("idle")] = 1.0
    router = fit_labelled(data, HashEncoder())
    assert (router.facts.default, router.route("boil tea").experts) == ("best_single", ("idle",))


def test_several_experts_are_asked_by_the_model_whose_votes_are_best() -> None:
    router = fit_labelled(labelled(), HashEncoder())
    assert set(router.facts.chosen.votes) == {"best_single", "two_level", "skill", "both"}
    assert router.facts.several == "two_level"
    route = router.route("boil tea", k=3)
    assert route.experts[0] == "cook"
    assert route.aggregator == "vote"
    assert sum(choice.weight for choice in route.choices) == pytest.approx(1)
    assert router.route("boil tea", ("poet", "idle")).aggregator == "single"
    without = fit_labelled(replace(labelled(), answers=None), HashEncoder())
    assert (without.facts.several, without.facts.chosen.votes) == (without.facts.default, {})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    data = labelled()
    router = fit_labelled(data, HashEncoder())
    router.save(tmp_path / "new" / "router")
    again = FittedRouter.load(tmp_path / "new" / "router", HashEncoder(), aggregator="judge")
    assert again.facts == router.facts
    assert again.facts.quality["boil"][0] == (data.scores[::2, 0].mean(), 60)
    assert again.facts.costs == (2.0, 1.0, 4.0)
    for prompt in ("boil tea", "rhyme tea", "else"):
        assert again.route(prompt).choices == router.route(prompt).choices
    assert again.route("boil tea", k=2).aggregator == "judge"
    assert again.seen((data.prompts[0], "boil never seen")).tolist() == [True, False]


def test_the_same_data_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit_labelled(labelled(), HashEncoder(), seed=1).save(tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    fit_labelled(labelled(seed=5), HashEncoder(), seed=1).save(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "b")


def test_saving_again_leaves_nothing_behind(tmp_path: Path) -> None:
    router = fit_labelled(labelled(), HashEncoder())
    router.save(tmp_path)
    (tmp_path / "skill" / "old.json").write_text("{}")
    router.save(tmp_path)
    assert sorted(files(tmp_path)) == ["prompts.npy", "router.json", "skill/means.json", "two_level/means.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fit_labelled(labelled(), HashEncoder()).save(tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(RouterFileError) as caught:
        FittedRouter.load(folder, HashEncoder())
    return str(caught.value).replace(f"{folder}/", "")


def test_files_that_do_not_belong_together_are_told(folder: Path) -> None:
    (folder / "skill" / "means.json").write_text("[]")
    assert refused(folder) == (
        "skill/means.json is corrupt (it is not the file that router.json was written with): fit the router again"
    )
    (folder / "skill" / "means.json").unlink()
    assert refused(folder) == "skill/means.json is missing: fit the router again"


def test_a_header_that_is_none_is_told(folder: Path) -> None:
    header = json.loads((folder / "router.json").read_text())
    for change, told in (
        ({"version": 9}, "router.json is of version 9, this release reads version 1: fit the router again"),
        ({"format": 1}, "router.json is corrupt (it has no 'format' of 'coe-fitted-router'): fit the router again"),
        ({"format": "x"}, "router.json is of format 'x', not 'coe-fitted-router': name the folder that `coe router "
         "fit` made, not one inside it"),
        ({"means": [0.5]}, "router.json is corrupt (a row has not one entry for each of the 3 experts): "
         "fit the router again"),
        ({"seed": "x"}, "router.json is corrupt (seed: Input should be a valid integer, unable to parse string as an "
         "integer): fit the router again"),
    ):  # fmt: skip
        (folder / "router.json").write_text(json.dumps(header | change))
        assert refused(folder) == told
    assert not is_fitted_router(folder / "skill")
    (folder / "router.json").unlink()
    assert refused(folder) == "there is no fitted router: router.json is missing; fit it first"


def test_another_encoder_is_told(folder: Path) -> None:
    with pytest.raises(RouterFileError, match=r"fitted with encoder 'hash-256' .* but 'hash-64' \(64\) is in use"):
        FittedRouter.load(folder, HashEncoder(64))
    with pytest.raises(RouterFileError, match="but none is given: use the same encoder"):
        FittedRouter.load(folder)


def test_a_folder_is_opened_as_what_it_is(folder: Path, tmp_path: Path) -> None:
    router = open_router(folder, HashEncoder(), aggregator="judge")
    assert isinstance(router, FittedRouter)
    assert router.route("boil tea", EXPERTS, k=2).aggregator == "judge"
    prompts = [f"{word} number {i}" for i in range(20) for word in ("boil", "rhyme")]
    quality = {"boil": {"cook": (0.9, 20)}, "rhyme": {"poet": (0.9, 20)}}
    TwoLevelRouter.fit(prompts, ["boil", "rhyme"] * 20, quality, HashEncoder()).save(tmp_path / "old")
    alone = open_router(tmp_path / "old", HashEncoder())
    assert isinstance(alone, TwoLevelRouter)
    assert alone.route("rhyme number 3", EXPERTS).experts == ("poet",)
    with pytest.raises(RouterFileError, match="there is no fitted router"):
        open_router(tmp_path / "none", HashEncoder())


def test_fit_takes_plain_lists() -> None:
    data = labelled()
    columns = dict(zip(EXPERTS, data.scores.T.tolist(), strict=True))
    router = fit(data.prompts, columns, categories=data.categories, encoder=HashEncoder())
    assert router.route_many(["boil tea", "rhyme tea"])[1].experts == ("poet",)
    assert router.experts == EXPERTS


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"a": [0.5] * 30}, "a router chooses between two experts at least; got a"),
        ({"a": [0.5] * 30, "b": [0.5] * 29}, "scores of 'b': got 29 values for 30 prompts"),
        ({"a": [0.5] * 30, "b": [0.5] * 29 + [1.5]}, "a score must be in [0, 1], or nan where there is none; got 1.5"),
    ],
)
def test_fit_tells_what_does_not_fit(scores: dict[str, list[float]], told: str) -> None:
    with pytest.raises(ValueError, match="^" + told.replace("[", r"\[")):
        fit([f"prompt {i}" for i in range(30)], scores, encoder=HashEncoder())


def test_too_few_prompts_are_told() -> None:
    with pytest.raises(ValueError, match="got 10 different prompts; a router needs 20 at least"):
        fit_labelled(labelled(10), HashEncoder())


def test_each_text_is_embedded_once() -> None:
    class Counting(HashEncoder):
        texts = 0

        def encode(self, texts: object) -> Vectors:
            assert isinstance(texts, list)
            self.texts += len(texts)
            return super().encode(texts)

    encoder, told = Counting(), list[tuple[str, int, int]]()
    known = Embedded(encoder, ["b", "a", "b"] * 200, lambda *step: told.append(step))
    np.testing.assert_array_equal(known.encode(["a", "b", "a"]), HashEncoder().encode(["a", "b", "a"]))
    assert encoder.texts == 2
    np.testing.assert_array_equal(known.encode(["new", "a"]), HashEncoder().encode(["new", "a"]))
    assert told == [("prompts embedded", 2, 2)]
