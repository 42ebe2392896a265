"""Workers that come and go with the load: what a worker records for it, and how Serve is told to decide.

`Recorder`      queue time, calls and tokens of a worker
`serve_number`  how many workers Serve is to run: a number, or between which ones and by which policy
`Targets`       how many workers Serve wants by now
"""

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.config.model import DeviceConfig, FamilyConfig
from orchestrator.queue_policy import BUSY, QUEUE, TOKENS, QueuePolicy
from workers.base import WorkerStats

RECORD_S = 2.0
"""A worker records, and tells Serve, so often."""
TARGETS_S = 5.0
"""So old what Serve wants may be."""

logger = logging.getLogger(__name__)


class Recorder:
    """Turns what a worker tells of itself into the three figures by which it is decided. Not one for each expert: Serve
    keeps a series of each figure, and of a thousand experts the one that waits longest decides.

    slots: calls that its engine runs at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._before: tuple[float, float, int] | None = None

    def record(
        self, waits: Mapping[str, float], worked: tuple[float, int], stats: Mapping[str, WorkerStats], now: float
    ) -> dict[str, float]:
        """waits, worked: see `workers.channel.server.ChannelServer`. stats: family -> its stats. now: seconds of any
        clock. Nothing comes of the first record, which has none before it."""
        before, self._before = self._before, (now, *worked)
        if before is None or now <= before[0]:
            return {}
        seconds, under_way, tokens = (after - then for after, then in zip(self._before, before, strict=True))
        return {
            QUEUE: max((*waits.values(), *(own.oldest_wait for own in stats.values())), default=0.0),
            BUSY: min(1.0, under_way / seconds / self._slots),
            TOKENS: tokens / seconds,
        }


def serve_number(place: FamilyConfig | DeviceConfig) -> dict[str, Any]:
    """Options of a Serve deployment."""
    own = place.autoscaling
    if own is None:
        return {"num_replicas": place.replicas}
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    made: Callable[..., Any] = AutoscalingPolicy
    rules = {"queue_s": own.queue_s, "busy": own.busy, "downscale_delay_s": own.downscale_delay_s}
    with warnings.catch_warnings():
        # Ray (2.60) has announced another way to say how often replicas tell, which it does not heed yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        config = AutoscalingConfig(
            min_replicas=own.min_replicas,
            max_replicas=own.max_replicas,
            upscale_delay_s=own.upscale_delay_s,
            downscale_delay_s=own.downscale_delay_s,
            metrics_interval_s=RECORD_S,
            look_back_period_s=own.look_back_period_s,
            policy=made(policy_function=QueuePolicy, policy_kwargs=rules),
        )
    return {"autoscaling_config": config}


class Targets:
    """How many workers Serve wants of each application. Asked only while somebody wants to know, and nobody waits.

    ask: application -> number; it blocks.
    """

    def __init__(self, ask: Callable[[], Mapping[str, int]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._known: Mapping[str, int] = {}
        self._at = -TARGETS_S
        self._asking: asyncio.Task[None] | None = None

    def of(self, app: str) -> int:
        """As it was told last; 0 = not known."""
        if self._asking is None and self._clock() - self._at >= TARGETS_S:
            self._asking = asyncio.get_running_loop().create_task(self._learn())
        return self._known.get(app, 0)

    async def _learn(self) -> None:
        try:
            self._known = await asyncio.to_thread(self._ask)
        except Exception as error:
            logger.debug("how many workers are wanted is not known: %s", type(error).__name__)
        finally:
            self._at, self._asking = self._clock(), None

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
