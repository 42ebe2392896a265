"""What a service needs before anything of it runs: checkpoints, routers and what they read; and canned engines.

Each is made if it is missing and can be made.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experts.spec import ExpertSpec
from orchestrator.config.model import Config, RouterConfig
from orchestrator.listening import CannotStart
from orchestrator.reporter import Banner, Reporter

if TYPE_CHECKING:
    from orchestrator.aggregation import Measured
    from orchestrator.plans import Plan
    from routers.base import Router
    from routers.encoders.base import TokenEncoder


def prepare(config: Config, home: Path, reporter: Reporter) -> None:
    """Makes what is missing: the starter pool's checkpoints and router, the static encoder if it is wanted.

    Raises experts.starter.StarterUnavailable.
    """
    prepare_experts(config.experts, home, reporter)
    prepare_routers(config, home, reporter)


def _prepare_router(router: RouterConfig, home: Path, reporter: Reporter) -> None:
    if router.encoder == "static":
        from routers.encoders.choice import open_encoder

        open_encoder("static", home, on_progress=reporter.progress)
    if router.kind == "two-level" and router.path is None:
        from routers import starter as starter_router

        if not starter_router.is_fitted(home, router.encoder):
            reporter.say("fitting the starter router (once, about a minute)")
            starter_router.fit(home, reporter.progress, router.encoder)


def prepare_experts(experts: Iterable[ExpertSpec], home: Path, reporter: Reporter) -> None:
    """Makes what is missing of the starter pool's checkpoints, if one of them is among `experts`.

    Raises experts.starter.StarterUnavailable.
    """
    from experts import starter

    wanted = {spec.source for spec in experts} & {spec.source for spec in starter.starter_experts(home)}
    if wanted and not starter.is_built(home):
        reporter.say("preparing the starter experts (once, about a minute)")
        starter.build(home, reporter.progress)


def prepare_routers(config: Config, home: Path, reporter: Reporter) -> None:
    """Makes what is missing of what routers need."""
    for router in config.routers().values():
        _prepare_router(router, home, reporter)


@dataclass(frozen=True, slots=True)
class Deciders:
    """What decides who answers. routers: by tenant, None = everybody else's. encoder: of the default router, None if it
    reads nothing. measured: what is known of each expert. folders: of the routers that lie in one."""

    routers: "Mapping[str | None, Router]"
    encoder: "TokenEncoder | None"
    measured: "Measured"
    folders: Mapping[str | None, Path] = field(default_factory=dict)


def load_deciders(config: Config, home: Path, reporter: Reporter, encoders: "Encoders | None" = None) -> Deciders:
    """Opens the routers of all tenants, and tells where one does not know the service's experts. encoders: that are
    open already. Raises CannotStart."""
    from orchestrator.aggregation import NoProfile, measured

    experts, encoders = config.registry().names, encoders or Encoders(home)
    routers = {name: load_router(router, home, encoders) for name, router in config.routers().items()}
    encoder = None if config.router.kind == "fixed" else encoders.open(config.router.encoder)
    for name, router in config.routers().items():
        if told := strangers(router, routers[name], experts):
            reporter.say(f"tenant {name}: {told}" if name else told)
    folders = {name: _folder(router, home) for name, router in config.routers().items() if router.kind != "fixed"}
    try:
        return Deciders(routers, encoder, measured(config), folders)
    except NoProfile as error:
        raise CannotStart(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Told:
    """A `Reporter` for who asks by HTTP, and gets one answer."""

    say: Callable[[str], None]

    def progress(self, what: str, done: int, of: int) -> None: ...

    def ready(self, banner: Banner) -> None: ...


class Source:
    """The configurations of a file, with what they need (`orchestrator.applying.Source`). read: makes one of the file
    as it is; home: folder of models and data; attach: the workers, and what they need, are somebody else's."""

    def __init__(self, read: Callable[[], Config], home: Path, *, attach: bool) -> None:
        self._read, self._home, self._attach = read, home, attach
        self._encoders = Encoders(home)

    def read(self) -> Config:
        return self._read()

    def plans(self, config: Config) -> "Mapping[str, Plan]":
        from orchestrator.plans import plans

        return plans(config, config.registry(), self._home)

    def deciders(self, config: Config, say: Callable[[str], None], *, dry_run: bool) -> Deciders:
        reporter = _Told(say)
        if not dry_run:
            (prepare_routers if self._attach else prepare)(config, self._home, reporter)
        return load_deciders(config, self._home, reporter, self._encoders)

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        from experts.starter import StarterUnavailable
        from orchestrator.plans import TooFewCores
        from routers.encoders.base import EncoderUnavailable

        return CannotStart, TooFewCores, StarterUnavailable, EncoderUnavailable


class Encoders:
    """The encoders under a home folder, each opened once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._open: dict[str, TokenEncoder] = {}

    def open(self, kind: Literal["minilm", "static"]) -> "TokenEncoder":
        """Raises EncoderUnavailable."""
        from routers.encoders.choice import open_encoder

        if kind not in self._open:
            self._open[kind] = open_encoder(kind, self._home)
        return self._open[kind]


def load_router(config: RouterConfig, home: Path, encoders: Encoders) -> "Router":
    """The router that the configuration names. Raises CannotStart if its files cannot be used."""
    if config.kind == "fixed":
        from routers.fixed import FixedRouter

        assert config.fallback is not None
        return FixedRouter(config.fallback, aggregator=config.aggregator)
    from routers.encoders.base import EncoderUnavailable
    from routers.files import RouterFileError
    from routers.fitted import open_router

    try:
        return open_router(_folder(config, home), encoders.open(config.encoder), config.aggregator)
    except (RouterFileError, EncoderUnavailable) as error:
        raise CannotStart(str(error)) from error


def _folder(config: RouterConfig, home: Path) -> Path:
    from routers import starter as starter_router

    return config.path or starter_router.folder(home, config.encoder)


def strangers(config: RouterConfig, router: "Router", experts: Sequence[str]) -> str | None:
    """What is to be told of a fitted router and a service whose experts are not the same; None = nothing.

    Raises CannotStart if a router that the configuration names knows none of them.
    """
    known: Sequence[str] = getattr(router, "experts", ())
    if config.kind == "fixed" or not known:
        return None
    missing = [name for name in known if name not in experts]
    new = [name for name in experts if name not in known]
    if config.path is not None and len(missing) == len(known):
        raise CannotStart(
            f"the router in {config.path} knows {', '.join(known)}, and the service has {', '.join(experts)}: give the "
            "experts the names of the labelled file, or fit a router on these"
        )
    told = [f"was not fitted on {', '.join(new)}: asked after all others"] if new else []
    told += [f"knows {', '.join(missing)}, of which there is no expert here"] if missing else []
    return f"the router {', and '.join(told)}" if told else None


def with_fake_engines(config: Config) -> Config:
    families = {
        name: config.family(name).model_copy(update={"engine": "fake"}) for name in config.registry().families()
    }

    def without_weights(router: RouterConfig) -> RouterConfig:
        if router.kind == "fixed" or router.path is not None:
            return router
        return router.model_copy(update={"kind": "fixed", "fallback": router.fallback or config.registry().names[0]})

    routers = {name: without_weights(router) for name, router in config.routers().items()}
    return config.with_routers(routers).model_copy(update={"families": families})
