"""Prometheus metrics: every name of the service stands in this file. docs/metrics.md is made of it (`helm.dashboards`).

Labels are bounded: `expert` is the name of a configured expert or "none", never what a caller wrote, and `key_class` is
the priority of the key, never a key.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.events import READY_TIERS, CallMade
from workers.base import WorkerStats

NO_EXPERT = NO_CATEGORY = "none"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Values = Mapping[str, float]
_Family = type[GaugeMetricFamily] | type[CounterMetricFamily]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ROUTER_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5)
_PHASE_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_PLANNING_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "coe_requests",
            "Requests that were admitted, by expert (who answered alone, else the first that was chosen), route (auto, "
            "ensemble or named; decision or embedding, which ask no expert), outcome (ok, routed of a decision, "
            "client_gone or the cause of the error) and class of the key (interactive, normal or batch).",
            ("expert", "route", "outcome", "key_class"),
            registry=registry,
        )
        self.errors = Counter("coe_errors", "Errors answered, also within streams.", ("cause",), registry=registry)
        # What is rare is there at 0, else its first would be no increase, which alerts and panels look for.
        self.errors.labels("store_unavailable")
        self.seconds = Histogram(
            "coe_request_seconds", "Admission to end of answer.", ("expert",), buckets=_SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "coe_first_token_seconds",
            "Admission to first token, of answers that are streamed.",
            ("expert",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.router = Histogram(
            "coe_router_seconds", "Time of a routing decision.", buckets=_ROUTER_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "coe_tokens",
            "Tokens of all calls and embeddings, by kind: prompt, completion, cached (of the prompt's).",
            ("expert", "kind", "route", "key_class"),
            registry=registry,
        )
        self.cost = Counter(
            "coe_cost_usd",
            "US dollars of all calls to experts with a price.",
            ("expert", "route", "key_class"),
            registry=registry,
        )
        self.calls = Counter(
            "coe_calls",
            "Calls to experts, by role (answer, draft, judge, writer, layer 1 and so on) and outcome (ok, cancelled or "
            "what failed).",
            ("expert", "role", "outcome"),
            registry=registry,
        )
        self.phases = Histogram(
            "coe_call_seconds",
            "Where calls spent their time in the engine, by phase: queue (before the first step), swap, prefill (to "
            "the first token), decode.",
            ("expert", "phase"),
            buckets=_PHASE_SECONDS,
            registry=registry,
        )
        self.gap = Histogram(
            "coe_inter_token_seconds",
            "Between two tokens of an answer: the mean of a call after its first token.",
            ("expert",),
            buckets=_GAP_SECONDS,
            registry=registry,
        )
        self.admitted = Histogram(
            "coe_admission_seconds",
            "Waiting for the limits of the key and for a place, until the router is asked.",
            ("key_class",),
            buckets=_PHASE_SECONDS,
            registry=registry,
        )
        self.aggregated = Histogram(
            "coe_aggregation_seconds",
            "From the last draft to the end of the answer, where several experts were asked.",
            ("aggregator",),
            buckets=_PHASE_SECONDS,
            registry=registry,
        )
        self.routed = Counter(
            "coe_routed",
            "Decisions by router and category, none where it has none.",
            ("router", "category"),
            registry=registry,
        )
        self.margin = Histogram(
            "coe_route_margin",
            "Probability of the best category minus that of the second, of the router's decisions.",
            ("router",),
            buckets=_SHARES,
            registry=registry,
        )
        self.feedback = Histogram(
            "coe_feedback_score",
            "What users said of answers, each time, from 0 to 1, by the expert that answered alone.",
            ("expert",),
            buckets=_SHARES,
            registry=registry,
        )
        self.feedback.labels(NO_EXPERT)
        self.in_flight = Gauge("coe_requests_in_flight", "Requests admitted and not ended.", registry=registry)
        self.waiting = Gauge("coe_requests_waiting", "Requests that wait to be admitted.", registry=registry)
        self.records_lost = Counter(
            "coe_decision_records_lost", "Decision records that could not be stored.", registry=registry
        )
        self.spans = LostSpans()
        registry.register(self.spans)
        self.refused = Counter(
            "coe_refusals",
            "Requests turned away for load or limits, by what refused: a limit of the key, over_limit, "
            "store_unavailable, queue_full, queue_time, deadline, fair_share, door or connections; or client_gone: it "
            "left while it waited.",
            ("reason",),
            registry=registry,
        )
        self.unlimited = Counter(
            "coe_unlimited", "Requests of keys with limits that were admitted without Redis.", registry=registry
        )
        self.settlements_lost = Counter(
            "coe_settlements_lost",
            "Requests whose use could not be counted; what they had reserved is free again after the lease.",
            registry=registry,
        )
        self.circuit = Gauge(
            "coe_expert_circuit",
            "State of a remote expert's circuit breaker: 0 closed, 1 half open, 2 open.",
            ("expert",),
            registry=registry,
        )
        self._of_call: dict[tuple[str, str, str], _OfCall] = {}
        self.batch = BatchMetrics(registry)
        self._workers = _WorkerCollector()
        registry.register(self._workers)

    def count_call(self, call: CallMade, route: str, key_class: str) -> None:
        """Of a request that took this route, with a key of this class."""
        expert, usage, phases = call.expert, call.usage, call.phases
        own = self._of_call.get((expert, route, key_class)) or self._find(expert, route, key_class)
        self.calls.labels(expert, call.role, _outcome(call.error)).inc()
        if call.cost is not None:
            self.cost.labels(expert, route, key_class).inc(call.cost)
        if usage is not None:
            own.prompt.inc(usage.prompt_tokens)
            own.completion.inc(usage.completion_tokens)
            own.cached.inc(usage.cached_tokens)
        if phases is not None:
            own.queue.observe(phases.queue)
            own.swap.observe(phases.swap)
            own.prefill.observe(phases.prefill)
            own.decode.observe(phases.decode)
            if usage is not None and usage.completion_tokens > 1:
                own.gap.observe(phases.decode / (usage.completion_tokens - 1))

    def _find(self, expert: str, route: str, key_class: str) -> "_OfCall":
        tokens = partial(self.tokens.labels, expert)
        phases = partial(self.phases.labels, expert)
        own = self._of_call[expert, route, key_class] = _OfCall(
            tokens("prompt", route, key_class),
            tokens("completion", route, key_class),
            tokens("cached", route, key_class),
            phases("queue"),
            phases("swap"),
            phases("prefill"),
            phases("decode"),
            self.gap.labels(expert),
        )
        return own

    def render(self, workers: Mapping[str, WorkerStats | str]) -> bytes:
        """Text exposition. workers: family -> its worker's stats, or why there are none."""
        self._workers.stats = workers
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class _OfCall:
    """What every call counts, found once: to look a label up costs as much as to count."""

    prompt: Counter
    completion: Counter
    cached: Counter
    queue: Histogram
    swap: Histogram
    prefill: Histogram
    decode: Histogram
    gap: Histogram


