"""Folders of weights are judged by their headers, before an engine is started for them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from workers import checkpoints

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 32,
}


def checkpoint(folder: Path, *, config: dict[str, Any] | None = None, shape: tuple[int, ...] = (32, 8)) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    (folder / "tokenizer_config.json").write_text("{}")
    save_file({"embed": torch.ones(shape), "norm": torch.ones(8)}, folder / "model.safetensors")
    return str(folder)


def adapter(folder: Path, config: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"a": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    return str(folder)


def test_a_whole_checkpoint_has_no_problem(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a")
    assert checkpoints.problem(source) is None
    assert checkpoints.weights(Path(source)) == {"embed": (32, 8), "norm": (8,)}
    assert checkpoints.weight_bytes(source) >= 4 * (32 * 8 + 8)


def test_a_hub_id_is_left_to_vllm(tmp_path: Path) -> None:
    assert checkpoints.problem("some-org/some-model") is None
    assert checkpoints.weight_bytes("some-org/some-model") == 0
    assert checkpoints.difference("some-org/some-model", checkpoint(tmp_path / "a")) is None
    assert checkpoints.problem("./nowhere") == "there is no folder './nowhere'"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    source = checkpoint(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    assert checkpoints.problem(source) == f"{tmp_path / 'a' / name} is missing"


def test_no_weights_and_a_missing_shard_are_told(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    index = tmp_path / "a" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"embed": "model.safetensors", "norm": "other.safetensors"}}))
    assert checkpoints.problem(source) == f"{tmp_path / 'a' / 'other.safetensors'} is missing"
    index.write_text("[]")
    assert checkpoints.problem(source) == f"{index} is not a weight index"
    index.unlink()
    weights.unlink()
    assert checkpoints.problem(source) == f"{tmp_path / 'a'} holds no weights"


def test_weights_cut_off_anywhere_are_found(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    whole = weights.read_bytes()
    for length in range(0, len(whole), 7):
        weights.write_bytes(whole[:length])
        told = checkpoints.problem(source)
        assert told is not None
        assert "is cut off" in told or "is not a safetensors file" in told
    weights.write_bytes(whole)
    assert checkpoints.problem(source) is None


def test_a_header_that_lies_about_its_length_is_no_memory_hole(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    assert checkpoints.problem(source) == f"{tmp_path / 'a' / 'model.safetensors'} is not a safetensors file"


def test_members_of_a_family_may_differ_in_what_is_not_computed_with(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one")
    # Another age of the file: a default written out, other names and end tokens.
    two = checkpoint(tmp_path / "two", config={"eos_token_id": 7, "mlp_bias": False, "transformers_version": "4.0.0"})
    assert checkpoints.difference(two, one) is None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"vocab_size": 33}, "vocab_size = 33, the others' 32"),
        ({"num_hidden_layers": 2}, "num_hidden_layers = 2, the others' 1"),
        ({"rms_norm_eps": 0.1}, "rms_norm_eps = 0.1"),
        ({"rope_theta": 7.0}, "rope_parameters"),
    ],
)
def test_another_architecture_is_not_of_the_family(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two", config=config)
    difference = checkpoints.difference(two, one)
    assert difference is not None
    assert difference.startswith("not of one family: its config.json has ")
    assert told in difference


def test_another_shape_under_the_same_configuration_is_found(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two", shape=(33, 8))
    assert checkpoints.difference(two, one) == (
        "not of one family: its tensor embed has shape (33, 8), the others' (32, 8)"
    )


def test_a_broken_configuration_says_which_file(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"two/config\.json is not usable"):
        checkpoints.difference(two, one)


def test_the_rank_of_an_adapter_is_its_highest(tmp_path: Path) -> None:
    source = adapter(tmp_path / "a", {"r": 4, "rank_pattern": {"q_proj": 9}})
    assert checkpoints.adapter_problem(source) is None
    assert checkpoints.adapter_rank(source) == 9
    assert checkpoints.adapter_rank("some-org/some-adapter") == 16


def test_what_is_wrong_with_an_adapter_is_told(tmp_path: Path) -> None:
    assert checkpoints.adapter_problem(str(tmp_path / "gone")) == f"there is no folder {str(tmp_path / 'gone')!r}"
    assert "does not name the rank" in str(checkpoints.adapter_problem(adapter(tmp_path / "a", {})))
    source = adapter(tmp_path / "b", {"r": 4})
    (tmp_path / "b" / "adapter_model.safetensors").unlink()
    assert checkpoints.adapter_problem(source) == f"{tmp_path / 'b'} holds no adapter_model.safetensors"
    (tmp_path / "b" / "adapter_config.json").unlink()
    assert "adapter_config.json is missing" in str(checkpoints.adapter_problem(source))
