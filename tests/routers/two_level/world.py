"""A small world of labelled prompts, whose experts are good at what the names say."""

import numpy as np

from routers.labelled.data import Labelled

EXPERTS = ("chemist", "lawyer", "novice", "poet")
FRAMES = {
    "chemistry": "which acid dissolves {} in the flask of",
    "law": "may the court hear {} in the appeal of",
    "verse": "write a rhyme about {} for the feast of",
}
SKILL = {
    "chemistry": (0.9, 0.3, 0.3, 0.2),
    "law": (0.2, 0.9, 0.3, 0.3),
    "verse": (0.3, 0.2, 0.3, 0.9),
}
THINGS = "copper silver marble rubber cotton leather bronze nickel timber velvet".split()
NAMES = "Anna Boris Clara David Elena Frank Greta Henry Irene Jonas Karin Louis".split()


def prompts_of(category: str) -> list[str]:
    return [f"{FRAMES[category].format(thing)} {name}" for thing in THINGS for name in NAMES]


def labelled(each: int = 80, *, seed: int = 0, categories: bool = True, hole: float = 0.0) -> Labelled:
    """`each` prompts of each category; `hole` is the share of scores that were not measured."""
    rng = np.random.default_rng(seed)
    prompts, labels, scores = [], [], []
    for category, skills in SKILL.items():
        own = prompts_of(category)
        for i in rng.permutation(len(own))[:each]:
            prompts.append(own[i])
            labels.append(category)
            scores.append((rng.random(len(EXPERTS)) < skills).astype(np.float64))
    table = np.array(scores)
    table[rng.random(table.shape) < hole] = np.nan
    return Labelled(
        ids=tuple(map(str, range(len(prompts)))),
        prompts=tuple(prompts),
        experts=EXPERTS,
        scores=table,
        categories=tuple(labels) if categories else None,
    )
