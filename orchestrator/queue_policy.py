"""How many workers a family is to have: a pure decision from the queue times of its experts.

Serve's controller calls it ten times a second. It is sent there by value, so it imports nothing but what Python brings.

Words, for n workers that are wanted now, over the last `look_back_period_s`: q_w, the longest queue time of an expert
on worker w in the newer half of it, in seconds, and p_w, in the older half; b_w, the calls that were under way on w, as
a share of those that its engine runs at once, 0 to 1; t_w, the tokens that it made, per second. Q = `queue_s`,
B = `busy`. Halves, and not the moment, as experts that take turns wait long at the end of a turn only.

**More.** A worker is worth as many as its queue time is above the target, two at most, as the Horizontal Pod Autoscaler
of Kubernetes has it (desired = ceil(current * metric / target), at most twice as many at a time):

    excess = sum over workers that are late of min(2, q_w / Q) - 1
    spare  = workers that are still to come, or have told nothing yet
             + sum over workers with q_w <= Q / 2 of max(0, 1 - b_w / B)
    wanted = n + ceil(excess - spare)      if that is more than n

Late is one with q_w > Q, unless it is catching up: q_w - Q <= 4 * (p_w - q_w), so that it is in time two look-back
periods from now. Else every worker that came would bring others, until all that had waited before it is answered.
So one worker of ten that is late asks for one more and not for ten; and where others idle none is asked for: there it
is for placement to spread the load, which a further worker could not do better. Swaps and loads are in q_w: a worker
whose experts wait for each other's turns is late, however little it computes, and a further one takes experts off it.
Where one was given back within the last `downscale_delay_s`, it is asked for alone, for with it there were enough; and
when it is back, for as long again, a worker whose queue time falls at all is not late.

**Fewer**, one at a time, if all workers are there and have told, every q_w <= Q / 2, and what they do fits on the rest:

    sum of b_w <= B * (n - 1)    and    sum of t_w <= 0.8 * T(n - 1)

T(m) is what m workers made, as sum of t_w, when they were last found to be too few. Where swaps take the time of m
workers, they make little and are late; m + 1, each with experts of its own, make as much with few calls under way. By
b_w alone one would be given back, and asked for again, for ever. T is forgotten after `FORGET` times the
`downscale_delay_s`, or once m workers make more than that in time: experts come and go, and so do loads.

Serve itself holds the bounds, and waits: a decision counts once it was the same direction for `upscale_delay_s` or
`downscale_delay_s`, all the time (`ray.serve.autoscaling_policy`).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

QUEUE, BUSY, TOKENS = "queue_s", "busy", "tokens_s"
"""Names of what a worker records."""
MOST = 2.0
"""So many workers one that is late is worth."""
LOW = 0.5
"""Share of the queue time to keep to, up to which a worker is in time beyond doubt."""
FITS = 0.8
"""Share of what was too much for some workers, which is taken for not too much."""
FORGET = 6.0
SILENT_S = 15.0
"""A worker that has said nothing new for so long is one of which nothing is known."""
CATCHES_UP = 4
"""Halves of the look-back period within which one that is catching up is in time."""
_LITTLE = 1e-9

Series = Mapping[str, Mapping[Any, Sequence[Any]]]
"""Name -> worker -> points with `timestamp` and `value`, the oldest first."""


@dataclass(frozen=True, slots=True)
class Told:
    """Of one worker. queue_s: q_w; before_s: p_w; busy: b_w; tokens_s: t_w."""

    queue_s: float
    before_s: float
    busy: float
    tokens_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """See `orchestrator.config.autoscaling.AutoscalingConfig`."""

    queue_s: float = 10.0
    busy: float = 0.7
    downscale_delay_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Between two decisions. target: workers that were wanted; asked: that more were asked for; tokens_s: sum of t_w
    then. too_few: number of workers -> what they made when they were too few, and when that was (seconds). before:
    workers that there were before one was given back, and when that was, or when it was asked for again."""

    target: int = 0
    asked: bool = False
    tokens_s: float = 0.0
    too_few: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    before: tuple[int, float] = (0, -math.inf)


