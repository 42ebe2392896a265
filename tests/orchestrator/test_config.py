# ruff: noqa: E501 (messages are compared whole)
"""coe.yaml: what it means, and what each mistake in it is answered with."""

import errno
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from experts.registry import Registry
from experts.spec import ExpertSpec
from experts.starter import starter_experts
from orchestrator.config import Config, DeviceConfig, FamilyConfig, Limits, RouterConfig, SwapConfig, TurnsConfig
from orchestrator.config_load import ConfigError, default_config, load, load_config
from orchestrator.config_schema import json_schema, written

ROOT = Path(__file__).parents[2]
HOME = Path("/data/coe")
ENV = {"HOME": "/home/ada"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "coe.yaml"


def read(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(file, HOME, ENV)


def told(file: Path, text: str | bytes) -> list[str]:
    """The problems, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    return [line.replace(f"{file.parent}/", "") for line in caught.value.problems]


# What a file means


def test_no_file_is_the_starter_pool() -> None:
    config = default_config(HOME)
    assert config == Config(experts=starter_experts(HOME), router=RouterConfig(fallback="smol-general"))
    assert list(config.registry().families()) == ["smollm2-135m"]
    assert config.engine("smollm2-135m") == "vllm"


@pytest.mark.parametrize("text", ["log_level: info\n", "experts:\nrouter:\nlimits:\n", "experts: []\n"])
def test_a_file_without_experts_is_the_starter_pool(file: Path, text: str) -> None:
    assert read(file, text) == default_config(HOME)


def test_the_starter_pool_lies_under_the_home_of_the_file_if_no_other_is_given(file: Path) -> None:
    file.write_text("server: {home: ./data}\n")
    assert load_config(file, None, ENV).experts == starter_experts(file.parent / "data")
    assert load_config(file, HOME, ENV).experts == starter_experts(HOME)
    file.write_text("log_level: info\n")
    assert load_config(file, None, ENV).experts == starter_experts(Path("/home/ada/.coe"))
    with pytest.raises(ConfigError, match="HOME, which is not set"):
        load_config(file, None, {})


def test_every_section(file: Path) -> None:
    config = read(
        file,
        """
experts:
  - {name: chat, source: org/chat, family: llama, parameters: 8B, languages: [en, no]}
  - {name: poet, source: ./poet, kind: adapter, base: chat}
  - name: far
    kind: remote
    source: langchain_openai:ChatOpenAI
    options: {model: m, api_key: env:KEY}
router: {kind: fixed, fallback: chat, experts_per_request: 2}
families:
  llama:
    dtype: bfloat16
    num_gpus: 0.5
    swap: {overhead: 0.2, max_wait_s: 5}
    engine_args: {gpu_memory_utilization: 0.9, compilation_config: {mode: 0}}
limits: {messages: 8, timeout_s: 12}
server: {host: "::", port: "9000", ray_address: auto}
log_level: WARNING
""",
    )
    assert config.registry().names == ("chat", "poet", "far")
    assert config.experts[0].parameters == 8_000_000_000
    assert config.experts[0].languages == ("en", "no")  # not false, as YAML 1.1 has it
    assert config.router == RouterConfig(kind="fixed", fallback="chat", experts_per_request=2)
    assert config.family("llama") == FamilyConfig(
        dtype="bfloat16",
        num_gpus=0.5,
        swap=SwapConfig(overhead=0.2, max_wait_s=5),
        engine_args={"gpu_memory_utilization": 0.9, "compilation_config": {"mode": 0}},
    )
    assert {family: config.engine(family) for family in config.registry().families()} == {
        "llama": "vllm",
        "far": "remote",
    }
    assert config.family("far") == FamilyConfig()
    assert config.limits == Limits(messages=8, timeout_s=12)
    assert (config.server.host, config.server.port, config.server.ray_address) == ("::", 9000, "auto")
    assert config.log_level == "warning"
    assert pickle.loads(pickle.dumps(config)) == config


def test_defaults() -> None:
    limits = Limits()
    assert (limits.body_bytes, limits.messages, limits.max_tokens) == (1024 * 1024, 256, 8192)
    assert (limits.timeout_s, limits.concurrent_requests, limits.keep_alive_s) == (600, 256, 10)
    assert SwapConfig() == SwapConfig(overhead=0.10, max_wait_s=30)


@pytest.mark.parametrize(("fallback", "pinned"), [("chat", {"chat"}), ("polite", {"chat"}), ("other", set())])
def test_the_image_of_the_fallback_is_pinned(fallback: str, pinned: set[str]) -> None:
    experts = (
        ExpertSpec(name="chat", source="./chat"),
        ExpertSpec(name="polite", kind="adapter", source="./polite", base="chat"),
        ExpertSpec(name="other", source="./other"),
    )
    assert Config(experts=experts, router=RouterConfig(fallback=fallback)).pinned("chat") == pinned


def test_what_is_on_gpus_leaves_the_memory_of_the_device_alone(file: Path) -> None:
    part = ", memory_gib: 20, images: {device_gib: 60}"
    config = read(file, SHARED % (part, ", memory_gib: 20", "", "num_gpus: 1, memory_gib: 40"))
    assert config.family("a").images.device_gib == 60  # in host memory


def test_dtype_follows_the_device() -> None:
    assert FamilyConfig().effective_dtype == "float32"
    assert FamilyConfig(num_gpus=1).effective_dtype == "auto"
    assert FamilyConfig(num_gpus=1, dtype="float16").effective_dtype == "float16"


def test_paths_are_relative_to_the_file_and_hub_ids_stay(file: Path) -> None:
    config = read(
        file,
        """
experts:
  - {name: a, source: ./models/a, chat_template: a.jinja}
  - {name: b, source: ~/b}
  - {name: c, source: /c}
  - {name: d, source: models/d}
  - {name: e, source: ../e}
router: {path: router}
server: {home: ~/data}
""",
    )
    here = file.parent
    assert [spec.source for spec in config.experts] == [
        f"{here}/models/a",
        "/home/ada/b",
        "/c",
        "models/d",
        f"{here}/../e",
    ]
    assert config.experts[0].chat_template == f"{here}/a.jinja"
    assert (config.router.path, config.server.home) == (here / "router", Path("/home/ada/data"))


def test_the_spelled_pool_falls_back_to_the_generalist_too(file: Path) -> None:
    both = "experts: [{name: smol-general, source: ./g}, {name: smol-sql, source: ./s}]\n"
    assert read(file, both).router.fallback == "smol-general"
    assert read(file, both + "router: {fallback: smol-sql}\n").router.fallback == "smol-sql"
    assert read(file, both.replace("smol-general", "other")).router.fallback is None


def test_a_tenants_router_is_completed_like_the_services(file: Path) -> None:
    config = read(file, "tenants: {school: {router: {encoder: static}}, lab: {router: {path: ./fitted}}, shop: {}}")
    assert config.routers() == {
        None: RouterConfig(fallback="smol-general"),
        "school": RouterConfig(encoder="static", fallback="smol-general"),
        "lab": RouterConfig(path=file.parent / "fitted"),
    }
    own = "experts: [{name: a, source: x}]\nrouter: {kind: fixed, fallback: a}\ntenants: {lab: {router: {}}}"
    [line] = told(file, own)
    assert line.startswith("coe.yaml:3: tenants.lab.router.path: missing; without it the router is the starter pool's")


def test_anchors_and_merges(file: Path) -> None:
    config = read(
        file,
        """
experts:
  - &base {name: smol-sql, source: ./a, family: f, tags: [x]}
  - {<<: *base, name: smol-cron}
  - {<<: [{name: smol-json}, *base], source: ./c}
""",
    )
    assert [(spec.name, Path(spec.source).name, spec.family) for spec in config.experts] == [
        ("smol-sql", "a", "f"),
        ("smol-cron", "a", "f"),
        ("smol-json", "c", "f"),
    ]


def test_yaml_is_1_2(file: Path) -> None:
    text = "experts: [{name: smol-sql, source: ./x, tags: [no, on, 12:30, 2024-01-01, 1_000, 010, 0x10, ~]}]\n"
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    got = [line.partition("got ")[2].partition(";")[0] for line in caught.value.problems]
    assert got == ["10", "16", "nothing"]  # all others are text


def test_byte_order_mark_and_windows_lines(file: Path) -> None:
    assert read(file, b"\xef\xbb\xbflog_level: debug\r\nlimits:\r\n  messages: 2\r\n").limits.messages == 2


def test_aliases_that_multiply_cost_nothing(file: Path) -> None:
    levels = [f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, 12)]
    lines = told(file, "experts:\n  - &a0 [x]\n" + "\n".join(levels) + "\n")
    assert (
        lines[0] == "coe.yaml:2: experts[0]: got a list; allowed: a mapping with at least the keys 'name' and 'source'"
    )
    assert len(lines) == 12


# What each mistake is answered with


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # keys
        ("expertz: []", "1: unknown key 'expertz'; did you mean 'experts'?"),
        (
            "a: 1",
            "1: unknown key 'a'; allowed: experts, router, policies, tenants, families, devices, limits, server, log_level",
        ),
        ("\nport: 1", "2: unknown key 'port'; it belongs under 'server'"),
        ("limits: {host: x}", "1: limits: unknown key 'host'; it belongs under 'server'"),
        ("router: {falback: x}", "1: router: unknown key 'falback'; did you mean 'fallback'?"),
        ("1: x", "1: the key 1 is not text; put it in quotes"),
        ("families: {~: {}}", "1: families: the key null is not text; put it in quotes"),
        ("? [a]\n: 1", "1: a key must be text, not a list or a mapping"),
        (
            "limits:\n  messages: 1\n\n  messages: 2",
            "4: the key 'messages' stands here a second time, after line 2",
        ),
        # experts
        (
            "experts: smol",
            "1: experts: got 'smol'; allowed: a list (items: a mapping with at least the keys 'name' and 'source')",
        ),
        (
            "experts: {}",
            "1: experts: got a mapping; allowed: a list (items: a mapping with at least the keys 'name' and 'source')",
        ),
        (
            "experts:\n- smol",
            "2: experts[0]: got 'smol'; allowed: a mapping with at least the keys 'name' and 'source'",
        ),
        ("experts:\n- {name: a}", "2: experts[0].source: missing; allowed: text that is not empty"),
        (
            "experts:\n- name: a\n  source: x\n  kind: chekpoint",
            "4: experts[0].kind: got 'chekpoint'; allowed: 'checkpoint', 'adapter' or 'remote'; did you mean 'checkpoint'?",
        ),
        ("experts:\n- name: a\n  sorce: x", "3: experts[0]: unknown key 'sorce'; did you mean 'source'?"),
        (
            "experts:\n- {name: a, source: x, temperature: 1}",
            "2: experts[0]: unknown key 'temperature'; it belongs under 'experts[0].sampling'",
        ),
        (
            "experts: [{name: 12, source: x}]",
            "1: experts[0].name: got 12; allowed: 1 to 63 characters of a-z, 0-9, '.', '_' and '-', the first a letter or "
            "digit; put it in quotes",
        ),
        (
            "experts: [{name: a, source: 12}]",
            "1: experts[0].source: got 12; allowed: text that is not empty; put it in quotes",
        ),
        (
            "experts: [{name: a, source: x, parameters: 7X}]",
            "1: experts[0].parameters: got '7X'; allowed: a whole number above 0 or text such as '135M' or '7B'",
        ),
        (
            "experts: [{name: a, source: x, languages: en}]",
            "1: experts[0].languages: got 'en'; allowed: a list (items: text)",
        ),
        (
            "experts: [{name: a, source: x, modalities: [text, vidio]}]",
            "1: experts[0].modalities[1]: got 'vidio'; allowed: 'text', 'image' or 'audio'; did you mean 'audio'?",
        ),
        ("experts: [{name: a, source: x, tools: maybe}]", "1: experts[0].tools: got 'maybe'; allowed: true or false"),
        (
            "experts: [{name: a, source: x, sampling: {temperature: 3}}]",
            "1: experts[0].sampling.temperature: got 3; allowed: a number at least 0 and at most 2",
        ),
        (
            "experts: [{name: a, source: x, kind: adapter}]",
            "1: experts[0]: an expert of kind 'adapter' needs 'base', the name of the checkpoint expert it sits on",
        ),
        (
            "experts:\n- {name: a, source: x}\n- {name: b, source: x}\n- {name: a, source: x}",
            "4: experts[2].name: 'a' is already the name of experts[0]; names must differ",
        ),
        (
            "experts:\n- {name: chat, source: x}\n- name: b\n  source: x\n  kind: adapter\n  base: chatt",
            "6: experts[1].base: no expert is named 'chatt'; did you mean 'chat'?",
        ),
        # router
        ("router: {kind: skill}", "1: router.kind: got 'skill'; allowed: 'two-level' or 'fixed'"),
        (
            "router:\n  fallback: smol-genral",
            "2: router.fallback: got 'smol-genral', which no expert is named; did you mean 'smol-general'?",
        ),
        (
            "router: {kind: fixed}",
            "1: router.fallback: missing; kind 'fixed' needs the expert that answers every prompt",
        ),
        (
            "router: {kind: fixed, fallback: smol-sql, path: x}",
            "1: router.path: is for kind 'two-level', this router is of kind 'fixed'",
        ),
        (
            "router: {kind: fixed, fallback: smol-sql, encoder: static}",
            "1: router.encoder: is for kind 'two-level', this router is of kind 'fixed'",
        ),
        ("router: {encoder: bert}", "1: router.encoder: got 'bert'; allowed: 'minilm' or 'static'"),
        (
            "router: {experts_per_request: 0}",
            "1: router.experts_per_request: got 0; allowed: a whole number at least 1 and at most 8",
        ),
        ("router: {aggregator: judge}", "1: router.aggregator: got 'judge'; allowed: 'vote'"),
        # policies and tenants
        (
            "policies: {number: {top_p: 0.9}}",
            "1: policies.number.top_p: has no use while one expert answers; set experts_per_request of the router to the most "
            "that may",
        ),
        (
            "router: {experts_per_request: 2}\npolicies: {number: {mean: 2.5}}",
            "2: policies.number.mean: got 2.5; allowed: up to experts_per_request of the router, 2",
        ),
        (
            "router: {experts_per_request: 3}\npolicies: {number: {mean: 2, skip_second: 0.5}}",
            "2: policies.number.skip_second: does not go with 'mean', which decides alone; leave one of them out",
        ),
        (
            "policies: {number: {sharpness: 3}}",
            "1: policies.number.sharpness: has no use without 'top_p', 'skip_second' or 'mean'",
        ),
        (
            "policies: {conversation: {ttl_s: 60}}",
            "1: policies.conversation.ttl_s: has no use without 'margin', with which conversations keep their expert",
        ),
        ("policies: {load_price: -1}", "1: policies.load_price: got -1; allowed: a number at least 0"),
        ("tenants: {school: {experts: []}}", "1: tenants.school.experts: got a list; allowed: a list (items: text)"),
        (
            "tenants: {school: {experts: [smol-sql, smol-jsn]}}",
            "1: tenants.school.experts[1]: got 'smol-jsn', which no expert is named; did you mean 'smol-json'?",
        ),
        (
            "tenants: {school: {router: {kind: fixed}}}",
            "1: tenants.school.router.fallback: missing; kind 'fixed' needs the expert that answers every prompt",
        ),
        (
            "tenants:\n  school:\n    policies:\n      number: {top_p: 0.9}",
            "4: tenants.school.policies.number.top_p: has no use while one expert answers; set experts_per_request of the "
            "router to the most that may",
        ),
        (
            "router: {experts_per_request: 3}\npolicies: {number: {mean: 2}}\ntenants: {school: {router: {}}}",
            "3: tenants.school.router.experts_per_request: the service's policies.number.mean has no use while one expert "
            "answers; set experts_per_request of the router to the most that may",
        ),
        (
            "experts:\n- {name: a, source: x}",
            "1: router.path: missing; without it the router is the starter pool's, which knows none of these experts. Write "
            "'kind: fixed' and 'fallback: a' under 'router', or the 'path' of a router fitted for them",
        ),
        # families
        (
            "families:\n  smol: {}",
            "2: families.smol: no expert is of this family; families of these experts: smollm2-135m",
        ),
        (
            "families: {smollm2_135m: {}}",
            "1: families.smollm2_135m: no expert is of this family; did you mean 'smollm2-135m'?",
        ),
        (
            "families: {smollm2-135m: 3}",
            "1: families.smollm2-135m: got 3; allowed: a mapping with keys such as 'engine', 'dtype' or 'max_model_len'",
        ),
        (
            "families: {smollm2-135m: {engine: remote}}",
            "1: families.smollm2-135m.engine: got 'remote', but its experts are local; allowed: 'vllm' or 'fake'",
        ),
        (
            "families: {smollm2-135m: {max_num_seqs: true}}",
            "1: families.smollm2-135m.max_num_seqs: got true; allowed: a whole number at least 1",
        ),
        (
            "families: {smollm2-135m: {max_model_len: 0}}",
            "1: families.smollm2-135m.max_model_len: got 0; allowed: a whole number at least 1",
        ),
        (
            "families: {smollm2-135m: {num_gpus: -1}}",
            "1: families.smollm2-135m.num_gpus: got -1; allowed: a number at least 0",
        ),
        (
            "families: {smollm2-135m: {num_cpus: .inf}}",
            "1: families.smollm2-135m.num_cpus: got inf; allowed: a number at least 0",
        ),
        (
            "families: {smollm2-135m: {num_gpus: 1.5}}",
            "1: families.smollm2-135m.num_gpus: got 1.5; allowed: up to 1 any part, above 1 whole numbers",
        ),
        (
            "families:\n  smollm2-135m:\n    swap:\n      overhead: 1",
            "4: families.smollm2-135m.swap.overhead: got 1; allowed: a number above 0 and below 1",
        ),
        (
            "families: {smollm2-135m: {swap: {overhead: 0}}}",
            "1: families.smollm2-135m.swap.overhead: got 0; allowed: a number above 0 and below 1",
        ),
        (
            "families: {smollm2-135m: {swap: {max_wait_s: 0}}}",
            "1: families.smollm2-135m.swap.max_wait_s: got 0; allowed: a number above 0",
        ),
        (
            "families: {smollm2-135m: {engine_args: {gpu-memory-utilization: 0.9}}}",
            "1: families.smollm2-135m.engine_args.gpu-memory-utilization: arguments are written with underscores: "
            "'gpu_memory_utilization'",
        ),
        (
            "families: {smollm2-135m: {engine_args: {dtype: auto}}}",
            "1: families.smollm2-135m.engine_args.dtype: not to be set here: set 'dtype' of the family instead",
        ),
        (
            "families: {smollm2-135m: {num_gpus: 1, kv_cache_gib: 4}}",
            "1: families.smollm2-135m.kv_cache_gib: is for the CPU; with num_gpus above 0 set "
            "engine_args.gpu_memory_utilization",
        ),
        (
            "families: {smollm2-135m: {engine_args: {async_scheduling: true}}}",
            "1: families.smollm2-135m.engine_args.async_scheduling: not to be set here: the service sets it",
        ),
        (
            "families:\n  smollm2-135m:\n    images:\n      disk_gib: 4",
            "4: families.smollm2-135m.images.disk_gib: is for image files; write 'image_files: true' beside it, or leave it out",
        ),
        # limits and server
        (
            "limits: []",
            "1: limits: got a list; allowed: a mapping with keys such as 'body_bytes', 'messages' or 'max_tokens'",
        ),
        ("limits: {timeout_s: .nan}", "1: limits.timeout_s: got nan; allowed: a number above 0 and at most 86400"),
        ("limits: {messages: 2.5}", "1: limits.messages: got 2.5; allowed: a whole number at least 1"),
        ("limits: {messages: }", "1: limits.messages: got nothing; allowed: a whole number at least 1"),
        ("server: {port: 80x}", "1: server.port: got '80x'; not a port; allowed: 1..65535"),
        ("server: {port: true}", "1: server.port: got true; not a port; allowed: 1..65535"),
        ("server: {port: 70000}", "1: server.port: got 70000; not a port; allowed: 1..65535"),
        (
            "server: {host: 'http://x'}",
            "1: server.host: got 'http://x'; not a host; allowed: an IP address or a host name, without scheme, port or brackets",
        ),
        (
            "server: {home: ~bob/x}",
            "1: server.home: got '~bob/x'; not a path that is understood; allowed: '~/' for your own home, or a full path",
        ),
        ("log_level: chatty", "1: log_level: got 'chatty'; allowed: 'debug', 'info', 'warning' or 'error'"),
        ("log_level: 3", "1: log_level: got 3; allowed: 'debug', 'info', 'warning' or 'error'"),
        # YAML
        ("", ": the file is empty, or holds only comments; write a key, or remove the file"),
        ("# experts:\n", ": the file is empty, or holds only comments; write a key, or remove the file"),
        ("- a", "1: got a list; the file must be a mapping of keys to values"),
        ("\nhello", "2: got 'hello'; the file must be a mapping of keys to values"),
        (
            "router: [1, 2\nb: 3",
            "2:2: not YAML: while parsing a flow sequence from line 1: expected ',' or ']', but got ':'",
        ),
        (
            "a:\n\tb: 1",
            "2:1: not YAML: while scanning for the next token: found character '\\t' that cannot start any token; "
            "indent with spaces",
        ),
        (
            "experts:\n- name: a: b",
            "2:10: not YAML: mapping values are not allowed here; is a line above it indented wrongly, or does a text with "
            "': ' need quotes?",
        ),
        (
            "log_level: 'info",
            "1:17: not YAML: while scanning a quoted scalar from line 1: found unexpected end of stream",
        ),
        ("router: *x", "1:9: not YAML: found undefined alias 'x'"),
        ("a: \x01", "1: not YAML: the character U+0001 is not allowed"),
        (
            "a: 1\n---\na: 2",
            "2:1: not YAML: expected a single document in the stream from line 1: but found another document",
        ),
        ("experts: &x [*x]", "1: the alias refers to what it is itself a part of"),
        (
            "router: !!python/object/apply:os.system [ls]",
            "1: the tag '!!python/object/apply:os.system' is not supported",
        ),
        ("server: {host: !env HOST}", "1: the tag '!env' is not supported"),
        ("limits: {messages: !!int foo}", "1: 'foo' cannot be read as 'int'"),
        ("router: {<<: 3}", "1: '<<' takes an alias of a mapping, or a list of such"),
        (b"log_level: info\n# caf\xe9", "2: not UTF-8: byte 0xe9; save the file in UTF-8"),
        ("log_level: info".encode("utf-16"), "1: not UTF-8: byte 0xff; save the file in UTF-8"),
        ("a: " + "[" * 5000, ": not usable: lists or mappings are nested too deeply"),
        (b" " * (2 << 20), ": larger than 1 MiB, so not a configuration"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_what_and_what_else(file: Path, text: str | bytes, line: str) -> None:
    assert told(file, text) == ["coe.yaml:" + line.removeprefix(":") if line.startswith(":") else f"coe.yaml:{line}"]


def test_all_problems_of_a_file_come_in_its_order(file: Path) -> None:
    lines = told(
        file, "log_level: x\nlimits:\n  messages: 0\n  max_tokns: 1\nexperts:\n- {name: A, source: x}\nrouters: {}\n"
    )
    assert [int(line.split(":")[1]) for line in lines] == [1, 3, 4, 6, 7]


def test_what_is_alike_a_hundred_times_is_not_told_a_hundred_times(file: Path) -> None:
    lines = told(file, "experts:\n" + "- {name: A, source: x}\n" * 100)
    assert len(lines) == 26
    assert lines[-1] == "coe.yaml: and 75 more problems"


def test_problems_behind_an_alias_are_told_where_they_stand(file: Path) -> None:
    lines = told(file, "experts:\n- &a\n  name: smol-sql\n  source: x\n  tools: maybe\n- {<<: *a, name: smol-cron}\n")
    assert lines == [
        "coe.yaml:5: experts[0].tools: got 'maybe'; allowed: true or false",
        "coe.yaml:5: experts[1].tools: got 'maybe'; allowed: true or false",
    ]


SHARED = """\
experts: [{name: a, source: ./a}, {name: b, source: ./b}, {name: far, source: org/far}]
router: {kind: fixed, fallback: a}
families: {a: {device: one%s}, b: {device: one%s}, far: {%s}}
devices: {one: {%s}}
"""


def test_families_share_a_device(file: Path) -> None:
    config = read(file, SHARED % (", memory_gib: 3", "", "", "memory_gib: 4, num_cpus: 8, swap: {max_wait_s: 60}"))
    assert config.devices == {"one": DeviceConfig(memory_gib=4, num_cpus=8, swap=TurnsConfig(max_wait_s=60))}
    assert {name: config.family(name).device for name in ("a", "b", "far")} == {"a": "one", "b": "one", "far": None}
    assert {name: config.family(name).num_cpus for name in ("a", "b", "far")} == {"a": 8, "b": 8, "far": 1}


def test_the_device_says_whether_a_family_is_on_gpus(file: Path) -> None:
    config = read(file, SHARED % ("", "", "", "num_gpus: 1"))
    assert (config.family("a").num_gpus, config.family("a").effective_dtype) == (1, "auto")
    assert (config.family("far").num_gpus, config.family("far").effective_dtype) == (0, "float32")


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            ("", "", "device: on", ""),
            "3: families.far.device: got 'on', which is not in 'devices'; did you mean 'one'?",
        ),
        (
            ("", "", "device: gpu", ""),
            "3: families.far.device: got 'gpu', which is not in 'devices'; devices: one",
        ),
        (
            (", num_gpus: 1", "", "", ""),
            "3: families.a.num_gpus: is set by the device 'one'; leave it out",
        ),
        (
            (", num_cpus: 1", "", "", ""),
            "3: families.a.num_cpus: is set by the device 'one'; leave it out",
        ),
        (
            (", kv_cache_gib: 2", "", "", "num_gpus: 1"),
            "3: families.a.kv_cache_gib: is for the CPU; with num_gpus above 0 set engine_args.gpu_memory_utilization",
        ),
        (
            (", engine_args: {enable_sleep_mode: false}", "", "", ""),
            "3: families.a.engine_args.enable_sleep_mode: not to be set here: the service sets it for families with a 'device'",
        ),
        (
            ("", "", "memory_gib: 2", ""),
            "3: families.far.memory_gib: is for families with a 'device'; leave it out",
        ),
        (
            (", memory_gib: 2", "", "", ""),
            "3: families.a.memory_gib: has no use: the device 'one' has none, so one family at a time is awake",
        ),
        (
            (", memory_gib: 5", "", "", "memory_gib: 4"),
            "3: families.a.memory_gib: got 5.0; the device 'one' has 4.0",
        ),
        (
            (", memory_gib: 3, kv_cache_gib: 2, images: {host_gib: 1}", "", "", "memory_gib: 4"),
            "3: families.a.memory_gib: got 3.0; allowed: more than kv_cache_gib and images.host_gib, 3.0",
        ),
        (
            (", memory_gib: 4, kv_cache_gib: 2, images: {device_gib: 1.5, host_gib: 1}", "", "", "memory_gib: 4"),
            "3: families.a.images.device_gib: got 1.5; allowed: up to 1.0, what kv_cache_gib and images.host_gib leave "
            "of memory_gib",
        ),
        (
            ("", "", "device: one", "memory_gib: 4"),
            "3: families.far.memory_gib: missing; how large 'org/far' on the hub is, is not known here",
        ),
        (
            (", memory_gib: 3", "", "", "memory_gib: 40, num_gpus: 1"),
            "3: families.b.memory_gib: missing; the device 'one' has GPUs and a memory_gib to keep",
        ),
        (
            ("", "", "", "num_gpus: 1.5"),
            "4: devices.one.num_gpus: got 1.5; allowed: up to 1 any part, above 1 whole numbers",
        ),
        (
            ("", "", "", "}, two: {"),
            "4: devices.two: no family is on this device; write 'device' in the sections of those that share it",
        ),
    ],
)
def test_what_does_not_go_with_a_device(file: Path, parts: tuple[str, ...], line: str) -> None:
    assert told(file, SHARED % parts) == [f"coe.yaml:{line}"]


def test_a_device_and_a_family_have_different_applications(file: Path) -> None:
    text = (
        (SHARED % ("", "", "", ""))
        .replace("org/far", "org/far, family: device-one")
        .replace("far: {}", "device-one: {}")
    )
    assert told(file, text) == ["coe.yaml:4: devices.one: a family has the name 'device-one'; rename one of them"]


def test_remote_experts_have_no_use_for_vllms_settings(file: Path) -> None:
    text = (
        "experts: [{name: r, source: 'a.b:C', kind: remote}]\nrouter: {kind: fixed, fallback: r}\n"
        "families:\n  r: {engine: vllm, dtype: auto, num_gpus: 1, num_cpus: 0.1, max_num_seqs: 4}\n"
    )
    assert told(file, text) == [
        "coe.yaml:4: families.r.engine: got 'vllm', but its experts are remote; allowed: 'remote' or 'fake'",
        "coe.yaml:4: families.r.dtype: has no meaning for remote experts; leave it out",
        "coe.yaml:4: families.r.max_num_seqs: has no meaning for remote experts; leave it out",
        "coe.yaml:4: families.r.num_gpus: has no meaning for remote experts; leave it out",
    ]
    fit = text.replace("vllm, dtype: auto, num_gpus: 1,", "fake,").replace(", max_num_seqs: 4", "")
    assert read(file, fit).engine("r") == "fake"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "api_key: hunter2",
            "coe.yaml:1: 'api_key' does not belong in this file, which others may read; set COE_API_KEY in the environment",
        ),
        (
            "server: {api_key: hunter2}",
            "coe.yaml:1: server: 'api_key' does not belong in this file, which others may read; set COE_API_KEY in the "
            "environment",
        ),
        (
            "experts: [{name: a, kind: remote, source: 'a:B', api_key: hunter2}]",
            "coe.yaml:1: experts[0]: unknown key 'api_key'; for a remote expert write 'api_key: env:NAME' under 'options'",
        ),
        (
            "experts: [{name: a, kind: remote, source: 'a:B', options: hunter2}]",
            "coe.yaml:1: experts[0].options: got a value (not shown); allowed: a mapping",
        ),
        (
            "experts: [{name: a, source: x, options: {api_key: hunter2}}]",
            "coe.yaml:1: experts[0]: 'options' is for kind 'remote', this expert is of kind 'checkpoint'",
        ),
        (
            "server: {redis_url: 'redis://ada:hunter2@h/x'}",
            "coe.yaml:1: server.redis_url: the URL (not shown) has something else than a database number after the host; "
            "allowed: redis://HOST:6379/0, rediss://HOST:6380/0 or unix:///PATH, USER:PASSWORD@ before the host if needed",
        ),
        (
            "families: {smollm2-135m: {engine_args: {hf_token: hunter2}}}",
            "coe.yaml:1: families.smollm2-135m.engine_args.hf_token: not to be set here: a secret does not belong in this "
            "file; set HF_TOKEN in the environment",
        ),
        (
            "families: {smollm2-135m: {engine_args: [hunter2]}}",
            "coe.yaml:1: families.smollm2-135m.engine_args: got a value (not shown); allowed: a mapping",
        ),
    ],
)
def test_secrets_are_neither_wanted_nor_repeated(file: Path, text: str, line: str) -> None:
    assert told(file, text) == [line]
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__  # the cause quotes the file; a traceback must not show it


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    for path, reason in (
        (tmp_path / "no.yaml", "there is no such file"),
        (tmp_path, "this is a folder; name the file in it"),
        (loop, f"cannot be read: {os.strerror(errno.ELOOP)}"),
        (Path("a\0b"), "cannot be read: embedded null byte"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.problems == (f"{path}: {reason}",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_someone_else(file: Path) -> None:
    file.write_text("log_level: info\n")
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(file)


def test_a_configuration_made_in_python_is_checked_too() -> None:
    chat = ExpertSpec(name="chat", source="./chat")
    with pytest.raises(
        ValueError, match=r"router\.fallback: got 'chatt', which no expert is named; did you mean 'chat'\?"
    ):
        Config(experts=(chat,), router=RouterConfig(fallback="chatt"))
    with pytest.raises(ValueError, match=r"experts\[1\]\.name: 'chat' is already"):
        Config(experts=(chat, chat))
    assert list(Config(experts=(chat,)).registry()) == list(Registry((chat,)))


# From flags, environment and folder


def test_load_finds_the_file_in_the_folder_or_does_without(tmp_path: Path) -> None:
    settings, config = load({}, ENV, tmp_path)
    assert (settings.config, config) == (None, default_config(Path("/home/ada/.coe")))
    (tmp_path / "coe.yaml").write_text("server: {port: 9000, home: data}\n")
    settings, config = load({}, ENV, tmp_path)
    assert (settings.config, settings.port, settings.origins["port"]) == (tmp_path / "coe.yaml", 9000, "coe.yaml")
    assert settings.home == tmp_path / "data"
    assert config.experts == starter_experts(tmp_path / "data")


def test_load_takes_the_home_of_flag_or_environment_for_the_starter_pool(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text("server: {home: data}\n")
    settings, config = load({}, {"COE_HOME": "/env"}, tmp_path)
    assert (settings.home, config.experts) == (Path("/env"), starter_experts(Path("/env")))
    settings, config = load({"home": "flag"}, {"COE_HOME": "/env"}, tmp_path)
    assert (settings.home, config.experts) == (tmp_path / "flag", starter_experts(tmp_path / "flag"))


def test_load_takes_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").write_text("- broken\n")
    (tmp_path / "gpu.yaml").write_text("server: {port: 9000}\n")
    settings, _ = load({"config": "gpu.yaml"}, ENV, tmp_path)
    assert (settings.config, settings.origins["port"]) == (tmp_path / "gpu.yaml", "gpu.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load({}, ENV | {"COE_CONFIG": "missing.yaml"}, tmp_path)
    with pytest.raises(ConfigError, match="must be a mapping"):
        load({}, ENV, tmp_path)


def test_load_does_not_pass_over_a_dead_link(tmp_path: Path) -> None:
    (tmp_path / "coe.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load({}, ENV, tmp_path)


# Examples, schema and page


def test_the_example_is_the_starter_pool() -> None:
    config = load_config(ROOT / "examples/coe.yaml", env=ENV)
    pool = default_config(Path("/home/ada/.coe"))

    def served(spec: ExpertSpec) -> tuple[object, ...]:
        return spec.name, spec.source, spec.family_name, spec.parameters, spec.context_length, spec.languages, spec.tags

    assert [served(spec) for spec in config.experts] == [served(spec) for spec in pool.experts]
    assert [spec.sampling.temperature for spec in config.experts] == [
        spec.sampling.temperature for spec in pool.experts
    ]
    assert (config.router, config.families) == (pool.router, {"smollm2-135m": FamilyConfig(dtype="float32")})


def test_the_example_for_gpus_is_read() -> None:
    config = load_config(ROOT / "examples/gpu.yaml", env=ENV)
    assert {family: config.engine(family) for family in config.registry().families()} == {
        "llama-3-8b": "vllm",
        "gpt": "remote",
    }
    assert config.experts[0].source == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert config.experts[3].options["api_key"] == "env:OPENAI_API_KEY"
    assert config.family("llama-3-8b").num_gpus == 1


def test_page_and_schema_are_current() -> None:
    for path, content in written(ROOT / "docs").items():
        assert path.read_text(encoding="utf-8") == content, (
            f"{path.name} is out of date: python -m orchestrator.config_schema"
        )


def test_the_page_lists_every_key_and_setting() -> None:
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    for key in ("experts[].sampling.top_p", "families.<name>.swap.overhead", "limits.keep_alive_s", "server.redis_url"):
        assert f"| `{key}` |" in page
    for setting in ("COE_HOME", "COE_HOST", "COE_PORT", "COE_API_KEY", "COE_REDIS_URL", "RAY_ADDRESS", "COE_CONFIG"):
        assert f"| `{setting}` |" in page


def test_what_the_page_shows_is_so(file: Path) -> None:
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    good, bad = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    [messages] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert read(file, good).registry().names == ("chat", "sums")
    assert told(file, bad) == messages.splitlines()


def test_the_schema_takes_what_the_loader_takes() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in ("coe.yaml", "gpu.yaml"):
        validator.validate(yaml.safe_load((ROOT / "examples" / name).read_text(encoding="utf-8")))
    assert schema == json.loads((ROOT / "docs/coe.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"expertz": []},
        {"experts": [{"name": "a"}]},
        {"experts": [{"name": "A", "source": "x"}]},
        {"experts": [{"name": "a", "source": "x", "parameters": "7X"}]},
        {"experts": [{"name": "a", "source": "x", "parameters": 0}]},
        {"families": {"f": {"max_model_len": 0}}},
        {"families": {"f": {"swap": {"overhead": 1}}}},
        {"server": {"port": 0}},
        {"server": {"api_key": "x"}},
        {"log_level": "chatty"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(file: Path, wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(wrong)
    assert told(file, json.dumps(wrong))
