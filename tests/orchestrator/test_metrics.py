"""What the service counts, as Prometheus reads it: of its calls and of its workers, with labels that are known."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from helm.metrics_page import described
from orchestrator.events import CallMade
from orchestrator.metrics import Metrics
from tests.orchestrator.chat_parts import CHAT
from tests.orchestrator.parts import REGISTRY, Service
from workers.base import Phases, Usage, WorkerStats

DOCS = Path(__file__).parents[2] / "docs"

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
        spans_lost=8,
        workers=2,
        workers_wanted=3,
    ),
    "large": "it is starting",
}


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
        ("coe_worker_spans_lost_total", "small"): 8,
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
    one.count_call(CallMade("a", "answer", 1.0, Usage(5, 2, 1)), "auto", "normal")
    tokens = "coe_tokens_total", "a", "normal", "prompt", "auto"
    assert samples(one.render({}))[tokens] == 5
    assert tokens not in samples(two.render({}))


def test_a_call_counts_its_outcome_tokens_cost_and_phases() -> None:
    metrics = Metrics()
    phases = Phases(queue=1.0, swap=0.25, prefill=0.5, decode=6.0)
    metrics.count_call(CallMade("a", "draft", 9.0, Usage(5, 4, 1), cost=0.5, phases=phases), "ensemble", "batch")
    metrics.count_call(CallMade("a", "draft", 9.0, error="cancelled"), "ensemble", "batch")
    metrics.count_call(CallMade("a", "judge", 9.0, error="engine_died: it went down"), "ensemble", "batch")
    metrics.count_call(CallMade("a", "judge", 9.0, error="internal error"), "ensemble", "batch")
    found = samples(metrics.render({}))
    wanted = {
        ("coe_calls_total", "a", "ok", "draft"): 1,
        ("coe_calls_total", "a", "cancelled", "draft"): 1,
        ("coe_calls_total", "a", "engine_died", "judge"): 1,
        ("coe_calls_total", "a", "internal", "judge"): 1,
        ("coe_tokens_total", "a", "batch", "completion", "ensemble"): 4,
        ("coe_tokens_total", "a", "batch", "cached", "ensemble"): 1,
        ("coe_cost_usd_total", "a", "batch", "ensemble"): 0.5,
        ("coe_call_seconds_sum", "a", "queue"): 1,
        ("coe_call_seconds_sum", "a", "swap"): 0.25,
        ("coe_call_seconds_sum", "a", "prefill"): 0.5,
        ("coe_call_seconds_sum", "a", "decode"): 6,
        ("coe_inter_token_seconds_sum", "a"): 2,
        ("coe_inter_token_seconds_count", "a"): 1,
    }
    assert wanted.items() <= found.items()


def test_pages_name_metrics_as_they_are_exposed() -> None:
    known = {own.name for own in described()}
    for page in DOCS.glob("*.md"):
        named = set(re.findall(r"`(coe_[a-z_]+[a-z])", page.read_text())) - {"coe_client", "coe_image_moved"}
        assert named <= known, page.name


async def test_metrics_need_no_key_and_have_no_label_that_a_caller_made_up(service: Service) -> None:
    for body in (CHAT, {**CHAT, "model": "made-up-name"}, {**CHAT, "bad": 1}):
        await service.http.post("/v1/chat/completions", json=body)
    client = service.http
    del client.headers["authorization"]
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'coe_requests_total{expert="sql",key_class="normal",outcome="ok",route="auto"} 1.0' in response.text
    assert 'coe_errors_total{cause="model_not_found"} 1.0' in response.text
    assert 'coe_errors_total{cause="unknown_parameter"} 1.0' in response.text
    assert 'coe_expert_tier{expert="sql",family="small",tier="device"} 1.0' in response.text
    assert "made-up-name" not in response.text


async def test_what_is_rare_is_there_before_its_first(service: Service) -> None:
    found = samples((await service.http.get("/metrics")).content)
    assert found["coe_errors_total", "store_unavailable"] == 0
    assert {found["coe_feedback_score_count", expert] for expert in (*REGISTRY.names, "none")} == {0}
    assert {found["coe_batch_jobs_ended_total", end] for end in ("completed", "failed", "expired", "cancelled")} == {0}
    assert {found["coe_batch_dead_letters_total", what] for what in ("runner", "engine", "tries")} == {0}
