import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from experts.spec import ExpertSpec
from orchestrator import logs
from orchestrator.config.model import Config, FamilyConfig, RouterConfig
from orchestrator.logs import MASK, mask
from orchestrator.settings import Server, resolve
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


SECRETS = {
    "ours": KEY,
    "openai": "sk-proj-" + "aB3_" * 8,
    "hub": "hf_" + "aB3" * 11,
    "github": "ghp_" + "aB3" * 12,
    "aws": "AKIA" + "AB34" * 4,
    "bearer": "my-own-key",
    "url": "hunter2",
}
TEXTS = [
    f"got {SECRETS['ours']}.",
    f"key={SECRETS['openai']}, more",
    f"HF_TOKEN {SECRETS['hub']}",
    f"({SECRETS['github']})",
    f"id {SECRETS['aws']}",
    "Authorization: Bearer my-own-key",
    "{'authorization': 'bearer my-own-key', 'a': 1}",
    "Authorization: Basic aHVudGVyMjpodW50ZXIy",
    "redis://ada:hunter2@redis:6379/0 is away",
    "rediss://:hunter2@redis:6379",
    "https://user:hunter2:hunter2@host/path",
    "GET /x?api_key=hunter2&a=1 and token=hunter2",
]


def hides(text: str) -> bool:
    return not any(secret in text for secret in (*SECRETS.values(), "aHVudGVyMjpodW50ZXIy"))


@pytest.mark.parametrize("text", TEXTS)
def test_secrets_of_all_kinds_are_masked(text: str) -> None:
    assert not hides(text)
    assert hides(mask(text))
    assert MASK in mask(text)


class Holder:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Holder({self.secret})"


@pytest.mark.parametrize("text", TEXTS)
def test_they_are_masked_in_every_place_of_an_event(stream: io.StringIO, text: str) -> None:
    log = structlog.stdlib.get_logger()
    log.warning(text, text=text, bytes=text.encode(), held=Holder(text), deep={"a": [{text: (text, {text})}]})
    log.info("as %s", text)
    logging.getLogger("library").error("%r and %s", Holder(text), text)
    try:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError(text), OSError(5, text)]) from error
    except ExceptionGroup as error:
        log.exception("failed", error=error)
        logging.getLogger("library").exception("failed")
    assert len(lines(stream)) == 5
    assert hides(stream.getvalue())


def test_what_goes_by_the_name_of_a_secret_is_masked_whatever_it_is(stream: io.StringIO) -> None:
    structlog.stdlib.get_logger().info("x", api_key="abc", headers={"Authorization": "abc", "cookie": b"abc"})
    structlog.stdlib.get_logger().info("x", redis_password="abc", nested=[{"openai_api_key": "abc"}])
    assert "abc" not in stream.getvalue()
    assert stream.getvalue().count(MASK) == 5


def test_what_is_told_of_keys_is_not(stream: io.StringIO) -> None:
    structlog.stdlib.get_logger().info("x", tokens=5, prompt_tokens=7, key="name", api_key=None)
    [line] = lines(stream)
    assert (line["tokens"], line["prompt_tokens"], line["key"], line["api_key"]) == (5, 7, "name", None)


def test_configuration_that_is_logged_or_shown_holds_no_secrets(stream: io.StringIO) -> None:
    remote = ExpertSpec(name="far", kind="remote", source="a.b:C", options={"api_key": "plain-hunter2"})
    config = Config(
        experts=(remote, ExpertSpec(name="near", source="models/near")),
        router=RouterConfig(kind="fixed", fallback="far"),
        families={"near": FamilyConfig(engine_args={"s3_password": "plain-hunter2"})},
        server=Server(redis_url=SecretStr("redis://ada:hunter2@h")),
    )
    settings = resolve({"api_key": "plain-hunter2-key", "redis_url": "redis://ada:hunter2@h"}, {"HOME": "/"}, config)
    structlog.stdlib.get_logger().info("x", config=config, settings=settings, spec=remote)
    for text in (repr(config), str(config), repr(remote), str(remote), repr(settings), stream.getvalue()):
        assert "hunter2" not in text


@pytest.mark.parametrize("text", ["coe-serve", "coe_requests_total", "a sub-coe-x", "req-" + "a" * 32, "http://127.0.0.1:8000/v1",
    "task-based", "basic knowledge", "https://host/a:b@c", "tokens=5 in 3 s", "risk-free-" + "a" * 20])  # fmt: skip
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
    logs.configure(stream=people, as_json=False)
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
