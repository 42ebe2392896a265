import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.metrics import Metrics
from workers.base import Usage, WorkerStats

DOCS = Path(__file__).parents[2] / "docs" / "api.md"

STATS: dict[str, WorkerStats | str] = {
    "small": WorkerStats(
        "small",
        {"a": "device", "b": "failed: no weights", "c": "host", "d": "starting"},
        active="a",
        running=3,
        waiting=2,
        swaps=7,
        swap_seconds=0.5,
        restarts=1,
        queued_by_expert={"c": 2},
        loads={"disk": 3},
        moved_bytes={"disk": 600, "host": 1},
        moved_seconds={"disk": 1.5},
        tier_bytes={"device": 400},
        swap_hits=4,
        prefetched=3,
        prefetch_used=2,
        oldest_wait=1.25,
        request_seconds={"queue": 2.0, "execute": 8.0},
        wakes=5,
        wake_seconds=6.5,
        workers=2,
        workers_wanted=3,
    ),
    "large": "it is starting",
}


def documented() -> dict[str, tuple[str, str]]:
    """Metric -> labels and meaning, as docs/api.md has them."""
    section = DOCS.read_text().split("\n## Metrics\n")[1]
    rows = re.findall(r"^\| `(coe_.*?)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    return {name: (labels, meaning) for name, labels, meaning in rows}


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_workers_own_counts_are_metrics() -> None:
    found = samples(Metrics().render(STATS))
    wanted = {
        ("coe_worker_up", "small"): 1,
        ("coe_worker_up", "large"): 0,
        ("coe_expert_tier", "a", "small", "device"): 1,
        ("coe_expert_tier", "b", "small", "failed"): 1,
        ("coe_expert_tier", "c", "small", "host"): 1,
        ("coe_expert_active", "a", "small"): 1,
        ("coe_expert_active", "c", "small"): 0,
        ("coe_expert_queued", "c", "small"): 2,
        ("coe_worker_running", "small"): 3,
        ("coe_worker_waiting", "small"): 2,
        ("coe_swaps_total", "small"): 7,
        ("coe_swap_seconds_total", "small"): 0.5,
        ("coe_worker_restarts_total", "small"): 1,
        ("coe_swap_hits_total", "small"): 4,
        ("coe_image_loads_total", "small", "disk"): 3,
        ("coe_image_moved_bytes_total", "small", "disk"): 600,
        ("coe_image_moved_seconds_total", "small", "disk"): 1.5,
        ("coe_image_bytes", "small", "device"): 400,
        ("coe_prefetches_total", "small"): 3,
        ("coe_prefetches_used_total", "small"): 2,
        ("coe_oldest_wait_seconds", "small"): 1.25,
        ("coe_workers", "small"): 2,
        ("coe_workers_wanted", "small"): 3,
        ("coe_engine_request_seconds_total", "small", "queue"): 2.0,
        ("coe_engine_request_seconds_total", "small", "execute"): 8.0,
        ("coe_wakes_total", "small"): 5,
        ("coe_wake_seconds_total", "small"): 6.5,
    }
    assert wanted.items() <= found.items()
    assert ("coe_worker_running", "large") not in found
    assert [key for key in found if key[0] == "coe_expert_tier" and "d" in key] == []  # it is in no tier yet


def test_each_render_shows_the_latest_stats_only() -> None:
    metrics = Metrics()
    metrics.render(STATS)
    assert ("coe_worker_up", "small") not in samples(metrics.render({"large": "gone"}))


def test_two_sets_of_metrics_are_apart() -> None:
    one, two = Metrics(), Metrics()
    one.count_usage("a", Usage(5, 2, 1))
    assert samples(one.render({}))["coe_tokens_total", "a", "prompt"] == 5
    assert ("coe_tokens_total", "a", "prompt") not in samples(two.render({}))


def test_the_docs_list_every_metric_with_its_labels_and_meaning() -> None:
    metrics = Metrics()
    for metric in (
        metrics.requests,
        metrics.errors,
        metrics.seconds,
        metrics.first_token,
        metrics.tokens,
        metrics.refused,
        metrics.circuit,
        metrics.batch.jobs,
        metrics.batch.ended,
        metrics.batch.lines,
        metrics.batch.dead,
    ):
        metric.labels(*["x"] * len(metric._labelnames))
    metrics.render(STATS)
    exposed = {}
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [label for label in family.samples[0].labels if label != "le"]
        exposed[name] = (", ".join(f"`{label}`" for label in labels), family.documentation)
    assert documented() == exposed


def test_other_pages_name_metrics_as_they_are_exposed() -> None:
    for page in DOCS.parent.glob("*.md"):
        named = set(re.findall(r"`(coe_[a-z_]+)", page.read_text())) - {"coe_client"}  # a package
        assert named <= documented().keys(), page.name
