"""What is lost when parts of the service are killed, cut off, filled up or slowed down.

    python -m benchmarks.faults [--json] [--kinds a,b] [--faults N] [--seed N] [--minutes M] [--logs DIR]

Without --faults each kind comes once; with it so many are drawn, by weights and --seed, and follow one another as soon
as the service is whole again, some sooner. `--list` tells the kinds. What this machine does not allow is told as not
done. Ends with 1 if anything was lost, doubled or answered by another than who was asked.
"""

import argparse
import random
import sys
import time
from pathlib import Path

from benchmarks.faults.kinds import KINDS
from benchmarks.faults.load import Load, Target
from benchmarks.faults.soak import HEADER, drawn, figures, run, summaries, table_rows
from benchmarks.faults.whole import world
from benchmarks.faults.world import EXPERTS
from benchmarks.report import emit, table

ZERO = ("silent_losses", "wrong_expert", "batch_lost", "batch_doubled", "problems")
"""The figures that have to be 0, or empty."""
BEFORE_S = 3.0
"""Seconds of load before the first fault."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    parser.add_argument("--list", action="store_true", help="tell the kinds, and do nothing")
    parser.add_argument("--kinds", help="only these, with commas between them")
    parser.add_argument("--faults", type=int, help="draw so many (default: each kind once)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no fault after so many (default 60)")
    parser.add_argument("--senders", type=int, default=8, help="requests under way at a time (default 8)")
    parser.add_argument("--logs", type=Path, help="a folder where the logs of all processes are left")
    arguments = parser.parse_args()
    if arguments.list:
        print(table(("kind", "what"), [(kind.name, kind.what) for kind in KINDS.values()]))
        return
    names = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    if unknown := [name for name in names if name not in KINDS]:
        parser.error(f"--kinds: got {', '.join(unknown)}; allowed: {', '.join(KINDS)}")
    rng = random.Random(arguments.seed)
    with world(arguments.logs) as own:
        not_done = {name: own.cannot[need] for name in names if (need := KINDS[name].needs) in own.cannot}
        kinds = [KINDS[name] for name in names if name not in not_done]
        plan = drawn(kinds, arguments.faults, rng) if arguments.faults is not None else kinds
        target = Target(own.relays.url, own.key, list(EXPERTS))
        with Load(target, own.was_down, senders=arguments.senders) as load:
            time.sleep(BEFORE_S)
            began = time.monotonic()
            faults = run(own, plan, rng, arguments.minutes, say)
            minutes = (time.monotonic() - began) / 60
            time.sleep(BEFORE_S)
    rows = table_rows(list(summaries(faults, load.record.rows)))
    print("\n" + table(HEADER, rows))
    for name, why in not_done.items():
        print(f"not done: {name}: {why}")
    told = {**figures(faults, load.record, not_done), "minutes": round(minutes, 1)}
    print("\n" + ", ".join(f"{key} {told[key]}" for key in ("faults", *ZERO, "requests", "answered", "batch_lines")))
    print("\n".join(told["examples"]))
    settings = {"seed": arguments.seed, "senders": arguments.senders, "kinds": ",".join(names)}
    emit(settings, told, arguments.json)
    sys.exit(any(bool(told[name]) for name in ZERO))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
