"""Sixteen experts, four images on the device: what grouping requests by expert saves, on traces in real time.

    python -m benchmarks.grouping [--json] [--home DIR] [--data DIR] [--jobs N] [--rate R] [--exponent S] [--seed N]

The experts are the starter pool and variants of its specialists. They never end an answer of their own accord, so that
prompts and answers have the lengths that the trace says.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import struct
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import multiplexed, picture
from benchmarks.first_come import FcfsLru
from benchmarks.multiplexed import Costs
from benchmarks.report import emit, quiet_vllm, table
from benchmarks.traces import Job, Lengths, Outcome, azure, play, summarize, zipf
from experts import starter
from experts.domains import NAMES
from experts.spec import ExpertSpec, Sampling
from workers import base, checkpoints, simulation
from workers.chat import ExpertChat
from workers.swap_policy import SwapPolicy, SwapSettings
from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings

SLOTS = 4
"""Images that the device holds."""
BATCH = 16
LENGTHS = Lengths(prompt=(32, 48), output=(4, 12))
AZURE = "azure_llm_2023_conv.csv"
AZURE_TIME, AZURE_TOKENS = 0.5, 0.05
"""Scales of the Azure trace's times and lengths; the lengths are then kept within AZURE_LENGTHS."""
AZURE_LENGTHS = Lengths(prompt=(32, 96), output=(2, 24))
REPEATS = 3
SLO = 10.0
"""Seconds to the first token, for goodput."""


# The experts

_VARIANTS, _SCALE, _FORMAT = NAMES[:6], 0.5, 1
_STAMP = "coe-variant.json"
_ENDS = ("eos_token", "eos_token_id")


def make_experts(home: Path) -> tuple[ExpertSpec, ...]:
    """The starter pool, then six specialists with half of what they were taught, as checkpoints without end tokens.

    They lie under ``<home>/variants`` and are made where they are missing or out of date; weights that equal the
    starter pool's are links to its files. Raises as `starter.build`.
    """
    starter.build(home)
    pool = {spec.name: spec for spec in starter.starter_experts(home)}
    general = Path(pool[starter.GENERALIST].source)
    experts = []
    for name, scale in chain(((n, 1.0) for n in pool), ((starter.specialist(d), _SCALE) for d in _VARIANTS)):
        spec = pool[name]
        own = name if scale == 1.0 else f"{name}-{scale:g}"
        folder = home / "variants" / own
        _make_checkpoint(Path(spec.source), general, scale, folder)
        experts.append(spec.model_copy(update={"name": own, "source": str(folder), "sampling": Sampling()}))
    return tuple(experts)


def _make_checkpoint(source: Path, general: Path, scale: float, folder: Path) -> None:
    """`general` + scale * (`source` - `general`) at `folder`, unless it is there; whole or not at all."""
    stamp = json.dumps({"format": _FORMAT, "scale": scale, "of": (source / "coe-build.json").read_text()})
    if (folder / _STAMP).is_file() and (folder / _STAMP).read_text() == stamp:
        return
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        for file in source.iterdir():
            if file.suffix == ".safetensors":
                _blend(file, general / file.name, scale, scratch / file.name)
            elif file.name in ("tokenizer_config.json", "generation_config.json"):
                content = {key: value for key, value in json.loads(file.read_text()).items() if key not in _ENDS}
                (scratch / file.name).write_text(json.dumps(content))
            else:
                shutil.copy2(file, scratch)
        (scratch / _STAMP).write_text(stamp)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _blend(file: Path, general: Path, scale: float, target: Path) -> None:
    if scale == 1.0 or file.samefile(general):
        try:
            os.link(file, target)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(file, target)
        return
    from safetensors.torch import load_file, save_file

    taught, plain = load_file(file), load_file(general)
    blend = {name: plain[name] + scale * (tensor - plain[name]) for name, tensor in taught.items()}
    save_file(blend, target, metadata={"format": "pt"})


