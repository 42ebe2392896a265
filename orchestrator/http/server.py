"""uvicorn as the gateway runs it."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from orchestrator.http.connection import Connection
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.guards import Bounds


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. client_ca: whose certificates clients must show; None = they need none."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a server, TLS 1.2 or newer. Raises OSError, of which ssl.SSLError is one, if a file cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert, self.key, password=_no_password)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    # Without this, OpenSSL asks for it on the terminal, where a service waits for ever.
    raise ssl.SSLError("the private key has a password; keys with one are not supported")


def make_server(
    app: ASGIApp,
    bounds: Bounds,
    *,
    keeper: Doorkeeper | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
    host: str = "127.0.0.1",
) -> uvicorn.Server:
    """A server for the app, which listens on host and port unless it is given sockets.

    keeper: of the door; by default nobody is turned away there.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=type("BoundConnection", (Connection,), {"bounds": bounds, "keeper": keeper or Doorkeeper()}),
            ws="none",  # nothing here speaks it
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who the client says it is
            timeout_keep_alive=bounds.idle_s,
            timeout_graceful_shutdown=10,
            backlog=4096,  # as many as come while the loop goes round once; what the system allows may be less
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
