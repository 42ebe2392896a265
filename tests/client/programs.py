"""Programs of users, and a service of a few lines for them to speak to."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from coe_client.testing import Answering, Request

ROOT = Path(__file__).parents[2]


async def run(example: str, url: str, key: str) -> str:
    """What the program prints. Fails if it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        ROOT / "examples" / f"{example}.py",
        env={**os.environ, "PYTHONPATH": str(ROOT / "client"), "COE_URL": url, "COE_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, failed = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, failed.decode()
    return said.decode()


@contextmanager
def answering(respond: Answering) -> Iterator[str]:
    """A service on a loopback port. Its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"] or 0))
            reply = respond(Request(self.command, self.path, httpx.Headers(dict(self.headers)), content))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"".join(reply.frames))

        do_GET = do_DELETE = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
