"""Where the service listens, whether other machines can reach it, and what protects the way.

`CannotStart`   the service cannot start; the message says why and what to do
"""

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Iterator

from orchestrator.config.model import Config
from orchestrator.settings import Settings, is_loopback


class CannotStart(RuntimeError):
    """The service cannot start. The message says why and what to do."""


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to host and port, at once: a port in use is told before anything is started."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio switches Nagle's delay off only for sockets that say they are TCP; it costs 40 ms a request.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host}:{port}: {error.strerror}. Another port: --port or COE_PORT; "
            f"who has this one: ss -ltnp 'sport = :{port}'"
        ) from error
    with listener:
        yield listener


def tls_context(config: Config) -> ssl.SSLContext | None:
    """What TLS is served with, if coe.yaml names a certificate. Raises CannotStart if its files cannot be used."""
    from orchestrator.http.server import Tls

    server = config.server
    if server.tls_cert is None or server.tls_key is None:
        return None
    for name, path in (("cert", server.tls_cert), ("key", server.tls_key), ("client_ca", server.tls_client_ca)):
        if path is not None and not os.access(path, os.R_OK):
            raise CannotStart(f"server.tls_{name}: {path} is not there, or may not be read by this user")
    try:
        return Tls(server.tls_cert, server.tls_key, server.tls_client_ca).context()
    except OSError as error:
        named = " and ".join(map(str, filter(None, (server.tls_cert, server.tls_key, server.tls_client_ca))))
        raise CannotStart(
            f"TLS cannot be served with {named}: {getattr(error, 'reason', None) or error}. They must be PEM files, "
            "the key that of the certificate and without a password"
        ) from error


def exposed(settings: Settings, config: Config) -> str | None:
    """What is to be told of a service that other machines can reach; None = nothing."""
    if is_loopback(settings.host) or config.server.tls_cert is not None:
        return None
    return (
        f"listens on {settings.host} without TLS: keys, prompts and answers can be read on the way; "
        "name server.tls_cert and server.tls_key, or put a proxy that speaks TLS in front"
    )


def allow_files(connections: int, spare: int = 5120) -> str | None:
    """Raises this process's limit on open files so that so many connections fit; what is to be told if not.

    spare: files of the process itself, and connections over the bound that have an answer coming.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + spare
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    reached = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    if reached == wanted:
        return None
    return (
        f"may have {reached} files open, too few for limits.connections ({connections}): raise it with ulimit -Hn, or "
        "lower limits.connections"
    )
