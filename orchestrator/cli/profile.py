"""`coe profile`: how well each expert answers a file of questions, and what users say of its answers since."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from experts.profile import Aggregation, Profile
    from experts.profile_feedback import Update
    from orchestrator.config.model import Config
    from orchestrator.profile.aggregators import Outcome as AggregatorsOutcome
    from orchestrator.profile.ask import Asker
    from orchestrator.profile.run import Outcome
    from orchestrator.reporter import Reporter
    from orchestrator.settings import Settings


def profile_command(
    out: Annotated[Path, typer.Option("--out", help="Folder of the answers and the profile; a run goes on there.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Questions, a JSON object a line: see docs/profiles.md.")
    ] = None,
    experts: Annotated[str, typer.Option("--experts", help="Names with commas, or all.")] = "all",
    add: Annotated[
        str | None, typer.Option("--add", help="A new expert, which is asked only --shots questions.")
    ] = None,
    shots: Annotated[
        int, typer.Option("--shots", min=1, help="Questions for the expert of --add, or tasks of --aggregators.")
    ] = 40,
    score: Annotated[
        str, typer.Option("--score", help="exact, choice, number, contains, regex, json or domain:NAME.")
    ] = "exact",
    aggregators: Annotated[
        bool,
        typer.Option(
            "--aggregators", help="Measure who finds the right one of three drafts in --shots tasks, for the profile."
        ),
    ] = False,
    label_free: Annotated[
        bool, typer.Option("--label-free", help="Judge by the experts' agreement, without gold answers.")
    ] = False,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Ask nothing; move the profile by what users said to the service.")
    ] = False,
    url: Annotated[str | None, typer.Option("--url", help="A running service, instead of engines of its own.")] = None,
    key: Annotated[str, typer.Option("--key", help="Environment variable with the service's key.")] = "COE_API_KEY",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Limit of an answer; default: the expert's own.")
    ] = None,
    concurrent: Annotated[int, typer.Option("--concurrent", min=1, help="Questions at a time.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of questions and drafts.")] = 0,
    config: Annotated[str | None, typer.Option("--config", help="coe.yaml; default: the one in this folder.")] = None,
    home: Annotated[str | None, typer.Option("--home", help="Folder of models, keys and data [COE_HOME].")] = None,
) -> None:
    """Measure the experts on questions of your own: profile.json, and a labelled file for `coe router fit`."""
    from orchestrator.cli import common

    with common.errors_told(), _own_errors_told():
        from orchestrator.cli.report import ConsoleReporter
        from orchestrator.config import load as configuration
        from orchestrator.profile.files import ProfileError
        from orchestrator.profile.questions import read
        from orchestrator.profile.scoring import method

        settings, configured = configuration.load({"config": config, "home": home}, os.environ, Path.cwd())
        if feedback:
            _tell_update(asyncio.run(_move(out, _Service(url or settings.url, key))))
            return
        if data is None:
            raise ProfileError("--data is missing: name a file of questions, see docs/profiles.md")
        if aggregators and label_free:
            raise ProfileError("--aggregators takes gold answers: leave --label-free out")
        questions = read(data, default=method(score).name, label_free=label_free, max_tokens=max_tokens)
        if questions.repeated:
            typer.echo(f"{questions.repeated} lines of {data} repeat others; each question is asked once", err=True)
        names = [add] if add else experts.split(",")
        service = _Service(url, key) if url else None
        with ConsoleReporter() as reporter:

            async def measure() -> Callable[[], None]:
                asker, chosen = await _asker(names, configured, settings, service, reporter)
                what = (asker, chosen, questions.items, out, reporter.progress)
                try:
                    if aggregators:
                        from orchestrator.aggregation import settings as aggregation
                        from orchestrator.profile import aggregators as profile_aggregators

                        prompts = aggregation(configured.aggregation)
                        found = await profile_aggregators.run(
                            *what, shots=shots, settings=prompts, seed=seed, concurrent=concurrent
                        )
                        return lambda: _tell_aggregators(found, out)
                    from orchestrator.profile import run as profile

                    few = shots if add else None
                    outcome = await profile.run(
                        *what, label_free=label_free, shots=few, seed=seed, concurrent=concurrent
                    )
                    return lambda: _tell(outcome, out)
                finally:
                    await asker.close()

            tell = asyncio.run(measure())
        tell()


class _Service:
    """A service to ask. url: with or without /v1 at its end; key: the environment variable that holds its key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key

    def client(self) -> "AsyncOpenAI":
        import openai

        from orchestrator.profile.ask import CannotAsk

        if not (key := os.environ.get(self._key)):
            raise CannotAsk(f"the environment variable {self._key} is not set; it must hold the key of {self.url}")
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


