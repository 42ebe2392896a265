"""The schema of the chart's values, which refuses unknown keys: `python -m helm.values_schema` writes it anew.

`config` has the schema of coe.yaml itself, but for what of `server` the chart sets.
"""

import copy
import json
from pathlib import Path
from typing import Any

from orchestrator.config.schema import json_schema

PATH = Path(__file__).parent / "coe" / "values.schema.json"
OF_THE_CALLER = ("cors_origins", "cors_credentials")
"""What of `server` is not the chart's business."""

TEXT: dict[str, Any] = {"type": "string"}
NAME: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
}
NAME_OR_NONE: dict[str, Any] = {"anyOf": [{"const": ""}, NAME]}
FLAG: dict[str, Any] = {"type": "boolean"}
FREE: dict[str, Any] = {"type": "object"}
QUANTITY: dict[str, Any] = {"type": ["string", "number"], "pattern": "^[0-9]+(\\.[0-9]+)?(m|[kMGTPE]i?)?$"}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}
OBJECTS: dict[str, Any] = {"type": "array", "items": FREE}


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def _whole(least: int, most: int | None = None) -> dict[str, Any]:
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def _resources() -> dict[str, Any]:
    """CPU and memory are limited, always: a container without a limit can take its node down with it."""
    quantities = {"type": "object", "additionalProperties": QUANTITY}
    return _object(("limits",), requests=quantities, limits={**quantities, "required": ["cpu", "memory"]})


_PLACE = {"nodeSelector": TEXTS, "tolerations": OBJECTS}
_PODS = {"env": OBJECTS, "envFrom": OBJECTS, "annotations": TEXTS, "priorityClassName": NAME_OR_NONE, **_PLACE}
_DIGEST = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
_GROUP = {
    "families": {"type": "array", "items": TEXT, "uniqueItems": True},
    "devices": {"type": "array", "items": TEXT, "uniqueItems": True},
    "replicas": _whole(0, 1000),
    "minReplicas": _whole(0, 1000),
    "maxReplicas": _whole(1, 1000),
    "image": _object(repository=TEXT, tag=TEXT, digest=_DIGEST),
    "sharedMemory": QUANTITY,
    "home": FREE,
    "runtimeClassName": NAME_OR_NONE,
    **_PODS,
}

_PART = {key: {"type": "object", "additionalProperties": QUANTITY} for key in ("requests", "limits")}


def values_schema() -> dict[str, Any]:
    """JSON Schema of values.yaml."""
    config = _config()
    values = _object(
        image=_object(
            repository=TEXT,
            tag=TEXT,
            digest=_DIGEST,
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            pullSecrets={"type": "array", "items": NAME},
        ),
        config={key: part for key, part in config.items() if key not in ("$defs", "$schema")},
        fake=FLAG,
        apiKey=_object(secret=NAME, key=TEXT),
        redis=_object(
            secret=NAME,
            passwordKey=TEXT,
            urlKey=TEXT,
            address={"type": "string", "pattern": "^((rediss?://)?[A-Za-z0-9._-]+:[0-9]{1,5})?$"},
            bundled=_object(
                enabled=FLAG, image=TEXT, storage=QUANTITY, storageClass=NAME_OR_NONE, resources=_resources()
            ),
        ),
        gateway=_object(
            replicas=_whole(0, 1000),
            resources=_resources(),
            autoscaling=_object(
                enabled=FLAG,
                minReplicas=_whole(1, 1000),
                maxReplicas=_whole(1, 1000),
                cpuUtilization=_whole(1, 100),
            ),
            service=_object(
                type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=_whole(1, 65535), annotations=TEXTS
            ),
            tlsSecret=NAME_OR_NONE,
            home=FREE,
            **_PODS,
        ),
        batch=_object(volume=FREE),
        ray=_object(
            version={"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$"},
            tokenAuth=FLAG,
            tokenSecret=NAME,
            faultTolerance=FLAG,
            head=_object(resources=_resources(), priorityClassName=NAME_OR_NONE, **_PLACE),
            autoscaling=_object(enabled=FLAG, idleSeconds=_whole(1)),
        ),
        workers={
            "type": "object",
            # A group's name stands in names of pods and of Ray's resources.
            "propertyNames": {"pattern": "^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$"},
            # What it does not say, workerDefaults do.
            "additionalProperties": {**_object(**_GROUP, resources=_object(**_PART)), "type": ["object", "null"]},
        },
        workerDefaults=_object(**_GROUP, resources=_resources()),
        models=_object(volume=FREE, mountPath={"type": "string", "pattern": "^/"}),
        networkPolicy=_object(
            enabled=FLAG,
            clients=OBJECTS,
            monitoring=OBJECTS,
            dns=OBJECTS,
            gatewayEgress=OBJECTS,
            workerEgress=OBJECTS,
            redisEgress=OBJECTS,
            apiServer=OBJECTS,
            operator=OBJECTS,
        ),
        podDisruptionBudgets=_object(enabled=FLAG),
        security=_object(runAsUser=_whole(1), runAsGroup=_whole(1), fsGroup=_whole(1)),
        serviceAccount=_object(annotations=TEXTS),
        monitoring=_object(
            serviceMonitor=_object(enabled=FLAG, interval=TEXT, labels=TEXTS),
            rules=_object(enabled=FLAG, labels=TEXTS),
            dashboard=_object(enabled=FLAG, labels=TEXTS),
        ),
        **{"global": FREE},  # Helm's own
    )
    return {"$schema": "http://json-schema.org/draft-07/schema#", **values, "$defs": config["$defs"]}


def _config() -> dict[str, Any]:
    schema = copy.deepcopy(json_schema())
    server = schema["$defs"]["Server"]
    server["properties"] = {name: server["properties"][name] for name in OF_THE_CALLER}
    without: dict[str, Any] = _without(
        schema, "default"
    )  # Helm takes defaults from values.yaml, and null is none of them
    return without


def _without(part: Any, word: str) -> Any:
    if isinstance(part, list):
        return [_without(item, word) for item in part]
    if not isinstance(part, dict):
        return part
    return {key: _without(value, word) for key, value in part.items() if key != word or isinstance(value, dict)}


def written() -> str:
    """What stands in the file."""
    return json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(written())
    print(PATH)
