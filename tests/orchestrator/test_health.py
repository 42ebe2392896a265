"""/health: whether a gateway lives, who of its experts cannot answer, and when it is to be sent requests."""

import pytest
from starlette.applications import Starlette

from orchestrator.http.guards import Bounds
from orchestrator.http.health import Serving
from orchestrator.http.server import make_server
from tests.orchestrator.parts import SQL, Service

LOADING = "loading"
FAILED = "failed: no weights"


@pytest.mark.parametrize(
    ("missing", "after", "is_so"),
    [
        ({}, 0.0, True),
        ({"a": LOADING}, 0.0, False),
        ({"a": LOADING}, 59.9, False),
        ({"a": LOADING}, 60.0, True),  # the others can answer, and it has been waited for long enough
        ({"a": FAILED}, 0.0, True),  # waiting would not help
        ({"a": FAILED, "b": LOADING}, 0.0, False),
        ({"a": LOADING, "b": LOADING, "c": LOADING}, 60.0, False),  # nobody can answer
        ({"a": FAILED, "b": FAILED, "c": FAILED}, 60.0, False),
    ],
)
def test_a_gateway_serves_once_its_experts_are_there_or_enough_time_has_passed(
    missing: dict[str, str], after: float, is_so: bool
) -> None:
    assert Serving(experts=3, ready_s=60.0, since=100.0).look(missing, 100.0 + after) is is_so


def test_a_gateway_that_serves_goes_on_whatever_fails_later() -> None:
    serving = Serving(experts=1, ready_s=60.0, since=0.0)
    assert not serving.look({"a": LOADING}, 1.0)
    assert serving.look({}, 2.0)
    assert serving.look({"a": "its worker does not answer"}, 3.0)


async def test_the_path_tells_it_and_who_cannot_answer(service: Service) -> None:
    service.engine.fail_start(SQL, "no weights")
    response = await service.http.get("/health/serving", headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, {"status": "ready", "not_ready": {SQL: FAILED}})
    assert (await service.http.get("/health/ready")).status_code == 503


def test_a_gateway_gives_what_is_under_way_the_time_that_is_configured() -> None:
    server = make_server(Starlette(), Bounds(), drain_s=45.5)
    assert server.config.timeout_graceful_shutdown == 46


async def test_health_needs_no_key_and_tells_who_cannot_answer(service: Service) -> None:
    client = service.http
    del client.headers["authorization"]
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await client.get(path)).status_code == 200
    service.engine.fail_start(SQL, "no weights")
    for path in ("/health", "/health/ready"):
        response = await client.get(path)
        assert response.status_code == 503
        assert response.json()["not_ready"] == {SQL: "failed: no weights"}
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health")).json()["store"] == "ok"
