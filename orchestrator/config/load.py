"""From coe.yaml, flags and the environment to settings and a configuration.

`ConfigError`   the file cannot be used; one line for each problem: file:line, the key, what was got, what is allowed
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.config.checks import PATH
from orchestrator.config.file import Document
from orchestrator.config.model import Config, RouterConfig
from orchestrator.config.schema import json_schema
from orchestrator.settings import ConfigError, Settings, absolute, check_path, given, resolve

__all__ = ["ConfigError", "default_config", "load", "load_config"]


def default_config(home: Path) -> Config:
    """The starter pool, whose weights are under `home`, with defaults for everything else."""
    from experts.starter import GENERALIST, starter_experts

    return Config(experts=starter_experts(home), router=RouterConfig(fallback=GENERALIST))


def load_config(
    path: Path, home: Path | None = None, env: Mapping[str, str] = os.environ, text: str | None = None
) -> Config:
    """The configuration in a YAML file; paths in it are relative to its folder and come out absolute.

    home: where the starter pool is, for a file without experts; None = `server.home` of the file, else ~/.coe.
    env: where HOME is looked up for '~'. text: what stands in the file, if that is known; then it is not read.
    Raises ConfigError with every problem of the file.
    """
    document = Document(path, text)
    folder = path.absolute().parent
    # A section whose lines are all commented out is null in YAML; it means the defaults.
    data = {key: value for key, value in document.data.items() if value is not None or key not in Config.model_fields}
    if data.get("experts") == []:
        del data["experts"]
    try:
        config = Config.model_validate(data | ({} if "experts" in data else _starter(data, home, folder, env)))
    except ValidationError as error:
        raise ConfigError(document.lines_for(error, json_schema())) from None  # the original quotes what the file holds
    try:
        config = _with_absolute_paths(config, folder, env)
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return _with_starter_router(config, document)


def _starter(data: dict[Any, Any], home: Path | None, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    from experts.starter import starter_experts

    server = data.get("server")
    named = server.get("home") if isinstance(server, dict) else None
    if home is None:
        try:
            home = absolute(check_path(named if isinstance(named, str) else "~/.coe"), env, folder)
        except ValueError as error:
            if named is None:
                raise ConfigError([f"the default home '~/.coe': {error}, in server.home or COE_HOME"]) from None
            home = folder  # what is wrong with the name is told when the file is validated
    return {"experts": starter_experts(home)}


def _with_starter_router(config: Config, document: Document) -> Config:
    """The starter router falls back to the generalist. Raises ConfigError if it knows none of the experts."""
    names = config.registry().names

    def completed(router: RouterConfig, *loc: str) -> RouterConfig:
        if router.kind != "two-level" or router.path is not None:
            return router
        from experts.starter import GENERALIST, starter_experts

        if not {spec.name for spec in starter_experts(Path())} & set(names):
            message = (
                "missing; without it the router is the starter pool's, which knows none of these experts. Write "
                f"'kind: fixed' and 'fallback: {names[0]}' under 'router', or the 'path' of a router fitted for them"
            )
            raise ConfigError([document.located((*loc, "router", "path"), message)])
        if router.fallback is None and GENERALIST in names:
            return router.model_copy(update={"fallback": GENERALIST})
        return router

    return config.with_routers(
        {at: completed(r, *(("tenants", at) if at else ())) for at, r in config.routers().items()}
    )


def load(
    flags: Mapping[str, object], env: Mapping[str, str], folder: Path, text: str | None = None
) -> tuple[Settings, Config]:
    """Settings and configuration, from the file that they name or from coe.yaml in `folder`, the current folder.

    text: what stands in the file, if that is known; then it is not read, and need not be there. Raises ConfigError.
    """
    found = folder / "coe.yaml" if text is not None or os.path.lexists(folder / "coe.yaml") else None
    path = given("config", flags, env, folder=folder) or found
    config = load_config(path, given("home", flags, env, folder=folder), env, text) if path else None
    settings = resolve(flags, env, config, folder=folder, found=found)
    return settings, config or default_config(settings.home)


def _with_absolute_paths(config: Config, folder: Path, env: Mapping[str, str]) -> Config:
    def full(path: str | Path) -> Path:
        return absolute(Path(path), env, folder)

    experts = []
    for spec in config.experts:
        update: dict[str, Any] = {}
        if spec.kind != "remote" and PATH.match(spec.source):
            update["source"] = str(full(spec.source))
        if spec.chat_template is not None:
            update["chat_template"] = str(full(spec.chat_template))
        experts.append(spec.model_copy(update=update))
    routers = {
        name: router if router.path is None else router.model_copy(update={"path": full(router.path)})
        for name, router in config.routers().items()
    }
    aggregation, server = config.aggregation, config.server
    if aggregation.profile is not None:
        aggregation = aggregation.model_copy(update={"profile": full(aggregation.profile)})
    named = {name: getattr(server, name) for name in ("home", "tls_cert", "tls_key", "tls_client_ca")}
    server = server.model_copy(update={name: full(path) for name, path in named.items() if path is not None})
    return config.with_routers(routers).model_copy(
        update={"experts": tuple(experts), "aggregation": aggregation, "server": server}
    )
