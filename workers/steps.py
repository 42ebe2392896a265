"""What the three processes of an engine tell each other: the front end, vLLM's scheduler and its worker. All plain."""

import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from workers.base import Phases, SwapEvent
from workers.swap_policy import SwapPolicy, SwapSettings

if TYPE_CHECKING:
    from workers.images import ImageEvent

SETTINGS_KEY = "coe"
"""Key of our `EngineSettings` in vLLM's `additional_config`."""
EXPERT_KEY, IMAGE_KEY, CALLER_KEY = "expert", "image", "caller"
"""Keys in `SamplingParams.extra_args`: who was asked, whose weights compute, who asks."""
STAMPS_KEY, TIMES_KEY, FAILURE_KEY = "images", "times", "failure"
"""Keys in an output's `kv_transfer_params`, its one free-form field: the images that computed it; where its seconds
went; (code of `workers.base.Failure`, message) where it has no answer."""


@dataclass(frozen=True)
class ImageSource:
    """Where an image comes from: a checkpoint and the fingerprint of its files. bytes: of its weights, estimated."""

    path: str
    fingerprint: str
    bytes: int


def image_name(expert: str, generation: int) -> str:
    """The name of an expert's image. generation: 0 for what the engine was started with; one of its own for weights
    that took the place of others while it ran, so that no step, no cache and no file takes one for the other."""
    return f"{expert}@{generation}" if generation else expert


def expert_of(image: str) -> str:
    """Whose image it is: no expert's name has an '@'."""
    return image.partition("@")[0]


@dataclass(frozen=True)
class Catalogue:
    """All images that there are from now on; bytes: of each. pinned: of these, that stay on the device."""

    bytes: dict[str, int]
    pinned: frozenset[str]


@dataclass(frozen=True)
class EngineSettings:
    """What the front end tells scheduler and worker. first: the image that the engine starts with.

    copy: images are copied into the model's own tensors (always so on CUDA) rather than referred to.
    strict: refuse a request when the bound on waiting could not be kept for it.
    cores: what the loading thread may use, besides those that the engine computes on.
    policy: import path of the class that decides, "module:Name".
    """

    family: str
    first: str
    images: dict[str, ImageSource]
    swap: SwapSettings = field(default_factory=SwapSettings)
    device_bytes: int | None = None
    host_bytes: int = 0
    disk_bytes: int | None = None
    folder: str | None = None
    copy: bool = False
    strict: bool = False
    cores: frozenset[int] = frozenset()
    policy: str = "workers.swap_policy:SwapPolicy"

    def as_config(self) -> dict[str, Any]:
        """For vLLM's `additional_config`, which is hashed as JSON."""
        plain = asdict(self)
        plain["swap"]["pinned"] = sorted(self.swap.pinned)
        plain["cores"] = sorted(self.cores)
        return {SETTINGS_KEY: plain}

    @classmethod
    def of(cls, additional_config: Any) -> Self:
        """What `as_config` made."""
        plain: dict[str, Any] = dict(additional_config[SETTINGS_KEY])
        plain["images"] = {name: ImageSource(**source) for name, source in plain["images"].items()}
        plain["cores"] = frozenset(plain["cores"])
        plain["swap"] = SwapSettings(**plain["swap"] | {"pinned": frozenset(plain["swap"]["pinned"])})
        return cls(**plain)

    def new_policy(self) -> SwapPolicy:
        module, _, name = self.policy.partition(":")
        capacity = math.inf if self.device_bytes is None else self.device_bytes
        policy: SwapPolicy = getattr(import_module(module), name)(self.swap, capacity=capacity)
        return policy


@dataclass(frozen=True, slots=True)
class Orders:
    """From the scheduler to the worker, with a step. compute: the image of the step's requests, None if it has none.

    queue: figures of the scheduler's for `stats`, now and then.
    """

    compute: str | None
    load: str | None
    evict: tuple[str, ...]
    queue: dict[str, Any] | None = None


