"""Are strangers found? A router knows some domains and is asked about others.

    python -m benchmarks.out_of_distribution --data DIR [--json] [--encoder minilm] [--home DIR] [--vectors DIR]

Every labelled set in the folder and the starter pool's prompts are known in turn: as a whole, without one of their
domains, and one domain alone. Strangers are the held-out prompts of each domain that is not known, of all sets. What a
category's domain is, `DOMAINS` says; a category that it does not name is a domain of its own. So sets differ in domain
if they share no subject, however alike they are written.

Recall is the share of strangers that are found; false fallback the share of held-out known prompts that are taken for
strangers. Each rule has the limit that its held-out folds gave; "at 5 %" is the recall with the limit that would have
taken exactly that share of the held-out known prompts. Beside the router's rule: the mean cosine distance to the 5
nearest known prompts alone, and the entropy of the categories alone.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import emit, table
from benchmarks.routed import SEED, Case, cases, embedded, home, starter_case
from routers.blas import blas_threads
from routers.encoders.base import Encoder, Vectors
from routers.encoders.choice import Kind, open_encoder
from routers.encoders.style import styles
from routers.labelled.data import Labelled
from routers.two_level.level1 import Floats, entropy
from routers.two_level.level1_fit import FOLDS, LEAST_PROMPTS, Doubt, Folds, fit_level1, neighbourhoods

SUBJECTS: Mapping[str, Sequence[str]] = {
    "business": ("business", "account", "management", "marketing", "econom", "public_relations"),
    "humanities": ("moral", "history", "philosophy", "religion", "logical_fallacies", "formal_logic"),
    "law": ("law", "jurisprudence"),
    "mathematics": ("gsm", "math", "algebra", "statistics"),
    "medicine": ("medic", "clinical", "nutrition", "aging", "virology", "anatomy", "health", "sexuality"),
    "science": (
        "physics",
        "chem",
        "bio",
        "engineering",
        "astronomy",
        "comput",
        "machine_le",
        "gpqa",
        "arc_ch",
        "openbook",
    ),
    "society": ("psychology", "sociology", "foreign", "government", "geography", "security_studies"),
}
"""Domain -> parts of the names of its categories, in the sets that are usual for routers."""

DOMAINS: Mapping[str, Sequence[str]] = {
    **SUBJECTS,
    "code": ("mbpp", "human_eval"),
    "everyday": ("commonsense",),
    "facts": ("trivia", "natural_qa", "miscellaneous", "global_facts", "other"),
    "puzzles": ("logicgrid",),
    "word lists": ("commongen",),
}
MANY = {"mmlu": frozenset(SUBJECTS)}
"""Categories of several domains. They make all of them known, and are nobody's strangers."""

RULES = ("router", "knn", "entropy")
SHARE = 0.05
NEIGHBOURS = 5
KNOWN = 3000
"""Known prompts that are fitted on, at most."""
MOST, LEAST = 500, 20
"""Strangers of a domain: no more are asked, and fewer are not measured."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Shares by rule. how: what is known of a set: all ("set"), all but a domain ("without"), or a domain ("only")."""

    how: str
    known: str
    strangers: str
    count: int
    recall: dict[str, float]
    false_fallback: dict[str, float]
    at_share: dict[str, float]


@cache
def domains(category: str) -> frozenset[str]:
    """The domains of a category."""
    if category in MANY:
        return MANY[category]
    for domain, parts in DOMAINS.items():
        if any(part in category for part in parts):
            return frozenset({domain})
    return frozenset({category})


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Prompts with their vectors, styles and categories."""

    x: Vectors
    looks: Vectors
    categories: NDArray[np.str_]

    def where(self, mask: NDArray[np.bool_]) -> "Part":
        return Part(self.x[mask], self.looks[mask], self.categories[mask])

    def of(self, names: frozenset[str]) -> "Part":
        """Prompts of categories that lie in these domains."""
        return self.where(np.array([domains(category) <= names for category in self.categories], np.bool_))

    def some(self, count: int) -> "Part":
        """`count` of them at random, or all."""
        drawn = np.random.default_rng(SEED).permutation(len(self.x))[:count]
        return self.where(np.isin(np.arange(len(self.x)), drawn))

    def domains(self) -> frozenset[str]:
        return frozenset().union(*(domains(category) for category in np.unique(self.categories)))


def part(data: Labelled, encoder: Encoder) -> Part:
    categories = np.array(data.categories or ["?"] * len(data))
    return Part(encoder.encode(data.prompts), styles(data.prompts), categories)


class Rules:
    """Each rule's strangeness of prompts, and its limit from held-out folds."""

    def __init__(self, known: Part, templates: bool) -> None:
        """templates: hold out neighbourhoods, as a router does that is fitted on prompts made from templates."""
        names, counts = np.unique(known.categories, return_counts=True)
        names = names[counts >= LEAST_PROMPTS]
        place = {name: i for i, name in enumerate(names)}
        y = np.array([place.get(category, -1) for category in known.categories], np.intp)
        every = np.ones(len(y), np.bool_)
        folds = self._folds(known, y, templates)
        self._level1, p = fit_level1(known.x, known.looks, y, every, every, folds, Doubt(SHARE))
        far = np.zeros(len(y))
        for train, test in folds:
            far[test] = _knn(known.x[test], known.x[train])
        self.limits = {
            "router": 1.0,
            "knn": float(np.quantile(far, 1 - SHARE)),
            "entropy": float(np.quantile(entropy(p), 1 - SHARE)),
        }

    @staticmethod
    def _folds(known: Part, y: NDArray[np.intp], templates: bool) -> Folds:
        rng = np.random.default_rng(SEED)
        if templates:
            return neighbourhoods(known.x, y, SEED, rng)
        fold = rng.permutation(len(y)) % FOLDS
        return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(FOLDS)]

    def strangeness(self, asked: Part) -> dict[str, Floats]:
        level1 = self._level1
        unsure = entropy(level1.probabilities(asked.x))
        away = level1.distance.share(level1.density.distance(asked.x, asked.looks))
        return {
            "router": np.hypot(level1.entropy.share(unsure), away),
            "knn": _knn(asked.x, level1.references),
            "entropy": unsure,
        }


