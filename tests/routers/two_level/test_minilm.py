"""The two-level router on the real embedding model and prompts of the starter pool."""

import random
from pathlib import Path

import numpy as np

from experts.domains import domain, general
from routers.encoders.minilm import MiniLMEncoder
from routers.two_level.level1_fit import Doubt
from routers.two_level.router import TwoLevelRouter

NAMES = ("cron", "sql", "dates")
EACH = 60


def test_strangers_wordings_reach_their_specialist_and_chat_the_generalist(tmp_path: Path) -> None:
    """Held-out questions share no template and no names with what the router is fitted on."""
    prompts, categories = general.train_prompts(random.Random("train"), 2 * EACH), ["general"] * 2 * EACH
    for name in NAMES:
        prompts += [question.prompt for question in domain(name).train(random.Random("train"), EACH)]
        categories += [name] * EACH
    quality = {name: {f"smol-{name}": (0.9, 60), "smol": (0.1, 60)} for name in NAMES}
    candidates = ["smol", *(f"smol-{name}" for name in NAMES)]
    encoder = MiniLMEncoder()
    fitted = TwoLevelRouter.fit(
        prompts, categories, quality, encoder, fallback="smol", doubt=Doubt(false_fallback=0.02)
    )
    fitted.save(tmp_path)
    router = TwoLevelRouter.load(tmp_path, encoder)

    right = []
    for name in NAMES:
        held = [question.prompt for question in domain(name).held_out(random.Random("held"), 40)]
        right += [route.experts == (f"smol-{name}",) for route in router.route_many(held, candidates)]
    assert np.mean(right) >= 0.85
    chat = general.held_out_prompts(random.Random("held"), 40)
    assert np.mean([route.experts == ("smol",) for route in router.route_many(chat, candidates)]) >= 0.85
    # Nothing like it was ever seen, whatever category is the least unlikely one.
    for far in ("Ich habe Hunger und mein Knie tut weh", "aaaa qwzx 0x3f kkkk"):
        assert router.route(far, candidates).experts == ("smol",)
