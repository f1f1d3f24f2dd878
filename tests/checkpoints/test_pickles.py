"""Reading pickled tokenizers of other packages, and refusing everything else."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import pickletools
import struct
import sys
import types
import zlib
from collections import OrderedDict, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.checkpoints import pickles as legacy_pickle
from xray_captioning.checkpoints.pickles import read_tokenizer_pickle
from xray_captioning.errors import DataError
from xray_captioning.text.tokenizer import Tokenizer

WORDS = ["<unk>", ".", "<cls>", "<end>", "no", "acute"]
ATTRIBUTES = {
    "word_counts": OrderedDict([("no", 3), ("acute", 2)]),
    "word_docs": defaultdict(int, {"no": 3}),
    "filters": "",
    "split": " ",
    "lower": True,
    "num_words": None,
    "document_count": 70_000,
    "char_level": False,
    "oov_token": "<unk>",
    "index_docs": defaultdict(int, {5: 3}),
    "word_index": {word: i for i, word in enumerate(WORDS, 1)},
    "index_word": dict(enumerate(WORDS, 1)),
}


def keras_pickle(protocol: int, module: str = "keras_preprocessing.text", **changes) -> bytes:
    """Pickle an object as Keras would, with a class that only exists meanwhile."""
    name = f"fake{len(module)}"
    holder = types.ModuleType(name)
    holder.Tokenizer = type("Tokenizer", (), {"__module__": name})
    sys.modules[name] = holder
    try:
        tokenizer = holder.Tokenizer()
        tokenizer.__dict__.update({**ATTRIBUTES, **changes})
        data = pickle.dumps(tokenizer, protocol)
    finally:
        del sys.modules[name]
    if protocol >= 4:
        old, new = (struct.pack("<B", len(n)) + n.encode() for n in (name, module))
        return data[:2] + data[11:].replace(b"\x8c" + old, b"\x8c" + new, 1)  # without its frame
    return data.replace(f"{name}\nTokenizer\n".encode(), f"{module}\nTokenizer\n".encode(), 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokenizer.pkl"


MODULES = (
    "keras_preprocessing.text",
    "keras.preprocessing.text",
    "keras.src.preprocessing.text",
    "keras.src.legacy.preprocessing.text",
    "tensorflow.keras.preprocessing.text",
    "tensorflow.python.keras.preprocessing.text",
)


@pytest.mark.parametrize("protocol", range(6))
def test_keras_tokenizers_of_all_spellings(file: Path, protocol: int) -> None:
    for module in MODULES:
        file.write_bytes(keras_pickle(protocol, module))
        attributes = read_tokenizer_pickle(file)
        assert attributes == ATTRIBUTES, module
        assert not isinstance(attributes["word_docs"], (OrderedDict, defaultdict))
    assert Tokenizer.from_pickle(file).words == tuple(WORDS)
    assert "keras_preprocessing" not in sys.modules


@pytest.mark.parametrize(
    "compress",
    [
        zlib.compress,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    ],
)
def test_compressed_joblib_files(file: Path, compress) -> None:
    file.write_bytes(compress(keras_pickle(4)))
    assert Tokenizer.from_pickle(file).words == tuple(WORDS)


@pytest.mark.parametrize("compression", [0, "zlib", "gzip", "bz2", "lzma", "xz"])
def test_files_of_joblib_itself(file: Path, compression) -> None:
    joblib = pytest.importorskip("joblib")
    content = {"word_index": ATTRIBUTES["word_index"], "docs": ATTRIBUTES["word_docs"]}
    joblib.dump(content, file, compress=(compression, 3) if compression else 0)
    assert Tokenizer.from_pickle(file).words == tuple(WORDS)


def test_python_2_text_and_ordered_pairs(file: Path) -> None:
    index = b"(dU\x05<unk>K\x01sU\x05<cls>K\x02sU\x05<end>K\x03sU\x02\xc3\xa9K\x04s"
    counts = b"ccollections\nOrderedDict\n((l(lU\x02noaK\x03aatR"
    file.write_bytes(
        b"\x80\x02ckeras.preprocessing.text\nTokenizer\n)\x81}("
        b"U\x0aword_index" + index + b"U\x0bword_counts" + counts + b"ub."
    )
    assert Tokenizer.from_pickle(file).words == ("<unk>", "<cls>", "<end>", "\u00e9")
    assert read_tokenizer_pickle(file)["word_counts"] == {"no": 3}


def test_num_words_is_applied(file: Path) -> None:
    file.write_bytes(keras_pickle(4, num_words=6))
    assert Tokenizer.from_pickle(file).words == tuple(WORDS[:5])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"a": 1, "b": 1}, "id 1 where 2"),
        ({"a": 1, "b": 3}, "id 3 where 2"),
        ({"a": 0}, "id 0 where 1"),
        ({"a": "1"}, "whole numbers"),
        ({"a": True}, "whole numbers"),
        (["a"], "whole numbers"),
        ({"<cls>": 1, "<end>": 2, 7: 3}, "word 3 is empty or not text"),
        ({"no": 1}, "no words that begin and end a text"),
    ],
)
def test_impossible_indexes_name_the_file(file: Path, index, message: str) -> None:
    file.write_bytes(keras_pickle(2, word_index=index))
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.from_pickle(file)
    assert str(file) in str(caught.value)


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path):
    """Leave a mark, if anybody ever calls it: nothing worse is named in a pickle here."""
    Path(path).touch()


# A pair of references to the pair before, eight times; of sixty nobody could walk through.
LAUGHING_PAIRS = b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * 8
_NAMED = f"c{__name__}\ntouch\n"

STOP = b"."
HOSTILE = {
    "call": lambda c: pickle.dumps(Calls(touch, str(c))),
    "call, protocol 0": lambda c: f"{_NAMED}(S'{c}'\ntR.".encode(),
    "call, protocol 2": lambda c: pickle.dumps(Calls(touch, str(c)), 2),
    "call, protocol 3": lambda c: pickle.dumps(Calls(touch, str(c)), 3),
    "open": lambda c: pickle.dumps(Calls(open, str(c), "w"), 0),
    "call of a built-in function": lambda c: pickle.dumps(Calls(len, "abc")),
    "getattr chain": lambda c: pickle.dumps(Calls(getattr, Calls(str, "a"), "upper")),
    "nested reduce": lambda c: keras_pickle(4, filters=Calls(touch, str(c))),
    "inside a list": lambda c: pickle.dumps({"word_index": [Calls(touch, str(c))]}),
    "inst": lambda c: f"(S'{c}'\ni{_NAMED[1:]}.".encode(),
    "obj": lambda c: f"({_NAMED}S'{c}'\no.".encode(),
    "newobj of a function": lambda c: f"\x80\x02{_NAMED}U\x05touch\x85\x81.".encode("latin-1"),
    "factory that runs": lambda c: f"ccollections\ndefaultdict\n({_NAMED}tR.".encode(),
    "call of the tokenizer": lambda c: b"ckeras.preprocessing.text\nTokenizer\n(tR.",
    "arguments for the tokenizer": lambda c: b"\x80\x02ckeras.preprocessing.text\nTokenizer\nK\x01\x85\x81.",
    "reconstructor of another class": lambda c: (
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nint\nc__builtin__\nobject\nNtR."
    ),
    "call of a label": lambda c: b"cbuiltins\nint\n(S'7'\ntR.",
    "call of text": lambda c: b"\x80\x02X\x01\x00\x00\x00a)R.",
    "look-alike module": lambda c: b"cevil.preprocessing.text\nTokenizer\n)\x81.",
    "attribute path": lambda c: b"\x80\x04\x8c\x18keras.preprocessing.text\x8c\x0fTokenizer.mro.x\x93.",
    "stack global of a number": lambda c: b"\x80\x04K\x01\x8c\x06system\x93.",
    "persistent id": lambda c: b"Pfile\n.",
    "extension registry": lambda c: b"\x80\x02\x82\x01.",
    "out-of-band buffer": lambda c: b"\x80\x05\x97.",
    "bytearray": lambda c: b"\x80\x05\x96" + struct.pack("<Q", 1000) + b"a.",
    "numpy array": lambda c: b"cnumpy.core.multiarray\n_reconstruct\n.",
    "text longer than the file": lambda c: b"\x80\x02X\xff\x00\x00\x00ab.",
    "bytes longer than the file": lambda c: b"\x80\x04\x8e" + struct.pack("<Q", 1000) + b"a.",
    "negative length": lambda c: b"\x80\x02\x8b\xff\xff\xff\xffa.",
    "long of many bytes": lambda c: b"\x80\x02\x8b" + struct.pack("<i", 1000) + b"\x7f" * 1000 + STOP,
    "decimal of many digits": lambda c: b"L" + b"9" * 1000 + b"L\n.",
    "memo never set": lambda c: b"\x80\x02j\xff\xff\x00\x00.",
    "memo of an empty stack": lambda c: b"\x80\x02r\xff\xff\x00\x00.",
    "pop of an empty stack": lambda c: b"\x80\x02\x86.",
    "mark never set": lambda c: b"\x80\x02u.",
    "key without value": lambda c: b"\x80\x02}(K\x01u.",
    "append to a number": lambda c: b"\x80\x02K\x01K\x01a.",
    "state that is a list": lambda c: b"\x80\x02ckeras.preprocessing.text\nTokenizer\n)\x81]b.",
    "key that is a list": lambda c: b"\x80\x02}]K\x01s.",
    "state of a name": lambda c: b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",
    "state of the class": lambda c: b"\x80\x02ckeras.preprocessing.text\nTokenizer\n}b.",
    "nested tuples": lambda c: b"\x80\x02}X\x01\x00\x00\x00a" + LAUGHING_PAIRS + b"s.",
    "nested tuples as a key": lambda c: b"\x80\x02}" + LAUGHING_PAIRS + b"K\x01s.",
    "not a dictionary": lambda c: b"\x80\x02]q\x00h\x00a.",
    "deep lists": lambda c: b"\x80\x02" + b"](" * 900 + b"e" * 900 + STOP,
    "nothing": lambda c: b"",
    "no stop": lambda c: b"\x80\x04}",
    "cut off": lambda c: keras_pickle(4)[:200],
    "text file": lambda c: b"hello\n",
    "cut-off archive": lambda c: gzip.compress(keras_pickle(4))[:60],
    "broken archive": lambda c: b"\x1f\x8b" + b"\x00" * 50,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(tmp_path: Path, file: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    file.write_bytes(HOSTILE[kind](canary))
    with pytest.raises(DataError) as caught:
        read_tokenizer_pickle(file)
    assert not canary.exists()
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert len(message) < len(str(file)) + 250


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("call", f"{__name__}.touch"),
        ("call of a built-in function", "builtins.len"),
        ("nested reduce", f"{__name__}.touch"),
        ("call of the tokenizer", "holds 'NoneType'"),
        ("arguments for the tokenizer", "wants to call Tokenizer"),
        ("call of a label", "wants to call builtins.int"),
        ("persistent id", "PERSID"),
        ("inst", "INST"),
        ("numpy array", "numpy.core.multiarray._reconstruct"),
        ("long of many bytes", "more than 64 bits"),
        ("not a dictionary", "holds 'list'"),
        ("nested tuples", "a tuple, which no tokenizer has"),
        ("nested tuples as a key", "a key that is no plain value"),
        ("cut off", "truncated"),
    ],
)
def test_the_message_names_what_was_found(file: Path, kind: str, named: str) -> None:
    file.write_bytes(HOSTILE[kind]("canary"))
    with pytest.raises(DataError, match=named.replace(".", r"\.")):
        read_tokenizer_pickle(file)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02" + b"}" * 2000 + STOP,
        b"\x80\x04" + b"]\x94" * 1000 + STOP,
        b"\x80\x02" + b"(" * 2000 + STOP,
        # One list of pairs, copied into a dictionary again and again.
        b"\x80\x02](](K\x01K\x02e](K\x01K\x02e](K\x01K\x02eeq\x00"
        + b"ccollections\nOrderedDict\nh\x00\x85R" * 240
        + STOP,
    ],
)
def test_the_number_of_steps_is_bounded(file: Path, data: bytes, monkeypatch) -> None:
    monkeypatch.setattr(legacy_pickle, "MAXIMUM_STEPS", 1000)
    file.write_bytes(data)
    with pytest.raises(DataError, match="more than 1,000"):
        read_tokenizer_pickle(file)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_as_many_steps_as_a_file_has_instructions(file: Path, protocol: int, monkeypatch) -> None:
    content = {"word_index": {f"w{i}": i for i in range(100)}, "pairs": [[1, 2]]}
    data = pickle.dumps(content, protocol)
    monkeypatch.setattr(legacy_pickle, "MAXIMUM_STEPS", len(list(pickletools.genops(data))))
    file.write_bytes(data)
    assert read_tokenizer_pickle(file) == content


def test_a_far_memory_place_costs_nothing(file: Path) -> None:
    file.write_bytes(b"\x80\x02}r\xff\xff\x00\x00.")
    assert read_tokenizer_pickle(file) == {}


def test_a_list_of_pairs_may_be_used_again(file: Path) -> None:
    pairs = b"](" + b"](K\x01K\x02e" * 100 + b"eq\x00"
    one, two = (f"X\x01\x00\x00\x00{name}".encode() for name in "ab")
    call = b"ccollections\nOrderedDict\nh\x00\x85R"
    file.write_bytes(b"\x80\x02" + pairs + b"}" + one + call + b"s" + two + call + b"s" + STOP)
    assert read_tokenizer_pickle(file) == {"a": {1: 2}, "b": {1: 2}}


@pytest.mark.parametrize("compress", [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_size_is_bounded_before_and_after_decompression(file: Path, compress, monkeypatch) -> None:
    monkeypatch.setattr(legacy_pickle, "MAXIMUM_BYTES", 2**20)
    file.write_bytes(compress(b"\x80\x04" + b"N" * 2**22))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        read_tokenizer_pickle(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(DataError, match="no such file"):
            read_tokenizer_pickle(path)


VALID = [keras_pickle(protocol) for protocol in range(6)]


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=3))))
@settings(max_examples=150, deadline=None)
def test_damage_gives_one_kind_of_error(tmp_path_factory, data: bytes, edits) -> None:
    for place, change in edits:
        data = data[:place] + change + data[place + len(change) :]
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        Tokenizer.from_pickle(path)


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_noise_gives_one_kind_of_error(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError):
        Tokenizer.from_pickle(path)


def test_what_is_accepted_equals_what_pickle_loads(file: Path) -> None:
    content = {"a": [1, -5, 2**40, 0.5, None, True, [1, [2, 3]], {"b": []}], 3: "é"}
    for protocol in range(6):
        data = pickle.dumps(content, protocol)
        file.write_bytes(data)
        assert read_tokenizer_pickle(file) == pickle.load(io.BytesIO(data))


def test_the_published_file(shared_data: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pickle(shared_data / "legacy" / "tokenizer.pkl")
    assert len(tokenizer.words) == 1386
    assert tokenizer.words[:4] == ("<unk>", ".", "<cls>", "<end>")
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.vocabulary_size) == (3, 4, 1387)
    tokenizer.to_json(tmp_path / "tokenizer.json")
    assert Tokenizer.from_json(tmp_path / "tokenizer.json").index == tokenizer.index
