"""Who can reach the service, TLS, and what browsers are told."""

import asyncio
import re
import resource
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.config.load import load_config
from orchestrator.config.model import Config
from orchestrator.http.guards import Cors, allowed_origins
from orchestrator.http.server import Tls
from orchestrator.keys import Keys
from orchestrator.listening import CannotStart, allow_files, exposed, tls_context
from orchestrator.serve import _first_key
from orchestrator.settings import ConfigError, Server, Settings, resolve
from orchestrator.store import Store
from tests.orchestrator.certificates import Certificate, certificate
from tests.orchestrator.parts import Service
from tests.orchestrator.served import served

PAGE = "https://app.example.com"


def settings(host: str, key: str | None = None, redis_url: str | None = None) -> Settings:
    return resolve({"host": host, "api_key": key, "redis_url": redis_url}, {"HOME": "/home/ada"}, None)


def with_tls(made: Certificate, client_ca: Path | None = None) -> Config:
    return Config(server=Server(tls_cert=made.cert, tls_key=made.key, tls_client_ca=client_ca))


# Beyond loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "coe.example.com"])
async def test_beyond_loopback_a_service_without_keys_does_not_start(store: Store, redis_url: str, host: str) -> None:
    with pytest.raises(
        CannotStart, match=r"no API key yet.*set COE_API_KEY, or make a key first, with `coe keys create"
    ):
        await _first_key(redis_url, settings(host))
    assert await Keys(store).list() == []


async def test_beyond_loopback_it_starts_with_a_key_that_was_given_or_made(store: Store, redis_url: str) -> None:
    key, _ = await Keys(store).create("made")
    assert await _first_key(redis_url, settings("0.0.0.0")) is None
    assert await _first_key(redis_url, settings("0.0.0.0", key="given-0123456789")) is None
    assert {info.name for info in await Keys(store).list()} == {"made", "first"}
    assert (await Keys(store).verify(key)).name == "made"


async def test_on_loopback_the_first_key_is_made(store: Store, redis_url: str) -> None:
    key = await _first_key(redis_url, settings("127.0.0.1"))
    assert key
    assert (await Keys(store).verify(key)).name == "first"


def test_listening_beyond_loopback_without_tls_is_told(tmp_path: Path) -> None:
    told = exposed(settings("0.0.0.0"), Config())
    assert told
    assert "without TLS" in told
    assert exposed(settings("0.0.0.0"), with_tls(certificate(tmp_path, "server"))) is None
    assert exposed(settings("::1"), Config()) is None


def test_connections_have_the_files_that_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, asked = (1024, 8192), []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    assert allow_files(1000) is None
    assert asked.pop() == (6120, 8192)
    assert "lower limits.connections" in (allow_files(10_000) or "")
    assert asked.pop() == (8192, 8192)
    limits = (2**16, 2**16)
    assert allow_files(1000) is None
    assert asked == []


# TLS


async def test_the_service_speaks_https(store: Store, tmp_path: Path) -> None:
    made = certificate(tmp_path, "server")
    async with served(await Service.start(store), tls=tls_context(with_tls(made))) as it:
        trusting = ssl.create_default_context(cafile=str(made.cert))
        headers = {"authorization": f"Bearer {it.service.key}"}
        async with httpx2.AsyncClient(verify=trusting, headers=headers, trust_env=False) as client:
            answer = await client.get(f"https://127.0.0.1:{it.port}/v1/models")
            assert answer.status_code == 200
            assert answer.headers["x-content-type-options"] == "nosniff"
        async with it.wire(ssl=trusting) as wire:
            await wire.send(b"\x00garbage\r\n\r\n")
            assert (await wire.answer()).code == "malformed_request"
        async with it.wire() as wire:  # without TLS nothing is said
            await wire.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP" not in await wire.ended()
        old = ssl.create_default_context(cafile=str(made.cert))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with it.wire(ssl=old) as wire:
            await wire.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await wire.answer()).status == 200


def test_protocols_before_tls_1_2_are_off(tmp_path: Path) -> None:
    made = certificate(tmp_path, "server")
    assert Tls(made.cert, made.key).context().minimum_version == ssl.TLSVersion.TLSv1_2


async def test_clients_show_certificates_where_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    made, authority = certificate(tmp_path, "server"), certificate(tmp_path, "authority")
    known, stranger = certificate(tmp_path, "known", authority), certificate(tmp_path, "stranger")
    async with served(await Service.start(store), tls=tls_context(with_tls(made, authority.cert))) as it:

        async def asks(shown: Certificate | None) -> int:
            context = ssl.create_default_context(cafile=str(made.cert))
            if shown:
                context.load_cert_chain(shown.cert, shown.key)
            async with it.wire(ssl=context) as wire:
                await wire.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
                return (await wire.answer()).status

        assert await asks(known) == 200
        for wrong in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await asks(wrong)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(Config()) is None


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    locked = certificate(tmp_path, "locked", password=b"hunter2")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for cert, key, told in (
        (tmp_path / "missing.pem", one.key, r"server\.tls_cert: .*missing\.pem is not there"),
        (one.cert, other.key, "the key that of the certificate"),
        (one.cert, locked.key, "without a password"),
        (broken, one.key, "must be PEM files"),
        (one.cert, broken, "must be PEM files"),
    ):
        with pytest.raises(CannotStart, match=told):
            tls_context(Config(server=Server(tls_cert=cert, tls_key=key)))


