"""Do routers pay? Every labelled set in a folder, fitted and judged, with baselines and other projects' routers.

    python -m benchmarks.routing --data DIR [--json] [--peers PYTHON] [--vectors DIR]

Fits on the splits of `*.labelled.parquet` but `test`, which it judges on; a set without `test` is judged on `val`. All
methods see the same prompts, vectors and scores. `--peers` names a Python that has llmrouter-lib, routellm and
semantic-router; without it this one is asked, and what is missing is told.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aggregators.answers import extract
from benchmarks.report import emit, table
from benchmarks.routed import Case, cases, embedded
from benchmarks.routing_peers import PEERS
from routers.encoders.base import Encoder
from routers.encoders.minilm import MiniLMEncoder
from routers.evaluation.decisions import Floats, Indices, scored
from routers.evaluation.evaluate import Evaluation, evaluate
from routers.evaluation.measures import intervals, trade
from routers.evaluation.report import NAMES, percent, points
from routers.fitted import fit_labelled

SEED = 0
NEIGHBOURS = 60
PEER_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Row:
    """A method on a set. Scores in per cent, gains and intervals in points over the best single expert."""

    set: str
    method: str
    score: float
    gain: float
    low: float
    high: float
    apgr: float | None = None
    cpt_50: float | None = None
    cpt_80: float | None = None

    def cells(self) -> tuple[object, ...]:
        interval = "" if self.method == NAMES["best_single"] else f"{self.low:+.2f} to {self.high:+.2f}"
        apgr = "" if self.apgr is None else f"{self.apgr:.3f}"
        calls = ["" if share is None else share for share in (self.cpt_50, self.cpt_80)]
        return self.set, self.method, self.score, f"{self.gain:+.2f}", interval, apgr, *calls


HEADER = ("set", "method", "score %", "gain", "95 % interval", "APGR", "CPT(50) %", "CPT(80) %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of *.labelled.parquet files")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument(
        "--peers", type=Path, default=Path(sys.executable), help="a Python that has the peers' packages"
    )
    parser.add_argument("--vectors", type=Path, help="folder that keeps the prompts' vectors between runs")
    arguments = parser.parse_args()
    encoder = MiniLMEncoder(threads=os.cpu_count() or 1)
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    missing: dict[str, str] = {}
    for case in cases(arguments.data):
        vectors = embedded(case, encoder, arguments.vectors)
        began = time.perf_counter()
        router = fit_labelled(case.train, vectors, seed=SEED, normalise=extract)
        seconds[case.name] = round(time.perf_counter() - began, 1)
        found = evaluate(router, case.test, normalise=extract, seed=SEED)
        own = list(_ours(case, found))
        own += _baselines(case, found, vectors)
        own += _peers(case, found, vectors, arguments.peers, missing)
        rows += own
        print(
            f"\n{case.name}: {len(case.train):,} prompts to fit, {len(case.test):,} to judge, "
            f"{len(case.test.experts)} experts; default {router.facts.default}; fitted in {seconds[case.name]} s"
        )
        print(table(HEADER, [row.cells() for row in own]), flush=True)
    print("\n" + table(HEADER, [row.cells() for row in rows]))
    for peer, why in missing.items():
        print(f"{peer} is missing: {why}")
    figures = {
        "rows": [{name: getattr(row, name) for name in Row.__slots__} for row in rows],
        "fit_seconds": seconds,
        "missing": missing,
    }
    emit({"data": str(arguments.data), "encoder": encoder.name, "seed": SEED}, figures, arguments.json)


def _ours(case: Case, found: Evaluation) -> Iterator[Row]:
    for name in NAMES:
        if name in found.methods:
            low, high = found.intervals.get(name, (0.0, 0.0))
            traded = found.trades.get(name)
            yield Row(
                case.name,
                NAMES[name],
                percent(found.mean(name)),
                points(found.gain(name)),
                points(low),
                points(high),
                *((round(traded.apgr, 3), percent(traded.cpt[50]), percent(traded.cpt[80])) if traded else ()),
            )


def _judged(case: Case, found: Evaluation, method: str, chosen: Indices, lead: Floats | None) -> Row:
    """A method of others by the same rules."""
    scores = scored(case.test, chosen)
    gain = scores - found.methods["best_single"]
    [[low, high]] = intervals(gain[:, None], seed=SEED)
    traded = None
    if found.pair is not None and lead is not None:
        strong, weak = (case.test.scores[:, case.test.experts.index(expert)] for expert in found.pair)
        traded = trade(lead, strong, weak)
    return Row(
        case.name,
        method,
        percent(float(scores.mean())),
        points(float(gain.mean())),
        points(low),
        points(high),
        *((round(traded.apgr, 3), percent(traded.cpt[50]), percent(traded.cpt[80])) if traded else ()),
    )


def _baselines(case: Case, found: Evaluation, vectors: Encoder) -> Iterator[Row]:
    """The nearest fitted prompts' mean scores: by MiniLM's vectors, and by words without any model."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, max_features=50_000)
    known = words.fit_transform(case.train.prompts)
    like = {
        "MiniLM kNN": vectors.encode(case.test.prompts) @ vectors.encode(case.train.prompts).T,
        "TF-IDF kNN": (words.transform(case.test.prompts) @ known.T).toarray(),
    }
    for name, similar in like.items():
        near = np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        scores = case.train.scores[near]
        measured = (~np.isnan(scores)).sum(axis=1)
        means = np.nansum(scores, axis=1) / np.maximum(measured, 1)
        expected = np.where(measured > 0, means, case.train.means())
        chosen: Indices = np.where(case.test.measured, expected, -1.0).argmax(axis=1)
        yield _judged(case, found, f"{name}({NEIGHBOURS})", chosen, _lead(case, found, expected))


def _lead(case: Case, found: Evaluation, expected: Floats) -> Floats | None:
    if found.pair is None:
        return None
    strong, weak = (case.test.experts.index(expert) for expert in found.pair)
    lead: Floats = expected[:, strong] - expected[:, weak]
    return lead


def _peers(case: Case, found: Evaluation, vectors: Encoder, python: Path, missing: dict[str, str]) -> Iterator[Row]:
    """Each peer in a process of its own. `missing` gets the reason of those that give no figures."""
    pair = None if found.pair is None else [case.test.experts.index(expert) for expert in found.pair]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = {"train": case.train.prompts, "test": case.test.prompts, "experts": case.train.experts, "pair": pair}
        (folder / "task.json").write_text(json.dumps(task))
        train, test = vectors.encode(case.train.prompts), vectors.encode(case.test.prompts)
        np.savez(folder / "task.npz", train=train, test=test, scores=case.train.scores)
        for peer in PEERS:
            answer = _asked(python, folder, peer)
            if "missing" in answer:
                missing[f"{peer} on {case.name}"] = answer["missing"]
            else:
                lead = None if answer["lead"] is None else np.array(answer["lead"])
                yield _judged(case, found, peer, np.array(answer["chosen"], np.intp), lead)


def _asked(python: Path, folder: Path, peer: str) -> dict[str, Any]:
    script = Path(__file__).with_name("routing_peers.py")
    try:
        done = subprocess.run(
            [str(python), str(script), str(folder), peer],
            capture_output=True,
            text=True,
            timeout=PEER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"missing": f"it had not answered after {PEER_SECONDS} s"}
    if done.returncode:
        return {"missing": f"it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"}
    if not done.stdout.strip():
        return {"missing": "it failed: it gave no answer"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
