"""What is told of a router: how good each expert is at what by its measure, and what was seen when it was fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routers.base import Router

if TYPE_CHECKING:
    from routers.fitted_file import Facts


@dataclass(frozen=True, slots=True)
class ShownRouter:
    """quality: category -> expert -> (score in [0, 1], number of prompts or None). figures: seen on held-out prompts.
    fit: of a router that chose among several models. folder: where it lies, None = nowhere."""

    name: str
    encoder: str | None = None
    experts: tuple[str, ...] = ()
    quality: Mapping[str, Mapping[str, tuple[float, int | None]]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    fit: Mapping[str, Any] | None = None
    folder: Path | None = None


def shown_router(router: Router, folder: Path | None) -> ShownRouter:
    """folder: where it was read from."""
    if folder is None:  # it was fitted on nothing
        return ShownRouter(router.name)
    from routers.fitted import FittedRouter
    from routers.two_level.router import TwoLevelRouter

    if isinstance(router, FittedRouter):
        return _fitted(router.facts, folder)
    if isinstance(router, TwoLevelRouter):
        quality = {
            category: {expert: (router.quality(category, expert), None) for expert in router.experts}
            for category in router.categories
        }
        return ShownRouter(router.name, router.encoder, router.experts, quality, router.figures, folder=folder)
    return ShownRouter(router.name, folder=folder)


def _fitted(facts: "Facts", folder: Path) -> ShownRouter:
    chosen = facts.chosen
    fit = {
        "prompts": facts.prompts,
        "default": facts.default,
        "several": facts.several,
        "folds": chosen.folds,
        "best_single": facts.best_single,
        "scores": dict(chosen.scores),
        "votes": dict(chosen.votes),
        "gains": {model: list(gain) for model, gain in chosen.gains.items()},
        "means": dict(zip(facts.experts, facts.means, strict=True)),
    }
    quality = {category: _row(facts.experts, row) for category, row in facts.quality.items()}
    return ShownRouter("fitted", facts.encoder, facts.experts, quality, fit=fit, folder=folder)


def _row(experts: Sequence[str], row: Sequence[tuple[float, int]]) -> dict[str, tuple[float, int | None]]:
    """Of experts that were measured there."""
    return {expert: (mean, n) for expert, (mean, n) in zip(experts, row, strict=True) if n}
