"""Byte pairs: any text there and back, whole words, and files of either kind."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError, MissingExtraError
from xray_captioning.text.tokenizer import END_OF_TEXT, BytePairTokenizer, Tokenizer, load_tokenizer

# A space is spelled \u0120 (288), the 33rd of the bytes that cannot be seen.
SPACE = "\u0120"
LINES = ["n o", f"{SPACE} a", "c u", f"{SPACE}a cu", "e f", "l u", "ef f", "lu s"]
SEEN = {*range(33, 127), *range(161, 173), *range(174, 256)}
BYTES = [chr(i) for i in sorted(SEEN)] + [chr(256 + i) for i in range(256 - len(SEEN))]


def make(lines: list[str] = LINES) -> BytePairTokenizer:
    symbols = dict.fromkeys([*BYTES, *(line.replace(" ", "") for line in lines), END_OF_TEXT])
    return BytePairTokenizer.from_lists(list(symbols), lines)


TOKENIZER = make()


@pytest.fixture
def tokenizer() -> BytePairTokenizer:
    return TOKENIZER


def symbols(tokenizer: BytePairTokenizer, text: str) -> list[str]:
    return [tokenizer.vocabulary[i - 1] for i in tokenizer.encode(text)[1:-1]]


def test_merges_join_what_they_name_in_their_order(tokenizer: BytePairTokenizer) -> None:
    assert symbols(tokenizer, "no acute") == ["no", f"{SPACE}acu", "t", "e"]
    assert symbols(tokenizer, "effluss") == ["eff", "lus", "s"]
    assert symbols(tokenizer, "a cu") == ["a", SPACE, "cu"]


def test_pieces_are_never_joined() -> None:
    tokenizer = make(["t '", "1 a", "a .", "' s", f"{SPACE} 1", ". ."])
    assert symbols(tokenizer, "t's 1a.. ..") == [*("t", "'s", f"{SPACE}1", "a", ".."), *(SPACE, "..")]


def test_pieces_follow_classes_of_letters_and_numbers() -> None:
    # "a" before a mark, a letter that is no ASCII, and numbers that are no digits.
    merges = ["a \u00cc", "a \u00c3", "\u00c3 \u00a9", "1 \u00c2", "1 \u00e2"]
    tokenizer = make(merges)
    assert symbols(tokenizer, "a\u0301 a\u00e9 1\u00b2 1\u2167") == [
        *("a", "\u00cc", "\u0123"),
        *(SPACE, "a\u00c3", "\u00a9"),
        *(SPACE, "1\u00c2", "\u00b2"),
        *(SPACE, "1\u00e2", "\u0127", "\u00a7"),
    ]


def test_ids_of_special_tokens(tokenizer: BytePairTokenizer) -> None:
    size = len(tokenizer.vocabulary)
    assert tokenizer.vocabulary_size == size + 2
    assert tokenizer.vocabulary[tokenizer.end_id - 1] == END_OF_TEXT
    assert tokenizer.start_id == size + 1
    assert tokenizer.encode("") == [tokenizer.start_id, tokenizer.end_id]
    assert tokenizer.unknown_id == 0
    assert tokenizer.end_id not in tokenizer.encode(f"no {END_OF_TEXT} here")[:-1]


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_keeps_its_words(text: str) -> None:
    tokenizer = TOKENIZER
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == " ".join(text.split())
    assert all(0 < i < tokenizer.vocabulary_size for i in ids)


def test_half_a_surrogate_pair_is_a_question_mark(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


@given(st.lists(st.integers(0, len(BYTES) + len(LINES) + 2), max_size=30))
@settings(deadline=None)
def test_every_word_of_any_ids_has_its_tokens(ids: list[int]) -> None:
    tokenizer = TOKENIZER
    words = tokenizer.words_in(ids)
    assert [word for word, _ in words] == tokenizer.decode(ids).split()
    stop = ids.index(tokenizer.end_id) if tokenizer.end_id in ids else len(ids)
    for _, tokens in words:
        assert tokens
        assert tokens == sorted(set(tokens))
        assert all(i < stop and ids[i] not in (0, tokenizer.start_id) for i in tokens)
    firsts = [tokens[0] for _, tokens in words]
    assert firsts == sorted(firsts)


def test_words_know_their_tokens(tokenizer: BytePairTokenizer) -> None:
    ids = tokenizer.encode("no acute \u80ba .")
    assert tokenizer.words_in([0, *ids, 0]) == [
        *(("no", [2]), ("acute", [3, 4, 5]), ("\u80ba", [6, 7, 8, 9]), (".", [10, 11]))
    ]
    assert tokenizer.decode([ids[6]]) == "\ufffd"
    words = Tokenizer.fit(["no acute disease"])
    assert words.words_in(words.encode("acute disease")) == [("acute", [1]), ("disease", [2])]


@given(st.text(st.sampled_from("noacute f\u80ba."), max_size=30), st.integers(2, 20))
@settings(deadline=None)
def test_a_text_too_long_loses_whole_words(text: str, length: int) -> None:
    tokenizer = TOKENIZER
    row = tokenizer.encode_batch([text], length)[0]
    words = tokenizer.decode(row).split()
    assert words == text.split()[: len(words)]
    assert tokenizer.end_id in row
    whole = tokenizer.encode(" ".join(text.split()[: len(words) + 1]))
    assert len(words) == len(text.split()) or len(whole) > length


def test_wrong_input_is_refused(tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(ConfigError):
        tokenizer.encode("no", maximum_length=1)
    with pytest.raises(DataError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocabulary_size])
    with pytest.raises(DataError, match="not text but float"):
        tokenizer.encode_batch([float("nan")], 9)  # type: ignore[list-item]


def test_files_keep_every_id(tmp_path: Path, tokenizer: BytePairTokenizer) -> None:
    tokenizer.to_json(tmp_path / "pairs.json")
    assert json.loads((tmp_path / "pairs.json").read_text())["kind"] == "byte_pairs"
    assert load_tokenizer(tmp_path / "pairs.json") == tokenizer
    with pytest.raises(DataError, match=r"pairs\.json: holds 'byte_pairs'"):
        Tokenizer.from_json(tmp_path / "pairs.json")


def test_files_of_words_open_with_and_without_a_kind(tmp_path: Path) -> None:
    words = Tokenizer.fit(["no effusion ."])
    words.to_json(tmp_path / "words.json")
    content = json.loads((tmp_path / "words.json").read_text())
    assert content.pop("kind") == "words"
    (tmp_path / "older.json").write_text(json.dumps(content))
    assert load_tokenizer(tmp_path / "words.json") == load_tokenizer(tmp_path / "older.json")


HEADER = {"format": "xray_captioning.tokenizer", "version": 1, "kind": "byte_pairs"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "vocabulary or merges are missing"),
        ({"vocabulary": BYTES, "merges": []}, r"lacks <\|endoftext\|>"),
        ({"vocabulary": [*BYTES[1:], END_OF_TEXT], "merges": []}, "lacks !"),
        ({"vocabulary": [*BYTES, END_OF_TEXT, "a"], "merges": []}, "'a' twice"),
        ({"vocabulary": [*BYTES, END_OF_TEXT, 7], "merges": []}, "empty or not text"),
        ({"vocabulary": [*BYTES, END_OF_TEXT], "merges": ["a b"]}, "merge 1 .* unknown 'ab'"),
        ({"vocabulary": [*BYTES, END_OF_TEXT, "ab"], "merges": ["a b", "a"]}, "not two symbols"),
        ({"vocabulary": [*BYTES, END_OF_TEXT, "ab"], "merges": [7]}, "not two symbols"),
        ({"vocabulary": {s: i + 1 for i, s in enumerate(BYTES)}, "merges": []}, "not 0, 1, 2"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: dict[str, object], message: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps({**HEADER, **content}))
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_kinds_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.json"
    path.write_text(json.dumps({**HEADER, "kind": "syllables"}))
    with pytest.raises(DataError, match="syllables"):
        load_tokenizer(path)
    path.write_text(json.dumps({**HEADER, "kind": ["byte_pairs"]}))
    with pytest.raises(DataError, match="byte_pairs"):
        load_tokenizer(path)


def test_texts_need_the_extra_and_ids_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = make().encode("no acute")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = make()
    assert tokenizer.decode(ids) == "no acute"
    with pytest.raises(MissingExtraError, match=r"pip install 'xray-captioning\[hub\]'"):
        tokenizer.encode("no acute")
