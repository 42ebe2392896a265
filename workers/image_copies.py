"""Images as copies, for devices on which the active weights must keep their addresses."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

import torch

from workers.image_files import ImageError, IntegrityError, Tensors

_CHUNK = 64 << 20
"""Bytes of an allocation that tensors share. A larger tensor has one of its own, which is freed with its last image."""
_ALIGNMENT = 64


@dataclass(frozen=True)
class Copy:
    """A built image: its tensors and their digests by name, and their checksums by digest."""

    tensors: dict[str, torch.Tensor]
    known: dict[str, str]
    sums: dict[str, int]


class CopyBackend:
    """Copies an image into the model's own tensors, whose addresses CUDA graphs have recorded. Tensors that are equal
    in the active image are not moved.

    named: the model's tensors. place: where built images are, host memory (pinned if the model is on CUDA) or a device.
    verify: after each activation the tensors that moved must have the image's checksums.
    Untested on CUDA for want of a GPU; the copying is tested on CPU tensors.
    """

    def __init__(
        self, named: Mapping[str, torch.Tensor], *, place: torch.device | None = None, verify: bool = True
    ) -> None:
        self._named, self._verify = dict(named), verify
        self._place = place or torch.device("cpu")
        self._device = next(iter(named.values())).device
        self._held: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()  # the loading thread's
        self._active: Copy | None = None

    def build(self, tensors: Tensors, known: Mapping[str, str]) -> Copy:
        """Tensors that another built image has are shared with it. Raises ImageError if the model has others."""
        if strange := sorted(tensors.keys() ^ self._named.keys()):
            raise ImageError(f"the image does not have the model's tensors: {', '.join(strange[:3])}")
        held = {key: tensor for key in set(known.values()) if (tensor := self._held.get(key)) is not None}
        fresh = {known[name]: tensor for name, tensor in tensors.items() if known[name] not in held}
        if self._place != self._device or self._place.type != "cpu":  # else they are where they should be
            fresh = place_together(fresh, self._place, pinned=self._place.type == "cpu")
        held |= fresh
        self._held.update(fresh)
        sums = dict(zip(known.values(), checksums(tensors[name] for name in known), strict=True))
        return Copy({name: held[key] for name, key in known.items()}, dict(known), sums)

    def check(self, built: Copy, tensors: Tensors) -> Iterator[None]:
        for name, tensor in built.tensors.items():
            if checksums([tensor]) != [built.sums[built.known[name]]]:
                raise IntegrityError(f"tensor {name} was not copied as it was read")
            yield

    def activate(self, built: Copy) -> int:
        """Raises IntegrityError if the copy is not whole; the former image is the active one then, as before."""
        former, self._active = self._active, None  # nobody's, until all of it is there
        old = former.known if former is not None else {}
        moved = [name for name in self._named if old.get(name) != built.known[name]]
        try:
            self._copy(built, moved)
            if self._verify and (wrong := self._wrong(built, moved)) is not None:
                raise IntegrityError(f"tensor {wrong} did not reach the device whole")
        except BaseException:
            if former is not None:
                self._copy(former, moved)
                self._active = former
            raise
        self._active = built
        return sum(built.tensors[name].nbytes for name in moved)

    def _copy(self, built: Copy, names: Collection[str]) -> None:
        with torch.no_grad():
            for name in names:
                self._named[name].copy_(built.tensors[name], non_blocking=True)
        if self._device.type == "cuda":
            # On the stream of the steps: the one before has read the weights when the first byte is written.
            torch.cuda.current_stream(self._device).synchronize()

    def _wrong(self, built: Copy, names: Collection[str]) -> str | None:
        got = checksums(self._named[name] for name in names)
        return next((n for n, each in zip(names, got, strict=True) if each != built.sums[built.known[n]]), None)


def place_together(tensors: Tensors, place: torch.device, *, pinned: bool) -> dict[str, torch.Tensor]:
    """Copies of the tensors, contiguous, in few allocations on `place`."""
    groups: list[list[str]] = []
    room = 0
    for name, tensor in tensors.items():
        if (room := room - _aligned(tensor)) < 0 or not groups:
            groups.append([])
            room = _CHUNK - _aligned(tensor)
        groups[-1].append(name)
    placed = {}
    for group in groups:
        size = sum(_aligned(tensors[name]) for name in group)
        arena, at = torch.empty(size, dtype=torch.uint8, device=place, pin_memory=pinned), 0
        for name in group:
            tensor = tensors[name]
            placed[name] = arena[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
            at += _aligned(tensor)
    return placed


def _aligned(tensor: torch.Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def checksums(tensors: Iterable[torch.Tensor]) -> list[int]:
    """Of each tensor the sum of its bytes in words of eight, wrapping around, computed where the tensors are."""
    sums = []
    for tensor in tensors:
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        if flat.storage_offset() % 8:
            flat = flat.clone()  # words must be aligned
        whole = flat.numel() // 8 * 8
        sums.append(flat[:whole].view(torch.int64).sum() + flat[whole:].sum())
    return torch.stack(sums).tolist() if sums else []
