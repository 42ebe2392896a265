"""GET /v1/router: what the router of the key goes by, and how well it did on prompts that it was not fitted on."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from orchestrator.keys import KeyInfo
from orchestrator.pipeline import Pipeline
from orchestrator.routers_shown import ShownRouter
from routers.evaluation.kept import kept


class Measured(TypedDict):
    score: float
    prompts: int | None


class RouterFit(TypedDict):
    prompts: int
    default: str
    several: str
    folds: int
    best_single: str
    scores: dict[str, float]
    votes: dict[str, float]
    gains: dict[str, list[float]]
    means: dict[str, float]


class RouterAnswer(TypedDict):
    object: Literal["router"]
    name: str
    encoder: str | None
    experts: list[str]
    quality: dict[str, dict[str, Measured]]
    figures: dict[str, float]
    fit: RouterFit | None
    evaluation: dict[str, Any] | None


NO_ROUTER = ShownRouter("fixed")


class Routers:
    """The method of the path. routers: by tenant, None = everybody else's. served: names of the service's experts.

    A key sees the experts that it may use. What names others besides, as an evaluation does, is for keys that may use
    all of the router's that the service has.
    """

    def __init__(self, routers: Mapping[str | None, ShownRouter], pipeline: Pipeline, served: Collection[str]) -> None:
        self._routers, self._pipeline, self._served = routers, pipeline, frozenset(served)

    async def one(self, request: Request) -> Response:
        """GET /v1/router"""
        caller: KeyInfo = request.state.caller
        default = self._routers.get(None, NO_ROUTER)
        router = self._routers.get(caller.lineage) or self._routers.get(caller.name) or default
        allowed = set(self._pipeline.experts(caller.lineage, caller.name, caller.grant))
        whole = allowed.issuperset(self._served.intersection(router.experts))
        evaluation = None
        if whole and router.folder is not None:
            evaluation = await asyncio.to_thread(kept, router.folder)
        quality = {
            category: {name: {"score": s, "prompts": n} for name, (s, n) in row.items() if name in allowed}
            for category, row in router.quality.items()
        }
        shown = {
            "object": "router",
            "name": router.name,
            "encoder": router.encoder,
            "experts": [name for name in router.experts if name in allowed],
            "quality": quality,
            "figures": dict(router.figures),
            "fit": router.fit if whole else None,
            "evaluation": evaluation,
        }
        return Response(orjson.dumps(shown), media_type="application/json")
