"""From one expert to another: our image swap against what vLLM has for it, and copies of images against memcpy.

python -m benchmarks.swap [--json] [--home DIR] [--swaps 60] [--restarts 2]

Image swap: the time that a step of the engine waits for the other expert's image, by the engine's own event log;
requests alternate between two experts. Peers, on the same checkpoints in the same run: vLLM's `reload_weights` in a
running engine; a new engine in the same process, to its first token; a new process, to its first token.
"""

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import emit, quiet_vllm, table
from experts.spec import ExpertSpec
from experts.starter import FAMILY, GENERALIST, specialist, starter_experts
from workers.base import ChatCall, Finish, Sampling

FIRST, SECOND = GENERALIST, specialist("sql")


def checkpoints(home: Path) -> tuple[ExpertSpec, ExpertSpec]:
    pool = {spec.name: spec for spec in starter_experts(home)}
    return pool[FIRST], pool[SECOND]


async def image_swaps(home: Path, count: int) -> list[float]:
    """Seconds of each swap while requests alternate between two experts."""
    from workers.vllm_engine import VllmEngine, VllmSettings

    engine = VllmEngine(FAMILY, checkpoints(home), VllmSettings(max_model_len=1024))
    await engine.start()
    try:
        before = (await engine.stats()).events
        for number in range(count):
            expert = (SECOND, FIRST)[number % 2]
            call = ChatCall(
                f"swap-{number}",
                expert,
                ({"role": "user", "content": "hello"},),
                Sampling(temperature=0.0, max_tokens=2),
            )
            async with aclosing(engine.generate(call)) as events:
                last = [event async for event in events][-1]
            assert isinstance(last, Finish), last
        after = (await engine.stats()).events
        seen = before[-1].number if before else 0
        return [event.seconds for event in after if event.kind == "swap" and event.number > seen]
    finally:
        await engine.close()


def _plain_engine(source: str) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    cpu = current_platform.is_cpu()
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=source,
            dtype="float32" if cpu else "auto",
            max_model_len=1024,
            max_num_seqs=16,
            enforce_eager=cpu,
            disable_log_stats=True,
        )
    )


async def _close(engine: Any) -> None:
    await asyncio.to_thread(engine.shutdown)
    gc.collect()  # one that lives until the interpreter ends complains of missing modules


async def _first_token(engine: Any) -> None:
    from vllm import SamplingParams

    async for _ in engine.generate(
        "hello", SamplingParams(max_tokens=1, temperature=0.0), f"first-{time.monotonic_ns()}"
    ):
        pass


async def reloads(home: Path, count: int) -> list[float]:
    """Seconds of `reload_weights` between the two checkpoints in a running engine of vLLM alone."""
    first, second = checkpoints(home)
    engine = _plain_engine(first.source)
    try:
        await _first_token(engine)
        seconds = []
        for number in range(count):
            source = (second, first)[number % 2].source
            began = time.perf_counter()
            await engine.collective_rpc("reload_weights", kwargs={"weights_path": source})
            seconds.append(time.perf_counter() - began)
        return seconds
    finally:
        await _close(engine)


async def new_engines(home: Path, count: int) -> list[float]:
    """Seconds from no engine to the first token of a new one, in this process, where vLLM has run before."""
    seconds = []
    for number in range(count):
        source = checkpoints(home)[number % 2].source
        began = time.perf_counter()
        engine = await asyncio.to_thread(_plain_engine, source)
        await _first_token(engine)
        seconds.append(time.perf_counter() - began)
        await _close(engine)
    return seconds


def process_restarts(home: Path, count: int) -> list[float]:
    """Seconds from starting a Python process to the first token of its engine."""
    seconds = []
    for number in range(count):
        command = [sys.executable, "-m", "benchmarks.swap", "--one-token", checkpoints(home)[number % 2].source]
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = any(line.strip() == "first token" for line in process.stdout)
            seconds.append(time.perf_counter() - began)
        if not found:
            raise RuntimeError(f"the process ended without a token (exit code {process.returncode})")
    return seconds


@dataclass(frozen=True)
class Copies:
    """GB/s, medians of rounds in turn: of the copying backend, of the same with the check that the service lets follow
    each copy (on the CPU the check reads from the same memory; on a GPU from the device's own), of one flat copy of as
    many bytes. bytes: of an image."""

    plain: float
    checked: float
    memcpy: float
    bytes: int


