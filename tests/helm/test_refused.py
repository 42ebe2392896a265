"""Values that cannot work are refused before anything is installed, in words that say what to do."""

import pytest

from tests.helm.chart import API_SERVER, BUNDLED, CHART, TWO_GROUPS, Object, Refused, helm, render

CPU: Object = {**BUNDLED, "workers": {"cpu": None}}


def merged(below: Object, above: Object) -> Object:
    return {
        **below,
        **{
            key: merged(below[key], own) if isinstance(own, dict) and isinstance(below.get(key), dict) else own
            for key, own in above.items()
        },
    }


@pytest.mark.parametrize(
    ("values", "told"),
    [
        # Keys that do not exist, anywhere
        ({"gatway": {}}, "'gatway' not allowed"),
        ({"gateway": {"replica": 2}}, "at '/gateway': additional properties 'replica' not allowed"),
        ({"workers": {"cpu": {"gpus": 1}}}, "'gpus' not allowed"),
        ({"config": {"limits": {"drain": 1}}}, "at '/config/limits': additional properties 'drain' not allowed"),
        ({"config": {"families": {"a": {"num_gpu": 1}}}}, "'num_gpu' not allowed"),
        # What the chart sets itself
        ({"config": {"server": {"host": "::"}}}, "at '/config/server': additional properties 'host' not allowed"),
        ({"config": {"server": {"redis_url": "redis://:pw@x:1/0"}}}, "'redis_url' not allowed"),
        # Values
        ({"gateway": {"replicas": -1}}, "at '/gateway/replicas': minimum: got -1, want 0"),
        ({"gateway": {"service": {"type": "External"}}}, "at '/gateway/service/type'"),
        ({"image": {"digest": "sha256:1"}}, "at '/image/digest': 'sha256:1' does not match pattern"),
        ({"config": {"log_level": 3}}, "at '/config/log_level'"),
        ({"config": {"experts": [{"name": "Sums", "source": "x"}]}}, "at '/config/experts/0/name'"),
        ({"security": {"runAsUser": 0}}, "at '/security/runAsUser': minimum: got 0, want 1"),
        ({"workers": {"cpu": {"resources": {"limits": {"cpu": "a lot", "memory": "1Gi"}}}}}, "'a lot' does not match"),
        ({"keeper": {"resources": {"limits": {"memory": None}}}}, "'keeper' not allowed"),
        ({"ray": {"head": {"resources": {"limits": {"memory": None}}}}}, "at '/ray/head/resources/limits'"),
        ({"ray": {"tokenSecret": ""}}, "at '/ray/tokenSecret'"),
        ({"workers": {"CPU": None}}, "'CPU'"),
        ({"apiKey": {"secret": ""}}, "at '/apiKey/secret'"),
        ({"redis": {"address": "redis"}}, "at '/redis/address'"),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_know_is_refused(values: Object, told: str) -> None:
    with pytest.raises(Refused) as error:
        render(merged(CPU, values))
    assert "values don't meet the specifications of the schema" in str(error.value)
    assert told in str(error.value)


LOCAL: Object = {"experts": [{"name": "a", "source": "/models/a"}], "router": {"kind": "fixed", "fallback": "a"}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (BUNDLED, "workers: there is no group of pods for the models; start from a profile"),
        ({"workers": {"cpu": None}}, "redis.address: missing; name an external Redis"),
        (
            {"workers": {"cpu": None}, "redis": {"address": "redis:6379", "bundled": {"enabled": True}}},
            "redis: both an address and the bundled Redis",
        ),
        ({"workers": {"cpu": None}, "redis": {"address": "redis:6379"}}, "networkPolicy.redisEgress: missing"),
        ({**CPU, "ray": {"autoscaling": {"enabled": True}}}, "networkPolicy.apiServer: missing"),
        ({**CPU, "networkPolicy": {"operator": []}}, "networkPolicy.operator: missing"),
        ({**CPU, "monitoring": {"serviceMonitor": {"enabled": True}}}, "networkPolicy.monitoring: missing"),
        ({**BUNDLED, "workers": {"one": None, "two": None}}, "workers.one and workers.two name no families"),
        (
            {**BUNDLED, "config": LOCAL, "workers": {"gpu": {"families": ["b"]}}},
            'workers.gpu.families: "b" is no family of config.experts; there are: a',
        ),
        (
            {**BUNDLED, "config": LOCAL, "workers": {"one": {"families": ["a"]}, "two": {"families": ["a"]}}},
            'workers.two.families: "a" is in the group "one" already',
        ),
        (
            {**BUNDLED, "config": LOCAL, "workers": {"one": {"families": ["a"], "devices": ["d"]}}},
            'workers.one.devices: "d" is not in config.devices',
        ),
        (
            merged({**BUNDLED, **TWO_GROUPS}, {"workers": {"gpu": {"families": ["llama", "left"]}}}),
            'workers.gpu.families: "left" is on the device "shared": name that in `devices`',
        ),
        (
            {**BUNDLED, **TWO_GROUPS, "workers": {"gpu": {"families": ["llama"]}}},
            'no group of `workers` serves "alone": name it in workers.<group>.families, or have a group that',
        ),
        (
            merged({**BUNDLED, **TWO_GROUPS}, {"workers": {"gpu": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}}),
            "workers.gpu: its workers want 4 GPUs and its 2 pods have 1 each",
        ),
        (
            {
                **BUNDLED,
                "config": {**LOCAL, "families": {"a": {"num_cpus": 2, "replicas": 3}}},
                "workers": {"cpu": {"replicas": 2, "resources": {"limits": {"cpu": "2500m"}}}},
            },
            "workers.cpu: its workers want 6 CPU cores and its 2 pods have 2.5 each",
        ),
        (
            {
                **BUNDLED,
                "config": {**LOCAL, "families": {"a": {"num_cpus": 2, "autoscaling": {"max_replicas": 4}}}},
                "workers": {"cpu": {"maxReplicas": 3, "resources": {"limits": {"cpu": 2}}}},
                "ray": {"autoscaling": {"enabled": True}},
                "networkPolicy": {"apiServer": API_SERVER},
            },
            "workers.cpu: its workers want 8 CPU cores and its 3 pods have 2 each: raise its replicas or "
            "resources.limits, or lower `replicas`, `autoscaling.max_replicas` or num_cpus of its families in config",
        ),
        (
            {
                **BUNDLED,
                "config": {**LOCAL, "families": {"a": {"replicas": 1, "autoscaling": {"max_replicas": 4}}}},
                "workers": {"cpu": None},
            },
            "config.families.a: both replicas and autoscaling, which has min_replicas and max_replicas: leave one out",
        ),
        ({**CPU, "config": {"batch": {"enabled": True}}}, "batch.volume: missing; batches need files that all"),
        (
            {**CPU, "workers": {"cpu": {"minReplicas": 3, "maxReplicas": 2}}},
            "workers.cpu: minReplicas 3 is above maxReplicas 2",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(values: Object, told: str) -> None:
    with pytest.raises(Refused) as error:
        render(values)
    assert told in " ".join(str(error.value).split())


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.27"):
        helm("template", "coe", str(CHART), "--values", str(CHART / "values-cpu.yaml"), "--kube-version", "1.24.0")


def test_what_is_told_after_an_installation_names_what_there_is() -> None:
    said = helm(
        "install",
        "coe",
        str(CHART),
        "--values",
        str(CHART / "values-cpu.yaml"),
        "--dry-run=client",
        "--namespace",
        "ai",
    )
    notes = said.partition("NOTES:")[2]
    assert "kubectl --namespace ai port-forward service/coe 8000:8000" in notes
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in notes
    assert "The bundled Redis is one pod: for trying out." in notes
    assert "{{" not in notes