def _outcome(error: str | None) -> str:
    """A call's error is told as "code: message", or in two words where it is internal."""
    return "ok" if error is None else error.partition(":")[0].partition(" ")[0]


class BatchMetrics:
    """Those of the batches that this process works on; `jobs` are those of all."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Gauge(
            "coe_batch_jobs",
            "Batches that are not at their end, by status: validating, in_progress, finalizing, cancelling.",
            ("status",),
            registry=registry,
        )
        self.ended = Counter(
            "coe_batch_jobs_ended",
            "Batches that this process has ended, by status: completed, failed, expired, cancelled.",
            ("status",),
            registry=registry,
        )
        self.lines = Counter(
            "coe_batch_lines",
            "Lines and drafts that this process has ended, by outcome: answer, error, refused (when it was planned).",
            ("outcome",),
            registry=registry,
        )
        self.dead = Counter(
            "coe_batch_dead_letters",
            "Lines given up, by what happened: runner or engine (it went down of the line), tries (all have failed).",
            ("what",),
            registry=registry,
        )
        for what in ("runner", "engine", "tries"):
            self.dead.labels(what)
        for status in ("completed", "failed", "expired", "cancelled"):
            self.ended.labels(status)
        self.blocks = Gauge("coe_batch_blocks", "Blocks of lines under way in this process.", registry=registry)
        self.planning = Histogram(
            "coe_batch_planning_seconds", "Time of planning a batch.", buckets=_PLANNING_SECONDS, registry=registry
        )


class LostSpans(Collector):
    """count: tells how many spans of this process were lost; it never falls."""

    def __init__(self) -> None:
        self.count: Callable[[], int] = int  # none, where there are no traces

    def collect(self) -> Iterable[Metric]:
        meaning = "Spans of this gateway that no collector took."
        return [CounterMetricFamily("coe_trace_spans_lost", meaning, value=self.count())]


class _WorkerCollector(Collector):
    """Turns the workers' own counts into metrics: they are counted where they happen, in another process."""

    def __init__(self) -> None:
        self.stats: Mapping[str, WorkerStats | str] = {}

    def collect(self) -> Iterable[Metric]:
        families = [(family, stats) for family, stats in self.stats.items() if not isinstance(stats, str)]

        def one(kind: _Family, name: str, help_: str, value: Callable[[WorkerStats], float | None]) -> Metric:
            metric = kind(name, help_, labels=["family"])
            for family, stats in families:
                if (number := value(stats)) is not None:
                    metric.add_metric([family], number)
            return metric

        gauge, counter = partial(one, GaugeMetricFamily), partial(one, CounterMetricFamily)

        def by(kind: _Family, name: str, help_: str, label: str, value: Callable[[WorkerStats], _Values]) -> Metric:
            metric = kind(name, help_, labels=["family", label])
            for family, stats in families:
                for key, number in value(stats).items():
                    metric.add_metric([family, key], number)
            return metric

        up = GaugeMetricFamily("coe_worker_up", "1 if the family's worker answers.", labels=["family"])
        tier = GaugeMetricFamily(
            "coe_expert_tier",
            "1 for the tier in which an expert's image is, or failed; none while its engine starts.",
            labels=["family", "expert", "tier"],
        )
        for family, each in self.stats.items():
            up.add_metric([family], 0 if isinstance(each, str) else 1)
        for family, stats in families:
            for expert, where in stats.tiers.items():
                known = "failed" if where.startswith("failed") else where
                if known in (*READY_TIERS, "failed"):
                    tier.add_metric([family, expert, known], 1)
        return [
            up,
            tier,
            by(
                GaugeMetricFamily,
                "coe_expert_active",
                "1 for the expert that the engine computes with.",
                "expert",
                lambda stats: {expert: int(expert == stats.active) for expert in stats.tiers},
            ),
            by(
                GaugeMetricFamily,
                "coe_expert_queued",
                "Unfinished requests in the engine, by expert.",
                "expert",
                lambda stats: {expert: stats.queued_by_expert.get(expert, 0) for expert in stats.tiers},
            ),
            gauge("coe_workers", "Workers of the family that answer.", lambda s: s.workers),
            gauge(
                "coe_workers_wanted",
                "Workers that the family is to have by now; none while that is not known.",
                lambda s: s.workers_wanted or None,
            ),
            gauge("coe_worker_running", "Requests that the engine has begun to answer.", lambda s: s.running),
            gauge("coe_worker_waiting", "Requests that wait in the engine.", lambda s: s.waiting),
            gauge(
                "coe_oldest_wait_seconds",
                "Longest wait, now, of an expert with requests for its turn.",
                lambda s: s.oldest_wait,
            ),
            by(
                CounterMetricFamily,
                "coe_engine_request_seconds",
                "Seconds of finished requests in the engine: queue (before the first step), swap, execute, paused.",
                "part",
                lambda s: s.request_seconds,
            ),
            counter("coe_swaps", "Changes of the active expert.", lambda s: s.swaps),
            counter("coe_swap_seconds", "Time spent in swaps.", lambda s: s.swap_seconds),
            counter("coe_swap_hits", "Swaps to an image that was on the device already.", lambda s: s.swap_hits),
            by(
                CounterMetricFamily,
                "coe_image_loads",
                "Images loaded to the device, by the tier they came from.",
                "source",
                lambda s: s.loads,
            ),
            by(
                CounterMetricFamily,
                "coe_image_moved_bytes",
                "Bytes of images moved, by the tier they came from; over coe_image_moved_seconds_total: the speed.",
                "source",
                lambda s: s.moved_bytes,
            ),
            by(
                CounterMetricFamily,
                "coe_image_moved_seconds",
                "Seconds of moving images, by the tier they came from.",
                "source",
                lambda s: s.moved_seconds,
            ),
            by(
                GaugeMetricFamily,
                "coe_image_bytes",
                "Memory held by images, by tier; what images share counts once.",
                "tier",
                lambda s: s.tier_bytes,
            ),
            counter("coe_prefetches", "Loads that began while another expert computed.", lambda s: s.prefetched),
            counter(
                "coe_prefetches_used", "Prefetched images that were then computed with.", lambda s: s.prefetch_used
            ),
            counter("coe_wakes", "Families of a shared device that were woken.", lambda s: s.wakes),
            counter("coe_wake_seconds", "Time spent in waking families.", lambda s: s.wake_seconds),
            counter("coe_worker_restarts", "Engine restarts.", lambda s: s.restarts),
            counter(
                "coe_worker_spans_lost",
                "Spans of the family's workers that no collector took; families of one device tell the same.",
                lambda s: s.spans_lost,
            ),
        ]
