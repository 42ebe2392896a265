"""coe.yaml: what it means."""

import pickle
from pathlib import Path

import pytest

from experts.registry import Registry
from experts.spec import ExpertSpec
from experts.starter import starter_experts
from orchestrator.config.limits import Limits
from orchestrator.config.load import ConfigError, default_config, load_config
from orchestrator.config.model import Config, FamilyConfig, RouterConfig, SwapConfig
from tests.orchestrator.config_parts import ENV, HOME, read, told


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
router: {kind: fixed, fallback: chat, experts_per_request: 2, aggregator: judge}
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
    assert config.router == RouterConfig(kind="fixed", fallback="chat", experts_per_request=2, aggregator="judge")
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


def test_a_configuration_made_in_python_is_checked_too() -> None:
    chat = ExpertSpec(name="chat", source="./chat")
    with pytest.raises(
        ValueError, match=r"router\.fallback: got 'chatt', which no expert is named; did you mean 'chat'\?"
    ):
        Config(experts=(chat,), router=RouterConfig(fallback="chatt"))
    with pytest.raises(ValueError, match=r"experts\[1\]\.name: 'chat' is already"):
        Config(experts=(chat, chat))
    assert list(Config(experts=(chat,)).registry()) == list(Registry((chat,)))
