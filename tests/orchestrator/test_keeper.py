"""The keeper as a Serve replica: what it is told, what it makes of it, and when it says that it is not well."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from orchestrator import keeper, keeping, logs
from orchestrator.keeper import QUIET_S, KeptByServe, application, read
from orchestrator.settings import ConfigError
from tests.orchestrator.applying_parts import yaml
from tests.orchestrator.test_keeping import Recorded, experts_of


def told(*experts: str, **more: object) -> dict[str, object]:
    return {"coe.yaml": yaml(*experts), **more}


def test_it_reads_the_text_as_if_it_stood_in_the_file_that_its_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COE_CONFIG", "/etc/coe/coe.yaml")  # which is not there
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    settings, config = read(told("one ./models/1", fake=True))
    assert (settings.home, config.experts[0].source) == (tmp_path, "/etc/coe/models/1")
    assert {config.engine(family) for family in config.registry().families()} == {"fake"}
    with pytest.raises(ConfigError, match=r"/etc/coe/coe\.yaml:\d+: .*nobody"):
        read({"coe.yaml": yaml("one /m/1").replace("fallback: one", "fallback: nobody")})


@pytest.mark.parametrize("wrong", [{}, {"coe.yaml": 3}, {"coe.yaml": "x", "coe_yaml": "y"}])
def test_what_it_is_told_has_no_other_keys(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"user_config: coe[._]yaml: "):
        read(wrong)


def test_it_takes_no_arguments() -> None:
    with pytest.raises(ValueError, match="user_config"):
        application({"config": "x"})


@asynccontextmanager
async def replica(monkeypatch: pytest.MonkeyPatch, home: Path, serve: Recorded) -> AsyncIterator[KeptByServe]:
    """The replica without Serve, on these applications."""
    monkeypatch.setenv("COE_HOME", str(home))
    monkeypatch.setattr(keeper, "ServeApplications", lambda: serve)
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    monkeypatch.setattr(keeping, "EVERY_S", 0.01)
    own = KeptByServe()
    yield own
    await own.close()


async def until_served(serve: Recorded, *experts: str) -> None:
    async with asyncio.timeout(60):
        while experts_of(serve) != {*experts}:
            await asyncio.sleep(0.01)


async def test_it_follows_what_it_is_told_and_stays_with_the_last_that_it_could_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Recorded()
    async with replica(monkeypatch, tmp_path, serve) as own:
        await own.reconfigure(told("one /m/1"))
        await until_served(serve, "one")
        await own.reconfigure(told("one /m/1", "two /m/2"))
        await until_served(serve, "one", "two")
        with structlog.testing.capture_logs() as log:
            async with asyncio.timeout(60):
                for wrong in (told("one /m/1", unknown=1), {"coe.yaml": "experts: 3"}):
                    log.clear()
                    await own.reconfigure(wrong)
                    while not [line for line in log if "cannot be used" in line["event"]]:
                        await asyncio.sleep(0.01)
        await own.check_health()
        assert experts_of(serve) == {"one", "two"}
        await own.reconfigure(told("one /m/1", "two /m/2", "three /m/3"))
        await until_served(serve, "one", "two", "three")


async def test_a_first_configuration_that_cannot_be_used_is_told_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(monkeypatch, tmp_path, Recorded()) as own:
        with pytest.raises(ConfigError, match="experts"):
            await own.reconfigure({"coe.yaml": "experts: 3"})


class Away(Recorded):
    """Serve does not answer."""

    def names(self) -> frozenset[str]:
        raise ConnectionError("no controller")


async def test_it_is_not_well_once_its_work_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica(monkeypatch, tmp_path, Away()) as own:
        await own.reconfigure(told("one /m/1"))
        await own.check_health()  # it has only begun
        assert own._work is not None
        await asyncio.wait([own._work])
        with pytest.raises(RuntimeError, match="not kept any more") as error:
            await own.check_health()
        assert isinstance(error.value.__cause__, ConnectionError)


async def test_it_is_not_well_when_it_has_not_looked_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = Recorded()
    async with replica(monkeypatch, tmp_path, serve) as own:
        monkeypatch.setattr(keeping, "EVERY_S", 600.0)
        await own.reconfigure(told("one /m/1"))
        await until_served(serve, "one")
        assert own._kept is not None
        async with asyncio.timeout(60):
            while own._kept.looked is None:
                await asyncio.sleep(0.01)
        await own.check_health()
        own._kept.looked = time.monotonic() - QUIET_S - 1
        with pytest.raises(RuntimeError, match="nobody has looked after the workers for 121 s"):
            await own.check_health()
