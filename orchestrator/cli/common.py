"""What the commands share: flags, how errors are told, and the running service as a client sees it."""

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from orchestrator.settings import ConfigError, Settings

if TYPE_CHECKING:
    import httpx

ConfigFlag = Annotated[str | None, typer.Option("--config", help="coe.yaml; default: the one in this folder, if any.")]
HomeFlag = Annotated[str | None, typer.Option("--home", help="Folder of models, keys and data [COE_HOME].")]
HostFlag = Annotated[str | None, typer.Option("--host", help="Address of the service [COE_HOST].")]
PortFlag = Annotated[str | None, typer.Option("--port", help="Port of the service [COE_PORT].")]
KeyFlag = Annotated[str | None, typer.Option("--api-key", help="API key; better in COE_API_KEY.")]
RedisFlag = Annotated[str | None, typer.Option("--redis-url", help="A Redis server [COE_REDIS_URL].")]
RayFlag = Annotated[str | None, typer.Option("--ray-address", help="A running Ray cluster [RAY_ADDRESS].")]
JsonFlag = Annotated[bool, typer.Option("--json", help="As JSON.")]


# Errors


@contextmanager
def errors_told() -> Iterator[None]:
    """What a user can mend is told in a sentence, without a traceback; the command then ends with 1."""
    from experts.starter import StarterUnavailable
    from orchestrator.embedded_redis import EmbeddedRedisError
    from orchestrator.keys import EndedKey, UnknownKey
    from orchestrator.listening import CannotStart
    from orchestrator.store import StoreUnavailable
    from routers.encoders.base import EncoderUnavailable

    try:
        yield
    except ConfigError as error:
        fail(*error.problems)
    except (
        CannotStart,
        EmbeddedRedisError,
        EncoderUnavailable,
        StarterUnavailable,
        StoreUnavailable,
        EndedKey,
        UnknownKey,
    ) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}")  # a full disk, a folder of somebody else


def fail(*lines: str) -> NoReturn:
    """Ends the command with 1, after these lines on standard error."""
    for line in lines:
        typer.secho(f"coe: {line}", fg="red", err=True)
    raise typer.Exit(1)


# The running service


AGAIN_S = 0.5
"""Between two tries."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running service and the key to it. verify: what its certificate is checked against, True = the usual."""

    settings: Settings
    verify: ssl.SSLContext | bool = True

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def headers(self) -> dict[str, str]:
        assert self.settings.api_key is not None
        return {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, patience_s: float = 0.0) -> Any:
        """The answer as JSON; ends the command if there is none. patience_s: seconds for which the service may be away,
        or have nothing to say; of use for what may be asked twice."""
        import httpx

        until = time.monotonic() + patience_s
        while True:
            is_last = time.monotonic() >= until
            with self.reached() if is_last else suppress(httpx.HTTPError):
                answer = httpx.request(
                    method,
                    self.url + path,
                    json=body,
                    headers=self.headers,
                    timeout=60,
                    trust_env=False,
                    verify=self.verify,
                )
                if is_last or answer.status_code not in (502, 503, 504):
                    return self.content(answer)
            time.sleep(AGAIN_S)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Ends the command with a sentence if the service cannot be reached."""
        import httpx

        try:
            yield
        except httpx.ConnectError as error:
            if "CERTIFICATE" in str(error).upper():
                fail(f"{self.url}: its certificate is not trusted here: {error}")
            fail(f"no service answers at {self.url}; start it with `coe serve`, or name it by --host and --port")
        except httpx.HTTPError as error:
            fail(f"{self.url}: {type(error).__name__}")

    def content(self, answer: "httpx.Response") -> Any:
        """What an answer holds; ends the command if that is an error."""
        try:
            content = answer.json()
        except ValueError:
            fail(f"{self.url} answered {answer.status_code} without JSON: is it this service?")
        if answer.is_error:
            fail(content["error"]["message"])
        return content


def target(config: str | None, host: str | None, port: str | None, api_key: str | None) -> Target:
    """The service that settings and coe.yaml name. Raises ConfigError; ends the command if there is no key."""
    from orchestrator.config import load as configuration

    flags = {"config": config, "host": host, "port": port, "api_key": api_key}
    settings, configured = configuration.load(flags, os.environ, Path.cwd())
    if settings.api_key is None:
        fail("no API key: set COE_API_KEY to the one that `coe serve` printed, or make one: coe keys create NAME")
    return Target(settings, trusted(configured.server.tls_cert))


def trusted(cert: Path | None) -> ssl.SSLContext | bool:
    """The usual roots and the service's own certificate, which may be signed by itself. Raises OSError."""
    if cert is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(cert)
    return context