def test_paths_are_relative_to_the_file(file: Path) -> None:
    file.write_text("server: {tls_cert: a.pem, tls_key: /b.key, tls_client_ca: sub/ca.pem}\n")
    server = load_config(file, env={"HOME": "/home/ada"}).server
    assert (server.tls_cert, server.tls_key) == (file.parent / "a.pem", Path("/b.key"))
    assert server.tls_client_ca == file.parent / "sub/ca.pem"


def test_clients_on_this_machine_use_https_too() -> None:
    config = Config(server=Server(tls_cert=Path("/a"), tls_key=Path("/b")))
    assert resolve({}, {"HOME": "/home/ada"}, config).url == "https://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{tls_cert: a.pem}", "server.tls_cert: TLS takes a certificate and its key: name the file of 'tls_key' too"),
        ("{tls_key: a.pem}", "server.tls_key: TLS takes a certificate and its key: name the file of 'tls_cert' too"),
        ("{tls_client_ca: a.pem}", "server.tls_client_ca: without 'tls_cert' and 'tls_key' no client shows"),
        ("{cors_origins: ['*'], cors_credentials: true}", "credentials do not go together with the origin '*'"),
        ("{cors_origins: [app.example.com]}", "'app.example.com' is no origin; allowed: SCHEME://HOST"),
        ("{cors_origins: ['https://a.com/path']}", "is no origin"),
        ("{cors_origins: ['null']}", "is no origin"),
        ("{cors_origins: ['https://*.a.com']}", "is no origin"),
    ],
)
def test_settings_that_do_not_go_together(file: Path, text: str, told: str) -> None:
    file.write_text(f"server: {text}\n")
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config(file, env={"HOME": "/home/ada"})


# CORS


async def asked(store: Store, cors: Cors, method: str = "GET", **headers: str) -> httpx2.Response:
    service = await Service.start(store, cors=cors)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(service.app), base_url="http://coe") as client:
        answer = await client.request(
            method, "/v1/models", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
    await service.stop()
    return answer


def cors_headers(answer: httpx2.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control")}


async def test_by_default_no_page_may_use_the_api(store: Store) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await asked(store, Cors(), method, origin=PAGE, access_control_request_method="POST")
        assert cors_headers(answer) == {}
        assert answer.status_code >= 400


async def test_a_page_that_is_named_may_and_reads_errors_too(store: Store) -> None:
    answer = await asked(store, Cors((PAGE,)), origin=PAGE)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_a_browser_is_told_what_it_may_send(store: Store) -> None:
    answer = await asked(store, Cors((PAGE,)), "OPTIONS", origin=PAGE, access_control_request_method="POST")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert {"authorization", "x-coe-timeout-s"} <= set(answer.headers["access-control-allow-headers"].split(", "))


async def test_openai_s_own_client_may_send_its_headers_from_a_page_and_no_others(store: Store) -> None:
    wanted = "authorization,x-stainless-os,x-stainless-retry-count,openai-organization,x-evil,x-stainless-<b>"
    fields = {"access_control_request_method": "POST", "access_control_request_headers": wanted}
    answer = await asked(store, Cors((PAGE,)), "OPTIONS", origin=PAGE, **fields)
    own = set(answer.headers["access-control-allow-headers"].split(", "))
    assert {"x-stainless-os", "x-stainless-retry-count", "openai-organization"} <= own
    assert not {name for name in own if "evil" in name or "<" in name}


async def test_a_page_may_read_when_to_try_again_and_what_is_left(store: Store) -> None:
    answer = await asked(store, Cors((PAGE,)), origin=PAGE)
    shown = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"retry-after", "x-should-retry", "x-ratelimit-remaining-tokens", "x-coe-replayed"} <= shown


@pytest.mark.parametrize(
    "origin", ["https://evil.com", "https://app.example.com.evil.com", "http://app.example.com", "null", "*"]
)
async def test_another_page_may_not(store: Store, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await asked(store, Cors((PAGE,)), method, origin=origin, access_control_request_method="POST")
        assert cors_headers(answer) == {}
        assert answer.status_code >= 400


async def test_every_page_may_if_so_wished_but_not_with_credentials(store: Store) -> None:
    answer = await asked(store, Cors(("*",)), origin="https://anything.example")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    with pytest.raises(ValueError, match="do not go together"):
        Cors(("*",), credentials=True)
    named = await asked(store, Cors((PAGE,), credentials=True), origin=PAGE)
    assert named.headers["access-control-allow-credentials"] == "true"


def test_origins_are_compared_as_browsers_write_them() -> None:
    assert allowed_origins(["HTTPS://App.Example.com/", "http://localhost:3000"]) == (PAGE, "http://localhost:3000")
