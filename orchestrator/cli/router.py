"""`coe router fit` and `coe router eval`: from a labelled file to a router, and what that router is worth."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experts.registry import did_you_mean

if TYPE_CHECKING:
    from orchestrator.reporter import Reporter
    from routers.encoders.base import Encoder
    from routers.evaluation.evaluate import Evaluation
    from routers.fitted import FittedRouter
    from routers.labelled.data import Labelled

router_app = typer.Typer(help="Fit a router on labelled prompts, and evaluate it.", no_args_is_help=True)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Labelled prompts: csv, jsonl or parquet; see docs/routing.md.")
]
SplitFlag = Annotated[str | None, typer.Option("--split", help="Values of the column split, with commas.")]
HomeFlag = Annotated[str | None, typer.Option("--home", help="Folder of the static encoder [COE_HOME].")]
SeedFlag = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of folds, models and bootstrap.")]


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
    from orchestrator.cli.report import ConsoleReporter

    with _told(), ConsoleReporter() as reporter:
        from aggregators.answers import extract
        from routers.fitted import fit_labelled
        from routers.fitted_file import check_place

        check_place(out)
        data = _read(file, split, reporter, lambda splits: [name for name in splits if name != "test"])
        _check_measured(data, seed)
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
    save: Annotated[
        bool, typer.Option("--save", help="Keep it beside the router, for the console and GET /v1/router.")
    ] = False,
    pair: Annotated[
        str | None, typer.Option("--pair", help="STRONG,WEAK: two experts whose trade-off is wanted.")
    ] = None,
    seed: SeedFlag = 0,
    home: HomeFlag = None,
) -> None:
    """Evaluate a router on prompts that it was not fitted on."""
    from orchestrator.cli.report import ConsoleReporter

    with _told(), ConsoleReporter() as reporter:
        from routers.encoders.minilm import MiniLMEncoder
        from routers.evaluation import report
        from routers.files import RouterFileError
        from routers.fitted import FittedRouter
        from routers.fitted_file import read

        two = _pair(pair)
        if html is not None:
            _check_page(html)
        if folder.is_file():
            raise RouterFileError(f"{folder} is a file; name the folder that `coe router fit` made")
        facts, _ = read(folder)
        kind: Literal["minilm", "static"] = "minilm" if facts.encoder == MiniLMEncoder.name else "static"
        router = FittedRouter.load(folder, _encoder(kind, home, reporter))
        data = _read(file, split, reporter, lambda splits: [name for name in splits if name == "test"])
        _check_experts(router.experts, data.experts, two)
        found = _evaluate(router, folder, data, two, seed, reporter)
        if html is not None:
            from routers.evaluation.report_html import page

            html.write_text(page(found, f"{file.name}{f', {split}' if split else ''}"), encoding="utf-8")
            reporter.say(f"report in {html}")
        if save:
            from routers.evaluation.kept import keep

            keep(folder, report.as_object(found), f"{file.name}{f', {split}' if split else ''}")
            reporter.say(f"kept in {folder}")
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
        _check_enough(data)
        reporter.say("the file has no column split and the router was fitted on it: cross-validation")
        return cross_evaluate(
            data, router.encoder, normalise=extract, seed=seed, pair=pair, on_progress=reporter.progress
        )
    reporter.say(f"evaluating on {len(data):,} prompts")
    known = Embedded(router.encoder, data.prompts, reporter.progress)
    return evaluate(type(router).load(folder, known), data, normalise=extract, seed=seed, pair=pair)


def _encoder(kind: Literal["minilm", "static"], home: str | None, reporter: "Reporter") -> "Encoder":
    from orchestrator.config import load as configuration
    from routers.encoders.choice import open_encoder

    settings, _ = configuration.load({"home": home}, os.environ, Path.cwd())
    if kind == "static":
        try:  # tells at once that the encoder could not be kept there
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{settings.home} cannot be made: {error.strerror}; name another --home") from error
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


def _check_page(html: Path) -> None:
    """Before the work, not after it."""
    if html.is_dir():
        raise ValueError(f"{html} is a folder; --html must name a file")
    if not html.parent.is_dir():
        raise ValueError(f"there is no folder {html.parent} for the report; make it, or name another file by --html")


def _check_experts(router: Sequence[str], file: Sequence[str], pair: tuple[str, str] | None) -> None:
    """Raises ValueError if router and file have different experts, or the pair is none of them."""
    if strange := sorted(set(file) - set(router)):
        raise ValueError(
            f"the router does not know {', '.join(strange)}, only {', '.join(router)}: leave out the rows of others, "
            "or fit a router with them"
        )
    if missing := sorted(set(router) - set(file)):
        raise ValueError(
            f"the prompts have no score of {', '.join(missing)}, whom the router may choose: measure them too, or fit "
            "a router without them"
        )
    for expert in pair or ():
        if expert not in file:
            raise ValueError(f"--pair: no expert {expert!r}{did_you_mean(expert, file)}; there are: {', '.join(file)}")


def _check_measured(data: "Labelled", seed: int) -> None:
    """Raises ValueError if nothing is known of an expert where a part of the prompts is kept apart."""
    from routers.fitted_choice import FOLDS, LEAST_PROMPTS

    if len(set(data.prompts)) < LEAST_PROMPTS:
        return  # which the fit tells
    folds = data.folds(FOLDS, seed)
    for expert, measured in zip(data.experts, data.measured.T, strict=True):
        if not all(measured[train].any() for train, _ in folds):
            raise ValueError(
                f"{expert} has a score on {measured.sum()} of {len(data)} prompts, too few for cross-validation: "
                f"measure it on {LEAST_PROMPTS} at least, or leave its rows out"
            )


def _check_enough(data: "Labelled") -> None:
    """Raises ValueError if a router cannot be fitted on all prompts but those of a fold."""
    from routers.fitted_choice import FOLDS, LEAST_PROMPTS

    different = len(set(data.prompts))
    if different - math.ceil(different / FOLDS) < LEAST_PROMPTS:
        least = math.ceil(LEAST_PROMPTS * FOLDS / (FOLDS - 1))
        raise ValueError(
            f"the router was fitted on some of these prompts, and {different} different ones are too few for "
            f"cross-validation: it takes {least}, better hundreds; or evaluate on prompts that are new to the router"
        )


def _pair(pair: str | None) -> tuple[str, str] | None:
    if pair is None:
        return None
    names = [name.strip() for name in pair.split(",")]
    if len(set(names)) != 2 or len(names) != 2 or not all(names):
        raise ValueError(f"--pair must be two experts with a comma, the strong one first; got {pair!r}")
    return names[0], names[1]


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
    from orchestrator.cli import common
    from routers.files import RouterFileError

    with common.errors_told():
        try:
            yield
        except (RouterFileError, ValueError) as error:  # LabelledFileError is a ValueError
            common.fail(str(error))
