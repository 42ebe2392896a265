"""A process that tells what Serve says of its replicas, a JSON line each: `python -m benchmarks.faults.eye ADDRESS`.

A line is {"replicas": [{"app", "pid", "state"}, ...]}, or {"error": ...} while Serve does not say.
"""

import json
import logging
import sys
import time
from typing import Any

EVERY_S = 0.5


def look(client: Any) -> list[dict[str, Any]]:
    """client: Serve's own, of `ray.serve._private.api`."""
    return [
        {"app": app, "pid": replica.get("pid"), "state": str(getattr(replica["state"], "value", replica["state"]))}
        for app, details in client.get_serve_details()["applications"].items()
        for deployment in details["deployments"].values()
        for replica in deployment["replicas"]
    ]


def main() -> None:
    import ray
    from ray.serve._private.api import _get_global_client  # type: ignore[attr-defined]

    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
    while True:
        try:
            client = _get_global_client(raise_if_no_controller_running=False)
            told: dict[str, Any] = {"replicas": look(client) if client is not None else []}
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
