"""What callers are told of an aggregator's settings, in the words of coe.yaml."""

from typing import Any

from aggregators.rubric import Rubric
from aggregators.settings import Settings


def shown(name: str, settings: Settings) -> dict[str, Any]:
    """The settings that this aggregator heeds, JSON-serialisable. Of a rubric its dimensions, of prompts only
    which ones are the service's own: their texts may hold what is not for callers."""
    asks: dict[str, Any] = {
        "expert": settings.expert,
        "draft_characters": settings.draft_characters,
        "reserve_s": settings.reserve_s,
    }
    asks["prompts"] = sorted(settings.prompts)
    if name == "single":
        return {"stream_first": settings.stream_first}
    if name == "vote":
        return {"waves": settings.waves}
    if name == "judge":
        rubrics = {category: _dimensions(rubric) for category, rubric in settings.rubrics.items()}
        return {
            **asks,
            "pairwise": settings.is_pairwise,
            "judge_tokens": settings.judge_tokens,
            "rubric": _dimensions(settings.rubric),
            "rubrics": rubrics,
        }
    if name == "refine":
        return {**asks, "layers": settings.layers, "end": settings.end, **shown(settings.end, settings)}
    if name == "cascade":
        parts = {**shown(settings.first, settings), **shown(settings.otherwise, settings)}
        return {"first": settings.first, "otherwise": settings.otherwise, **parts}
    return asks


def _dimensions(rubric: Rubric) -> list[str]:
    return [dimension.name for dimension in rubric.dimensions]