def room_for_slots(images: Path) -> int:
    """Bytes of the device that hold SLOTS of the images in `images` and not one more; what several share counts once.

    Raises ValueError if no such room is there, since the images differ too much in size.
    """
    sizes: dict[str, int] = {}
    holders: dict[str, list[str]] = {}
    for file in images.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        for name, digest in json.loads(header.pop("__metadata__")["digests"]).items():
            begin, end = header[name]["data_offsets"]
            sizes[digest] = end - begin
            holders.setdefault(digest, []).append(file.name)
    own: Counter[str] = Counter()
    for digest, files in holders.items():
        own[files[0]] += sizes[digest] if len(files) == 1 else 0
    shared = sum(sizes[digest] for digest, files in holders.items() if len(files) > 1)
    largest = max(own.values())
    if (SLOTS + 1) * min(own.values()) <= SLOTS * largest:
        raise ValueError(f"images of {min(own.values())} to {largest} bytes: no budget holds {SLOTS} and not one more")
    return shared + SLOTS * largest


# Prompts


class Prompts:
    """Chats of an exact number of tokens, of random words that are a token each."""

    def __init__(self, experts: Sequence[ExpertSpec]) -> None:
        self._chats = {spec.name: ExpertChat.load(spec, spec.context_length or 0) for spec in experts}
        vocabulary = next(iter(self._chats.values())).tokenizer.get_vocab()
        words = (token.removeprefix("Ġ") for token in vocabulary if token.startswith("Ġ"))
        self._words = sorted(" " + word for word in words if len(word) > 2 and word.isascii() and word.islower())

    def call(self, job: Job, request_id: str) -> base.ChatCall:
        """The request of a job. Other ids have other words. Raises ValueError if its template takes all its tokens."""
        chat = self._chats[job.expert]
        template = len(chat.render(base.ChatCall("", "", _user(""))))
        if job.prompt_tokens <= template:
            raise ValueError(
                f"a prompt of {job.prompt_tokens} tokens for {job.expert}: its chat template alone takes {template}; "
                "ask for longer prompts"
            )
        dice = random.Random(request_id)
        messages = _user("".join(dice.choices(self._words, k=job.prompt_tokens - template)))
        if (made := len(chat.render(base.ChatCall("", "", messages)))) != job.prompt_tokens:
            raise ValueError(f"the words for {job.expert} became {made} tokens instead of {job.prompt_tokens}")
        sampling = base.Sampling(temperature=0.0, max_tokens=job.output_tokens)
        return base.ChatCall(request_id, job.expert, messages, sampling)


