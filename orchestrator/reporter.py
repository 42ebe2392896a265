"""How a start is told to whoever started it."""

from dataclasses import dataclass
from typing import Protocol


class Reporter(Protocol):
    """How a start is told to the user."""

    def say(self, line: str) -> None:
        """A step that begins, or a fact."""
        ...

    def progress(self, what: str, done: int, of: int) -> None:
        """A long step: `done` of `of` are there, `what` is next."""
        ...

    def ready(self, banner: "Banner") -> None: ...


@dataclass(frozen=True, slots=True)
class Banner:
    """What a user needs once the service answers. new_key: the key that was made at this start, else None.
    console: the address of the web console, None = it is switched off."""

    url: str
    new_key: str | None
    key_given: bool
    experts: int
    failed: dict[str, str]
    seconds: float
    console: str | None = None
