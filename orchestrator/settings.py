"""Where the service runs: flags over environment over the `server:` section of coe.yaml over defaults.

`resolve` is pure. `orchestrator.config.load.load` reads the file and calls it.

`ConfigError`   what the user has set is wrong; one line for each problem
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from experts.registry import close_matches
from experts.spec import Frozen

if TYPE_CHECKING:
    from orchestrator.config.model import Config

MIN_KEY = 16
MAX_KEY = 512
"""Characters of an API key; a longer one does not fit the headers that proxies let through."""


class ConfigError(ValueError):
    """What the user has set is wrong. `problems`: one line each, fit for the terminal, without secrets."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


# Checks: text in, the value out. The ValueError says what is wrong and what is allowed; the caller adds the source.


def check_port(text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,5}\s*", text) or not 1 <= int(text) <= 65535:
        hint = ""
        if text.startswith("tcp://"):
            hint = " (Kubernetes sets this for a Service named 'coe'; set enableServiceLinks: false in the pod)"
        raise ValueError(f"not a port; allowed: 1..65535{hint}")
    return int(text)


def check_host(text: str) -> str:
    """An IP address or a host name, as a server binds to."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        pass
    name = text.strip()
    labels = name.removesuffix(".").split(".")
    # A name whose last label is a number is a mistyped IPv4 address.
    if len(name) > 253 or not all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})", label) for label in labels):
        raise ValueError("not a host; allowed: an IP address or a host name, without scheme, port or brackets")
    if labels[-1].isdigit():
        raise ValueError("not an IP address; allowed: for example 127.0.0.1, 0.0.0.0 or ::1")
    return name


def check_api_key(text: str) -> SecretStr:
    wanted = f"allowed: {MIN_KEY} to {MAX_KEY} printable ASCII characters without spaces"
    if text != text.strip():
        raise ValueError(f"the key (not shown) starts or ends with white space; {wanted}")
    if not re.fullmatch(r"[!-~]*", text):
        raise ValueError(f"the key (not shown) holds a space or a character beyond ASCII; {wanted}")
    if not MIN_KEY <= len(text) <= MAX_KEY:
        raise ValueError(f"the key (not shown) has {len(text)} characters; {wanted}")
    return SecretStr(text)


def check_redis_url(text: str) -> str:
    """A URL that redis-py reads. The errors quote nothing of it: a password may stand anywhere in a mistyped URL."""
    wanted = (
        "allowed: redis://HOST:6379/0, rediss://HOST:6380/0 or unix:///PATH, USER:PASSWORD@ before the host if needed"
    )
    if not re.match(r"(redis|rediss|unix)://", text):
        raise ValueError(f"the URL (not shown) does not start with redis://, rediss:// or unix://; {wanted}")
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(f"the URL (not shown) holds white space or a control character; {wanted}")
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname
    except ValueError:
        port = host = None
        url = urlsplit("")
    if not url.scheme or "@" in url.path + url.query or url.fragment:
        escapes = "a '/', '#', '?' or '@' in a password is written %2F, %23, %3F or %40"
        raise ValueError(f"the URL (not shown) has no valid host and port ({escapes}); {wanted}")
    if url.scheme == "unix":
        if host or len(url.path) < 2:
            raise ValueError(f"the URL (not shown) has no full path to a socket; {wanted}")
    elif not host or port == 0:
        raise ValueError(f"the URL (not shown) has no host, or port 0; {wanted}")
    elif not re.fullmatch(r"/?|/\d{1,5}", url.path):
        raise ValueError(f"the URL (not shown) has something else than a database number after the host; {wanted}")
    return text


def check_ray_address(text: str) -> str | None:
    address = text.strip()
    if address == "local":
        return None
    if address != "auto":
        match = re.fullmatch(r"(?:ray://)?(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", address)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ValueError(
                "not the address of a Ray cluster; allowed: HOST:6379, ray://HOST:10001, 'auto' or 'local'"
            )
    return address


def check_path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError("not a path")
    if re.match(r"~[^/]", text):
        raise ValueError("not a path that is understood; allowed: '~/' for your own home, or a full path")
    return Path(text)


def _port_of_yaml(value: object) -> object:
    return check_port(str(value)) if isinstance(value, int | str) else value


def _redis_of_yaml(value: SecretStr) -> SecretStr:
    return SecretStr(check_redis_url(value.get_secret_value()))


PathInFile = Annotated[Path, AfterValidator(lambda path: check_path(str(path)))]


class Server(Frozen):
    """Where the service runs. Flags and environment variables come before what stands here."""

    model_config = ConfigDict(hide_input_in_errors=True)  # redis_url may hold a password

    home: PathInFile | None = Field(None, description="Folder of models, keys and data. Default ~/.coe.")
    host: Annotated[str, AfterValidator(check_host)] | None = Field(
        None, description="Address to listen on; 0.0.0.0 is every network. Default 127.0.0.1, this machine only."
    )
    port: Annotated[int, BeforeValidator(_port_of_yaml), Field(ge=1, le=65535)] | None = Field(
        None, description="Port to listen on. Default 8000."
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_of_yaml)] | None = Field(
        None, description="A Redis server (redis://, rediss://, unix://) instead of the embedded one."
    )
    ray_address: Annotated[str, AfterValidator(lambda text: check_ray_address(text) or "local")] | None = Field(
        None, description="A running Ray cluster (HOST:6379, auto) instead of one that is started here."
    )
    tls_cert: PathInFile | None = Field(
        None, description="PEM file of the certificate, with those between it and its root. Default: no TLS."
    )
    tls_key: PathInFile | None = Field(None, description="PEM file of the certificate's private key, without password.")
    tls_client_ca: PathInFile | None = Field(
        None, description="PEM file of who signs clients' certificates, which they must then show beside an API key."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Web pages (`https://app.example.com`) that may call the API from a browser; `*` is every page."
    )
    cors_credentials: bool = Field(
        False, description="May these pages send cookies and client certificates? Not together with `*`."
    )
    console: bool = Field(
        True, description="Serve the web console at /console/. Without an API key it shows nothing of the service."
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        from orchestrator.config.file import Located
        from orchestrator.http.guards import Cors, allowed_origins

        found: list[tuple[tuple[str | int, ...], str]] = []
        if (self.tls_cert is None) != (self.tls_key is None):
            missing, there = ("tls_key", "tls_cert") if self.tls_cert else ("tls_cert", "tls_key")
            found.append(((there,), f"TLS takes a certificate and its key: name the file of '{missing}' too"))
        if self.tls_client_ca is not None and self.tls_cert is None:
            found.append((("tls_client_ca",), "without 'tls_cert' and 'tls_key' no client shows a certificate"))
        try:
            Cors(allowed_origins(self.cors_origins), self.cors_credentials)
        except ValueError as error:
            found.append((("cors_origins",), str(error)))
        if found:
            raise Located(found)
        return self


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. env: its environment variable; default: as a user would write it, None for unset."""

    name: str
    env: str
    check: Callable[[str], Any]
    default: str | None
    summary: str
    in_yaml: bool = True
    secret: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


