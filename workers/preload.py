"""Brings the images of the experts that live on a worker near its device, while nobody asks it anything.

An image is brought as any request would bring it: by a call of one token, which comes after all others. So the engine
needs no way of its own for this, and its policy decides what makes room: images that nobody asks for, the least in
demand first. A call of somebody's breaks it off, and so does a change of experts: it waits until the worker is idle
again.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from workers.base import ChatCall, Engine, Failure, Sampling, WorkerStats

IDLE_S = 2.0
"""Seconds without a call after which a worker is idle."""
TRIES = 3
"""Calls for an image at most, since its worker was told that it lives there: one may be broken off each time."""
LAST = 1 << 20
"""The priority of these calls: after every other."""

logger = logging.getLogger(__name__)


def wanted(images: Sequence[str], family: Collection[str], stats: WorkerStats) -> list[str]:
    """The images to bring, in this order, so that the first end on the device and those after them in host memory.

    images: in the order of their worth; family: all that there are. An image of unknown size, and one that cannot be
    loaded, is left alone. Where not all of the family fit the device, room for the largest is left to the others.
    """
    usable = [name for name in images if stats.tiers.get(name) in ("device", "host", "disk")]
    sizes = {name: stats.image_bytes[name] for name in usable if stats.image_bytes.get(name)}
    all_sizes = [stats.image_bytes.get(name, 0) for name in family]
    room = {tier: float(stats.room_bytes.get(tier, 0)) for tier in ("device", "host")}
    if sum(all_sizes) > room["device"]:
        room["device"] -= max(all_sizes, default=0)
    found: dict[str, list[str]] = {"device": [], "host": []}
    for name, size in sizes.items():
        tier = next((tier for tier in ("device", "host") if size <= room[tier]), None)
        if tier is not None:
            room[tier] -= size
            found[tier].append(name)
    # What is loaded last stays longest: so the first come last. What is on the device already needs no call.
    near = [name for name in found["host"] if stats.tiers[name] == "disk"]
    device = [name for name in found["device"] if stats.tiers[name] != "device"]
    return [*reversed(near), *reversed(device)]


class Preloader:
    """For one worker. engine: the one that is up, or None. image_of: expert -> the expert whose image computes it.

    Use `held` around each call of the worker, and around each change of its experts.
    """

    def __init__(
        self, engine: Callable[[], Engine | None], image_of: Mapping[str, str], *, idle_s: float = IDLE_S
    ) -> None:
        self._engine, self._image_of, self._idle_s = engine, image_of, idle_s
        self._experts: tuple[str, ...] = ()  # that live here; the engine may not have all of them yet, or any more
        self._tried: Counter[str] = Counter()  # since the last news
        self._holds = 0
        self._quiet_since = 0.0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._own: asyncio.Task[bool] | None = None  # the call under way

    def live(self, experts: Sequence[str]) -> None:
        """These live on the worker from now on, in the order of their worth."""
        self._experts = tuple(experts)
        self._again()

    def follow(self, image_of: Mapping[str, str]) -> None:
        """The engine has these experts from now on, or another one has come up with them."""
        self._image_of = image_of
        self._again()

    def _again(self) -> None:
        """The images are looked at once more."""
        self._tried = Counter()
        self._news.set()
        if self._experts and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within nothing is brought, and what was under way is broken off."""
        self._holds += 1
        if self._own is not None:
            self._own.cancel()
        try:
            yield
        finally:
            self._holds -= 1
            self._quiet_since = asyncio.get_running_loop().time()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while (name := await self._next()) is not None:
                await self._bring(name)

    def _is_idle(self) -> bool:
        return not self._holds and asyncio.get_running_loop().time() - self._quiet_since >= self._idle_s

    async def _next(self) -> str | None:
        """The image to bring now, once the worker is idle; None if there is none left."""
        while not self._is_idle():  # noqa: ASYNC110 - it is time that must pass
            await asyncio.sleep(self._idle_s)
        engine = self._engine()
        if engine is None:
            return None  # `follow` is called when it is up
        try:
            stats = await engine.stats()
        except Exception as error:  # it dies just now
            logger.debug("no stats: %s", type(error).__name__)
            return None
        images = dict.fromkeys(self._image_of[name] for name in self._experts if name in self._image_of)
        due = wanted(tuple(images), frozenset(self._image_of.values()), stats)
        return next((name for name in due if self._tried[name] < TRIES), None)

    async def _bring(self, name: str) -> None:
        engine = self._engine()
        if engine is None or not self._is_idle():
            return
        tried = self._tried
        tried[name] += 1
        self._own = asyncio.get_running_loop().create_task(_answered(engine, name))
        own = self._own
        try:
            [answered] = await asyncio.gather(own, return_exceptions=True)
        finally:
            self._own = None
        if answered is True:  # once is enough: if others push it out again, it comes back when it is asked for
            tried[name] = TRIES


async def _answered(engine: Engine, name: str) -> bool:
    """Asks for one token. False if the engine was not up to it."""
    message = {"role": "user", "content": "."}
    ask = ChatCall(f"preload-{name}", name, (message,), Sampling(max_tokens=1), priority=LAST, text=message["content"])
    async with contextlib.aclosing(engine.generate(ask)) as events:
        async for event in events:
            if isinstance(event, Failure):
                logger.info("the image of %s is not brought: %s", name, event.message)
                return event.code not in ("engine_starting", "engine_died", "overloaded")
    return True
