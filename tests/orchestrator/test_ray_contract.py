"""What we rely on in Ray's internals."""

import inspect
import re
from typing import Any

import pytest

pytestmark = pytest.mark.service


def test_a_replica_binds_its_grpc_server_by_the_name_that_we_replace_and_after_the_constructor() -> None:
    from ray.serve._private import replica

    from orchestrator.ray_internals import GRPC_PORT

    source = inspect.getsource(replica)
    assert re.findall(r"add_port_to_grpc_server\(self\._server, \"([^\"]+)\"\)", source) == ["[::]:0"]
    assert callable(vars(replica)[GRPC_PORT])
    assert GRPC_PORT in inspect.getsource(replica.Replica._on_initialized)
    assert "user_callable" in inspect.getsource(replica.Replica._on_initialized)  # it is made by then


def test_a_local_ray_stays_on_loopback_by_this_variable() -> None:
    from ray._private import ray_constants, services

    from orchestrator.cluster import LOCAL_ENVIRONMENT

    assert LOCAL_ENVIRONMENT[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] == "0"
    assert "if not ray_constants.ENABLE_RAY_CLUSTER:" in inspect.getsource(services.get_node_ip_address)


def test_a_deployment_carries_the_version_by_which_serve_tells_what_to_restart() -> None:
    from ray.serve import deployment
    from ray.serve._private import client

    from orchestrator.ray_internals import of_version

    class Nothing:
        pass

    own = of_version(deployment(Nothing), "7")
    assert own.bind()._bound_deployment.version == "7"
    assert "deployment._version or get_random_string()" in inspect.getsource(client)


def test_a_node_is_drained_as_the_hidden_command_does_it() -> None:
    from ray.scripts import scripts

    source = " ".join(inspect.getsource(scripts.drain_node.callback).split())  # type: ignore[arg-type]
    called = "gcs_client.drain_node( node_id, autoscaler_pb2.DrainNodeReason.Value(reason), reason_message, deadline_"
    assert "gcs_client = ray._raylet.GcsClient(address=address)" in source
    assert called in source


def test_serve_tells_on_which_node_a_replica_is() -> None:
    from ray.serve._private.client import ServeControllerClient
    from ray.serve.schema import ReplicaDetails

    assert callable(ServeControllerClient.get_serve_details)
    assert {"node_id", "replica_id"} <= ReplicaDetails.model_fields.keys()


def test_serve_waits_for_the_first_check_of_health_before_a_replica_is_up() -> None:
    from ray.serve._private import replica

    source = inspect.getsource(replica.Replica.initialize)
    assert source.index("initialize_callable()") < source.index("await self.check_health()")
    assert "wait_for" not in source  # no bound on it


def test_other_experts_are_told_to_replicas_that_run_and_other_settings_replace_them() -> None:
    from ray.serve._private.config import DeploymentConfig
    from ray.serve._private.version import DeploymentVersion

    def of(code: str, user_config: object, replicas: int = 1) -> Any:
        return DeploymentVersion(code, DeploymentConfig(user_config=user_config, num_replicas=replicas), {})

    before = of("1", {"rosters": "a"})
    assert not before.requires_actor_restart(of("1", {"rosters": "b"}))
    assert before.requires_actor_reconfigure(of("1", {"rosters": "b"}))
    assert not before.requires_actor_reconfigure(of("1", {"rosters": "a"}, 2))
    assert before.requires_actor_restart(of("2", {"rosters": "a"}))


def test_serve_tells_a_replica_of_its_experts_before_it_is_up_and_ends_one_that_raises() -> None:
    from ray.serve._private import replica

    source = inspect.getsource(replica.Replica.initialize)
    assert source.index("call_reconfigure") < source.index("await self.check_health()")
    assert "raise RuntimeError" in inspect.getsource(replica.Replica.reconfigure)
