"""GET /v1/models: what callers may write as `model`, each with what it does in the field `coe`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.registry import Registry, UnknownExpert
from experts.spec import ExpertSpec
from orchestrator.ensembles import Ensembles, find, for_caller
from orchestrator.events import AUTO
from orchestrator.pipeline import Pipeline
from routers.encoders.base import TokenEncoder


class Models:
    """The methods of the paths. A key is shown the experts that it may use, and the ensembles that have one of them.

    settings: aggregator -> what is told of its settings.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        registry: Registry,
        encoder: TokenEncoder | None,
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._pipeline, self._registry, self._encoder, self._settings = pipeline, registry, encoder, settings
        self._started = int(time.time())

    async def list(self, request: Request) -> Response:
        """GET /v1/models"""
        allowed = self._allowed(request)
        shown = self._ensembles(request, allowed)
        ensembles = [self._model(name, one.shown(allowed)) for name, one in shown.items()]
        experts = [self._expert(self._registry.get(name)) for name in allowed]
        return _json({"object": "list", "data": [self._auto(allowed), *ensembles, *experts, *self._encoders()]})

    async def one(self, request: Request) -> Response:
        """GET /v1/models/{name}. Raises UnknownExpert, UnknownEnsemble."""
        name = str(request.path_params["name"])
        allowed = self._allowed(request)
        if name == AUTO:
            return _json(self._auto(allowed))
        if ensemble := find(name, self._ensembles(request, allowed), allowed):
            return _json(self._model(name, ensemble.shown(allowed)))
        for encoder in self._encoders():
            if encoder["id"] == name:
                return _json(encoder)
        if name not in allowed:
            raise UnknownExpert(name, allowed)
        return _json(self._expert(self._registry.get(name)))

    def _allowed(self, request: Request) -> tuple[str, ...]:
        """The experts that the request's key may use."""
        caller = request.state.caller
        return self._pipeline.experts(caller.lineage, caller.name, caller.grant)

    def _ensembles(self, request: Request, allowed: Sequence[str]) -> Ensembles:
        grant = request.state.caller.grant
        return {
            name: ensemble
            for name, ensemble in self._pipeline.ensembles.items()
            if grant.may_use(name) and (ensemble.experts is None or not set(ensemble.experts).isdisjoint(allowed))
        }

    def _auto(self, allowed: Sequence[str]) -> dict[str, Any]:
        coe = {
            "kind": "router",
            "experts": [*allowed],
            "aggregators": [*self._pipeline.aggregators],
            "settings": {name: for_caller(own, allowed) for name, own in self._settings.items()},
            "description": "The router chooses the expert.",
        }
        return self._model(AUTO, coe)

    def _encoders(self) -> Sequence[Mapping[str, Any]]:
        """What /v1/embeddings takes."""
        encoder = self._encoder
        if encoder is None:
            return ()
        coe = {"kind": "encoder", "dimensions": encoder.dim, "context_length": encoder.reads}
        return (self._model(encoder.name, coe),)

    def _expert(self, spec: ExpertSpec) -> dict[str, Any]:
        # Neither source nor options: they may hold paths and addresses.
        shown = {"kind", "parameters", "context_length", "languages", "modalities", "tools", "price", "tags"}
        coe = {"family": spec.family_name, "description": spec.description, **spec.model_dump(include=shown)}
        return self._model(spec.name, coe)

    def _model(self, name: str, coe: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "coe", "coe": coe}


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
