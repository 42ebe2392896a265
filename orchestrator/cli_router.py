"""`coe router fit` and `coe router eval`: from a labelled file to a router, and what that router is worth."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from orchestrator.serve import Reporter
    from routers.encoders.base import Encoder
    from routers.evaluation.evaluate import Evaluation
    from routers.fitted import FittedRouter
    from routers.labelled.data import Labelled

router_app = typer.Typer(help="Fit a router on labelled prompts, and evaluate it.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Labelled prompts: csv, jsonl or parquet; see docs/routing.md.")]
SplitFlag = Annotated[str | None, typer.Option("--split", help="Values of the column split, with commas.")]
HomeFlag = Annotated[str | None, typer.Option("--home", help="Folder of the static encoder [COE_HOME].")]
SeedFlag = Annotated[int, typer.Option("--seed", min=0, help="Of folds, models and bootstrap.")]


@router_app.command("fit")
def fit_command(
    file: FileArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of the router; one that is there is replaced.")],
    split: SplitFlag = None,
    encoder: Annotated[
        Literal["minilm", "static"],
        typer.Option("--encoder", help="How a prompt becomes a vector; see router.encoder."),
    ] = "minilm",
    seed: SeedFlag = 0,
    home: HomeFlag = None,
) -> None:
    """Fit a two-level and a skill router, and choose between them and the best single expert."""
    from orchestrator.console_report import ConsoleReporter

    with _told(), ConsoleReporter() as reporter:
        from aggregators.answers import extract
        from routers.fitted import fit_labelled

        _check_out(out)
        data = _read(file, split, reporter, lambda splits: [name for name in splits if name != "test"])
        reporter.say(f"fitting on {len(data):,} prompts with {len(data.experts)} experts")
        router = fit_labelled(
            data, _encoder(encoder, home, reporter), seed=seed, normalise=extract, on_progress=reporter.progress
        )
        router.save(out)
        reporter.say(f"saved in {out}")
    for line in _fitted(router):
        typer.echo(line)


@router_app.command("eval")
def eval_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a router that `coe router fit` made.")],
    file: FileArgument,
    split: SplitFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report with plots into this file.")] = None,
    pair: Annotated[
        str | None, typer.Option("--pair", help="STRONG,WEAK: two experts whose trade-off is wanted.")
    ] = None,
    seed: SeedFlag = 0,
    home: HomeFlag = None,
) -> None:
    """Evaluate a router on prompts that it was not fitted on."""
    from orchestrator.console_report import ConsoleReporter

    with _told(), ConsoleReporter() as reporter:
        from routers.encoders.minilm import MiniLMEncoder
        from routers.evaluation import report
        from routers.fitted import FittedRouter
        from routers.fitted_file import read

        two = _pair(pair)
        facts, _ = read(folder)
        kind: Literal["minilm", "static"] = "minilm" if facts.encoder == MiniLMEncoder.name else "static"
        router = FittedRouter.load(folder, _encoder(kind, home, reporter))
        data = _read(file, split, reporter, lambda splits: [name for name in splits if name == "test"])
        found = _evaluate(router, folder, data, two, seed, reporter)
        if html is not None:
            from routers.evaluation.report_html import page

            html.write_text(page(found, f"{file.name}{f', {split}' if split else ''}"), encoding="utf-8")
            reporter.say(f"report in {html}")
        lines = [json.dumps(report.as_object(found))] if as_json else report.lines(found)
    for line in lines:
        typer.echo(line)


def _evaluate(
    router: "FittedRouter",
    folder: Path,
    data: "Labelled",
    pair: tuple[str, str] | None,
    seed: int,
    reporter: "Reporter",
) -> "Evaluation":
    """On the prompts as they are; if they have no splits and the router was fitted on some, by cross-validation."""
    from aggregators.answers import extract
    from routers.encoders.embedded import Embedded
    from routers.evaluation.evaluate import cross_evaluate, evaluate

    if data.splits is None and router.seen(data.prompts).any():
        reporter.say("the file has no column split and the router was fitted on it: cross-validation")
        return cross_evaluate(
            data, router.encoder, normalise=extract, seed=seed, pair=pair, on_progress=reporter.progress
        )
    reporter.say(f"evaluating on {len(data):,} prompts")
    known = Embedded(router.encoder, data.prompts, reporter.progress)
    return evaluate(type(router).load(folder, known), data, normalise=extract, seed=seed, pair=pair)


def _encoder(kind: Literal["minilm", "static"], home: str | None, reporter: "Reporter") -> "Encoder":
    from orchestrator import config_load as configuration
    from routers.encoders.choice import open_encoder

    settings, _ = configuration.load({"home": home}, os.environ, Path.cwd())
    return open_encoder(kind, settings.home, threads=os.cpu_count() or 1, on_progress=reporter.progress)


def _read(
    file: Path, split: str | None, reporter: "Reporter", usual: Callable[[Sequence[str]], Sequence[str]]
) -> "Labelled":
    """The labelled prompts, of these splits. usual: of all splits those that are probably meant.

    Raises LabelledFileError, also for a file that has splits if none is named.
    """
    from routers.labelled.data import read
    from routers.labelled.file import LabelledFileError

    names = None if split is None else [name.strip() for name in split.split(",") if name.strip()]
    data = read(file, names)
    if names is None and data.splits is not None:
        there = sorted(set(data.splits))
        meant = ",".join(usual(there) or there)
        raise LabelledFileError(
            f"{file} has splits: {', '.join(there)}; name those that are meant, as in --split {meant}"
        )
    if data.unread:
        reporter.say(f"columns that mean nothing here: {', '.join(data.unread)}")
    return data


def _check_out(out: Path) -> None:
    """Nothing but a router is ever replaced."""
    from routers.files import RouterFileError
    from routers.fitted_file import is_fitted_router

    if out.exists() and not out.is_dir():
        raise RouterFileError(f"{out} is a file; --out must name a folder")
    if out.is_dir() and any(out.iterdir()) and not is_fitted_router(out):
        raise RouterFileError(f"{out} holds something that is no fitted router; name a new or an empty folder")


def _pair(pair: str | None) -> tuple[str, str] | None:
    if pair is None:
        return None
    strong, comma, weak = (part.strip() for part in pair.partition(","))
    if not comma or not strong or not weak:
        raise ValueError(f"--pair must be two experts with a comma, the strong one first; got {pair!r}")
    return strong, weak


def _fitted(router: "FittedRouter") -> list[str]:
    """What was fitted and why its default is what it is."""
    from routers.evaluation.report import NAMES, percent, points

    facts, chosen = router.facts, router.facts.chosen
    scores = ", ".join(f"{NAMES[name]} {percent(score)} %" for name, score in chosen.scores.items())
    lines = [
        f"fitted on {facts.prompts:,} prompts, {len(facts.experts)} experts",
        f"{chosen.folds}-fold cross-validation: {scores}",
    ]
    if facts.default == "best_single":
        lines.append(f"default: {facts.best_single}, the best single expert: no gain over it is shown")
    else:
        low, high = (points(end) for end in chosen.gains[facts.default])
        lead = f"{low} to {high} points above {facts.best_single}, the best single expert"
        lines.append(f"default: {NAMES[facts.default]}, {lead} (95 % interval)")
    if facts.several != facts.default:
        lines.append(f"several experts a prompt: {NAMES[facts.several]}, whose votes were the best")
    return lines


@contextmanager
def _told() -> Iterator[None]:
    """What a user can mend is told in a sentence, by the rules of all commands."""
    from orchestrator import cli
    from routers.files import RouterFileError

    with cli.errors_told():
        try:
            yield
        except (RouterFileError, ValueError) as error:  # LabelledFileError is a ValueError
            cli.fail(str(error))
