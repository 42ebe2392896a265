"""The limits of API keys, counted in Redis for all gateways together.

A request reserves what it may use before it runs, and is settled afterwards with what it has used, however it ended. An
admission is one round trip, and none for a key without limits; settlements and renewals are off the path. A request
under way is a lease that its gateway renews: what one holds that has crashed, tokens and money too, is free after
LEASE_S. So it is where Redis admits a request whose gateway no longer waits for the decision.

While Redis is away, each limit is open or closed, as the configuration says: a key with a closed one is refused.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import structlog

from orchestrator.access.grant import Grant, Limits
from orchestrator.access.quota import UNIT, WINDOWS, Allowance, LimitReached, Standing, Use, headers, heeded, told
from orchestrator.access.scripts import ADMIT, RENEW, SETTLE, USED
from orchestrator.groups import Groups
from orchestrator.metrics import Metrics
from orchestrator.store import Store, StoreUnavailable

LEASE_S = 30.0
QUIET_S = 5.0
"""After a failure of Redis it is not asked for so long: its time-out would be added to every request."""
MAX_UNSETTLED = 1000
"""Settlements that may be under way at a time, and groups of what no limit saw that may wait."""
MAX_OWED, OWED_S = 10_000, 1.0
"""Settlements that are kept until Redis is back, and how often that is looked for. Redis takes one for a day, once."""
CONCURRENT_WAIT_S = 1.0
"""What is told where a key has too many requests under way: nobody knows when one of them ends."""

Away = Literal["open", "closed"]

log = structlog.stdlib.get_logger(__name__)


class Limiter:
    """defaults: limits of keys that have none of their own. away: measure, or "concurrent" -> what its limits do while
    Redis is away, "open" if it is not named. One per process; it belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        defaults: Limits | None = None,
        away: Mapping[str, Away] | None = None,
        *,
        lease_s: float = LEASE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._metrics = store, metrics
        self._defaults, self._away = dict(defaults or {}), dict(away or {})
        self._lease_s, self._now = lease_s, now
        self._quiet_until = float("-inf")
        self._held: dict[str, str] = {}  # request -> caller
        self._renewing: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._owed: deque[tuple[Allowance, Use]] = deque()
        self._paying: asyncio.Task[None] | None = None
        self._counting: Groups[tuple[str, Use]] = Groups(self._count, MAX_UNSETTLED)

    def change(self, defaults: Limits, away: Mapping[str, Away]) -> None:
        """Other limits, for requests that come from now on."""
        self._defaults, self._away = dict(defaults), dict(away)

    def caps(self, grant: Grant) -> dict[str, float]:
        """The limits of a key with this grant."""
        return grant.caps(self._defaults)

    async def admit(self, request_id: str, caller: str, caps: Mapping[str, float], use: Use) -> Allowance:
        """Reserves `use` if every limit allows it. Without limits nobody is asked.

        Raises LimitReached, and StoreUnavailable where Redis is away and a limit of the key is closed then.
        """
        windows = {limit: most for limit, most in caps.items() if limit in WINDOWS}
        if not caps:
            return Allowance(request_id, caller)
        try:
            costs = {limit: _cost(limit, most, use) for limit, most in windows.items()}
        except LimitReached:
            self._metrics.refused.labels("over_limit").inc()
            raise
        args: list[str | int | float] = [request_id, int(self._lease_s * 1000), int(caps.get("concurrent", -1))]
        for limit, most in windows.items():
            window = WINDOWS[limit]
            args += [window.name, window.slot_ms, window.slots, _stored(limit, most), costs[limit]]
        try:
            if self._now() < self._quiet_until:
                raise StoreUnavailable("Redis did not answer just now")
            refused, wait, at, held, *rest = await self._decided(request_id, caller, list(windows), args)
        except StoreUnavailable as error:
            return self._without_redis(request_id, caller, caps, error)
        standings = {}
        for index, (limit, most) in enumerate(windows.items()):
            unit, used, reset = UNIT[WINDOWS[limit].measure], int(rest[3 * index]), int(rest[3 * index + 1]) / 1000
            left = most - (used + (0 if refused else int(rest[3 * index + 2]))) * unit
            # What was just taken is the newest of its window, and free again a whole window and its slot later.
            standings[limit] = Standing(most, left, reset if refused else float(WINDOWS[limit].seconds))
        if refused:
            limit = "concurrent" if refused < 0 else list(windows)[int(refused) - 1]
            seconds = CONCURRENT_WAIT_S if refused < 0 else heeded(int(wait) / 1000)
            self._metrics.refused.labels(limit).inc()
            wanted = 0 if refused < 0 else use.amount(WINDOWS[limit].measure)
            doing = f"{held} are running" if refused < 0 else _used(limit, standings[limit], wanted)
            text = f"the limit of this API key is {told(limit, caps[limit])}; {doing}; try again in {_rounded(seconds)}"
            raise LimitReached(f"{limit}_exceeded", text, seconds, headers(standings))
        self._held[request_id] = caller
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return Allowance(request_id, caller, int(at), _reserved(list(windows), rest), standings)

    def settle(self, allowance: Allowance, use: Use) -> None:
        """Counts what the request has used in place of what it reserved. Nobody waits for it."""
        self._held.pop(allowance.request_id, None)
        if not allowance.at and self._now() >= self._quiet_until:
            # No limit has seen it, so its use is only counted: together with that of others of its key.
            if not self._counting.add((allowance.caller, use)):
                self._metrics.settlements_lost.inc()
            return
        if len(self._settling) >= MAX_UNSETTLED or self._now() < self._quiet_until:
            self._owe(allowance, use)
            return
        self._in_background(self._settle(allowance, use))

    async def used(self, caller: str) -> dict[str, float]:
        """Limit -> what the key has used of it within the last minute or day, whether it is limited or not; and
        "concurrent": its limited requests under way. Raises StoreUnavailable."""
        args = [part for window in WINDOWS.values() for part in (window.name, window.slot_ms, window.slots)]
        held, *amounts = await self._store.run(USED, _keys(caller), args)
        used = {
            limit: int(amount) * UNIT[WINDOWS[limit].measure] for limit, amount in zip(WINDOWS, amounts, strict=True)
        }
        return {**used, "concurrent": float(held)}

    async def settled(self) -> None:
        """Waits until all that was used so far is counted."""
        await asyncio.gather(*self._settling)
        await self._counting.drain()

    async def drain(self) -> None:
        """Waits for the settlements that are under way, tries those that are kept once more, and keeps no lease any
        more."""
        await self.settled()
        own = [task for task in (self._renewing, self._paying) if task is not None]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        self._renewing = self._paying = None
        await self._pay_now()
        self._metrics.settlements_lost.inc(len(self._owed))
        self._owed.clear()

    async def _decided(
        self, request_id: str, caller: str, limits: Sequence[str], args: list[str | int | float]
    ) -> list[Any]:
        """What ADMIT says. If the client leaves meanwhile, what was taken for it is given back."""
        decision = asyncio.ensure_future(self._store.run(ADMIT, _keys(caller), args))

        async def undo() -> None:
            with suppress(StoreUnavailable):
                refused, _, at, _, *rest = await decision
                if not refused:
                    await self._settle(Allowance(request_id, caller, int(at), _reserved(limits, rest)), Use(requests=0))

        try:
            answer: list[Any] = await asyncio.shield(decision)
        except asyncio.CancelledError:
            self._in_background(undo())
            raise
        return answer

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _without_redis(
        self, request_id: str, caller: str, caps: Mapping[str, float], error: StoreUnavailable
    ) -> Allowance:
        self._fails(error)
        for limit in caps:
            measure = limit.partition("_per_")[0]
            if self._away.get(measure, "open") == "closed":
                self._metrics.refused.labels("store_unavailable").inc()
                raise StoreUnavailable(f"{told(limit, caps[limit])} cannot be told: {error}") from error
        self._metrics.unlimited.inc()
        return Allowance(request_id, caller)

    async def _count(self, uses: list[tuple[str, Use]]) -> None:
        together: dict[str, Use] = {}
        for caller, use in uses:
            together[caller] = together.get(caller, Use(requests=0)) + use
        for caller, use in together.items():
            await self._settle(Allowance("", caller), use)

    def _owe(self, allowance: Allowance, use: Use) -> None:
        """Keeps a settlement for later. What no limit saw is not: it could be counted twice."""
        if not allowance.at or len(self._owed) >= MAX_OWED:
            self._metrics.settlements_lost.inc()
            return
        self._owed.append((allowance, use))
        if self._paying is None:
            self._paying = asyncio.get_running_loop().create_task(self._pay())

    async def _pay(self) -> None:
        try:
            while self._owed:
                await asyncio.sleep(OWED_S)
                if self._now() >= self._quiet_until:
                    await self._pay_now()
        finally:
            self._paying = None

    async def _pay_now(self) -> None:
        """Settles what is kept, as far as Redis answers."""
        while self._owed and await self._is_settled(*self._owed[0]):
            self._owed.popleft()

    async def _settle(self, allowance: Allowance, use: Use) -> None:
        if not await self._is_settled(allowance, use):
            self._owe(allowance, use)

    async def _is_settled(self, allowance: Allowance, use: Use) -> bool:
        args: list[str | int | float] = [allowance.request_id, allowance.at]
        for limit, window in WINDOWS.items():
            reserved, used = allowance.reserved.get(limit, 0), use.amount(window.measure)
            if reserved or used:
                args += [window.name, window.slot_ms, window.slots, reserved, used]
        try:
            await self._store.run(SETTLE, _keys(allowance.caller), args)
        except StoreUnavailable as error:
            self._fails(error)
            return False
        return True

    async def _renew(self) -> None:
        """Keeps the leases of the requests under way, for as long as there are any."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if not self._held:
                self._renewing = None
                return
            callers: dict[str, list[str]] = {}
            for request_id, caller in self._held.items():
                callers.setdefault(caller, []).append(request_id)
            for caller, requests in callers.items():
                try:
                    await self._store.run(RENEW, [_keys(caller)[1]], [int(self._lease_s * 1000), *requests])
                except StoreUnavailable as error:
                    self._fails(error)

    def _fails(self, error: StoreUnavailable) -> None:
        if self._now() >= self._quiet_until:
            self._quiet_until = self._now() + QUIET_S
            log.warning("limits of keys are not counted until Redis is back", why=str(error))


def _keys(caller: str) -> list[str]:
    # The braces keep all on one node of a Redis cluster.
    return [f"coe:{kind}:{{{caller}}}" for kind in ("use", "lease", "held", "ended")]


def _stored(limit: str, most: float) -> int:
    return round(most / UNIT[WINDOWS[limit].measure])


def _reserved(limits: Sequence[str], rest: Sequence[Any]) -> dict[str, int]:
    return {limit: int(rest[3 * index + 2]) for index, limit in enumerate(limits)}


def _cost(limit: str, most: float, use: Use) -> int:
    """The amount to reserve. A request that may use more than the whole limit is refused for good if its caller has
    bounded it, for a lower bound would do; otherwise it takes all that is left (-1), and is settled with what it has
    used."""
    cost, stored = use.amount(WINDOWS[limit].measure), _stored(limit, most)
    if cost <= stored:
        return cost
    if use.bounded or not stored:
        advice = "; lower 'max_tokens'" if stored else ""
        amount = f"{cost * UNIT[WINDOWS[limit].measure]:g}"
        text = f"the limit of this API key is {told(limit, most)}, and this request may use {amount}{advice}"
        raise LimitReached("over_limit", text, None, {})
    return -1


def _used(limit: str, standing: Standing, cost: int) -> str:
    wanted = cost * UNIT[WINDOWS[limit].measure]
    return f"{standing.limit - standing.remaining:g} are used and this request may use {wanted:g}"


def _rounded(seconds: float) -> str:
    # Up, as in the header: a second too soon is refused again.
    return f"{math.ceil(seconds)} s" if seconds > 1 else "a second"