def decide(
    target: int, running: int, told: Sequence[Told], rules: Rules, memory: Memory, now: float
) -> tuple[int, Memory]:
    """Workers that are wanted, without bounds, and what is to be remembered.

    target: those that are wanted so far; running: those that are up; told: of those that have told. now: seconds of any
    clock.
    """
    made = sum(own.tokens_s for own in told)
    memory = _learned(memory, target, rules, now)
    if more := _more(target, running, told, rules, _enough(memory, rules, now)):
        estimate = made * running / len(told)
        most = max(estimate, memory.tokens_s) if memory.asked else estimate
        return target + more, replace(memory, target=target, asked=True, tokens_s=most)
    known = replace(memory, target=target, asked=False, tokens_s=0.0)
    quiet = target == running == len(told) and all(own.queue_s <= LOW * rules.queue_s for own in told)
    if not quiet:
        return target, known
    if made > known.too_few.get(target, (math.inf, 0.0))[0]:
        known = replace(known, too_few={m: seen for m, seen in known.too_few.items() if m != target})
    most, _ = known.too_few.get(target - 1, (math.inf, 0.0))
    fits = sum(own.busy for own in told) <= rules.busy * (target - 1) + _LITTLE and made <= FITS * most + _LITTLE
    return (target - 1 if target > 1 and fits else target), known


def _learned(memory: Memory, target: int, rules: Rules, now: float) -> Memory:
    """Those that there were before more came were too few; those that there were before one went may have been just
    enough."""
    if 0 < target < memory.target:
        memory = replace(memory, before=(target + 1, now))
    elif memory.target < target == memory.before[0]:
        memory = replace(memory, before=(target, now))
    keep_s = FORGET * rules.downscale_delay_s
    kept = {m: (made, at) for m, (made, at) in memory.too_few.items() if now - at < keep_s}
    if memory.asked and 0 < memory.target < target:
        kept[memory.target] = memory.tokens_s, now
        return replace(memory, too_few=kept, asked=False)
    return replace(memory, too_few=kept)


def _enough(memory: Memory, rules: Rules, now: float) -> int:
    """Workers that were enough not long ago; 0 = not known."""
    number, at = memory.before
    return number if now - at < rules.downscale_delay_s else 0


def _more(target: int, running: int, told: Sequence[Told], rules: Rules, enough: int) -> int:
    if target == enough:
        if running < target:
            return 0
        late = [own for own in told if _is_late(own, rules) and own.queue_s >= own.before_s]
    else:
        late = [own for own in told if _is_late(own, rules)]
    excess = sum(min(MOST, own.queue_s / rules.queue_s) - 1 for own in late)
    spare = sum(max(0.0, 1 - own.busy / rules.busy) for own in told if own.queue_s <= LOW * rules.queue_s)
    to_come = max(0, target - running) + max(0, running - len(told))
    more = max(0, math.ceil(excess - spare - to_come - _LITTLE))
    return min(more, 1) if target == enough - 1 else more


def _is_late(own: Told, rules: Rules) -> bool:
    over = own.queue_s - rules.queue_s
    return over > 0 and over > CATCHES_UP * (own.before_s - own.queue_s)


# For Serve


class QueuePolicy:
    """The decision as `ray.serve.config.AutoscalingPolicy` wants it: made with `Rules`, called with a context."""

    def __init__(self, **rules: float) -> None:
        self._rules = Rules(**rules)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """context: `ray.serve.config.AutoscalingContext`. Returns the number and the state until the next call."""
        now, state = context.current_time, context.policy_state
        series: Series = context.raw_metrics or {}
        told, heard = read(series, context.running_replicas, state.get("heard", {}), now)
        target, running = context.target_num_replicas, context.current_num_replicas
        wanted, memory = decide(target, running, told, self._rules, state.get("memory", Memory()), now)
        return wanted, {"memory": memory, "heard": heard}


def read(
    series: Series,
    running: Sequence[Hashable],
    heard: Mapping[Hashable, tuple[float, float]],
    now: float,
) -> tuple[list[Told], dict[Hashable, tuple[float, float]]]:
    """What running workers told not long ago; and worker -> the time stamp of its last word, and when that came.

    A stamp is by the worker's clock, so it is only asked whether it has changed.
    """
    told, kept = [], {}
    for worker in running:
        queue, *means = (series.get(name, {}).get(worker) for name in (QUEUE, BUSY, TOKENS))
        if not queue or not all(means):
            continue
        stamp = queue[-1].timestamp
        before = heard.get(worker)
        came = before[1] if before is not None and before[0] == stamp else now
        kept[worker] = stamp, came
        if now - came < SILENT_S:
            older, newer = queue[: len(queue) // 2] or queue, queue[len(queue) // 2 :]
            told.append(Told(_most(newer), _most(older), *(_mean(points) for points in means if points)))
    return told, kept


def _most(points: Sequence[Any]) -> float:
    return float(max(point.value for point in points))


def _mean(points: Sequence[Any]) -> float:
    return float(sum(point.value for point in points) / len(points))