async def _asker(
    names: Sequence[str], config: "Config", settings: "Settings", service: _Service | None, reporter: "Reporter"
) -> "tuple[Asker, list[str]]":
    """Who asks the experts, and the experts that `names` means."""
    from orchestrator.profile.ask import EngineAsker, ServiceAsker, named

    if service is not None:
        connected = await ServiceAsker.connect(service.client(), service.url)
        return connected, named(names, connected.prices)
    from experts.registry import Registry
    from orchestrator.plans import engine_of
    from orchestrator.preparing import prepare_experts

    chosen = named(names, config.registry().names)
    bases = {spec.base for spec in config.experts if spec.name in chosen}
    registry = Registry(spec for spec in config.experts if spec.name in chosen or spec.name in bases)
    prepare_experts(registry, settings.home, reporter)
    return EngineAsker(registry, engine_of(config, registry, settings.home), reporter.say), chosen


async def _move(folder: Path, service: _Service) -> "Update":
    """Moves the profile in the folder by the service's feedback, if the golden set lets it."""
    from experts.profile_feedback import Judgement, update
    from orchestrator.profile.ask import feedback_of
    from orchestrator.profile.files import ProfileError, read_golden, read_profile, write_profile

    profile = read_profile(folder)
    if profile is None:
        raise ProfileError(f"there is no profile in {folder}; make one: coe profile --data FILE --out {folder}")
    async with service.client() as client:
        rows = await feedback_of(client, service.url)
    judgements = [Judgement(row["expert"], row["category"], row["score"], row["at"]) for row in rows]
    try:
        found = update(profile, judgements, read_golden(folder), time.time())
    except ValueError as error:
        raise ProfileError(str(error)) from None
    if found.profile is not None:
        write_profile(folder, found.profile)
    return found


def _tell_update(update: "Update") -> None:
    typer.echo(update.why)
    if update.unused:
        typer.echo(f"{update.unused} judgements are of experts or categories that were not measured", err=True)
    if update.profile is None:
        raise typer.Exit(1)


def _tell(outcome: "Outcome", folder: Path) -> None:
    for line in table(outcome.profile):
        typer.echo(line)
    if outcome.profile.labels == "consensus":
        typer.echo("scores are the experts' agreement, not right answers", err=True)
    if outcome.disagreed:
        typer.echo(f"{outcome.disagreed} questions have no two equal answers, so no score", err=True)
    if outcome.strangers:
        typer.echo(f"{outcome.strangers} answers in {folder} are to questions that are not in the file", err=True)
    typer.echo(f"{outcome.asked} answers are new; wrote {folder}/profile.json and {folder}/labelled.jsonl", err=True)
    _tell_missing(outcome.missing)


def _tell_aggregators(outcome: "AggregatorsOutcome", folder: Path) -> None:
    assert outcome.profile.aggregation is not None, "a run measures it"
    for line in aggregators_table(outcome.profile.aggregation):
        typer.echo(line)
    told = f"{outcome.tasks} tasks for each expert, {outcome.asked} answers are new; wrote {folder}/profile.json"
    typer.echo(told, err=True)
    _tell_missing(outcome.missing)


def _tell_missing(missing: Mapping[str, str]) -> None:
    for name, why in missing.items():
        typer.secho(f"coe: {name} has not answered everything: {why}; the same command asks again", fg="red", err=True)
    if missing:
        raise typer.Exit(1)


def table(profile: "Profile") -> list[str]:
    """A line for each expert, the best first."""
    rows: list[tuple[str, ...]] = [("expert", "right", "95 % interval", "questions", "tokens", "p50", "p95", "load")]
    for name, expert in sorted(profile.experts.items(), key=lambda item: (-item[1].overall.mean, item[0])):
        overall, latency = expert.overall, expert.latency
        rows.append(
            (
                name,
                f"{overall.mean:.1%}",
                f"{overall.low:.1%} to {overall.high:.1%}",
                f"{overall.n:g}",
                f"{expert.completion_tokens:.0f}",
                f"{latency.p50:.2f} s",
                f"{latency.p95:.2f} s",
                "-" if expert.load is None else f"{expert.load:.2f} s",
            )
        )
    return _aligned(rows)


def aggregators_table(aggregation: "Aggregation") -> list[str]:
    """A line for each role, category and expert, the best of a category first; then the weights of rubrics."""
    rows: list[tuple[str, ...]] = [("category", "expert", "as", "right", "95 % interval", "tasks")]
    for role, scores in (("judge", aggregation.judging), ("writer", aggregation.writing)):
        for category, row in scores.items():
            for name, found in sorted(row.items(), key=lambda item: (-item[1].mean, item[0])):
                interval = f"{found.low:.1%} to {found.high:.1%}"
                rows.append((category, name, role, f"{found.mean:.1%}", interval, f"{found.n}"))
    told = [
        f"weights of {category}: {', '.join(f'{name} {weight:.2f}' for name, weight in weights.items())}"
        for category, weights in aggregation.weights.items()
    ]
    return [*_aligned(rows), *told]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


@contextmanager
def _own_errors_told() -> Iterator[None]:
    from orchestrator.cli import common
    from orchestrator.profile.answers import AnswersError
    from orchestrator.profile.ask import CannotAsk
    from orchestrator.profile.files import ProfileError
    from orchestrator.profile.questions import QuestionsError
    from orchestrator.profile.scoring import UnknownMethod

    try:
        yield
    except (AnswersError, CannotAsk, ProfileError, QuestionsError, UnknownMethod) as error:
        common.fail(str(error))
