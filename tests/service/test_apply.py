"""Experts come, go and change under a steady load: real Ray Serve, real Redis, fake engines, the official client."""

import subprocess
import time
from pathlib import Path

import openai
import pytest

from benchmarks.live import Live, service
from tests.processes import descendants
from tests.service.commands import coe
from tests.service.load import Load

pytestmark = pytest.mark.service

HEAD = """
router: {kind: fixed, fallback: stays}
families:
  f: {num_cpus: 0.1, engine_args: {fake_token_delay: 0.01}}
  device-one: {device: d}
  device-two: {device: d}
devices:
  d: {num_cpus: 0.1}
experts:
  - {name: stays, source: /m/stays, family: f}
  - {name: one, source: /m/one, family: device-one}
  - {name: two, source: /m/two, family: device-two}
"""


def expert(name: str, source: str, tokens: int, family: str = "f") -> str:
    return f"  - {{name: {name}, source: {source}, family: {family}, sampling: {{max_tokens: {tokens}}}}}\n"


def workers(live: Live) -> dict[int, str]:
    """Pid -> name of the processes that are replicas of Serve's."""
    return {pid: name for pid, name in descendants(live.process.pid).items() if "ServeReplica:" in name}


def apply(live: Live, key: str, config: Path, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    config.write_text(text)
    port = live.url.rpartition(":")[2]
    return coe("experts", "apply", "--config", str(config), *more, COE_API_KEY=key, COE_PORT=port)


def test_experts_come_go_and_change_and_no_request_for_the_others_fails(tmp_path: Path) -> None:
    config = tmp_path / "coe.yaml"
    before = HEAD + expert("changes", "/m/v0", 10) + expert("goes", "/m/goes", 12)
    config.write_text(before)
    with service(tmp_path / "home", ["--fake", "--config", str(config)], within=120) as live:
        made = coe("keys", "create", "admin", "--admin", COE_HOME=str(tmp_path / "home"))
        assert made.returncode == 0, made.stderr
        admin, there = made.stdout.split()[0], workers(live)
        assert len(there) == 2

        refused = apply(live, live.key, config, before)
        assert (refused.returncode, "'admin'" in refused.stderr) == (1, True)
        broken = apply(live, admin, config, before.replace("fallback: stays", "fallback: nobody"))
        assert (broken.returncode, "router.fallback" in broken.stderr) == (1, True)

        load = Load(live, ["stays", "auto", "changes", "one", "two"])
        with load.running():
            time.sleep(2)
            dry = apply(live, admin, config, before + expert("new", "/m/new", 7), "--dry-run")
            assert (dry.returncode, dry.stdout) == (0, "+ new\n"), dry.stderr
            for number in range(1, 4):
                changed = HEAD + expert("changes", f"/m/v{number}", 10 + number) + expert(f"new{number}", "/m/new", 7)
                if number < 3:
                    changed += expert("goes", "/m/goes", 12)
                changed += expert(f"second{number}", "/m/second", 6, "device-two")
                done = apply(live, admin, config, changed)
                assert done.returncode == 0, done.stderr
                assert {f"+ new{number}", "~ changes (other weights)"} <= set(done.stdout.splitlines())
                asked = Load(live, [])
                with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0, timeout=60) as client:
                    for model in (f"new{number}", f"second{number}", "changes"):
                        asked.once(client, model)
                    if number == 3:
                        with pytest.raises(openai.NotFoundError, match="'goes'"):
                            asked.once(client, "goes")
                expected = {(f"new{number}", 7): 1, (f"second{number}", 6): 1, ("changes", 10 + number): 1}
                assert asked.answers == expected
            time.sleep(1)
        assert load.failures == []
        assert {model for model, _ in load.answers} == {"stays", "auto", "changes", "one", "two"}
        assert {tokens for model, tokens in load.answers if model == "changes"} <= {10, 11, 12, 13}
        assert {tokens for model, tokens in load.answers if model != "changes"} == {22}
        assert workers(live).keys() == there.keys()
        assert {"goes", "new1"}.isdisjoint(e["name"] for e in live.get("/v1/experts").json()["data"])
