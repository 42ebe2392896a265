"""Texts as sums of token vectors, and the table's files."""

import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from routers.encoders import distil
from routers.encoders.base import EncoderUnavailable, Vectors
from routers.encoders.choice import open_encoder
from routers.encoders.static import HEADER, MAX_TOKENS, TABLE, TOKENIZER, StaticEncoder, folder

WORDS = ("[UNK]", "feed", "horse", "tax", "a", "winter", "##s")
ODD = ["", " \n", "a\ud800b", "ß" * 3, "x" * 100_000, "日本語", "\x00", "feed horses"]


def tokenizer() -> str:
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.enable_padding(length=16)
    made.enable_truncation(2)
    source: str = made.to_str()
    return source


@pytest.fixture
def encoder() -> StaticEncoder:
    # Halves survive the rounding of the file as they are.
    return StaticEncoder("test/static-8", (np.eye(len(WORDS), 8) / 2).astype(np.float32), tokenizer(), 0)


def test_a_vector_is_the_damped_sum_of_its_tokens(encoder: StaticEncoder) -> None:
    [row] = encoder.encode(["FEED a horse, a horse"])
    expected = np.zeros(8)
    expected[[1, 2, 4, 0]] = 1, np.sqrt(2), np.sqrt(2), 1  # the comma is unknown
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_rows_have_unit_length_whatever_the_text(encoder: StaticEncoder) -> None:
    rows = encoder.encode(ODD)
    assert rows.shape == (len(ODD), 8)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, 8)


def test_a_text_has_one_vector_alone_among_others_and_after_pickling(encoder: StaticEncoder) -> None:
    rows = encoder.encode(ODD)
    np.testing.assert_array_equal(rows, np.concatenate([encoder.encode([text]) for text in ODD]))
    np.testing.assert_array_equal(rows, pickle.loads(pickle.dumps(encoder)).encode(ODD))


def test_only_the_first_tokens_count(encoder: StaticEncoder) -> None:
    head = "tax " * MAX_TOKENS
    a, b = encoder.encode([head + "horse", head + "winter"])
    np.testing.assert_array_equal(a, b)
    assert encoder.encode(["tax " * (MAX_TOKENS - 1) + "horse"])[0][2] > 0


def test_threads_do_not_disturb_each_other(encoder: StaticEncoder) -> None:
    texts = [" ".join(WORDS[1 + (i + j) % 5] for j in range(i % 9 + 1)) for i in range(60)]
    expected = encoder.encode(texts)
    found: dict[int, Vectors] = {}

    def work(start: int) -> None:
        for i in range(start, len(texts), 4):
            found[i] = encoder.encode([texts[i]])[0]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal([found[i] for i in range(len(texts))], expected)


def test_what_was_saved_is_loaded(encoder: StaticEncoder, tmp_path: Path) -> None:
    where = folder(tmp_path)
    encoder.save(where)
    encoder.save(where)  # the second replaces the first
    loaded = StaticEncoder.load(where)
    assert (loaded.name, loaded.dim) == ("test/static-8", 8)
    np.testing.assert_array_equal(loaded.encode(ODD), encoder.encode(ODD))
    assert sorted(path.name for path in where.iterdir()) == [HEADER, TABLE, TOKENIZER]
    assert list(where.parent.iterdir()) == [where]


@pytest.mark.parametrize("file", [TABLE, TOKENIZER])
def test_a_changed_file_is_told(encoder: StaticEncoder, tmp_path: Path, file: str) -> None:
    encoder.save(tmp_path / "e")
    data = bytearray((tmp_path / "e" / file).read_bytes())
    data[-1] ^= 1
    (tmp_path / "e" / file).write_bytes(data)
    with pytest.raises(EncoderUnavailable, match=rf"{file} is not the file that encoder\.json was written with"):
        StaticEncoder.load(tmp_path / "e")


@pytest.mark.parametrize("file", [HEADER, TABLE, TOKENIZER])
def test_a_missing_file_is_told(encoder: StaticEncoder, tmp_path: Path, file: str) -> None:
    encoder.save(tmp_path / "e")
    (tmp_path / "e" / file).unlink()
    with pytest.raises(
        EncoderUnavailable, match=rf"{file} is missing; make it anew with `python -m routers\.encoders\.distil`"
    ):
        StaticEncoder.load(tmp_path / "e")


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"format": "other"}, {"dim": 0}, {"extra": 1}, {"dim": 9}, {"unknown": 7}]
)
def test_another_header_is_told(encoder: StaticEncoder, tmp_path: Path, change: dict[str, object]) -> None:
    encoder.save(tmp_path / "e")
    header = tmp_path / "e" / HEADER
    header.write_text(json.dumps(json.loads(header.read_text()) | change))
    with pytest.raises(EncoderUnavailable, match="make it anew"):
        StaticEncoder.load(tmp_path / "e")


def test_a_header_that_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / HEADER).write_text("{")
    with pytest.raises(EncoderUnavailable, match="cannot be read"):
        StaticEncoder.load(tmp_path)


class Teacher:
    """Stands for MiniLM: counts what it is asked."""

    name, dim = "teacher", 8
    tokenizer = tokenizer()
    asked = 0

    def __init__(self, **settings: object) -> None:
        pass

    def encode_tokens(self, tokens: range) -> Vectors:
        Teacher.asked += len(tokens)
        rows: Vectors = np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float32)[list(tokens)]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> type[Teacher]:
    Teacher.asked = 0
    monkeypatch.setattr(distil, "MiniLMEncoder", Teacher)
    monkeypatch.setattr(distil, "DIM", 4)
    monkeypatch.setattr(distil, "_FIRST_WORD", 1)
    monkeypatch.setattr(distil, "_BATCH", 3)
    return Teacher


def test_it_is_distilled_once(teacher: type[Teacher], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = open_encoder("static", tmp_path, on_progress=lambda *progress: told.append(progress))
    again = open_encoder("static", tmp_path)
    assert (first.name, first.dim) == (again.name, again.dim) == (distil.NAME, 4)
    np.testing.assert_array_equal(first.encode(ODD), again.encode(ODD))
    assert teacher.asked == len(WORDS)
    assert told == [("tokens", 3, 7), ("tokens", 6, 7), ("tokens", 7, 7)]


def test_a_damaged_or_older_one_is_distilled_anew(
    teacher: type[Teacher], encoder: StaticEncoder, tmp_path: Path
) -> None:
    encoder.save(folder(tmp_path))
    assert open_encoder("static", tmp_path).name == distil.NAME
    (folder(tmp_path) / TABLE).write_bytes(b"")
    assert open_encoder("static", tmp_path).name == distil.NAME
    assert teacher.asked == 2 * len(WORDS)


def test_principal_components_keep_what_they_can() -> None:
    rng = np.random.default_rng(1)
    low = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 8)) + 5
    rows = distil.principal(low.astype(np.float32), 3)
    centred = low - low[distil._FIRST_WORD :].mean(axis=0)
    np.testing.assert_allclose(rows @ rows.T, centred @ centred.T, atol=1e-3)
    variances = rows[distil._FIRST_WORD :].var(axis=0)
    assert (np.diff(variances) < 0).all()


def test_frequent_words_weigh_less() -> None:
    weights = distil.frequency_weights(30_522)
    assert (np.diff(weights[distil._FIRST_WORD :]) >= 0).all()
    assert weights[distil._FIRST_WORD] < 0.15
    assert weights[-1] > 0.9
    assert (weights[: distil._FIRST_WORD] == 1).all()
