"""The word tokenizer and its files."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.text.tokenizer import Tokenizer

TEXTS = ["no effusion .", "no acute disease .", "acute effusion ."]
WORDS = st.sampled_from(["no", "acute", "effusion", ".", "<unk>", "<cls>", "<end>", "normal"])


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.fit(TEXTS)


def test_ids_are_special_words_then_frequency_then_alphabet(tokenizer: Tokenizer) -> None:
    expected = ("<unk>", "<cls>", "<end>", ".", "acute", "effusion", "no", "disease")
    assert tokenizer.words == expected
    assert tokenizer.index["."] == 4
    assert (tokenizer.unknown_id, tokenizer.start_id, tokenizer.end_id) == (1, 2, 3)
    assert tokenizer.vocabulary_size == 9


def test_rare_words_are_left_out() -> None:
    assert Tokenizer.fit(TEXTS, minimum_frequency=2).words[3:] == (".", "acute", "effusion", "no")
    with pytest.raises(ConfigError):
        Tokenizer.fit(TEXTS, minimum_frequency=0)


def test_encode_and_decode(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("no acute mass") == [2, 7, 5, 1, 3]
    assert tokenizer.encode("no acute mass", maximum_length=3) == [2, 7, 3]
    assert tokenizer.decode([2, 7, 5, 1, 3, 4, 4]) == "no acute <unk>"
    assert tokenizer.decode([0, 7, 0, 4]) == "no ."
    assert tokenizer.decode(np.array([2, 3], dtype=np.int64)) == ""


def test_special_words_in_a_text_are_unknown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("no <end> acute <cls>") == [2, 7, 1, 5, 1, 3]
    assert Tokenizer.fit(["a <end> <cls> <unk>"]).words == ("<unk>", "<cls>", "<end>", "a")


def test_batches_are_padded_with_zeros(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode_batch(["no", "no acute disease ."], 4)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[2, 7, 3, 0], [2, 7, 5, 3]]
    assert tokenizer.encode_batch([], 4).shape == (0, 4)


@given(st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=6), st.integers(2, 8))
@settings(deadline=None)
def test_every_row_ends_and_known_words_come_back(texts: list[str], length: int) -> None:
    tokenizer = Tokenizer.fit(texts)
    for row, text in zip(tokenizer.encode_batch(texts, length), texts, strict=True):
        assert tokenizer.end_id in row
        words = ["<unk>" if word in ("<cls>", "<end>") else word for word in text.split()]
        assert tokenizer.decode(row) == " ".join(words[: length - 2])


@pytest.mark.parametrize("ids", [[9], [-1], [2, 400]])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(DataError, match="outside the vocabulary"):
        tokenizer.decode(ids)


def test_wrong_input_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"texts\[1\] is not text but float"):
        Tokenizer.fit(["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(DataError, match="list of texts"):
        Tokenizer.fit("no effusion")
    with pytest.raises(ConfigError):
        tokenizer.encode("no", maximum_length=1)


@pytest.mark.parametrize("words", [("<unk>", ".", "<cls>", "<end>", "b", "a"), None])
def test_files_keep_every_id(tmp_path: Path, words: tuple[str, ...] | None) -> None:
    tokenizer = Tokenizer(words) if words else Tokenizer.fit(["\u00e9t\u00e9 \U0001f600 x"])
    tokenizer.to_json(tmp_path / "t.json")
    assert Tokenizer.from_json(tmp_path / "t.json") == tokenizer
    tokenizer.to_pickle(tmp_path / "t.pkl")
    assert Tokenizer.from_pickle(tmp_path / "t.pkl") == tokenizer
    content = pickle.loads((tmp_path / "t.pkl").read_bytes())
    assert content["words"] == list(tokenizer.words)


GOOD = {"format": "xray_captioning.tokenizer", "version": 1}
SPECIAL = ["<unk>", "<cls>", "<end>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 50, "not JSON"),
        ("", "not JSON"),
        ("[]", "not a tokenizer"),
        (json.dumps({"words": SPECIAL}), "not a tokenizer"),
        (json.dumps({**GOOD, "version": 2, "words": SPECIAL}), "newer"),
        (json.dumps(GOOD), "list of words is missing"),
        (json.dumps({**GOOD, "words": {"a": 1}}), "list of words is missing"),
        (json.dumps({**GOOD, "words": [*SPECIAL, "a", "a"]}), "'a' twice"),
        (json.dumps({**GOOD, "words": [*SPECIAL, 7]}), "word 4 is empty or not text"),
        (json.dumps({**GOOD, "words": [*SPECIAL, [1]]}), "word 4 is empty or not text"),
        (json.dumps({**GOOD, "words": [*SPECIAL, ""]}), "word 4 is empty or not text"),
        (json.dumps({**GOOD, "words": ["<unk>", "a"]}), "lacks <cls>, <end>"),
    ],
)
def test_damaged_json_names_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.from_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_binary_json_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json"):
        Tokenizer.from_json(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\x80\x04\xff")
    with pytest.raises(DataError, match=r"binary\.json"):
        Tokenizer.from_json(tmp_path / "binary.json")


# --- tokenizers of Keras


def keras_content(words: list[str], **changes: object) -> dict[str, object]:
    usual = {"num_words": None, "filters": "", "lower": True, "split": " ", "char_level": False}
    index = {word: i for i, word in enumerate(words, 1)}
    texts = {"document_count": 3, "word_docs": dict.fromkeys(words, 3), "oov_token": None}
    return {**usual, **texts, "word_index": index, **changes}


def keras_json(content: dict[str, object]) -> str:
    """Write what ``to_json`` of Keras' tokenizer writes: dictionaries as texts within the text."""
    inner = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in content.items()}
    return json.dumps({"class_name": "Tokenizer", "config": inner})


