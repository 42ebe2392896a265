"""A store of tiny images on real checkpoints, for the tests of the image store."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from workers.checkpoints import fingerprint
from workers.image_files import Tensors, digests
from workers.images import ImageEvent, ImageStore

SHARED, OWN = 64, 16
"""Bytes of an image: in a tensor that all have, in one of its own."""


def weights(number: int) -> dict[str, torch.Tensor]:
    return {"shared": torch.arange(16, dtype=torch.float32), "own": torch.full((2, 2), float(number))}


class Plain:
    """A backend that computes with what it was given. damage: stage -> what it raises, once."""

    def __init__(self) -> None:
        self.computing: Tensors = {}
        self.damage: dict[str, Exception] = {}

    def build(self, tensors: Tensors, known: Mapping[str, str]) -> Any:
        self._do("build")
        return dict(tensors)

    def check(self, built: Any, tensors: Tensors) -> Iterator[None]:
        for _ in built:
            yield
        self._do("check")

    def activate(self, built: Any) -> int:
        self._do("activate")
        self.computing = built
        return sum(tensor.nbytes for tensor in built.values())

    def _do(self, stage: str) -> None:
        if stage in self.damage:
            raise self.damage.pop(stage)


class Shelf:
    """Checkpoints in a folder, the experts "0", "1" ..., and a store of them.

    reads: experts in the order in which their checkpoints were read. before_tensor: called on the loading thread.
    """

    def __init__(self, folder: Path, count: int = 3, **options: Any) -> None:
        self.folder, self.backend = folder, Plain()
        self.reads: list[str] = []
        self.names: dict[str, str] = {}  # image -> its checkpoint, where that is called otherwise
        self.before_tensor: Callable[[], object] = lambda: None
        for number in range(count):
            self.put(str(number), weights(number))
        self.store = self.open(**options)

    def put(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / "model.safetensors")

    def file(self, name: str) -> Path:
        return self.folder / name / "model.safetensors"

    def print_of(self, name: str) -> str:
        return fingerprint(str(self.folder / self.names.get(name, name)))

    def read(self, name: str, cancelled: Callable[[], bool]) -> Tensors:
        self.reads.append(name)
        tensors = {}
        for key, tensor in load_file(self.file(self.names.get(name, name))).items():
            self.before_tensor()
            if cancelled():
                raise InterruptedError
            tensors[key] = tensor
        return tensors

    def open(self, **options: Any) -> ImageStore:
        store = ImageStore(options.pop("backend", self.backend), self.read, self.print_of, **options)
        for path in sorted(self.folder.iterdir()):
            store.add(path.name, self.print_of(path.name))
        return store

    def computes(self, number: int) -> bool:
        return digests(self.backend.computing) == digests(weights(number))


class Gate:
    """Holds the loading thread at a tensor. entered: it is there; opened: it may go on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(30)


@contextmanager
def shelves(folder: Path) -> Iterator[Callable[..., Shelf]]:
    """Makes shelves under `folder`, whose stores are closed at the end."""
    made: list[Shelf] = []

    def make(count: int = 3, **options: Any) -> Shelf:
        made.append(Shelf(folder / f"shelf{len(made)}", count, **options))
        return made[-1]

    yield make
    for shelf in made:
        shelf.store.close()


def happened(events: list[ImageEvent]) -> list[tuple[str, str, str, str]]:
    return [(event.kind, event.image, event.source, event.target) for event in events]


def loaded(store: ImageStore, name: str) -> list[ImageEvent]:
    store.begin(name)
    store.wait()
    return store.poll()
