"""What the benchmarks of routers have in common: labelled sets, encoders, routers."""

import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experts.domains import NAMES, domain, general
from experts.starter import PROFILE
from routers.encoders.base import Encoder
from routers.encoders.choice import open_encoder
from routers.encoders.embedded import Embedded
from routers.encoders.minilm import MiniLMEncoder
from routers.evaluation.decisions import Model
from routers.labelled.data import Labelled, read
from routers.skill.router import SkillRouter
from routers.starter import GENERAL, training_prompts
from routers.two_level.router import TwoLevelRouter

SEED = 0


ROUTERS: Mapping[str, type[Model]] = {"two_level": TwoLevelRouter, "skill": SkillRouter}


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled set, cut into what a router may see and what it is judged with."""

    name: str
    train: Labelled
    test: Labelled


def cases(data: Path) -> Iterator[Case]:
    """Every `*.labelled.*` file under the folder. The split `test` is held out, else `val`.

    Raises SystemExit where there is none, LabelledFileError.
    """
    files = sorted(data.rglob("*.labelled.*"))
    if not files:
        raise SystemExit(
            f"{data} holds no file *.labelled.parquet, .csv or .jsonl; docs/routing.md says how to make one"
        )
    for file in files:
        everything = read(file)
        splits = np.array(everything.splits or ())
        held = "test" if "test" in splits else "val"
        if not {held} < set(splits.tolist()):
            raise SystemExit(f"{file} has no column 'split' with a part 'test' or 'val' beside others to fit on")
        yield Case(
            file.name.partition(".")[0],
            everything.rows(np.flatnonzero(splits != held)),
            everything.rows(np.flatnonzero(splits == held)),
        )


def embedded(case: Case, encoder: Encoder, keep: Path | None) -> Encoder:
    """An encoder that knows the prompts of the set, from a file of an earlier run where there is one."""
    prompts = (*case.train.prompts, *case.test.prompts)
    if keep is None:
        return Embedded(encoder, prompts)
    keep.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\0".join((encoder.name, *prompts)).encode()).hexdigest()[:16]
    file = keep / f"{case.name}-{digest}.npy"
    if not file.exists():
        np.save(file, Embedded(encoder, prompts).encode(prompts))
    return Embedded(_Stored(encoder, prompts, np.load(file)), prompts)


class _Stored:
    """Vectors of an earlier run."""

    def __init__(self, encoder: Encoder, prompts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self.name, self.dim = encoder.name, encoder.dim
        self._known = dict(zip(prompts, vectors, strict=True))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._known[text] for text in texts])


def starter_case(held_out: int = 30) -> Case:
    """Prompts of the starter pool with made-up scores: right or wrong at random, as often as the pool's profile says.

    held_out: prompts of each domain to be judged with, and twice as many of general chat.
    """
    prompts, categories = training_prompts()
    test = [(q.prompt, name) for name in NAMES for q in domain(name).held_out(random.Random(SEED), held_out)[:held_out]]
    test += [(prompt, GENERAL) for prompt in general.held_out_prompts(random.Random(SEED), 2 * held_out)]
    return Case("starter", _made_up(list(zip(prompts, categories, strict=True)), "train"), _made_up(test, "test"))


def _made_up(rows: list[tuple[str, str]], part: str) -> Labelled:
    profile = json.loads(PROFILE.read_text())
    experts = sorted({expert for row in profile.values() for expert in row})
    known = np.array([[row[expert][0] for expert in experts] for row in profile.values()])
    rates = dict(zip(profile, known, strict=True))
    rng = np.random.default_rng(SEED)
    chances = np.stack([rates.get(category, known.mean(axis=0)) for _, category in rows])
    return Labelled(
        ids=tuple(f"{part}-{i}" for i in range(len(rows))),
        prompts=tuple(prompt for prompt, _ in rows),
        experts=tuple(experts),
        scores=(rng.random(chances.shape) < chances).astype(np.float64),
        categories=tuple(category for _, category in rows),
    )


def home(given: Path | None) -> Path:
    """The data folder."""
    return given or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()


def both_encoders(home: Path, cache: int = 0) -> dict[str, Encoder]:
    """The encoders on one thread; the static one is made if it is missing. cache: texts whose vectors MiniLM keeps."""
    return {"static": open_encoder("static", home), "minilm": MiniLMEncoder(cache=cache, threads=1)}