PAIRS = [
    ("startseq", "endseq"),
    ("<start>", "<end>"),
    ("start", "end"),
    ("<s>", "</s>"),
    ("bos", "eos"),
    ("<sos>", "<eos>"),
    ("[CLS]", "[SEP]"),
    ("<cls>", "<end>"),
]


@pytest.mark.parametrize("form", ["pickle", "json", "json of json", "words"])
@pytest.mark.parametrize(("start", "end"), PAIRS)
def test_keras_tokenizers_with_their_own_marks(tmp_path: Path, form: str, start: str, end: str) -> None:
    content = keras_content(["the", start, end, "lungs", "are"])
    path = tmp_path / "tokenizer"
    if form in ("pickle", "words"):
        path.write_bytes(pickle.dumps(content["word_index"] if form == "words" else content))
        tokenizer = Tokenizer.from_pickle(path)
    else:
        text = keras_json(content)
        path.write_text(json.dumps(text) if form == "json of json" else text)
        tokenizer = Tokenizer.from_json(path)
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.unknown_id) == (2, 3, 0)
    assert tokenizer.encode("the new lungs") == [2, 1, 4, 3]  # as Keras without oov_token
    assert tokenizer.decode([0, 0, 2, 1, 4, 3, 5]) == "the lungs"
    assert tokenizer.decode([2, 1, 2, 4]) == "the lungs"
    tokenizer.to_json(tmp_path / "own.json")
    assert Tokenizer.from_json(tmp_path / "own.json") == tokenizer
    tokenizer.to_pickle(tmp_path / "own.pkl")
    assert Tokenizer.from_pickle(tmp_path / "own.pkl") == tokenizer


def read_keras(tmp_path: Path, *marks: str, **content: object) -> Tokenizer:
    path = tmp_path / "tokenizer.json"
    path.write_text(keras_json(keras_content(**content)))  # type: ignore[arg-type]
    return Tokenizer.from_json(path, *marks)


def test_what_a_keras_tokenizer_does_to_a_text_is_kept(tmp_path: Path) -> None:
    words = ["<unk>", "start", "end", "lungs", "xray", "rare"]
    tokenizer = read_keras(tmp_path, words=words, oov_token="<unk>", filters="!.-", num_words=6)
    assert tokenizer.encode("Lungs-XRAY. rare!") == [2, 4, 5, 1, 3]
    assert tokenizer.word_index == {word: i for i, word in enumerate(words[:5], 1)}
    assert tokenizer.index_word[4] == "lungs"
    assert 0 not in tokenizer.index_word
    again = tmp_path / "again.json"
    tokenizer.to_json(again)
    assert Tokenizer.from_json(again).encode("Lungs-XRAY") == [2, 4, 5, 3]


def test_padding_that_was_added_as_a_word_is_none(tmp_path: Path) -> None:
    index = {"<pad>": 0, "<start>": 1, "<end>": 2, "lungs": 3}
    tokenizer = read_keras(tmp_path, words=[], word_index=index)
    assert tokenizer.word_index == {"<start>": 1, "<end>": 2, "lungs": 3}


def test_marks_may_be_named_and_plain_words_are_none(tmp_path: Path) -> None:
    words = ["lungs", "start", "end", "go", "stop"]
    seldom = {"words": words, "word_docs": {"start": 1, "end": 3}}
    with pytest.raises(DataError, match="name them"):
        read_keras(tmp_path, **seldom)
    assert read_keras(tmp_path, "go", "stop", **seldom).start_id == 4
    with pytest.raises(DataError, match="no word 'begin'"):
        read_keras(tmp_path, "begin", "stop", **seldom)
    with pytest.raises(DataError, match="characters"):
        read_keras(tmp_path, words=words, char_level=True)
    with pytest.raises(DataError, match="among those it keeps"):
        read_keras(tmp_path, words=["lungs", "startseq", "endseq"], num_words=3)


def test_new_words_come_after_the_known_ones() -> None:
    known = Tokenizer.fit(["no effusion .", "small effusion ."])
    longer = known.extended(["<cls> no nodule , nodule .", "rare effusion"], 2)
    assert longer.words == (*known.words, "nodule")
    assert known.extended([]) == known
    keras = Tokenizer(("startseq", "endseq", "lungs"), (None, "startseq", "endseq"), ".", True)
    longer = keras.extended(["Clear. <unk> Lungs"])
    assert longer.words == ("startseq", "endseq", "lungs", "clear")
    assert longer.encode("CLEAR lungs.") == [1, 4, 3, 2]
