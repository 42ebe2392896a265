"""Images that are copied into the model's own tensors: on CPU tensors, as it is on others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers import image_copies
from workers.image_copies import Copy, CopyBackend, checksums, place_together
from workers.image_files import ImageError, IntegrityError, Tensors, digests

CPU = torch.device("cpu")


def image(number: int) -> dict[str, torch.Tensor]:
    """Two images differ in one tensor of 24 bytes and share one of 16."""
    return {"own": torch.full((3, 2), float(number)), "shared": torch.arange(4, dtype=torch.int32)}


def engine() -> tuple[dict[str, torch.Tensor], CopyBackend]:
    model = {name: torch.zeros_like(tensor) for name, tensor in image(0).items()}
    return model, CopyBackend(model)


def built(backend: CopyBackend, tensors: Tensors) -> Copy:
    return backend.build(tensors, digests(tensors))


def equal(model: Tensors, tensors: Tensors) -> bool:
    return digests(model) == digests(tensors)


def test_the_models_tensors_take_the_images_bytes_and_keep_their_addresses() -> None:
    model, backend = engine()
    addresses = {name: tensor.data_ptr() for name, tensor in model.items()}
    for number in (1, 2, 1):
        backend.activate(built(backend, image(number)))
        assert equal(model, image(number))
    assert {name: tensor.data_ptr() for name, tensor in model.items()} == addresses


def test_only_what_differs_moves() -> None:
    _, backend = engine()
    first, second = built(backend, image(1)), built(backend, image(2))
    assert [backend.activate(each) for each in (first, second, second, first)] == [40, 24, 0, 24]


def test_equal_tensors_of_built_images_are_held_once() -> None:
    _, backend = engine()
    first, second = built(backend, image(1)), built(backend, image(2))
    assert second.tensors["shared"] is first.tensors["shared"]
    assert second.tensors["own"] is not first.tensors["own"]


def test_an_image_with_other_tensors_is_refused() -> None:
    _, backend = engine()
    with pytest.raises(ImageError, match="does not have the model's tensors: extra"):
        built(backend, image(1) | {"extra": torch.zeros(1)})


def test_an_image_that_changed_after_it_was_read_is_found_before_it_is_used() -> None:
    _, backend = engine()
    tensors = image(1)
    copy = built(backend, tensors)
    assert len(list(backend.check(copy, tensors))) == 2  # a pause after each tensor
    copy.tensors["own"][0, 0] = 5
    with pytest.raises(IntegrityError, match="tensor own was not copied as it was read"):
        list(backend.check(copy, tensors))


def test_a_copy_that_is_not_whole_is_found_and_the_former_image_is_as_before() -> None:
    model, backend = engine()
    first, second = built(backend, image(1)), built(backend, image(2))
    backend.activate(first)
    second.tensors["own"][2, 1] = 7
    with pytest.raises(IntegrityError, match="tensor own did not reach the device whole"):
        backend.activate(second)
    assert equal(model, image(1))
    assert backend.activate(first) == 0


def test_a_copy_that_breaks_off_leaves_the_former_image_as_before() -> None:
    model, backend = engine()
    third = {name: tensor + 1 for name, tensor in image(3).items()}
    first, broken = built(backend, image(1)), built(backend, third)
    backend.activate(first)
    broken.tensors["shared"] = torch.zeros(9)  # cannot be copied; the one before it was
    with pytest.raises(RuntimeError, match="must match"):
        backend.activate(broken)
    assert equal(model, image(1))
    assert backend.activate(first) == 0


def test_where_the_former_image_cannot_be_put_back_the_next_one_moves_whole() -> None:
    model, backend = engine()
    former, broken = built(backend, image(1)), built(backend, image(2))
    backend.activate(former)
    former.tensors["own"] = broken.tensors["own"] = torch.zeros(9)
    with pytest.raises(RuntimeError, match="must match"):
        backend.activate(broken)
    assert backend.activate(built(backend, image(1))) == 40
    assert equal(model, image(1))


def test_after_a_first_copy_that_breaks_off_everything_moves() -> None:
    model, backend = engine()
    broken = built(backend, image(1))
    broken.tensors["shared"] = torch.zeros(9)
    with pytest.raises(RuntimeError, match="must match"):
        backend.activate(broken)
    assert backend.activate(built(backend, image(1))) == 40
    assert equal(model, image(1))


# Placement


def test_tensors_are_placed_together_in_few_allocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_copies, "_CHUNK", 256)
    tensors = {
        "a": torch.rand(16),  # 64 bytes
        "b": torch.rand(3, 3).to(torch.bfloat16),  # 18, so 64 with what follows
        "c": torch.empty(0, 4),
        "large": torch.rand(100),  # 400: alone
        "view": torch.rand(4, 6).T[1:],
    }
    placed = place_together(tensors, CPU, pinned=False)
    assert equal(placed, tensors)
    assert all(tensor.is_contiguous() and tensor.data_ptr() % 64 == 0 for tensor in placed.values())
    arenas = {name: placed[name].untyped_storage().data_ptr() for name in tensors}
    assert arenas["a"] == arenas["b"]
    assert len({arenas[name] for name in ("a", "large", "view")}) == 3
    assert placed["large"].untyped_storage().nbytes() == 448


# Checksums


@given(content=st.binary(min_size=1, max_size=40), data=st.data())
def test_any_byte_counts(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    one, other = (torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in (content, changed))
    assert checksums([one]) != checksums([other])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.bool], ids=str
)
def test_a_checksum_depends_on_the_bytes_alone(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).to(dtype)
    misplaced = torch.cat([tensor.reshape(-1)[:1], tensor.reshape(-1)])[1:]
    transposed = tensor.T.contiguous().T
    assert len(set(checksums([tensor, misplaced, transposed]))) == 1


def test_checksums_wrap_around_and_of_nothing_is_zero() -> None:
    largest = torch.full((3,), 2**63 - 1)
    assert checksums([largest, torch.empty(0)]) == [(3 * (2**63 - 1) + 2**63) % 2**64 - 2**63, 0]
    assert checksums([]) == []
