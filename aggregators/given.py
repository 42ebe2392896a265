"""Drafts that are finished: those of a layer for the next one, and the fake that tests hand to an aggregator."""

from collections.abc import Iterable

from aggregators.base import Draft, Part


class Given:
    """Implements `aggregators.base.Drafts`. They come in the order given, each as soon as its seat was asked.

    taken: Drafts that were read; asked: seats that were asked; closed: whether somebody closed it.
    """

    def __init__(self, drafts: Iterable[Draft]) -> None:
        self.taken = self.asked = 0
        self.closed = False
        self._coming = list(drafts)
        self._watched: set[int] = set()

    def ask(self, count: int) -> None:
        self.asked = max(self.asked, count)

    def watch(self, rank: int) -> None:
        self._watched.add(rank)

    def until(self, deadline: float) -> None:
        """They are there."""

    def cancel(self, rank: int) -> None:
        self._coming = [draft for draft in self._coming if draft.rank != rank]

    async def aclose(self) -> None:
        self.closed = True
        self._coming = []

    def __aiter__(self) -> "Given":
        return self

    async def __anext__(self) -> Part | Draft:
        for draft in self._coming:
            if draft.rank >= self.asked:
                continue
            if draft.rank in self._watched and draft.text:
                self._watched.discard(draft.rank)
                return Part(draft.rank, draft.text)
            self._coming.remove(draft)
            self.taken += 1
            return draft
        raise StopAsyncIteration
