"""Skills: where they come from, what they are called, and which of them a text has."""

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.skill.categories import learned
from routers.skill.names import name_clusters
from routers.skill.terms import LEAST, MOST, common
from routers.skill.vocabulary import Vocabulary, centres, found, gathered, given, named
from tests.routers.skill.parts import world

EAST, NORTH_EAST, NORTH = (1.0, 0.0), (0.6, 0.8), (0.0, 1.0)


def vocabulary(threshold: float = 0.5, most: int = 2) -> Vocabulary:
    """Two grains: east and north, and north-east alone."""
    vectors = np.array([EAST, NORTH, NORTH_EAST], np.float32)
    return Vocabulary(("east", "north", "north-east"), vectors, (2, 1), threshold, most, width=0.1)


def strengths(vocabulary: Vocabulary, text: tuple[float, float]) -> dict[str, float]:
    tags = vocabulary.match(np.array([text], np.float32))
    pairs = zip(tags.skill[0], tags.strength[0], strict=True)
    return {vocabulary.names[skill]: float(strength) for skill, strength in pairs if strength}


def test_a_text_has_the_nearest_skills_of_each_grain_over_the_threshold() -> None:
    assert strengths(vocabulary(), EAST) == pytest.approx({"east": 1.0, "north-east": 1.0})
    assert strengths(vocabulary(threshold=0.7), EAST) == pytest.approx({"east": 1.0})
    assert strengths(vocabulary(most=1), NORTH_EAST) == pytest.approx({"north": 1.0, "north-east": 1.0})
    assert strengths(vocabulary(), (-1.0, 0.0)) == {}


def test_the_nearer_skill_is_stronger_by_the_width_and_squares_sum_to_one() -> None:
    got = strengths(vocabulary(), NORTH_EAST)
    assert got["north"] / got["east"] == pytest.approx(np.exp((0.8 - 0.6) / 0.1), rel=1e-4)
    assert got["north"] ** 2 + got["east"] ** 2 == pytest.approx(1)


def test_clusters_are_found_again_with_names_from_their_words() -> None:
    data = world()
    x = HashEncoder().encode(data.prompts)
    grains = [centres(x, size, seed=0) for size in (3, 9)]
    skills = named(found(x, grains, most=1, width=0.1), data.prompts, x)
    assert skills.grains == (3, 9)
    assert len(set(skills.names)) == 12
    np.testing.assert_allclose(np.linalg.norm(skills.vectors, axis=1), 1, atol=1e-5)
    kinds = np.array(data.categories)
    nearest = skills.match(x).skill[:, 0]
    for cluster in range(3):
        assert len(set(kinds[nearest == cluster])) <= 1
    words = {word for prompt in data.prompts for word in prompt.casefold().split()}
    assert {word.strip(",") for name in skills.names for word in name.split()} <= words | set("123456789")


def test_equal_prompts_are_one_cluster() -> None:
    x = HashEncoder().encode(["the same"] * 20)
    assert centres(x, 5, seed=0).shape == (1, 256)


def test_a_name_is_what_sets_a_cluster_apart_and_is_taken_once() -> None:
    prompts = ["solve the linear equation"] * 5 + ["solve the riddle"] * 5 + ["123 ?!"] * 5
    cluster_of = np.repeat([0, 1, 2], 5)
    first, second, third = name_clusters(prompts, cluster_of, 3, set())
    assert first in ("equation", "linear", "linear equation", "solve linear")
    assert second in ("riddle", "solve riddle")
    assert third == "skill 1"
    again = name_clusters(prompts, cluster_of, 3, {first, second, third})
    assert len({first, second, third, *again}) == 6


def test_given_names_must_be_different_words() -> None:
    assert given(["algebra", "law"], HashEncoder()).names == ("algebra", "law")
    for names in ([], ["algebra", "algebra"], ["algebra", " "]):
        with pytest.raises(ValueError, match="a vocabulary needs different names"):
            given(names, HashEncoder())


def test_keywords_are_gathered_by_frequency_and_merged_if_near() -> None:
    near = "the theory of linear algebras"
    rows = [["the theory of linear algebra", "proof"]] * 3 + [[near]] * 2 + [["once"]]
    skills = gathered(rows, HashEncoder())
    assert skills.names == ("proof", "the theory of linear algebra")
    tags = skills.match_keywords([[near, "proof"], ["zebra"], []], HashEncoder())
    assert tags.skill[0].tolist() == [1, 0]
    np.testing.assert_allclose(tags.strength, [[0.5**0.5, 0.5**0.5], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match="no keyword was given for 2 prompts or more"):
        gathered([["once"]], HashEncoder())


def test_common_words_are_skills_and_rare_ones_count_more() -> None:
    prompts = [f"what is {word} ?" for word in "a b c d e f g h".split()] * 2 + ["what \\frac"] * LEAST + ["odd"]
    words = common(prompts)
    assert words.words == ("what", "?", "is", "\\", "frac")
    assert words.names[1] == "'?'"
    tags = words.match(["What IS this \\frac?", "odd", ""])
    assert (tags.strength**2).sum(axis=1) == pytest.approx([1, 0, 0])
    strength = {skill: value for skill, value in zip(tags.skill[0], tags.strength[0], strict=True) if value}
    assert strength[4] > strength[2] > strength[0] > 0
    assert tags.skill.shape == (3, MOST)


def test_a_category_is_detected_with_the_probability_that_it_has() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    x = (rng.normal(size=(4000, 3)) + 0.5 * np.eye(3)[y]).astype(np.float32)
    categories = learned(x[:2000], [f"kind {i}" for i in y[:2000]])
    assert categories.names == ("kind 0", "kind 1")
    tags = categories.match(x[2000:])
    p = tags.strength[tags.skill == 1]
    assert tags.strength.sum(axis=1) == pytest.approx(1)
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8)):
        inside = (p >= low) & (p < high)
        assert y[2000:][inside].mean() == pytest.approx(p[inside].mean(), abs=0.08)
