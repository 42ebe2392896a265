"""A configuration file that is read again when it changes, as a mounted ConfigMap does by a swap of symbolic links."""

from collections.abc import Callable
from pathlib import Path

import structlog

from orchestrator.config.load import ConfigError
from orchestrator.config.model import Config

log = structlog.stdlib.get_logger(__name__)


class Watched:
    """The file at `path`, as it was when this was made. read: makes the configuration of it; raises ConfigError."""

    def __init__(self, path: Path, read: Callable[[], Config]) -> None:
        self._path, self._read = path, read
        self._seen = self._stamp()

    def look(self) -> Config | None:
        """The configuration, if the file has changed since the last look; None too for one that cannot be used, which
        is logged: the last good one stays."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return None
        self._seen = stamp
        try:
            config = self._read()
        except (ConfigError, OSError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [str(error)]
            log.error("the configuration has changed and cannot be used; the last good one stays", problems=problems)
            return None
        log.info("the configuration has changed", file=str(self._path))
        return config

    def _stamp(self) -> tuple[int, int, int] | None:
        """None while there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