SETTINGS = (
    Setting("home", "COE_HOME", check_path, "~/.coe", "Folder of models, keys and data."),
    Setting("host", "COE_HOST", check_host, "127.0.0.1", "Address to listen on; 0.0.0.0 is every network."),
    Setting("port", "COE_PORT", check_port, "8000", "Port to listen on."),
    Setting("api_key", "COE_API_KEY", check_api_key, None, "The first key; unset: one is made and shown.", False, True),
    Setting(
        "redis_url", "COE_REDIS_URL", check_redis_url, None, "A Redis server; unset: an embedded one.", secret=True
    ),
    Setting("ray_address", "RAY_ADDRESS", check_ray_address, None, "A Ray cluster; unset: a local one is started."),
    Setting(
        "config", "COE_CONFIG", check_path, None, "The file; unset: coe.yaml in the current folder, if any.", False
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What `resolve` found. Paths are absolute.

    ray_address: None = start a local Ray. redis_url: None = embedded; may hold a password, show `redis_url_safe`.
    tls: does the service speak HTTPS?
    origins: setting -> "flag", the environment variable, the name of the file, or "default".
    """

    home: Path
    host: str
    port: int
    api_key: SecretStr | None = None
    redis_url: str | None = None
    ray_address: str | None = None
    config: Path | None = None
    tls: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def redis_url_safe(self) -> str | None:
        return None if self.redis_url is None else mask_url(self.redis_url)

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the service."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # read, not bound to
        scheme = "https" if self.tls else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    def rows(self) -> list[tuple[str, str, str]]:
        """(setting, value, origin) to print; no secrets."""
        values: dict[str, object] = {setting.name: getattr(self, setting.name) for setting in SETTINGS}
        values["api_key"] = "(given)" if self.api_key else "(generated at the first start)"
        values["redis_url"] = self.redis_url_safe or "(embedded)"
        values["ray_address"] = self.ray_address or "(local)"
        values["config"] = self.config or "(none)"
        return [(name, str(value), self.origins.get(name, "default")) for name, value in values.items()]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value} [{origin}]' for name, value, origin in self.rows())})"


def resolve(
    flags: Mapping[str, object],
    env: Mapping[str, str],
    config: "Config | None",
    *,
    folder: Path | None = None,
    found: Path | None = None,
) -> Settings:
    """The settings. A flag that is None and a variable that is empty are not set. Reads no file and no variable.

    folder: what relative paths are relative to, the current folder by default; found: the coe.yaml in there, if any.
    Raises ConfigError with all that is wrong.
    """
    if unknown := set(flags) - set(_BY_NAME):
        raise TypeError(f"no such flags: {sorted(unknown)}; there are: {list(_BY_NAME)}")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    file_name = "coe.yaml"
    for setting in reversed(SETTINGS):  # the file's name is known before the others' origin is told
        sources: tuple[tuple[str, object], ...] = (
            ("flag", flags.get(setting.name)),
            (setting.env, env.get(setting.env) or None),
            (file_name, getattr(config.server, setting.name) if config and setting.in_yaml else None),
        )
        default = found if setting.name == "config" else setting.default
        origin, raw = next((source for source in sources if source[1] is not None), ("default", default))
        origins[setting.name] = origin
        try:
            values[setting.name] = _value(setting, origin, raw, env, folder)
        except ConfigError as error:
            problems[:0] = error.problems
        if setting.name == "config" and isinstance(values.get("config"), Path):
            file_name = values["config"].name
    if problems:
        raise ConfigError(problems)
    tls = config is not None and config.server.tls_cert is not None
    return Settings(**values, tls=tls, origins={setting.name: origins[setting.name] for setting in SETTINGS})


def given(
    name: str, flags: Mapping[str, object], env: Mapping[str, str], *, folder: Path | None = None
) -> Any:  # the type that Settings has for it
    """One setting, if a flag or the environment gives it, else None. Raises ConfigError."""
    setting = _BY_NAME[name]
    for origin, raw in (("flag", flags.get(name)), (setting.env, env.get(setting.env) or None)):
        if raw is not None:
            return _value(setting, origin, raw, env, folder)
    return None


def _value(setting: Setting, origin: str, raw: object, env: Mapping[str, str], folder: Path | None) -> Any:
    if raw is None:
        return None
    text = raw.get_secret_value() if isinstance(raw, SecretStr) else str(raw)
    try:
        value = setting.check(text)
        return absolute(value, env, folder) if isinstance(value, Path) else value
    except ValueError as error:
        named = {"flag": setting.flag, setting.env: setting.env, "default": f"the default of {setting.env}"}
        source = named.get(origin, f"{origin}: server.{setting.name}")
        separator = ": " if setting.secret else f"={text[:100]!r}: "
        raise ConfigError([f"{source}{separator}{error}"]) from None


def absolute(path: Path, env: Mapping[str, str], folder: Path | None = None) -> Path:
    """`path` with ~ as HOME, taken from `folder` or the current one. Raises ValueError if HOME is needed and unset."""
    if path.parts[:1] == ("~",):
        if not env.get("HOME"):
            raise ValueError("'~' needs HOME, which is not set; give a full path")
        path = Path(env["HOME"], *path.parts[1:])
    return (folder or Path.cwd()) / path


def is_loopback(host: str) -> bool:
    """Can only this machine reach a server that listens on `host`? A name counts only if it is localhost."""
    name = host.strip().strip("[]").removesuffix(".").lower()
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def mask_url(url: str) -> str:
    """The URL with *** for its password and for every argument; what is no URL is masked more, never less."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    userinfo, at, place = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    place = re.sub(r"=[^&]*", "=***", place.partition("#")[0])
    return f"{scheme}://{f'{user}:***' if colon else '***' if userinfo else ''}{at}{place}"


def misspelt(env: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each COE_ variable that is no setting but nearly one: a typo that would have no effect in silence."""
    known = [setting.env for setting in SETTINGS if setting.env.startswith("COE_")]
    return tuple(
        f"{name} is not a setting; did you mean {close[0]}?"
        for name in sorted(env)
        if name.startswith("COE_") and name not in known and (close := close_matches(name, known, cutoff=0.8))
    )
