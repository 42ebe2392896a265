"""Checkpoint folders, looked at without reading their weights: whole? how large? of the same family?"""

import contextlib
import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What may differ between the config.json of two experts of a family: names, and what the engine does not compute with.
_OWN = frozenset(
    "transformers_version dtype torch_dtype architectures bos_token_id eos_token_id pad_token_id unk_token_id "
    "decoder_start_token_id use_cache max_position_embeddings initializer_range attention_dropout hidden_dropout "
    "finetuning_task task_specific_params unsloth_version unsloth_fixed is_llama_config transformers.js_config "
    "output_attentions output_hidden_states return_dict tokenizer_class".split()
)
_HEADER_LIMIT = 100 << 20


def problem(source: str) -> str | None:
    """None if `source` is a hub id or a folder that holds a whole checkpoint, else what is missing or broken."""
    folder = Path(source).expanduser()
    if not folder.is_absolute() and not folder.exists():
        return None if "/" in source and not source.startswith((".", "~")) else f"there is no folder {source!r}"
    if not folder.is_dir():
        return f"there is no folder {folder}"
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
    try:
        weights(folder)
    except ValueError as error:
        return str(error)
    return None


def fingerprint(source: str) -> str:
    """Of a checkpoint's files: names, sizes and times of change. Of a hub id: itself."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return source
    known = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin"):
            with contextlib.suppress(FileNotFoundError):
                told = file.stat()
                known.update(f"{file.name} {told.st_size} {told.st_mtime_ns}\n".encode())
    return known.hexdigest()


def _files(folder: Path) -> list[Path]:
    """Its files of weights. Raises ValueError if some are missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{index} is not a weight index") from None
        for shard in shards:
            if not (folder / shard).is_file():
                raise ValueError(f"{folder / shard} is missing")
        return [folder / shard for shard in shards]
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise ValueError(f"{folder} holds no weights")
    return files


def weights(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name of each tensor -> its shape, from the headers of the safetensors files; empty for other formats.

    Raises ValueError if a file is missing, not safetensors, or shorter than its header says.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(folder):
        if file.suffix == ".safetensors":
            shapes |= _header(file)
    return shapes


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _HEADER_LIMIT):
                raise ValueError
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a safetensors file") from None
    if size < 8 + length + end:
        raise ValueError(f"{file} is cut off: it has {size} bytes of {8 + length + end}")
    return shapes


def adapter_problem(source: str) -> str | None:
    """None if `source` is a hub id or a folder with a whole LoRA adapter, else what is missing or broken."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return None if "/" in source and not source.startswith(("/", ".", "~")) else f"there is no folder {source!r}"
    try:
        adapter_rank(source)
        if not (folder / "adapter_model.safetensors").is_file() and not (folder / "adapter_model.bin").is_file():
            return f"{folder} holds no adapter_model.safetensors"
        if (folder / "adapter_model.safetensors").is_file():
            _header(folder / "adapter_model.safetensors")
    except ValueError as error:
        return str(error)
    return None


def adapter_rank(source: str) -> int:
    """The highest rank of a LoRA adapter; 16 for a hub id. Raises ValueError if adapter_config.json is unusable."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return 16
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except OSError:
        raise ValueError(f"{folder / 'adapter_config.json'} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder / 'adapter_config.json'} does not name the rank 'r' of a LoRA") from None


_ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}


def weight_bytes(source: str, dtype: str = "auto") -> int:
    """Bytes of its weights in an engine of that dtype, in their files for "auto"; 0 for a hub id.

    A hub id's files are not looked up.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return 0
    shapes = weights(folder) if dtype in _ITEM else {}
    if shapes:
        return _ITEM[dtype] * sum(math.prod(shape) for shape in shapes.values())
    return sum(file.stat().st_size for file in _files(folder))


@dataclass(frozen=True, slots=True)
class Traits:
    """What the checkpoints of a family have in common: configuration, and shapes of tensors by name."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def traits(source: str) -> Traits | None:
    """Of a checkpoint's files; None for a hub id, which hides them. Raises ValueError if they are not usable."""
    folder = Path(source).expanduser()
    return Traits(_config(folder), weights(folder)) if folder.is_dir() else None


def unlike(mine: Traits | None, theirs: Traits | None) -> str | None:
    """Why a checkpoint is not of one family with another; None if it is, or if that cannot be told."""
    if mine is None or theirs is None:
        return None
    for key in sorted(mine.config.keys() | theirs.config.keys()):
        own, other = mine.config.get(key), theirs.config.get(key)
        if own != other:
            return f"not of one family: its config.json has {key} = {own!r}, the others' {other!r}"
    for name in sorted(mine.shapes.keys() & theirs.shapes.keys()):
        if mine.shapes[name] != theirs.shapes[name]:
            own_shape, other_shape = mine.shapes[name], theirs.shapes[name]
            return f"not of one family: its tensor {name} has shape {own_shape}, the others' {other_shape}"
    return None


def difference(source: str, other: str) -> str | None:
    """Why the checkpoint `source` is not of one family with `other`; None if it is, or a hub id hides its files."""
    mine = traits(source)
    return None if mine is None else unlike(mine, traits(other))


def _config(folder: Path) -> dict[str, Any]:
    """Its configuration with the defaults of its architecture filled in: files of different ages leave out others."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder).to_dict()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not usable: {' '.join(str(error).split())}") from error
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in _OWN}
