"""Keeps the door of `door.py`: tells it how the event loop fares, and has the answer ready for who is turned away."""

import asyncio
import http
import time
from functools import cache

import orjson
import structlog

from orchestrator.errors import ApiError
from orchestrator.http.door import Door
from orchestrator.http.guards import SAFE
from orchestrator.metrics import Metrics

TICK_S = 0.05
LOG_S = 10.0
"""Refusals at the door are logged together, no more often than this."""

log = structlog.stdlib.get_logger(__name__)


class Doorkeeper:
    """answer: the bytes for a request that is turned away, told anew every TICK_S."""

    def __init__(self, door: Door | None = None, metrics: Metrics | None = None) -> None:
        self.door = door or Door(1 << 30, 1e9)
        self._metrics = metrics or Metrics()
        self._counted, self._logged, self._logged_at = 0, 0, float("-inf")
        self.answer = raw_answer(self.refusal(), closing=False)

    async def keep(self) -> None:
        """For as long as the server runs."""
        while True:
            began = time.monotonic()
            for _ in range(2):  # all that is ready now has been seen to by then, and all that became so by it
                await asyncio.sleep(0)
            now = time.monotonic()
            self.door.turned(now, (now - began) / 2)
            self.answer = raw_answer(self.refusal(), closing=False)
            self._count(now)
            await asyncio.sleep(TICK_S)

    def crowded(self, connections: int) -> ApiError:
        """For a connection over the bound, which is counted."""
        self._metrics.refused.labels("connections").inc()
        return _crowded(connections)

    def refusal(self) -> ApiError:
        """For a request that is turned away."""
        again = self.door.retry_after
        text = f"{self.door.inside.total} requests are under way, as many as the service takes; try again in {again} s"
        return ApiError("overloaded", text, headers={"retry-after": str(again), "x-should-retry": "true"})

    def _count(self, now: float) -> None:
        door = self.door
        self._metrics.refused.labels("door").inc(door.refused - self._counted)
        self._counted = door.refused
        if door.refused > self._logged and now >= self._logged_at + LOG_S:
            work_ms = None if door.work_s is None else round(1e3 * door.work_s, 2)
            known = {"inside": door.inside.total, "hall": door.hall.total, "keys": len(door.inside.by_key)}
            log.warning("turned away at the door", requests=door.refused - self._logged, work_ms=work_ms, **known)
            self._logged, self._logged_at = door.refused, now


@cache
def _crowded(connections: int) -> ApiError:
    return ApiError("too_many_connections", f"{connections} connections are open, which is the limit")


def raw_answer(error: ApiError, *, closing: bool = True) -> bytes:
    """The bytes of an answer, for where there is no request to answer by way of the app."""
    body = orjson.dumps(error.body(""))
    headers = {**SAFE, **error.headers, "content-type": "application/json", "content-length": str(len(body))}
    lines = [f"HTTP/1.1 {error.row.status} {http.HTTPStatus(error.row.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (headers | ({"connection": "close"} if closing else {})).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
