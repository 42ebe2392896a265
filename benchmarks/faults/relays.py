"""The relays of the service, in a thread of their own: one before the gateways, one before Redis."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.faults.relay import Relay, tcp, unix

T = TypeVar("T")


class Relays:
    """folder: where the sockets of Redis lie: redis.sock of the server, relay.sock of its relay."""

    def __init__(self, folder: Path) -> None:
        self.redis_socket = folder / "relay.sock"
        self._server = folder / "redis.sock"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._redis: Relay | None = None
        self._gateways: Relay | None = None
        self.port = 0

    def start_redis(self) -> None:
        self._thread.start()
        self._redis = Relay([unix(self._server)])
        self._do(self._redis.on_unix(self.redis_socket))

    def start_gateways(self, ports: Sequence[int]) -> None:
        self._gateways = Relay([tcp(port) for port in ports])
        self.port = self._do(self._gateways.on_tcp())

    @property
    def url(self) -> str:
        """Of what stands before the gateways."""
        return f"http://127.0.0.1:{self.port}"

    def redis(self, change: Callable[[Relay], None]) -> None:
        """Makes the way to Redis slow or silent, or as it was."""
        relay = self._redis
        assert relay is not None

        async def do() -> None:
            change(relay)

        self._do(do())

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        for relay in (self._gateways, self._redis):
            if relay is not None:
                self._do(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