@dataclass(slots=True)
class Report:
    """From the worker to the scheduler, with a step's output: what the image store did; seconds of swap and step.

    sizes, shared: see `SwapState.resize`; None if they are what they were. skipped: the step could not be computed.
    catalogue: None if it is what it was.
    """

    events: "list[ImageEvent]"
    swap_seconds: float | None = None
    step_seconds: float = 0.0
    sizes: dict[str, int] | None = None
    shared: int = 0
    skipped: bool = False
    catalogue: Catalogue | None = None


@dataclass(slots=True)
class Times:
    """Where a request's seconds went. arrived, started: on the scheduler's clock; swap, execute: seconds."""

    arrived: float
    started: float | None = None
    swap: float = 0.0
    execute: float = 0.0

    def told(self, now: float) -> dict[str, float]:
        """Seconds in the queue, in swaps that it took part in, in steps that computed it, and paused between them."""
        queue = (now if self.started is None else self.started) - self.arrived
        rest = now - self.arrived - queue - self.swap - self.execute
        return {"queue": queue, "swap": self.swap, "execute": self.execute, "paused": max(0.0, rest)}


def phases(first: Mapping[str, float], last: Mapping[str, float]) -> Phases:
    """Of a request that was told `Times.told` with its first output and with its last one."""
    began, ended = sum(first.values()), sum(last.values())
    swaps = last["swap"] - first["swap"]
    return Phases(
        queue=last["queue"],
        swap=last["swap"],
        prefill=max(0.0, began - first["queue"] - first["swap"]),
        decode=max(0.0, ended - began - swaps),
    )


class SwapLog:
    """What the worker did with images, counted and listed for people."""

    KEPT = 512

    def __init__(self) -> None:
        self._events: deque[SwapEvent] = deque(maxlen=self.KEPT)
        self._number = 0
        self._swaps, self._swap_seconds, self._hits = 0, 0.0, 0
        self._prefetched, self._prefetch_used = 0, 0
        self._fresh: set[str] = set()  # loaded, and not computed with since
        self._preloaded: set[str] = set()  # under way, for no request
        self._ahead: set[str] = set()  # of these, or under way: begun while another expert computed
        self._loads: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}

    def swapped(self, former: str | None, image: str, moved: int, seconds: float) -> None:
        self._swaps += 1
        self._swap_seconds += seconds
        self._hits += image not in self._fresh
        self._prefetch_used += image in self._ahead
        self._fresh.discard(image)
        self._ahead.discard(image)
        self._add("swap", image, "device", "device", moved, seconds, f"after {former}")

    def prefetching(self, image: str) -> None:
        """A load of `image` begins while another one computes."""
        self._prefetched += 1
        self._ahead.add(image)

    def preloading(self, image: str) -> None:
        """A load of `image` begins that no request waits for."""
        self._preloaded.add(image)

    def happened(self, event: "ImageEvent") -> None:
        if event.kind == "loaded":
            if event.image not in self._preloaded:
                self._fresh.add(event.image)
            self._loads[event.source] += 1
            self._bytes[event.source] += event.bytes
            self._seconds[event.source] = self._seconds.get(event.source, 0.0) + event.seconds
        else:
            self._fresh.discard(event.image)
            self._ahead.discard(event.image)
        self._preloaded.discard(event.image)
        self._add(event.kind, event.image, event.source, event.target, event.bytes, event.seconds, event.why)

    def _add(self, kind: str, image: str, source: str, target: str, moved: int, seconds: float, why: str) -> None:
        self._number += 1
        self._events.append(SwapEvent(self._number, time.time(), kind, image, source, target, moved, seconds, why))

    def stats(self) -> dict[str, Any]:
        """Fields of `workers.base.WorkerStats`."""
        return {
            "swaps": self._swaps,
            "swap_seconds": self._swap_seconds,
            "swap_hits": self._hits,
            "prefetched": self._prefetched,
            "prefetch_used": self._prefetch_used,
            "loads": dict(self._loads),
            "moved_bytes": dict(self._bytes),
            "moved_seconds": dict(self._seconds),
            "events": tuple(self._events),
        }