def _knn(x: Vectors, references: Vectors) -> Floats:
    similar = x @ references.T
    k = min(NEIGHBOURS, similar.shape[1])
    distances: Floats = 1.0 - np.partition(similar, -k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64)
    return distances


def pairs(train: Mapping[str, Part], test: Mapping[str, Part]) -> Iterator[Pair]:
    """All pairs of what is known and who is not."""
    for name in train:
        everything = train[name].domains()
        ways = [("set", name, everything)]
        if len(everything) > 1:
            ways += [("without", f"{name} without {domain}", everything - {domain}) for domain in sorted(everything)]
            ways += [("only", f"{name}: {domain}", frozenset({domain})) for domain in sorted(everything)]
        for how, label, wanted in ways:
            known, own = train[name].of(wanted).some(KNOWN), test[name].of(wanted)
            if len(own.x) < LEAST or len(known.x) < LEAST * FOLDS:
                continue
            rules = Rules(known, templates=name == "starter")
            usual = rules.strangeness(own)
            for other, asked in _strangers(test, known.domains()):
                # Without a domain, that domain is the question; the others were strangers to the whole set already.
                if how == "without" and other != f"{name}: {label.removeprefix(f'{name} without ')}":
                    continue
                found = rules.strangeness(asked)
                yield Pair(
                    how=how,
                    known=label,
                    strangers=other,
                    count=len(asked.x),
                    recall={rule: float((found[rule] > rules.limits[rule]).mean()) for rule in RULES},
                    false_fallback={rule: float((usual[rule] > rules.limits[rule]).mean()) for rule in RULES},
                    at_share={
                        rule: float((found[rule] > np.quantile(usual[rule], 1 - SHARE)).mean()) for rule in RULES
                    },
                )


def _strangers(test: Mapping[str, Part], known: frozenset[str]) -> Iterator[tuple[str, Part]]:
    for name, everything in test.items():
        for domain in sorted(everything.domains() - known):
            asked = everything.of(frozenset({domain}))
            if len(asked.x) >= LEAST:
                yield f"{name}: {domain}", asked.some(MOST)


def percent(shares: Mapping[str, float]) -> list[float]:
    return [100 * shares[rule] for rule in RULES]


def summary(found: Sequence[Pair]) -> dict[str, dict[str, dict[str, float]]]:
    """how -> measure -> rule -> mean over the pairs, and the share of pairs with a recall of 90 % or more."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    for how in dict.fromkeys(pair.how for pair in found):
        own = [pair for pair in found if pair.how == how]
        means[how] = {
            measure: {rule: float(np.mean([getattr(pair, measure)[rule] for pair in own])) for rule in RULES}
            for measure in ("recall", "false_fallback", "at_share")
        }
        means[how]["pairs_over_90"] = {
            rule: float(np.mean([pair.recall[rule] >= 0.9 for pair in own])) for rule in RULES
        }
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of *.labelled.parquet files")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--encoder", choices=get_args(Kind), default="minilm")
    parser.add_argument("--home", type=Path, help="folder of the static encoder (default: COE_HOME or ~/.coe)")
    parser.add_argument("--vectors", type=Path, help="folder that keeps the prompts' vectors between runs")
    arguments = parser.parse_args()
    encoder = open_encoder(arguments.encoder, home(arguments.home))
    train: dict[str, Part] = {}
    test: dict[str, Part] = {}
    everything: list[Case] = [*cases(arguments.data), starter_case()]
    for case in everything:
        vectors = embedded(case, encoder, arguments.vectors)
        train[case.name], test[case.name] = part(case.train, vectors), part(case.test, vectors)
    with blas_threads(1):
        found = list(pairs(train, test))
    columns = [f"{measure}, {rule}" for measure in ("recall", "false fallback") for rule in RULES]
    rows = [
        (pair.known, pair.strangers, pair.count, *percent(pair.recall), *percent(pair.false_fallback)) for pair in found
    ]
    print(table(("known", "strangers", "prompts", *columns), rows) + "\n")
    means = summary(found)
    header = ("known, mean over pairs", "measure in %", *RULES)
    print(
        table(header, [(how, measure, *percent(shares)) for how, by in means.items() for measure, shares in by.items()])
    )
    figures = {"means": means, "pairs": [asdict(pair) for pair in found]}
    settings = {"data": str(arguments.data), "encoder": encoder.name, "seed": SEED, "share": SHARE}
    emit(settings, figures, arguments.json)


if __name__ == "__main__":
    main()
