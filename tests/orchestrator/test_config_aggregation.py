# ruff: noqa: E501 (messages are compared whole)
"""`aggregation` and `ensembles` of a coe.yaml: what they mean, and what each mistake is answered with."""

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest

from aggregators.registry import NAMES
from aggregators.rubric import DEFAULT, Dimension, Rubric
from aggregators.settings import MAX_LAYERS, Settings
from orchestrator.aggregation import NoProfile, aggregators, ensembles, measured, settings, told_settings
from orchestrator.config.aggregation import AggregationConfig, AggregatorName, DimensionConfig
from orchestrator.config.aggregation_checks import _USED_BY
from orchestrator.config.model import Config
from routers.policies.budget import NO_BOUND, Budget
from tests.orchestrator.config_parts import read, told

EXPERTS = "experts: [{name: a, source: ./a}, {name: b, source: ./b}, {name: c, source: ./c}]\nrouter: {kind: fixed, fallback: a}\n"


def config(file: Path, text: str) -> Config:
    return read(file, EXPERTS + text)


def test_nothing_said_is_the_aggregators_own_settings() -> None:
    assert settings(AggregationConfig()) == Settings()


def test_the_names_are_those_of_the_registry() -> None:
    assert get_args(AggregatorName) == NAMES


def test_every_key_says_who_looks_at_it() -> None:
    assert set(_USED_BY) == set(AggregationConfig.model_fields)
    assert AggregationConfig.model_json_schema()["properties"]["layers"]["maximum"] == MAX_LAYERS


def test_every_key_reaches_the_aggregators(file: Path) -> None:
    text = """
aggregation:
  expert: b
  reserve_s: 5
  draft_characters: 900
  judge_tokens: 200
  stream_first: false
  waves: true
  pairwise: true
  layers: 2
  end: vote
  first: judge
  otherwise: refine
  rubric: [{name: truth, question: "Is it true?", weight: 2}, {name: tone, question: "Is it kind?"}]
  rubrics: {math: [{name: proof, question: "Does it follow?"}]}
  prompts: {refine: "{question} {drafts}"}
"""
    made = config(file, text)
    assert settings(made.aggregation) == Settings(
        expert="b",
        prompts={"refine": "{question} {drafts}"},
        rubric=Rubric((Dimension("truth", "Is it true?"), Dimension("tone", "Is it kind?")), (2.0, 1.0)),
        rubrics={"math": Rubric((Dimension("proof", "Does it follow?"),))},
        reserve_s=5,
        draft_characters=900,
        judge_tokens=200,
        stream_first=False,
        waves=True,
        is_pairwise=True,
        layers=2,
        end="vote",
        first="judge",
        otherwise="refine",
    )
    assert tuple(aggregators(made)) == NAMES
    assert {name for name in AggregationConfig.model_fields if name not in made.aggregation.model_fields_set} == {
        "profile"
    }


def test_an_ensemble_has_its_own_over_the_service_s(file: Path) -> None:
    text = """
aggregation:
  expert: a
  reserve_s: 5
  rubrics: {math: [{name: proof, question: "Does it follow?"}]}
  prompts: {judge: "{question} {drafts} {form}"}
ensembles:
  careful:
    description: Slow and sure.
    experts: [a, b, c]
    aggregator: judge
    aggregation:
      expert: c
      rubrics: {law: [{name: source, question: "Does it name its source?"}]}
      prompts: {compare: "{question} {drafts}"}
    budget: {calls: 5}
  pair: {k: 2, aggregator: synthesize}
"""
    made = config(file, text)
    merged = made.ensembles["careful"].aggregation.over(made.aggregation)
    assert (merged.expert, merged.reserve_s) == ("c", 5)
    assert set(merged.rubrics) == {"math", "law"}
    assert set(merged.prompts.given()) == {"judge", "compare"}
    careful, pair = ensembles(made).values()
    assert (careful.model, careful.k, careful.experts, careful.expert) == ("ensemble/careful", 3, ("a", "b", "c"), "c")
    assert (careful.aggregator.name, careful.budget, careful.description) == (
        "judge",
        Budget(calls=5),
        "Slow and sure.",
    )
    assert (pair.k, pair.experts, pair.expert, pair.budget) == (2, None, "a", NO_BOUND)
    assert (careful.settings["expert"], careful.settings["prompts"]) == ("c", ["compare", "judge"])
    assert careful.settings["rubrics"] == {"math": ["proof"], "law": ["source"]}
    assert pair.settings == told_settings(made)["synthesize"]
    assert pair.settings["reserve_s"] == 5


