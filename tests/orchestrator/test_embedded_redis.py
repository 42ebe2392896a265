import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.embedded_redis import MAX_SOCKET_PATH, AlreadyRunning, EmbeddedRedis, EmbeddedRedisError


@contextmanager
def client(url: str) -> Iterator[Redis]:
    with Redis.from_url(url, decode_responses=True) as redis:
        yield redis
        redis.connection_pool.disconnect()


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # an orphan's init may never reap it


def test_data_is_there_after_stop_and_start(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server.url) as redis:
        redis.set("a", "1")
        pid = server.pid
    assert pid
    assert not is_alive(pid)
    with EmbeddedRedis(tmp_path) as server, client(server.url) as redis:
        assert redis.get("a") == "1"


def test_data_is_there_after_kill_9_and_the_same_object_starts_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        with client(server.url) as redis:
            redis.set("a", "1")
            assert server.pid
            os.kill(server.pid, signal.SIGKILL)
        while server.pid is not None:
            pass
        with client(server.start()) as redis:
            assert redis.get("a") == "1"


def test_settings_are_those_that_keep_data(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server.url) as redis:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        found = {name: redis.config_get(name)[name] for name in wanted}
        assert found == wanted
        assert redis.config_get("port")["port"] == "0"


def test_only_the_owner_may_enter(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700


def test_a_second_start_on_the_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        second = EmbeddedRedis(tmp_path)
        with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}; .* COE_HOME"):
            second.start()
        second.stop()
        with client(server.url) as redis:
            assert redis.ping()


def test_a_server_whose_owner_was_killed_is_replaced_with_its_data(tmp_path: Path) -> None:
    owner = (
        "import sys, os, signal, pathlib\n"
        "from orchestrator.embedded_redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(pathlib.Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", owner, str(tmp_path)], capture_output=True, text=True, check=False)
    orphan = int(done.stdout)
    server = EmbeddedRedis(tmp_path)
    with client(server.url) as redis:
        redis.set("a", "1")  # the orphan still serves
    with server, client(server.url) as redis:
        assert server.pid != orphan
        assert redis.get("a") == "1"
    while is_alive(orphan):  # it closes its socket first
        time.sleep(0.01)


def test_a_stale_socket_is_no_obstacle(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    server.folder.mkdir()
    server.socket.touch()
    with server, client(server.url) as redis:
        assert redis.ping()


def test_a_long_home_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30) / "with space?"
    home.mkdir(parents=True)
    with EmbeddedRedis(home) as server:
        assert len(os.fsencode(server.socket)) <= MAX_SOCKET_PATH
        assert server.folder not in server.socket.parents
        with client(server.url) as redis:
            assert redis.config_get("dir")["dir"] == str(server.folder)
    assert EmbeddedRedis(home).socket != EmbeddedRedis(home / "other").socket


def test_a_home_with_odd_characters_has_a_url_that_connects(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "a b?#%41") as server, client(server.url) as redis:
        assert redis.ping()


def test_somebody_elses_socket_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    server = EmbeddedRedis(tmp_path / ("long" * 30))
    server.socket.parent.symlink_to(tmp_path)
    with pytest.raises(EmbeddedRedisError, match="not a folder of this user"):
        server.start()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedRedisError, match="set COE_HOME"):
        EmbeddedRedis(tmp_path / "file").start()


def test_what_redis_says_of_a_damaged_file_is_told_and_the_folder_is_free_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server.url) as redis:
        redis.set("a", "1")
    damaged = server.folder / "appendonly.aof"
    damaged.write_bytes(b"*3\r\nnonsense\r\n" * 3)
    with pytest.raises(EmbeddedRedisError, match=r"(?s)ended with code 1.*Bad file format"):
        server.start()
    damaged.unlink()
    with EmbeddedRedis(tmp_path) as again:
        assert again.pid