def copies(home: Path, rounds: int = 7) -> Copies:
    """Every tensor of the two images is taken as different, so that all of it moves; threads are torch's for all."""
    import torch
    from safetensors.torch import load_file

    from workers.image_copies import CopyBackend

    def load(spec: ExpertSpec) -> dict[str, Any]:
        tensors: dict[str, Any] = {}
        for file in sorted(Path(spec.source).glob("*.safetensors")):
            tensors |= {name: tensor.clone() for name, tensor in load_file(file).items()}  # not mapped from the file
        return tensors

    loaded = [load(spec) for spec in checkpoints(home)]
    model = {name: tensor.clone() for name, tensor in loaded[0].items()}
    backends = [CopyBackend(model, verify=verify) for verify in (False, True)]
    images = [
        [each.build(tensors, {name: f"{number}/{name}" for name in tensors}) for number, tensors in enumerate(loaded)]
        for each in backends
    ]
    size = sum(tensor.nbytes for tensor in model.values())
    source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    speeds: tuple[list[float], ...] = ([], [], [])
    for number in range(2 * rounds):
        for backend, image, told in zip(backends, images, speeds[:2], strict=True):
            began = time.perf_counter()
            moved = backend.activate(image[(number + 1) % 2])
            told.append(moved / (time.perf_counter() - began) / 1e9)
        began = time.perf_counter()
        target.copy_(source)
        speeds[2].append(size / (time.perf_counter() - began) / 1e9)
    assert all(torch.equal(model[name], tensor) for name, tensor in loaded[0].items())
    plain, checked, memcpy = (statistics.median(told) for told in speeds)
    return Copies(plain, checked, memcpy, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="data folder with the starter pool (default: COE_HOME or ~/.coe)")
    parser.add_argument("--swaps", type=int, default=60)
    parser.add_argument("--restarts", type=int, default=2, help="engines and processes started anew")
    parser.add_argument("--one-token", metavar="CHECKPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quiet_vllm()
    if arguments.one_token:

        async def one_token() -> None:
            engine = _plain_engine(arguments.one_token)
            await _first_token(engine)
            print("first token", flush=True)
            await _close(engine)

        asyncio.run(one_token())
        return
    home = arguments.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    copied = copies(home)
    swaps = asyncio.run(image_swaps(home, arguments.swaps))
    reloaded = asyncio.run(reloads(home, 6))
    engines = asyncio.run(new_engines(home, arguments.restarts))
    restarts = process_restarts(home, arguments.restarts)
    medians = [1e3 * statistics.median(each) for each in (swaps, reloaded, engines, restarts)]
    names = ("image swap", "reload_weights", "new engine, same process", "process restart")
    counts = (len(swaps), len(reloaded), len(engines), len(restarts))
    rows = [
        (name, count, f"{median:.2f}", f"{median / medians[0]:.0f}x")
        for name, count, median in zip(names, counts, medians, strict=True)
    ]
    print(table(("from one expert to another", "n", "ms (p50)", "to ours"), rows))
    print(
        f"image of {copied.bytes / 1e6:.0f} MB: copying backend {copied.plain:.2f} GB/s, {copied.checked:.2f} with its "
        f"check, memcpy {copied.memcpy:.2f} GB/s"
    )
    figures = {
        "image_swap_ms_p50": round(medians[0], 3),
        "reload_weights_ms_p50": round(medians[1], 1),
        "new_engine_ms_p50": round(medians[2], 1),
        "process_restart_ms": round(medians[3], 1),
        "copy_backend_over_memcpy": round(copied.plain / copied.memcpy, 3),
        "checked_copy_over_memcpy": round(copied.checked / copied.memcpy, 3),
        "copy_gb_per_s": round(copied.plain, 2),
        "memcpy_gb_per_s": round(copied.memcpy, 2),
        "new_engine_over_image_swap": round(medians[2] / medians[0]),
    }
    emit({"model": "SmolLM2-135M", "swaps": arguments.swaps, "restarts": arguments.restarts}, figures, arguments.json)


if __name__ == "__main__":
    main()