def test_who_judges_and_writes_best_comes_from_a_profile(file: Path) -> None:
    made = config(file, "aggregation: {profile: mine}")
    folder = file.parent / "mine"
    assert made.aggregation.profile == folder
    with pytest.raises(NoProfile, match="there is no profile in"):
        measured(made)
    folder.mkdir()
    share = {"n": 100, "low": 0, "high": 1}
    good, bad = {"mean": 0.9, **share}, {"mean": 0.2, **share}
    scores = {"judging": {"math": {"a": bad, "b": good}}, "writing": {"math": {"a": good, "b": bad}}}
    profile: dict[str, Any] = {"labels": "gold", "questions": 1, "concurrent": 1, "experts": {}}
    (folder / "profile.json").write_text(json.dumps(profile))
    with pytest.raises(NoProfile, match="was not measured"):
        measured(made)
    (folder / "profile.json").write_text("{")
    with pytest.raises(NoProfile, match="is no profile"):
        measured(made)
    (folder / "profile.json").write_text(json.dumps({**profile, "aggregation": scores}))
    choose = pickle.loads(pickle.dumps(measured(made).choose))  # as what plans a batch elsewhere gets it
    assert choose("judge", "math", ("a", "b")) == "b"
    assert choose("writer", "math", ("b", "a")) == "a"
    assert measured(config(file, "log_level: info")).choose("judge", "math", ("a", "b")) == "a"


def test_measured_weights_are_for_rubrics_without_their_own(file: Path) -> None:
    fitted = {"correctness": 0.7, "completeness": 0.2, "clarity": 0.1}
    own = "{name: sound, question: '?'}, {name: short, question: '?'"
    text = f"aggregation: {{rubrics: {{law: [{own}}}], poems: [{own}, weight: 2}}], wit: [{own}}}]}}}}"
    found = settings(
        config(file, text).aggregation,
        {"math": fitted, "law": {"short": 0.3, "sound": 0.7}, "poems": {"sound": 0.5, "short": 0.5}, "wit": fitted},
    )
    assert found.rubric.weights is None
    assert found.rubrics["math"] == Rubric(DEFAULT.dimensions, (0.7, 0.2, 0.1))
    assert found.rubrics["law"].weights == (0.7, 0.3)
    assert found.rubrics["poems"].weights == (1.0, 2.0), "the configuration gives some"
    assert found.rubrics["wit"].weights is None, "they were fitted for other dimensions"


def test_the_router_takes_any_aggregator(file: Path) -> None:
    for name in NAMES:
        text = f"experts: [{{name: a, source: ./a}}]\nrouter: {{kind: fixed, fallback: a, aggregator: {name}}}"
        assert read(file, text).router.aggregator == name


