"""GET /health...: does the process live, can every expert answer, is this gateway to be sent requests?"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.store import Store, StoreUnavailable

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""Expert -> why it cannot answer; "failed: <why>" where it will not by waiting."""


class Serving:
    """Whether a gateway is to be sent requests: what its load balancer asks.

    Yes as soon as every expert can answer or has failed; and `ready_s` seconds after `since`, as soon as one can. From
    then on it stays so: what fails later is told to the caller by the gateway, in an error that says what it is, which
    nobody would get from a balancer without gateways.
    """

    def __init__(self, experts: int, ready_s: float, since: float) -> None:
        self.experts, self._ready_s, self._since = experts, ready_s, since
        self._is = False

    def look(self, missing: Mapping[str, str], now: float) -> bool:
        """missing: as `Ready` tells it. now: by the clock of `since`, in seconds."""
        if not self._is:
            loading = [expert for expert, why in missing.items() if not why.startswith("failed: ")]
            late = now - self._since >= self._ready_s
            self._is = len(missing) < self.experts and (late or not loading)
        return self._is


class Health:
    """The methods of the paths. They need no key."""

    def __init__(self, ready: Ready, store: Store, serving: Serving) -> None:
        self._ready, self._store, self._serving = ready, store, serving

    async def live(self, request: Request) -> Response:
        """GET /health/live: the process answers."""
        return _json({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready: 200 when every expert can answer."""
        return _state(await self._ready())

    async def serving(self, request: Request) -> Response:
        """GET /health/serving: 200 once this gateway is to be sent requests."""
        missing = await self._ready()
        return _state(missing, well=self._serving.look(missing, time.monotonic()))

    async def health(self, request: Request) -> Response:
        """GET /health: both, and the store. Without the store chat goes on for a while, so it does not decide."""
        missing = await self._ready()
        store = "ok"
        try:
            await self._store.ping()
        except StoreUnavailable:
            store = "unreachable"
        return _state(missing, live=True, store=store)


def _state(missing: Mapping[str, str], *, well: bool | None = None, **more: Any) -> Response:
    well = not missing if well is None else well
    return _json({"status": "ready" if well else "not_ready", **more, "not_ready": dict(missing)}, 200 if well else 503)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
