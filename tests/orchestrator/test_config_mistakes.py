# ruff: noqa: E501 (messages are compared whole)
"""What each mistake in coe.yaml is answered with."""

from pathlib import Path

import pytest

from orchestrator.config.load import ConfigError
from tests.orchestrator.config_parts import read, told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # keys
        ("expertz: []", "1: unknown key 'expertz'; did you mean 'experts'?"),
        (
            "a: 1",
            "1: unknown key 'a'; allowed: experts, router, policies, tenants, aggregation, ensembles, families, devices, limits, batch, records, traces, server, log_level",
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
        (
            "router: {experts_per_request: 2}",
            "1: router.experts_per_request: got 2, with the aggregator 'vote', which needs at least 3: of two votes the heavier one "
            "always wins",
        ),
        (
            "router: {aggregator: juge}",
            "1: router.aggregator: got 'juge'; allowed: 'single', 'vote', 'judge', 'synthesize', 'refine' or 'cascade'; did you mean 'judge'?",
        ),
        # policies and tenants
        (
            "policies: {number: {top_p: 0.9}}",
            "1: policies.number.top_p: has no use while one expert answers; set experts_per_request of the router to the most "
            "that may",
        ),
        (
            "router: {experts_per_request: 2, aggregator: judge}\npolicies: {number: {mean: 2.5}}",
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
        # records and traces
        ("records: {keep: 0}", "1: records.keep: got 0; allowed: a whole number at least 1 and at most 1e+07"),
        ("traces: {sample: 2}", "1: traces.sample: got 2; allowed: a number at least 0 and at most 1"),
        (
            "traces: {endpoint: collector}",
            "1: traces.endpoint: not the address of a collector; allowed: http://HOST:4318 or https://HOST",
        ),
        (
            "traces: {endpoint: 'http://ada:hunter2@collector:4318'}",
            "1: traces.endpoint: an address holds no secrets, which belong in the environment: OTEL_EXPORTER_OTLP_HEADERS; allowed: http://HOST:4318 or https://HOST",
        ),
        (
            "traces: {endpoint: 'http://collector:port'}",
            "1: traces.endpoint: not the address of a collector; allowed: http://HOST:4318 or https://HOST",
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
