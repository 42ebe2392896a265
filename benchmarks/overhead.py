"""What the path costs: the service with a fake engine beside uvicorn alone, same client, same run.

    python -m benchmarks.overhead [--json] [--requests N]

uvicorn alone answers the same body from a FastAPI route; the service adds key, routing, Ray Serve and the event stream.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.live import ROOT, free_port, service, stop
from benchmarks.report import emit, table

CONCURRENCY = 32
BODY = {"model": "smol-general", "messages": [{"role": "user", "content": "hello"}]}

_BARE = """
import sys, uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
app = FastAPI()
ANSWER = open(sys.argv[2], "rb").read()
@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    await request.json()
    return Response(ANSWER, media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


@contextlib.contextmanager
def bare_uvicorn(answer: bytes) -> Iterator[str]:
    """uvicorn and FastAPI with a canned answer; yields the URL."""
    port = free_port()
    with tempfile.NamedTemporaryFile() as canned:
        canned.write(answer)
        canned.flush()
        process = subprocess.Popen([sys.executable, "-c", _BARE, str(port), canned.name], cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(200):
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url, trust_env=False)
                    break
                time.sleep(0.1)
            yield url
        finally:
            stop(process)


async def load(url: str, key: str, requests: int) -> tuple[float, float, float]:
    """(p50 in ms one at a time, p99 in ms one at a time, requests per second with CONCURRENCY at a time)."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:

        async def one() -> float:
            began = time.perf_counter()
            answer = await client.post("/v1/chat/completions", json=BODY)
            answer.raise_for_status()
            return time.perf_counter() - began

        for _ in range(requests // 10):
            await one()
        times = sorted([await one() for _ in range(requests)])
        gate = asyncio.Semaphore(CONCURRENCY)

        async def gated() -> None:
            async with gate:
                await one()

        began = time.perf_counter()
        await asyncio.gather(*(gated() for _ in range(4 * requests)))
        rate = 4 * requests / (time.perf_counter() - began)
    return 1e3 * statistics.median(times), 1e3 * times[int(0.99 * len(times))], rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--requests", type=int, default=300, help="requests one at a time (default 300)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, service(Path(home), ["--fake"]) as live:
        headers = {"Authorization": f"Bearer {live.key}"}
        answer = httpx.post(live.url + "/v1/chat/completions", json=BODY, headers=headers, trust_env=False).content
        ours = asyncio.run(load(live.url, live.key, arguments.requests))
        with bare_uvicorn(answer) as url:
            bare = asyncio.run(load(url, live.key, arguments.requests))
    print(table(("", "p50 ms c=1", "p99 ms c=1", f"req/s c={CONCURRENCY}"), [("service", *ours), ("uvicorn", *bare)]))
    figures = {
        "p50_ms_c1_ours": round(ours[0], 2),
        "p50_ms_c1_uvicorn": round(bare[0], 2),
        "rps_c32_ours": round(ours[2], 1),
        "rps_c32_uvicorn": round(bare[2], 1),
        "p50_over_uvicorn": round(ours[0] / bare[0], 2),
    }
    emit({"requests_c1": arguments.requests, "requests_c32": 4 * arguments.requests}, figures, arguments.json)


if __name__ == "__main__":
    main()
