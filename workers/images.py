"""The images of an engine's experts, and where they are.

    disk     an image file (`image_files.py`), else the expert's checkpoint
    host     tensors in memory, as they were read; equal tensors of several images are one
    device   built: the engine can compute with it as soon as it is activated

One thread reads and builds, beside the steps of the engine; everything else happens on the engine's own thread, which
polls. What was read is checked against the digests of the first reading, what was built by the backend, so that a
stale, truncated or corrupt image never answers: it fails, alone. Another thread writes image files.
"""

import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from workers.image_files import ImageError, ImageFiles, IntegrityError, Tensors, digests
from workers.memory import free_memory
from workers.steps import expert_of
from workers.swap_policy import Tier

CHECK_SECONDS = 0.01
"""How long a poll may go on with checks of a built image, while the engine computes."""


class Backend(Protocol):
    """How a platform computes with images."""

    def build(self, tensors: Tensors, known: Mapping[str, str]) -> Any:
        """The device form of `tensors`, whose digests are `known`. Runs on the loading thread."""
        ...

    def check(self, built: Any, tensors: Tensors) -> Iterator[None]:
        """Checks piece by piece that `built` computes with `tensors`. Raises IntegrityError if not."""
        ...

    def activate(self, built: Any) -> int:
        """Lets the engine compute with `built`, between steps. Returns bytes moved."""
        ...


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """What happened to an image. bytes: of the tensors that were read; seconds: from begin to end."""

    kind: Literal["loaded", "evicted", "cancelled", "failed", "note"]
    image: str
    source: Tier
    target: Tier
    bytes: int
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Activation:
    """What it took to make an image the active one."""

    seconds: float
    bytes: int


@dataclass
class _Image:
    """What is known of an expert. estimate: bytes, before the first reading. known: digests by the first reading."""

    fingerprint: str
    estimate: int
    known: dict[str, str] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    host: Tensors | None = None
    built: Any = None
    failure: str | None = None


@dataclass
class _Load:
    """A load under way. needed: bytes of memory. tensors, known, built, or failure: the result of the thread;
    damaged: the failure is one of integrity; checks: what is left to check."""

    name: str
    began: float
    source: Tier
    needed: int
    cancelled: bool = False
    future: "Future[None] | None" = None
    tensors: Tensors = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    built: Any = None
    failure: str | None = None
    damaged: bool = False
    checks: Iterator[None] | None = None
    note: str = ""

    def fail(self, error: Exception) -> None:
        """Keeps the words alone: the error would keep the frames, and all they hold, in memory."""
        self.failure, self.damaged = _words(error), isinstance(error, IntegrityError)
        self.tensors, self.built, self.checks = {}, None, None


