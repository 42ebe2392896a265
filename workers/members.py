"""The experts of a family as one engine can serve them: which checkpoints go together, which adapters have room."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from experts.spec import ExpertSpec
from workers import checkpoints
from workers.steps import ImageSource

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM allows."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """What an engine has for adapters, from its start to its end. slots: of which one stays empty and one is for an
    adapter that takes another's place."""

    slots: int
    rank: int

    @property
    def adapters(self) -> int:
        return self.slots - 2


def adapter_room(experts: Iterable[ExpertSpec]) -> AdapterRoom | None:
    """Room for these adapters and, as slots are a power of two, for some more; None where there are none.

    On the CPU vLLM lets requests without an adapter compute with the last slot when others of the batch have one (it
    takes their index, -1, for a position): that one stays empty, which is to add nothing.
    """
    ranks = [_rank(spec.source) for spec in experts if spec.kind == "adapter"]
    if not ranks:
        return None
    slots = 4
    while slots - 2 < len(ranks):
        slots *= 2
    return AdapterRoom(slots, next((rank for rank in LORA_RANKS if rank >= max(ranks)), LORA_RANKS[-1]))


def _rank(source: str) -> int:
    """The least one of an adapter that cannot be read: it is told as failed."""
    try:
        return checkpoints.adapter_rank(source)
    except (OSError, ValueError):
        return LORA_RANKS[0]


class Members:
    """Which of a family's experts can be served together. problems: expert -> why it cannot be; sources: checkpoint
    expert -> where its image comes from; bytes: expert -> bytes of its own weights, by its files. device_bytes: of the
    device, for images."""

    def __init__(self, family: str, experts: Sequence[ExpertSpec], dtype: str) -> None:
        self.experts = {spec.name: spec for spec in experts}
        self.problems: dict[str, str] = {}
        self.sources: dict[str, ImageSource] = {}
        self.bytes: dict[str, int] = {}
        self.device_bytes = 0
        self._family, self._dtype = family, dtype
        self._traits: checkpoints.Traits | None = None  # of the family, by its first checkpoint
        self._are_known = False

    def usable(self) -> list[ExpertSpec]:
        """The checkpoint experts that can be served together; why the others cannot is noted, of adapters too."""
        self._are_known = False
        for known in (self.problems, self.sources, self.bytes):
            known.clear()
        usable = [spec for spec in self.experts.values() if spec.kind == "checkpoint" and self.check(spec)]
        for spec in self.experts.values():
            if spec.kind == "adapter":
                self.check(spec)
        return usable

    def check(self, spec: ExpertSpec) -> bool:
        """Can it be served? Why not is noted, and of a checkpoint where its image comes from. It reads the disk."""
        self.forget(spec.name)
        try:
            problem = self._of_checkpoint(spec) if spec.kind == "checkpoint" else self._of_adapter(spec)
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem is not None:
            self.problems[spec.name] = problem
        return problem is None

    def forget(self, name: str) -> None:
        """What is known of an expert."""
        self.problems.pop(name, None)
        self.sources.pop(name, None)
        self.bytes.pop(name, None)

    def _of_checkpoint(self, spec: ExpertSpec) -> str | None:
        if problem := checkpoints.problem(spec.source):
            return problem
        own = checkpoints.traits(spec.source)
        if self._are_known and (problem := checkpoints.unlike(own, self._traits)):
            return problem
        size, room = checkpoints.weight_bytes(spec.source, self._dtype), self.device_bytes
        if size > room:
            return (
                f"its weights take {size / 2**30:.2f} GiB, the device has room for images of {room / 2**30:.2f} GiB; "
                "raise images.device_gib"
            )
        if not self._are_known:
            self._traits, self._are_known = own, True
        self.sources[spec.name] = ImageSource(spec.source, checkpoints.fingerprint(spec.source), size)
        self.bytes[spec.name] = size
        return None

    def _of_adapter(self, spec: ExpertSpec) -> str | None:
        if spec.base not in self.experts or spec.base in self.problems:
            return f"its base {spec.base} cannot be served"
        if problem := checkpoints.adapter_problem(spec.source):
            return problem
        self.bytes[spec.name] = checkpoints.weight_bytes(spec.source)
        return None

    def pinned(self, wanted: Iterable[str]) -> frozenset[str]:
        """Of the experts to pin as many as leave room for any other one beside them."""
        pinned: list[str] = []
        sizes = {name: source.bytes for name, source in self.sources.items()}
        for name in sorted(sizes.keys() & set(wanted)):
            rest = max((size for other, size in sizes.items() if other not in (*pinned, name)), default=0)
            if sum(sizes[other] for other in (*pinned, name)) + rest > self.device_bytes:
                logger.warning(
                    "family %s: %s is not pinned, the device has no room for another image beside it; "
                    "raise images.device_gib",
                    self._family,
                    name,
                )
            else:
                pinned.append(name)
        return frozenset(pinned)

    def adapters(self) -> list[ExpertSpec]:
        """Those that can be served."""
        return [spec for spec in self.experts.values() if spec.kind == "adapter" and spec.name not in self.problems]
