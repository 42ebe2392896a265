"""The starter pool's router: fitted at set-up on the training prompts of the pool's domains and of general chat."""

import hashlib
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

from experts import domains
from experts.domains import NAMES, domain, general
from experts.starter import GENERALIST, PROFILE
from routers.encoders import distil
from routers.encoders.base import Progress
from routers.encoders.choice import Kind, open_encoder
from routers.two_level import fit as two_level_fit
from routers.two_level import level1_fit
from routers.two_level.level1_fit import Doubt
from routers.two_level.router import TwoLevelRouter

GENERAL = "general"
PROMPTS_PER_DOMAIN = 300
GENERAL_PROMPTS = 800
FALSE_FALLBACK = 0.02
"""Share of the specialists' own prompts that may go to the generalist for being unsure or far."""
_SEED = 20
_STAMP = "fitted-from.txt"


def folder(home: Path, encoder: Kind = "minilm") -> Path:
    """Where the starter pool's router lies that is fitted with this encoder."""
    return home / "routers" / ("starter" if encoder == "minilm" else f"starter-{encoder}")


def fit(
    home: Path,
    on_progress: Progress = lambda what, done, of: None,
    encoder: Kind = "minilm",
) -> TwoLevelRouter:
    """Fits and saves the router; on_progress gets ("prompts", embedded, of). Repeatable."""
    prompts, categories = training_prompts()
    quality: dict[str, Mapping[str, tuple[float, int]]] = {
        category: {expert: (mean, n) for expert, (mean, n) in experts.items()}
        for category, experts in json.loads(PROFILE.read_text()).items()
    }
    router = TwoLevelRouter.fit(
        prompts,
        categories,
        quality,
        open_encoder(encoder, home, threads=os.cpu_count() or 1, on_progress=on_progress),
        general=GENERAL,
        doubt=Doubt(false_fallback=FALSE_FALLBACK),
        seed=_SEED,
        fallback=GENERALIST,
        on_progress=lambda done, of: on_progress("prompts", done, of),
    )
    router.save(folder(home, encoder))
    (folder(home, encoder) / _STAMP).write_text(_made_from(encoder) + "\n")
    return router


def is_fitted(home: Path, encoder: Kind = "minilm") -> bool:
    """Is there a router with this encoder, fitted on what the pool is now?"""
    try:
        return (folder(home, encoder) / _STAMP).read_text().strip() == _made_from(encoder)
    except OSError:
        return False


def training_prompts() -> tuple[list[str], list[str]]:
    """(prompts, their categories): what the specialists were trained on, never what they are judged with."""
    prompts, categories = [], []
    for name in NAMES:
        own = domain(name).train(random.Random(f"{name}/router"), PROMPTS_PER_DOMAIN)
        prompts += [question.prompt for question in own]
        categories += [name] * len(own)
    chat = general.train_prompts(random.Random("general/router"), GENERAL_PROMPTS)
    return prompts + chat, categories + [GENERAL] * len(chat)


def _made_from(encoder: Kind) -> str:
    """Digest of what the router is fitted on: profile, the modules that the prompts come from, the encoder's recipe."""
    digest = hashlib.sha256(f"{_SEED} {PROMPTS_PER_DOMAIN} {GENERAL_PROMPTS} {FALSE_FALLBACK}".encode())
    if encoder == "static":
        digest.update(distil.NAME.encode())
    modules = sorted(Path(domains.__file__).parent.glob("*.py"))
    for file in (PROFILE, *modules, Path(two_level_fit.__file__), Path(level1_fit.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()