class ImageStore:
    """The images of one family.

    read(expert, cancelled): the weights in a checkpoint; raises InterruptedError once cancelled() is true. It runs on
    the loading thread, which keeps to `cores` if they are given. current(expert): the fingerprint of the checkpoint's
    files now. host_bytes: memory for images beside the device. files: image files, written after a checkpoint was read,
    one at a time; what is read meanwhile gets one another time.
    """

    def __init__(
        self,
        backend: Backend,
        read: Callable[[str, Callable[[], bool]], Tensors],
        current: Callable[[str], str],
        *,
        host_bytes: int = 0,
        files: ImageFiles | None = None,
        cores: Collection[int] = (),
    ) -> None:
        self._backend, self._read, self._current = backend, read, current
        self._host_bytes, self._files = host_bytes, files
        self._images: dict[str, _Image] = {}
        self._host_order: dict[str, None] = {}  # least recently used first
        self._living: weakref.WeakValueDictionary[str, torch.Tensor] = weakref.WeakValueDictionary()
        self._signature: _Signature = {}  # of the first image
        self._owner: dict[str, str | None] = {}  # digest -> the image that has the tensor, None: several have it
        self._own: dict[str, int] = {}  # image -> bytes that it has alone
        self._shared = 0
        self._load: _Load | None = None
        self._writing: tuple[str, str, Future[str | None]] | None = None  # image, its fingerprint
        self._closing = False
        self._events: list[ImageEvent] = []
        self._told: set[str] = set()
        self.active: str | None = None

        def stay() -> None:
            if cores:
                os.sched_setaffinity(0, cores)

        self._loader = ThreadPoolExecutor(1, "image-loader", stay)
        self._writer = ThreadPoolExecutor(1, "image-writer", stay)

    # What there is

    def add(self, name: str, fingerprint: str, estimate: int = 0) -> None:
        """An expert that can be loaded. fingerprint: of its checkpoint's files; estimate: bytes of its weights."""
        self._images[name] = _Image(fingerprint, estimate)

    def remove(self, name: str) -> None:
        """An image that nobody asks for any more: it leaves every tier. Of the active one, images as references stay in
        memory until another one is activated. The event "evicted" tells that it is not on the device any more."""
        if self._load is not None and self._load.name == name:
            self.cancel()
        self.evict(name)
        image = self._images.pop(name)
        self._host_order.pop(name, None)
        self._owner, self._own, self._shared = {}, {}, 0
        for other, its in self._images.items():
            if its.known is not None:
                self._measure(other, its.sizes)
        if self._writing is None or self._writing[0] != name:  # else once it is written
            self._remove_file(name, image.fingerprint)

    def _remove_file(self, name: str, fingerprint: str) -> None:
        others = ((expert_of(other), its.fingerprint) for other, its in self._images.items())
        if self._files is not None and (expert_of(name), fingerprint) not in others:
            self._files.remove(expert_of(name), fingerprint)

    def __contains__(self, name: object) -> bool:
        return name in self._images

    @property
    def ready(self) -> Iterable[str]:
        """The images on the device."""
        return (name for name, image in self._images.items() if image.built is not None)

    def tier(self, name: str) -> Tier:
        image = self._images[name]
        return "device" if image.built is not None else "host" if image.host is not None else "disk"

    def size(self, name: str) -> int | None:
        """Bytes of its tensors that no other image known so far has; None before the first reading."""
        return self._own.get(name)

    def sizes(self) -> tuple[dict[str, int], int]:
        """(bytes that each image read so far has alone, bytes that several of them share)."""
        return dict(self._own), self._shared

    def _measure(self, name: str, sizes: Mapping[str, int]) -> None:
        """Takes the tensors of an image read for the first time into account; sizes: digest -> bytes."""
        self._own[name] = 0
        for digest, size in sizes.items():
            owner = self._owner.setdefault(digest, name)
            if owner == name:
                self._own[name] += size
            elif owner is not None:
                self._owner[digest] = None
                self._own[owner] -= size
                self._shared += size

    def stats(self) -> dict[str, Any]:
        """Fields of `workers.base.WorkerStats`."""
        tiers = {n: f"failed: {i.failure}" if i.failure else self.tier(n) for n, i in self._images.items()}
        return {
            "active": self.active,
            "tiers": tiers,
            "tier_bytes": {t: self._held(t) for t in ("device", "host")},
            "image_bytes": {name: sum(image.sizes.values()) for name, image in self._images.items() if image.sizes},
        }

    def _held(self, tier: str) -> int:
        held: dict[str, int] = {}
        for image in self._images.values():
            if (image.built if tier == "device" else image.host) is not None:
                held |= image.sizes
        return sum(held.values())

    # Loading

    def begin(self, name: str) -> bool:
        """Loads an image in the background, instead of any other. False if it is there, or on its way already."""
        image = self._images[name]
        if image.built is not None or (self._load is not None and self._load.name == name):
            return False
        self.cancel()
        source: Tier
        kept = self.size(name)
        if image.host is not None:
            source, needed = "host", kept or 0
        else:  # read whole, then built
            source, needed = "disk", 2 * image.estimate if kept is None else sum(image.sizes.values()) + kept
        load = self._load = _Load(name, time.perf_counter(), source, needed)
        if image.host is not None and image.known is not None:
            load.tensors, load.known = image.host, image.known
        load.future = self._loader.submit(self._run, load, image)
        return True

    def cancel(self) -> None:
        """Gives up the load under way, if any."""
        if (load := self._load) is not None:
            load.cancelled = True
            self._end(load, "cancelled", load.source)

    def poll(self) -> list[ImageEvent]:
        """What happened since the last call. Takes over what the threads have finished."""
        self._advance(CHECK_SECONDS)
        if self._writing is not None and self._writing[2].done():
            self._take_writing()
        events, self._events = self._events, []
        return events

    def wait(self) -> None:
        """Waits until nothing is under way, neither a load nor an image file."""
        self._wait_for_load()
        if self._writing is not None:
            self._take_writing()

    def _wait_for_load(self) -> None:
        while (load := self._load) is not None:
            assert load.future is not None
            wait_for([load.future])
            self._advance(float("inf"))

    def _advance(self, seconds: float) -> None:
        load = self._load
        if load is None or load.future is None or not load.future.done():
            return
        image = self._images[load.name]
        if load.failure is None:
            try:
                load.checks = load.checks or self._backend.check(load.built, load.tensors)
                until = time.perf_counter() + seconds
                for _ in load.checks:
                    if time.perf_counter() >= until:
                        return
            except Exception as error:
                load.fail(error)
        if load.failure is not None:
            image.failure = load.failure
            if load.damaged:
                image.host = None
            self._end(load, "failed", self.tier(load.name), load.failure)
            return
        if image.known is None:
            image.known = load.known
            image.sizes = {load.known[name]: tensor.nbytes for name, tensor in load.tensors.items()}
            self._measure(load.name, image.sizes)
        self._signature = self._signature or _signature(load.tensors)
        image.built, image.failure = load.built, None
        self._end(load, "loaded", "device", load.note)
        self._keep_in_host(load.name, load.tensors)
        self._write(load, image.fingerprint)

    def _write(self, load: _Load, fingerprint: str) -> None:
        name = expert_of(load.name)
        if self._files is None or self._writing is not None or self._files.holds(name, fingerprint):
            return

        def is_given_up() -> bool:
            return self._closing or load.name not in self._images

        write = self._files.write
        under_way = self._writer.submit(write, name, fingerprint, load.tensors, load.known, is_given_up)
        self._writing = load.name, fingerprint, under_way

    def _take_writing(self) -> None:
        assert self._writing is not None
        (name, fingerprint, future), self._writing = self._writing, None
        if name not in self._images:
            wait_for([future])
            self._remove_file(name, fingerprint)
            return
        try:
            problem = future.result()
        except Exception as error:
            problem = f"no image file was written: {_words(error)}"
        if problem and problem not in self._told:
            self._told.add(problem)
            self._events.append(ImageEvent("note", name, "device", "disk", 0, 0.0, problem))

    def _end(self, load: _Load, kind: Literal["loaded", "cancelled", "failed"], target: Tier, why: str = "") -> None:
        self._load = None
        seconds = time.perf_counter() - load.began
        moved = sum(tensor.nbytes for tensor in load.tensors.values()) if kind == "loaded" else 0
        self._events.append(ImageEvent(kind, load.name, load.source, target, moved, seconds, why))

    # On the loading thread

    def _run(self, load: _Load, image: _Image) -> None:
        try:
            if not load.cancelled:
                self._make(load, image)
        except Exception as error:
            load.fail(error)

    def _make(self, load: _Load, image: _Image) -> None:
        _have_memory(load.needed)
        if load.source == "disk":
            tensors, load.known = self._from_disk(load, image)
            self._check_family(tensors)
            # Equal tensors of images in memory are one.
            load.tensors = {name: self._living.setdefault(load.known[name], each) for name, each in tensors.items()}
        if not load.cancelled:
            load.built = self._backend.build(load.tensors, load.known)

    def _from_disk(self, load: _Load, image: _Image) -> tuple[Tensors, dict[str, str]]:
        name = load.name

        def cancelled() -> bool:
            return load.cancelled

        self._check_unchanged(name, image)
        if self._files is not None:
            try:
                return self._files.read(expert_of(name), image.fingerprint, image.known, cancelled)
            except FileNotFoundError:
                pass
            except InterruptedError:
                raise
            except (OSError, IntegrityError) as error:
                load.note = f"{error}; the checkpoint was read instead"
        tensors = self._read(name, cancelled)
        known = digests(tensors, cancelled)
        self._check_unchanged(name, image)  # nor while it was read
        if image.known is not None and known != image.known:
            changed = next(n for n in sorted(known.keys() | image.known) if known.get(n) != image.known.get(n))
            raise IntegrityError(f"the weights of {name} are not those read at first: {changed} differs")
        return tensors, known

    def _check_unchanged(self, name: str, image: _Image) -> None:
        if self._current(name) != image.fingerprint:
            text = f"the checkpoint of {expert_of(name)} changed on disk; to serve the new one: coe experts apply"
            raise ImageError(text)

    def _check_family(self, tensors: Tensors) -> None:
        got, wanted = _signature(tensors), self._signature or _signature(tensors)
        for name in sorted(got.keys() | wanted):
            if got.get(name) != wanted.get(name):
                raise ImageError(
                    f"not of one family: tensor {name} is {_shape(got.get(name))}, "
                    f"the others have {_shape(wanted.get(name))}"
                )

    # Moving on and away

    def activate(self, name: str) -> Activation:
        """Makes an image the one to compute with; one that is not on the device is waited for.

        Raises ImageError if that fails; the former image is the active one then, as before.
        """
        image = self._images[name]
        if image.built is None:
            self.begin(name)
            self._wait_for_load()
            if image.built is None:
                raise ImageError(f"expert {name} cannot answer: {image.failure}")
        began = time.perf_counter()
        moved = self._backend.activate(image.built)
        self.active = name
        self._used(name)
        return Activation(time.perf_counter() - began, moved)

    def fail(self, name: str, why: str) -> None:
        """An image that could not be activated: it leaves memory and is told as failed. One that could not be loaded
        has been told."""
        image = self._images[name]
        if image.built is None:
            return
        image.built, image.host, image.failure = None, None, why
        self._events.append(ImageEvent("failed", name, "device", self.tier(name), self.size(name) or 0, 0.0, why))

    def evict(self, name: str) -> None:
        """Gives up an image's place on the device; no-op if it has none. Of the active one only while nothing computes:
        its memory is free once another one is activated."""
        image = self._images[name]
        if image.built is None:
            return
        image.built = None
        if name == self.active:
            self.active = None
        self._events.append(ImageEvent("evicted", name, "device", self.tier(name), self.size(name) or 0, 0.0))

    def _keep_in_host(self, name: str, tensors: Tensors) -> None:
        """Keeps tensors in memory beside the device; the images used longest ago make room."""
        if not self._host_bytes or sum(self._images[name].sizes.values()) > self._host_bytes:
            return
        self._images[name].host = tensors
        self._used(name)
        while self._held("host") > self._host_bytes:
            oldest = next(iter(self._host_order))
            del self._host_order[oldest]
            self._images[oldest].host = None

    def _used(self, name: str) -> None:
        self._host_order.pop(name, None)
        if self._images[name].host is not None:
            self._host_order[name] = None

    def close(self) -> None:
        """Ends the threads. An image file that is being written is given up."""
        self.cancel()
        self._closing = True
        for thread in (self._loader, self._writer):
            thread.shutdown(wait=True, cancel_futures=True)


def _have_memory(needed: int) -> None:
    if (free := free_memory()) < needed:
        raise ImageError(
            f"out of host memory: to build the image takes {needed / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free; "
            "lower images.device_gib or images.host_gib"
        )


def _words(error: Exception) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "out of host memory while its image was built; lower images.device_gib or images.host_gib"
    text = " ".join(str(error).split())
    return text if isinstance(error, ImageError) else f"{type(error).__name__}: {text}"[:500]


_Signature = dict[str, tuple[tuple[int, ...], torch.dtype]]


def _signature(tensors: Tensors) -> _Signature:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _shape(told: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "missing" if told is None else f"{told[0]} of {told[1]}"
