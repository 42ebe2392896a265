"""The parts of batches put together, as the configuration says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from experts.registry import Registry
from orchestrator.batch.apart import cores
from orchestrator.batch.drain import Settings
from orchestrator.batch.files import Files, Quotas
from orchestrator.batch.jobs import Jobs
from orchestrator.batch.lives import Lives
from orchestrator.batch.planner import Rules
from orchestrator.batch.replays import Replays
from orchestrator.batch.runner import Runner
from orchestrator.batch.storage import Folder, Shared, Storage
from orchestrator.batch.work import Work
from orchestrator.config.batch import BatchConfig
from orchestrator.config.model import Config
from orchestrator.http.embeddings import Embeddings
from orchestrator.http.wire import Limits
from orchestrator.keys import Keys
from orchestrator.metrics import Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.store import Store
from routers.encoders.base import TokenEncoder


@dataclass(frozen=True, slots=True)
class Batches:
    """places: expert -> the family, or the device that families share, whose lines the runner runs."""

    files: Files
    jobs: Jobs
    runner: Runner
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Engines:
    """places: family -> the family itself, or the device that it shares with others, which take turns on it.
    in_flight: place -> lines at a time. writer: who judges and writes where nothing else says so."""

    places: Mapping[str, str]
    in_flight: Mapping[str, int]
    writer: str | None = None

    @classmethod
    def of(cls, config: Config) -> "Engines":
        places, in_flight = {}, dict[str, int]()
        for name in config.registry().families():
            family = config.family(name)
            place = places[name] = family.device or name
            in_flight[place] = max(in_flight.get(place, 0), config.batch.in_flight or family.max_num_seqs)
        return cls(places, in_flight, config.aggregation.expert)


def batches_of(
    own: BatchConfig,
    engines: Engines,
    registry: Registry,
    storage: Storage,
    store: Store,
    pipeline: Pipeline,
    replays: Replays,
    limits: Limits,
    encoder: TokenEncoder | None,
    metrics: Metrics,
    *,
    poll_s: float = 0.5,
    former: Mapping[str, str] = MappingProxyType({}),
) -> Batches:
    """replays: the workers of `pipeline`. former: expert -> place, of experts that are gone: batches that were planned
    for them are worked on, too, and their lines end as errors."""
    files = Files(storage, Quotas(own.file_bytes, own.key_bytes, own.total_bytes))
    jobs = Jobs(store, storage, lease_s=own.lease_s, per_owner=own.per_key)
    work = Work(pipeline, registry.names, limits, Embeddings(encoder, pipeline, limits), replays, engines.writer)
    places = {**former, **{spec.name: engines.places[spec.family_name] for spec in registry}}
    rules = Rules(limits, own.lines, own.block, places, processes=own.planners or cores())
    settings = Settings(engines.in_flight, {}, own.beside, own.tries, poll_s)
    lives, may_go_on = Lives(store, own.lease_s / 3, own.lease_s), Keys(store).is_alive
    runner = Runner(
        jobs, files, work, rules, settings, metrics.batch, lives, pipeline.stats, lambda: pipeline.online, may_go_on
    )
    return Batches(files, jobs, runner, places)


def open_storage(url: str | None, home: Path) -> Storage:
    """A folder under `home` where there is no URL."""
    return Folder(home / "batch") if url is None else Shared(url, home / "batch-cache")
