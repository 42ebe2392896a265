import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator import logs
from orchestrator.logs import MASK, mask
from tests.orchestrator.parts import Service

KEY = "coe-" + "aB3_-" * 8 + "xyz"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged as JSON; afterwards logging is as it was."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.configure(stream=stream, level="debug")
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_the_bound_request_id(stream: io.StringIO) -> None:
    log = structlog.stdlib.get_logger("coe.test")
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        log.info("routed", expert="sql", seconds=0.5)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("logger") == "coe.test"
    assert line == {"event": "routed", "expert": "sql", "seconds": 0.5, "request_id": "req-1", "level": "info"}


def test_the_standard_logging_of_libraries_comes_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("closing %s", "now")
    [line] = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("closing now", "warning", "uvicorn.error")


def test_keys_are_masked_wherever_they_stand(stream: io.StringIO) -> None:
    log = structlog.stdlib.get_logger()
    log.info(f"got {KEY}", header={"authorization": f"Bearer {KEY}"}, many=[KEY, (KEY,)], error=ValueError(KEY))
    log.info("own key", header="bearer my-own-key")
    logging.getLogger("x").warning("curl -H 'Authorization: Bearer my-own-key'")
    try:
        raise ValueError(f"bad {KEY}")
    except ValueError:
        log.exception("failed")
    assert KEY not in stream.getvalue()
    assert "my-own-key" not in stream.getvalue()
    assert stream.getvalue().count(MASK) >= 6


@pytest.mark.parametrize("text", ["coe-serve", "coe_requests_total", "a sub-coe-x", "req-" + "a" * 32])
def test_other_text_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_local_variables_do_not_stand_in_tracebacks(stream: io.StringIO) -> None:
    def fails(prompt: str) -> None:
        raise ValueError("no")

    try:
        fails("Rumpel" + "stiltskin")
    except ValueError:
        structlog.stdlib.get_logger().exception("failed")
    [line] = lines(stream)
    assert "ValueError: no" in line["exception"]
    assert "Rumpelstiltskin" not in stream.getvalue()


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="'loud': allowed are debug"):
        logs.configure(level="loud")


def test_people_get_readable_lines(stream: io.StringIO) -> None:
    people = io.StringIO()
    logs.configure(stream=people, json=False)
    structlog.stdlib.get_logger().info("routed", expert="sql")
    assert "routed" in people.getvalue()
    assert not people.getvalue().startswith("{")


@pytest.mark.parametrize("streamed", [False, True])
async def test_no_prompt_answer_or_key_gets_into_the_logs(
    service: Service, stream: io.StringIO, streamed: bool
) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Rumpelstiltskin"}], "stream": streamed}
    good = await service.http.post("/v1/chat/completions", json=body)
    assert "Rumpelstiltskin" in good.text
    service.engine.fail_next("internal")
    failed = await service.http.post("/v1/chat/completions", json=body)
    service.router.error = ZeroDivisionError("oops")
    await service.http.post("/v1/chat/completions", json=body)
    await service.http.post("/v1/chat/completions", json={**body, "temperature": 9})
    await service.http.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer my-own-key"})
    await service.pipeline.drain()
    told = lines(stream)
    for secret in ("Rumpelstiltskin", "heard", service.key, "my-own-key"):
        assert secret not in stream.getvalue()
    done = [line for line in told if line["event"] == "request"]
    assert [line["outcome"] for line in done] == ["ok", "internal", "internal"]
    assert done[0]["request_id"] == good.headers["x-request-id"]
    errors = [line for line in told if line["event"] == "error answered"]
    assert (errors[0]["cause"], errors[0]["request_id"]) == ("internal", failed.headers["x-request-id"])
    assert "ZeroDivisionError: oops" in errors[1]["exception"]
