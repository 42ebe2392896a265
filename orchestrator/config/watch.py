"""A configuration that changes while somebody works by it.

`Watched`   as its file changes, which a mounted ConfigMap does by a swap of symbolic links
`Handed`    as somebody hands it over
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from orchestrator.config.load import ConfigError
from orchestrator.config.model import Config

log = structlog.stdlib.get_logger(__name__)


class Changing(Protocol):
    """A configuration that changes."""

    def look(self) -> Config | None:
        """The configuration, if it has changed since the last look; None too for one that cannot be used, which is
        logged: the last good one stays."""
        ...


class Watched:
    """The file at `path`, as it was when this was made. read: makes the configuration of it; raises ConfigError."""

    def __init__(self, path: Path, read: Callable[[], Config]) -> None:
        self._path, self._read = path, read
        self._seen = self._stamp()

    def look(self) -> Config | None:
        """See `Changing.look`."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return None
        self._seen = stamp
        return _usable(self._read)

    def _stamp(self) -> tuple[int, int, int] | None:
        """None while there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


class Handed:
    """What is handed over, of which the newest counts."""

    def __init__(self) -> None:
        self._read: Callable[[], Config] | None = None

    def hand(self, read: Callable[[], Config]) -> None:
        """read: makes the configuration; raises ConfigError. Called with the next look, by who looks."""
        self._read = read

    def look(self) -> Config | None:
        """See `Changing.look`."""
        read, self._read = self._read, None
        return None if read is None else _usable(read)


def _usable(read: Callable[[], Config]) -> Config | None:
    try:
        config = read()
    except (ConfigError, OSError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        log.error("the configuration has changed and cannot be used; the last good one stays", problems=problems)
        return None
    log.info("the configuration has changed")
    return config
