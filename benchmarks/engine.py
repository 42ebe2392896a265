"""The engine through the service: start-up, memory, tokens per second of one stream, of 16 and of 16 over all experts.

python -m benchmarks.engine [--json] [--home DIR]
"""

import argparse
import asyncio
import os
import random
import time
from pathlib import Path

import openai

from benchmarks.live import Live, service
from benchmarks.report import emit, table
from experts.domains import NAMES, general
from experts.starter import GENERALIST, specialist

TOKENS = 64
STREAMS = 16


async def rate(live: Live, models: list[str]) -> tuple[float, float]:
    """(tokens per second over all streams, median seconds to the first token), a stream for each of `models`."""
    prompts = general.held_out_prompts(random.Random(len(models)), len(models))
    async with openai.AsyncOpenAI(base_url=live.base_url, api_key=live.key, timeout=600, max_retries=0) as client:

        async def stream(model: str, prompt: str) -> tuple[int, float]:
            began, first, tokens = time.perf_counter(), 0.0, 0
            chunks = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Write a long story. " + prompt}],
                max_tokens=TOKENS,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content and not first:
                    first = time.perf_counter() - began
                if chunk.usage:
                    tokens = chunk.usage.completion_tokens
            return tokens, first

        began = time.perf_counter()
        done = await asyncio.gather(*(stream(m, p) for m, p in zip(models, prompts, strict=True)))
        seconds = time.perf_counter() - began
    firsts = sorted(first for _, first in done)
    return sum(tokens for tokens, _ in done) / seconds, firsts[len(firsts) // 2]


def memory_gib(pid: int) -> float:
    """Proportional memory of a process and all below it, GiB: shared pages count once."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    total, todo = 0, [pid]
    while todo:
        each = todo.pop()
        todo += children.get(each, [])
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 2**20


def total(metrics: str, name: str) -> float:
    """Sum of a Prometheus counter over its labels."""
    lines = (line for line in metrics.splitlines() if line.startswith((name + "{", name + " ")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="data folder of the service (default: COE_HOME or ~/.coe)")
    arguments = parser.parse_args()
    home = arguments.home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    began = time.perf_counter()
    with service(home, within=900) as live:
        start = time.perf_counter() - began
        asyncio.run(rate(live, [GENERALIST]))  # the first request warms up
        first_answer = time.perf_counter() - began
        one, first_one = asyncio.run(rate(live, [GENERALIST]))
        sixteen, first_sixteen = asyncio.run(rate(live, [GENERALIST] * STREAMS))
        pool = [GENERALIST, *map(specialist, NAMES)]
        mixed, first_mixed = asyncio.run(rate(live, [pool[i % len(pool)] for i in range(STREAMS)]))
        memory = memory_gib(live.process.pid)
        metrics = live.get("/metrics").text
        swaps, swap_seconds = total(metrics, "coe_swaps_total"), total(metrics, "coe_swap_seconds_total")
    rows = [
        ("one stream", one, first_one),
        (f"{STREAMS} streams, one expert", sixteen, first_sixteen),
        (f"{STREAMS} streams, {len(pool)} experts", mixed, first_mixed),
    ]
    print(table(("", "tokens/s", "first token s (median)"), rows))
    print(f"warm start to ready {start:.0f} s, to the first answer {first_answer:.0f} s; memory {memory:.1f} GiB")
    swap_ms = 1e3 * swap_seconds / max(1.0, swaps)
    print(f"{swaps:.0f} image swaps of {swap_ms:.2f} ms on average")
    figures = {
        "ready_s": round(start, 1),
        "first_answer_s": round(first_answer, 1),
        "memory_gib": round(memory, 2),
        "tokens_per_s_1": round(one, 1),
        "tokens_per_s_16": round(sixteen, 1),
        "tokens_per_s_16_mixed": round(mixed, 1),
        "swaps": swaps,
        "swap_ms_mean": round(swap_ms, 3),
        "first_token_ms_1": round(1e3 * first_one, 1),
    }
    emit({"max_tokens": TOKENS, "experts": len(pool)}, figures, arguments.json)


if __name__ == "__main__":
    main()
