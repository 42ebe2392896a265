"""A small world for skill routers: three experts, each at home in one kind of prompt."""

from collections.abc import Sequence

import numpy as np

from routers.encoders.hashed import HashEncoder
from routers.labelled.data import Labelled
from routers.skill.router import SkillRouter

EXPERTS = ("cook", "poet", "sage")
KINDS = {
    "boiling": ("how long do I boil {} in a pot of water", "eggs rice pasta beans corn peas kale leeks beets yams"),
    "verses": ("write a rhyming verse about {} for a friend", "rain snow love time youth sleep night dawn dusk hope"),
    "history": (
        "which century saw the empire of {} fall",
        "Rome Mali Aksum Inca Maya Persia Qin Ottoman Zulu Gupta",
    ),
}
GOOD = {"boiling": (0.9, 0.2, 0.5), "verses": (0.1, 0.9, 0.5), "history": (0.2, 0.3, 0.6)}


def prompts_of(kind: str, each: int = 4) -> list[str]:
    frame, things = KINDS[kind]
    return [frame.format(f"{thing} {'and more ' * i}").strip() for thing in things.split() for i in range(each)]


def world(seed: int = 0, missing: float = 0.0) -> Labelled:
    """120 prompts; scores are 0 or 1 by GOOD, some of them not measured."""
    rng = np.random.default_rng(seed)
    prompts = [(kind, prompt) for kind in KINDS for prompt in prompts_of(kind)]
    chance = np.array([GOOD[kind] for kind, _ in prompts])
    scores = (rng.random(chance.shape) < chance).astype(np.float64)
    scores[rng.random(chance.shape) < missing] = np.nan
    return Labelled(
        ids=tuple(str(i) for i in range(len(prompts))),
        prompts=tuple(prompt for _, prompt in prompts),
        experts=EXPERTS,
        scores=scores,
        categories=tuple(kind for kind, _ in prompts),
    )


def keywords(prompts: Sequence[str]) -> list[list[str]]:
    """A tagger that knows this world, in different words for one thing."""
    found = []
    for prompt in prompts:
        kinds = [kind for kind, (frame, _) in KINDS.items() if prompt.startswith(frame.split("{")[0])]
        found.append([word for kind in kinds for word in (kind, f"{kind} of things")])
    return found


def fitted(**options: object) -> SkillRouter:
    return SkillRouter.fit_labelled(world(), HashEncoder(), **options)  # type: ignore[arg-type]
