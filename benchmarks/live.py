"""A service of one's own: `coe serve` in a process on a free loopback port, for benchmarks and tests."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent


class NotReady(RuntimeError):
    """The service did not come up. The message ends with what it printed."""


@dataclass(frozen=True)
class Live:
    """A running service. output: the file that its standard output and error go to."""

    url: str
    key: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def base_url(self) -> str:
        """For the openai client."""
        return f"{self.url}/v1"

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.get(self.url + path, headers=headers, timeout=30, trust_env=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes], within: float = 60) -> int:
    """Ctrl-C, and after `within` seconds an end by force. Returns the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


@contextlib.contextmanager
def service(
    home: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    within: float = 300,
    port: int | None = None,
) -> Iterator[Live]:
    """`coe serve ARGUMENTS` with its data under `home`, ready to answer. port: None = a free one.
    Raises NotReady after `within` seconds."""
    port, key = port or free_port(), "test-" + secrets.token_urlsafe(24)
    home.mkdir(parents=True, exist_ok=True)
    output = home / "serve.log"
    own = {key: value for key, value in os.environ.items() if not key.startswith(("COE_", "RAY_"))}
    own |= {"COE_HOME": str(home), "COE_PORT": str(port), "COE_API_KEY": key, **(environment or {})}
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "serve", *arguments],
            cwd=ROOT,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    live = Live(f"http://127.0.0.1:{port}", key, process, output)
    try:
        _wait_until_ready(live, within)
        yield live
    finally:
        stop(process)


def _wait_until_ready(live: Live, within: float) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and live.process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if live.get("/health/ready").status_code == 200:
                return
        time.sleep(0.25)
    told = live.output.read_text(errors="replace")[-4000:]
    raise NotReady(f"no readiness within {within:.0f} s (exit code {live.process.poll()}); it printed:\n{told}")


# On the command line of a benchmark


def which_service(parser: ArgumentParser) -> None:
    """Adds the arguments that `reached` reads."""
    parser.add_argument("--home", type=Path, help="data folder of the service (default: COE_HOME or ~/.coe)")
    parser.add_argument("--url", help="a running service instead, with its key in COE_API_KEY")


@contextlib.contextmanager
def reached(arguments: Namespace) -> Iterator[tuple[str, str]]:
    """URL and key of the service that the arguments name, or of one that lives as long as this block."""
    if arguments.url:
        yield arguments.url, os.environ["COE_API_KEY"]
        return
    home = arguments.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    with service(home, within=900) as live:
        yield live.url, live.key
