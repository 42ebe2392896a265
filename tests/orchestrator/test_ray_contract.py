"""What we rely on in Ray's internals."""

import base64
import inspect
import re
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cluster import RAY_ENVIRONMENT
from orchestrator.config.autoscaling import AutoscalingConfig
from orchestrator.config.model import FamilyConfig
from orchestrator.scaling import RECORD_S, serve_number
from tests.orchestrator.scaling_parts import Patience

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


def test_another_number_of_workers_or_other_bounds_replace_nobody() -> None:
    from ray.serve._private.config import DeploymentConfig
    from ray.serve._private.version import DeploymentVersion

    def of(**place: Any) -> Any:
        return DeploymentVersion("1", DeploymentConfig(**serve_number(FamilyConfig(**place))), {})

    before = of(replicas=1)
    for other in (of(autoscaling=AutoscalingConfig(max_replicas=3)), of(replicas=2)):
        assert not before.requires_actor_restart(other)
    bounds = of(autoscaling=AutoscalingConfig(max_replicas=3))
    assert not bounds.requires_actor_restart(of(autoscaling=AutoscalingConfig(max_replicas=4, queue_s=1)))


def test_a_worker_that_runs_begins_to_tell_when_its_number_becomes_the_loads_matter() -> None:
    """By RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE alone: else only those that are started later would."""
    from ray.serve._private import constants, replica

    name = "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE"
    assert RAY_ENVIRONMENT[name] == "0"
    assert hasattr(constants, name)
    manager = replica.ReplicaMetricsManager
    assert f"return not {name}" in inspect.getsource(manager.should_collect_ongoing_requests)
    assert "self.should_collect_ongoing_requests()" in inspect.getsource(manager.set_autoscaling_config)
    assert "start_metrics_pusher()" in inspect.getsource(manager.set_autoscaling_config)
    assert "set_autoscaling_config" in inspect.getsource(replica.Replica.reconfigure)


def test_replicas_tell_as_often_as_the_configuration_says_though_serve_would_rather_have_it_otherwise() -> None:
    from ray.serve._private import replica

    source = inspect.getsource(replica.ReplicaMetricsManager.start_metrics_pusher)
    assert source.count("autoscaling_config.metrics_interval_s") == 2
    config = serve_number(FamilyConfig(autoscaling=AutoscalingConfig(max_replicas=3)))["autoscaling_config"]
    assert (config.metrics_interval_s, config.initial_replicas) == (RECORD_S, None)
    assert "record_autoscaling_stats" in inspect.getsource(replica.UserCallableWrapper)


def test_the_policy_goes_to_serve_by_value_and_needs_nothing_of_ours_there() -> None:
    config = serve_number(FamilyConfig(autoscaling=AutoscalingConfig(max_replicas=3, queue_s=4)))["autoscaling_config"]
    code = """
import base64, pickle, sys
from types import SimpleNamespace as Of
sys.modules["orchestrator"] = None
made = pickle.loads(base64.b64decode(sys.argv[1]))(**eval(sys.argv[2]))
late = {name: {"a": [Of(timestamp=1.0, value=8.0)]} for name in ("queue_s", "busy", "tokens_s")}
print(made(Of(current_time=1.0, policy_state={}, raw_metrics=late, running_replicas=["a"],
              target_num_replicas=1, current_num_replicas=1))[0])
"""
    policy = base64.b64encode(config.policy.get_serialized_policy_def()).decode()
    done = subprocess.run(
        [sys.executable, "-c", code, policy, repr(config.policy.policy_kwargs)],
        capture_output=True, text=True, timeout=60, check=True, cwd="/",
    )  # fmt: skip
    assert done.stdout == "2\n"


def test_serve_gives_a_policy_what_it_reads_and_keeps_its_bounds() -> None:
    from ray.serve._private.autoscaling_state import DeploymentAutoscalingState
    from ray.serve._private.common import DeploymentID, ReplicaID, ReplicaMetricReport, TimeStampedValue
    from ray.serve._private.config import DeploymentConfig
    from ray.serve._private.deployment_info import DeploymentInfo

    bounds = AutoscalingConfig(max_replicas=2, upscale_delay_s=0, queue_s=1)
    config = DeploymentConfig(**serve_number(FamilyConfig(autoscaling=bounds)))
    replicas: Any = SimpleNamespace(ray_actor_options={})
    info = DeploymentInfo(config, replicas, 0, "", "1")
    state: Any = DeploymentAutoscalingState(DeploymentID("worker", "coe-f"))
    assert state.register(info, -1) == 1  # one that is new
    assert state.register(info, 2) == 2  # one that runs keeps its number
    ids = [ReplicaID(name, DeploymentID("worker", "coe-f")) for name in "ab"]
    for number, own in enumerate(ids):
        state.update_running_replica_ids(ids[: number + 1])
        values = {"queue_s": 9.0, "busy": 1.0, "tokens_s": 5.0}
        metrics: Any = {name: [TimeStampedValue(time.time(), value)] for name, value in values.items()}
        state.record_request_metrics_for_replica(ReplicaMetricReport(own, metrics, time.time()))
        assert state.get_decision_num_replicas(number + 1) == 2
    assert state._policy_state["memory"].asked


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.1, 1.0, 7.0])), max_size=60),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.0, 10.0]),
)
def test_serve_waits_as_our_twin_of_it_does(steps: list[tuple[int, float]], up_s: float, down_s: float) -> None:
    from ray.serve.autoscaling_policy import _apply_delay_logic

    bounds = AutoscalingConfig(max_replicas=5, upscale_delay_s=up_s, downscale_delay_s=down_s)
    config = serve_number(FamilyConfig(autoscaling=bounds))["autoscaling_config"]
    twin, state, now, ours, theirs = Patience(up_s, down_s), dict[str, Any](), 0.0, 1, 1
    for wanted, seconds in steps:
        now += seconds
        ours = twin.apply(wanted, ours, now)
        theirs, state = _apply_delay_logic(wanted, theirs, config, state, now)
        assert ours == theirs


def test_serve_tells_how_many_replicas_it_wants() -> None:
    from ray.serve.schema import ApplicationDetails, DeploymentDetails

    assert "target_num_replicas" in DeploymentDetails.model_fields
    assert "deployments" in ApplicationDetails.model_fields