def _user(text: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": text},)


# Measurements


@dataclass(frozen=True)
class Run:
    """A trace on an engine: what became of its jobs (in their order), and images loaded and swapped meanwhile."""

    outcomes: list[Outcome]
    before: base.WorkerStats
    after: base.WorkerStats

    @property
    def loads(self) -> int:
        return _loads(self.after) - _loads(self.before)

    @property
    def swaps(self) -> int:
        return self.after.swaps - self.before.swaps

    def picture(self, experts: Sequence[str]) -> str:
        """Its turns as an SVG."""
        last = max((event.number for event in self.before.events), default=0)
        events = [event for event in self.after.events if event.number > last]
        resident = [name for name, tier in self.before.tiers.items() if tier == "device"]
        began = events[0].at - 1.0
        return picture.draw(events, experts, resident, self.before.active or resident[0], began)


async def run_trace(engine: base.Engine, jobs: Sequence[Job], prompts: Prompts, label: str) -> Run:
    """Plays a trace in real time, each job at its time. label: part of the request ids, so that no prompt repeats."""
    calls = [prompts.call(job, f"{label}-{number}") for number, job in enumerate(jobs)]

    async def serve(number: int, job: Job, arrival: float) -> Outcome:
        return await _ask(engine, calls[number], job, arrival)

    before = await engine.stats()
    outcomes = await play(jobs, serve)
    after = await engine.stats()
    return Run(outcomes, before, after)


def _loads(stats: base.WorkerStats) -> int:
    return sum(stats.loads.values())


async def _ask(engine: base.Engine, call: base.ChatCall, job: Job, arrival: float) -> Outcome:
    wait: float | None = None
    last: base.Event | None = None
    async with aclosing(engine.generate(call)) as events:
        async for last in events:
            if wait is None and not isinstance(last, base.Failure):
                wait = time.monotonic() - arrival
    seconds = time.monotonic() - arrival
    if isinstance(last, base.Finish):
        return Outcome(job, wait, seconds, last.usage.completion_tokens)
    why = last.code if isinstance(last, base.Failure) else "no end"
    return Outcome(job, wait, seconds, 0, why)


async def _together(engine: base.Engine, jobs: Sequence[Job], prompts: Prompts, label: str) -> list[Outcome]:
    """All jobs at once, queued in this order. Raises RuntimeError if one fails: there is no figure without it."""
    outcomes = (await run_trace(engine, [replace(job, at=0.0) for job in jobs], prompts, label)).outcomes
    failed = [f"{outcome.job.expert}: {outcome.failure}" for outcome in outcomes if outcome.failure]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} requests failed: {', '.join(sorted(set(failed)))}")
    return outcomes


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of the same jobs in two orders, a value for each repeat."""

    mixed: list[float]
    sorted: list[float]

    @property
    def ratio(self) -> float:
        """Mixed over sorted, of the medians."""
        return statistics.median(self.mixed) / statistics.median(self.sorted)


async def throughput(engine: base.Engine, jobs: Sequence[Job], prompts: Prompts, repeats: int) -> Throughput:
    """All jobs in the queue at once, in the given (mixed) order and sorted by expert, in turns, `repeats` times each.

    A warm-up in mixed order goes before. Batches are of one size in both orders if the jobs are of one length and each
    expert has a multiple of the engine's batch. Raises RuntimeError if a request fails.
    """
    orders = {"mixed": list(jobs), "sorted": sorted(jobs, key=lambda job: job.expert)}
    figures: dict[str, list[float]] = {"mixed": [], "sorted": []}
    await _together(engine, jobs, prompts, "warm-up")
    for repeat in range(repeats):
        for name in ("mixed", "sorted") if repeat % 2 == 0 else ("sorted", "mixed"):
            outcomes = await _together(engine, orders[name], prompts, f"{name}-{repeat}")
            seconds = max(outcome.seconds for outcome in outcomes)
            figures[name].append(sum(outcome.tokens for outcome in outcomes) / seconds)
    return Throughput(**figures)


def _are_written(files: Path, count: int) -> bool:
    return len(list(files.glob("*.safetensors"))) >= count and not list(files.glob("*.tmp"))


async def costs(engine: base.Engine, experts: Sequence[str], prompts: Prompts, files: Path) -> Costs:
    """Measures an idle engine; medians of three. Every expert is asked before, until all image files in `files` are
    there, so that none is written meanwhile.

    Raises RuntimeError if a request fails, or if three images were not loaded for three experts without one.
    """
    least, more = LENGTHS.prompt[0], LENGTHS.prompt[0] + 200
    for number in range(len(experts)):  # one file is written at a time, others meanwhile are not
        for name in experts:
            await _together(engine, [Job(0.0, name, least, 2)], prompts, f"costs-before-{number}")
        if await asyncio.to_thread(_are_written, files, len(experts)):
            break
    before = await engine.stats()
    warm = [name for name in experts if name == before.active] * 3
    cold = [name for name in experts if before.tiers[name] != "device"][:3]

    async def median(
        label: str, names: Sequence[str], prompt: int, output: int, copies: int = 1
    ) -> tuple[float, float]:
        """Seconds to the last of the first tokens of `copies` at once, and of a step after it; a round a name."""
        waits, steps = [], []
        for number, name in enumerate(names):
            together = [Job(0.0, name, prompt, output)] * copies
            outcomes = await _together(engine, together, prompts, f"{label}-{number}")
            waits.append(max(outcome.wait or 0.0 for outcome in outcomes))
            steps.append((max(outcome.seconds for outcome in outcomes) - waits[-1]) / (output - 1))
        return statistics.median(waits), statistics.median(steps)

    short, alone = await median("costs-short", warm, least, 32)
    long, _ = await median("costs-long", warm, more, 2)
    _, full = await median("costs-batch", warm, least, 32, BATCH)
    loaded, _ = await median("costs-cold", cold, least, 2)
    loads = _loads(await engine.stats()) - _loads(before)
    if not len(cold) == loads == 3:
        raise RuntimeError(f"{loads} images were loaded for {len(cold)} experts without one; 3 for 3 are needed")
    request = (full - alone) / (BATCH - 1)
    return Costs(
        load_s=loaded - short,
        step_s=alone - request,
        request_s=request,
        prompt_token_s=(long - short) / (more - least),
        batch=BATCH,
    )


# The benchmark


@dataclass(frozen=True)
class Bench:
    """What all measurements share. images: folder of image files."""

    experts: tuple[ExpertSpec, ...]
    prompts: Prompts
    images: Path

    @property
    def names(self) -> list[str]:
        return [spec.name for spec in self.experts]

    async def engine(self, policy: type, room: int) -> VllmEngine:
        """An engine that is up. The caller closes it. Only who decides about swaps differs between engines."""
        images = ImageSettings(device=room, folder=self.images)
        engine = VllmEngine(
            starter.FAMILY, self.experts, VllmSettings(max_num_seqs=BATCH, images=images, policy=policy)
        )
        await engine.start()
        return engine

    async def trace(self, policy: type, jobs: Sequence[Job]) -> Run:
        """A trace on an engine of its own, where every expert was asked once, so that its size is known, and then the
        first SLOTS again: they are on the device. Raises RuntimeError if they are not."""
        engine = await self.engine(policy, await asyncio.to_thread(room_for_slots, self.images))
        try:
            for number, name in enumerate(self.names + self.names[:SLOTS]):
                await _together(engine, [Job(0.0, name, LENGTHS.prompt[0], 2)], self.prompts, f"before-{number}")
            there = {name for name, tier in (await engine.stats()).tiers.items() if tier == "device"}
            if there != set(self.names[:SLOTS]):
                raise RuntimeError(f"the device holds {sorted(there)} before the trace")
            return await run_trace(engine, jobs, self.prompts, "trace")
        finally:
            await engine.close()

    async def engine_figures(self) -> tuple[Costs, Throughput]:
        """On an engine of its own: costs first, since they change what the device holds."""
        work = [Job(0.0, name, LENGTHS.prompt[0], LENGTHS.output[1]) for name in self.names * BATCH]
        largest = max(checkpoints.weight_bytes(spec.source) for spec in self.experts)
        engine = await self.engine(SwapPolicy, SLOTS * largest)
        try:
            measured = await costs(engine, self.names, self.prompts, self.images)
            return measured, await throughput(engine, work, self.prompts, REPEATS)
        finally:
            await engine.close()


def traces(arguments: argparse.Namespace, experts: Sequence[str]) -> dict[str, list[Job]]:
    """Name -> trace. The Azure trace is left out, and this is said, where its file is missing."""
    n, exponent, seed = arguments.jobs, arguments.exponent, arguments.seed
    found = {"zipf": zipf(n, experts, arguments.rate, exponent, seed, LENGTHS)}
    file = arguments.data / AZURE
    if file.is_file():
        found["azure"] = azure(file, n, experts, exponent, seed, AZURE_TIME, AZURE_TOKENS, AZURE_LENGTHS)
    else:
        print(f"no {file}: the Azure trace is left out (--data names the folder that holds it)")
    return found


def figures_of(outcomes: Sequence[Outcome], **counts: int) -> dict[str, float]:
    rounded = {name: round(value, 3) for name, value in asdict(summarize(outcomes, SLO)).items()}
    return counts | rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="data folder of the service (default: COE_HOME or ~/.coe)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/traces"), help="folder of the Azure traces")
    parser.add_argument("--jobs", type=int, default=264, help="requests of a trace (default 264)")
    parser.add_argument("--rate", type=float, default=12.0, help="Zipf trace: requests per second (default 12)")
    parser.add_argument("--exponent", type=float, default=1.0, help="of the experts' popularity (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="write an SVG of our turns on the Zipf trace to this file")
    arguments = parser.parse_args()
    quiet_vllm()
    home = arguments.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    experts = make_experts(home)
    bench = Bench(experts, Prompts(experts), home / "images" / "grouping")
    jobs = traces(arguments, bench.names)

    measured, orders = asyncio.run(bench.engine_figures())
    print(f"costs: {measured}")
    print(f"mixed over sorted by expert: {orders.ratio:.3f} (tokens/s: {orders.mixed} over {orders.sorted})")
    results: dict[str, dict[str, dict[str, float]]] = {}
    bounds: dict[str, dict[str, int]] = {}
    for name, trace in jobs.items():
        ours = asyncio.run(bench.trace(SwapPolicy, trace))
        if name == "zipf" and arguments.picture:
            arguments.picture.write_text(ours.picture(bench.names))
        first_come = asyncio.run(bench.trace(FcfsLru, trace))
        served, counts = multiplexed.run(trace, SLOTS, measured, bench.names[:SLOTS])
        in_order = [simulation.Job(job.at, job.expert, job.output_tokens) for job in trace]
        results[name] = {
            "ours": figures_of(ours.outcomes, loads=ours.loads, swaps=ours.swaps),
            "fcfs_lru": figures_of(first_come.outcomes, loads=first_come.loads, swaps=first_come.swaps),
            "serve_multiplexed": figures_of(served, **asdict(counts)),
        }
        bounds[name] = {
            "optimum": simulation.fewest_loads(in_order, bench.names[:SLOTS]),
            "belady_in_order": simulation.fewest_loads_in_order(in_order, SLOTS, bench.names[:SLOTS]),
        }
        columns = ("loads", "wait_s_p50", "wait_s_p99", "tokens_per_s", "goodput", "failed")
        rows = [(who, *(figures[column] for column in columns)) for who, figures in results[name].items()]
        print("\n" + table((f"{name}, {len(trace)} requests in {trace[-1].at:.0f} s", *columns), rows))
        print(
            f"fewest loads: {bounds[name]['optimum']} with all requests grouped by expert, however long they wait; "
            f"{bounds[name]['belady_in_order']} in the order of arrival (Belady)"
        )
    swap = SwapSettings()
    figures: dict[str, Any] = {
        "loads_ours": results["zipf"]["ours"]["loads"],
        "loads_fcfs_lru": results["zipf"]["fcfs_lru"]["loads"],
        "loads_serve_multiplexed": results["zipf"]["serve_multiplexed"]["loads"],
        "loads_optimum": bounds["zipf"]["optimum"],
        "loads_belady_in_order": bounds["zipf"]["belady_in_order"],
        "wait_s_p99_ours": results["zipf"]["ours"]["wait_s_p99"],
        "wait_bound_s": swap.max_wait + measured.load_s / swap.overhead,  # a swap and its quantum above max_wait
        "mixed_over_sorted_throughput": orders.ratio,
        "throughput": asdict(orders),
        "costs": asdict(measured),
        "traces": results,
        "bounds": bounds,
    }
    used = {
        "experts": len(experts),
        "images_on_device": SLOTS,
        "batch": BATCH,
        "lengths": asdict(LENGTHS),
        "slo_first_token_s": SLO,
        "swap": asdict(swap) | {"pinned": sorted(swap.pinned)},
        "azure": {"time": AZURE_TIME, "tokens": AZURE_TOKENS, "lengths": asdict(AZURE_LENGTHS)},
        "repeats": REPEATS,
        **{name: getattr(arguments, name) for name in ("jobs", "rate", "exponent", "seed")},
    }
    emit(used, figures, arguments.json)


if __name__ == "__main__":
    main()