def ensemble(**keys: Any) -> str:
    return "ensembles: " + json.dumps({"e": {"aggregator": "judge", "k": 2, **keys}})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("aggregation: {exprt: a}", "aggregation: unknown key 'exprt'; did you mean 'expert'?"),
        ("aggregation: {expert: d}", "aggregation.expert: got 'd', which no expert is named"),
        ("aggregation: {layers: 4}", "aggregation.layers: got 4; allowed: a whole number at least 1 and at most 3"),
        ("aggregation: {reserve_s: 0}", "aggregation.reserve_s: got 0; allowed: a number above 0"),
        (
            "aggregation: {prompts: {jugde: x}}",
            "aggregation.prompts: unknown key 'jugde'; did you mean 'judge'?",
        ),
        (
            "aggregation: {prompts: {synthesize: '{question}'}}",
            "aggregation.prompts.synthesize: prompt 'synthesize' lacks {drafts}; it needs question, drafts",
        ),
        (
            "aggregation: {expert: a, profile: p}",
            "aggregation.profile: has no use beside 'expert', who judges and writes always; leave one of them out",
        ),
        (
            ensemble(aggregation={"profile": "p"}),
            "ensembles.e.aggregation.profile: is for the service as a whole; write it under 'aggregation' there",
        ),
        (
            "aggregation: {rubric: []}",
            "aggregation.rubric: got a list; allowed: a list (items: a mapping with at least the keys 'name' and 'question')",
        ),
        (
            "aggregation: {rubrics: {math: []}}",
            "aggregation.rubrics.math: has no dimensions; name at least one thing to judge",
        ),
        (
            "aggregation: {rubric: [{name: a, question: b}, {name: A, question: c}]}",
            "aggregation.rubric[1].name: got 'A' a second time; names must differ, also in lower case",
        ),
        (
            "aggregation: {rubric: [{name: a, question: b, weight: 0}]}",
            "aggregation.rubric[0].weight: all weights are 0; allowed: at least one above 0",
        ),
        (
            ensemble(aggregator="juge"),
            "ensembles.e.aggregator: got 'juge'; allowed: 'single', 'vote', 'judge', 'synthesize', 'refine' or 'cascade'; did you mean 'judge'?",
        ),
        (
            "ensembles: {e: {k: 2}}",
            "ensembles.e.aggregator: missing; allowed: 'single', 'vote', 'judge', 'synthesize', 'refine' or 'cascade'",
        ),
        (
            "ensembles: {A b: {k: 2, aggregator: judge}}",
            "ensembles['A b']: names have 1 to 63 characters of a-z, 0-9, '.', '_' and '-', the first a letter or digit",
        ),
        (ensemble(experts=["a", "d"]), "ensembles.e.experts[1]: got 'd', which no expert is named"),
        (ensemble(experts=["a", "b", "a"]), "ensembles.e.experts[2]: got 'a' a second time; each expert has one draft"),
        (ensemble(k=None), "ensembles.e.k: missing; without 'experts' it says how many answer"),
        (ensemble(k=4), "ensembles.e.k: got 4; allowed: up to 3, the number of the service's experts"),
        (ensemble(k=3, experts=["a", "b"]), "ensembles.e.k: got 3; allowed: up to 2, the number of its experts"),
        (
            ensemble(aggregator="vote"),
            "ensembles.e.k: got 2; 'vote' needs at least 3: of two votes the heavier one always wins",
        ),
        (
            ensemble(aggregator="vote", k=None, experts=["a", "b"]),
            "ensembles.e.experts: got 2; 'vote' needs at least 3: of two votes the heavier one always wins",
        ),
        (
            ensemble(budget={"calls": 2}),
            "ensembles.e.budget.calls: got 2; allowed: at least 3, 2 drafts and 1 for 'judge'",
        ),
        (
            ensemble(aggregator="vote", k=3, budget={"calls": 2}),
            "ensembles.e.budget.calls: got 2; allowed: at least 3, 3 drafts",
        ),
        (
            ensemble(aggregator="refine", k=3, aggregation={"layers": 2}, budget={"calls": 9}),
            "ensembles.e.budget.calls: got 9; allowed: at least 10, 3 drafts and 7 for 'refine'",
        ),
        (ensemble(budget={"usd": 1}), "ensembles.e.budget.usd: has no use: no expert has a price"),
        (ensemble(aggregation={"expert": "d"}), "ensembles.e.aggregation.expert: got 'd', which no expert is named"),
        (
            ensemble(aggregation={"layers": 2}),
            "ensembles.e.aggregation.layers: has no use for the aggregator 'judge'; leave it out",
        ),
        (
            ensemble(aggregator="cascade", aggregation={"layers": 2}),
            "ensembles.e.aggregation.layers: has no use for the aggregator 'cascade'; leave it out",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_what_and_what_else(file: Path, text: str, line: str) -> None:
    [found] = told(file, EXPERTS + text)
    assert found.partition(" ")[2] == line
    assert found.startswith("coe.yaml:3: ")


def test_a_mistake_in_a_long_file_is_told_by_its_line(file: Path) -> None:
    text = """
ensembles:
  trio:
    experts:
      - a
      - b
      - bb
    aggregator: vote
"""
    assert told(file, EXPERTS + text) == [
        "coe.yaml:9: ensembles.trio.experts[2]: got 'bb', which no expert is named; did you mean 'b'?"
    ]


def test_keys_of_what_has_a_part_are_of_use(file: Path) -> None:
    for keys in (
        {
            "aggregator": "cascade",
            "aggregation": {"otherwise": "refine", "layers": 2, "end": "judge", "pairwise": True},
        },
        {"aggregator": "refine", "aggregation": {"end": "judge", "rubric": [{"name": "x", "question": "y"}]}},
    ):
        assert "e" in config(file, ensemble(**keys)).ensembles


def test_the_default_rubric_can_be_written_out() -> None:
    dimensions = tuple(DimensionConfig(name=d.name, question=d.question) for d in DEFAULT.dimensions)
    assert settings(AggregationConfig(rubric=dimensions)).rubric.dimensions == DEFAULT.dimensions
