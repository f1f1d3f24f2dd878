"""Files that lie, want something run, or are something else: one line, and nothing runs."""

import contextlib
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints import golden
from tests.checkpoints.golden import module, ordered, storage, tensor, text
from tests.checkpoints.test_reading import SIX, parts
from xray_captioning.checkpoints import pytorch, read_arrays
from xray_captioning.errors import BundleError

ONE = tensor(storage("0", 6), (6,), (1,))


def refused(path: Path, words: str, limit: int = 2**28) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        read_arrays(path, limit)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300


def touch(path):
    """Leave a mark, if anybody ever calls it: nothing worse is named in a pickle here."""
    Path(path).touch()


def call(place: str, function: bytes) -> bytes:
    """A pickle in which a function is called with the path of a canary."""
    return function + b"(" + text(place) + b"tR"


CALLS = {
    "a function": lambda c: call(c, golden.name(touch.__module__, "touch")),
    "open": lambda c: golden.name("builtins", "open") + b"(" + text(c) + text("w") + b"tR",
    "made by NEWOBJ": lambda c: golden.name("os", "mkdir") + b"(" + text(c) + b"t\x81",
    "torch.load": lambda c: call(c, golden.name("torch", "load")),
    "state of a name": lambda c: golden.name("torch.nn", "Linear") + golden.dictionary(a=ONE) + b"b",
    "getattr": lambda c: golden.name("builtins", "getattr") + b"(" + golden.name("os", "x") + text("name") + b"tR",
}


@pytest.mark.parametrize("layout", [golden.torch_zip, golden.torch_legacy])
@pytest.mark.parametrize("kind", CALLS)
def test_nothing_that_a_pickle_names_is_run(tmp_path, layout, kind):
    canary = tmp_path / "canary"
    before = set(sys.modules)
    pickled = ordered(a=ONE, b=CALLS[kind](str(canary)))
    path = layout(tmp_path / "w.pt", pickled, _0=SIX)
    try:
        found = read_arrays(path)  # what is no tensor is left out
        assert list(found) == ["a"]
    except BundleError:
        assert kind == "state of a name"
    assert not canary.exists()
    assert "torch" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (golden.name("builtins", "len") + b"(" + text("true") + b"tR", "holds no tensors"),
        (b"K\x01", "holds no tensors"),
        (ordered(), "holds no tensors"),
        (ordered(a=tensor(storage("1", 6), (6,), (1,))), "no 'archive/data/1' inside"),
        (ordered(a=tensor(storage("../0", 6), (6,), (1,))), "no 'archive/data/../0' inside"),
        (ordered(a=tensor(storage("0", 6), (7,), (1,))), "'a' of shape .* outside its storage"),
        (ordered(a=tensor(storage("0", 6), (2,), (6,))), "outside its storage"),
        (ordered(a=tensor(storage("0", 6), (6,), (1,), 1)), "outside its storage"),
        (ordered(a=tensor(storage("0", 6), (6,), (-1,), 5)), "no possible shape"),
        (ordered(a=tensor(storage("0", 6), (6,), (1, 1))), "shape and strides differ"),
        (ordered(a=tensor(storage("0", 6), [1] * 40, [1] * 40)), "no possible shape"),
        (ordered(a=tensor(storage("0", 6), (2**10,), (0,))), "'a' take more than 0 MiB"),
        (ordered(a=tensor(storage("0", 6), [8] * 4, [0] * 4)), "more than 0 MiB"),
        (ordered(a=tensor(storage("0", 6, "QInt8Storage"), (6,), (1,))), "quantised"),
        (ordered(a=golden.name("torch._utils", "_rebuild_sparse_tensor") + b")R"), "sparse"),
        (ordered(a=tensor(golden.name("a", "b") + b")\x81", (6,), (1,))), "without a storage"),
        (b"\x82\x01", "instruction EXT1, which no PyTorch file needs"),
        (b"(I1\nibuiltins\nlen\n", "instruction INST, which"),
        (b"\x8a\x0a" + b"\x7f" * 10, "more than 64 bits"),
        (b"}" + b"K\x01\x85" + b"q\x00h\x00\x86" * 8 + b"K\x01s", "no plain value"),
        (b"(" + text("thing") + text("0") * 4 + b"tQ", "no storage"),
        (b"\x8c", "truncated"),
    ],
)
def test_pickles_that_lie(tmp_path, pickled, words):
    refused(golden.torch_zip(tmp_path / "w.pt", pickled, _0=SIX), words, 2**12 - 1)


def nested(depth: int, ways: int) -> bytes:
    """Dictionaries in dictionaries: each holds the next, so many times."""
    inner = b"}q\x00" + text("a") + ONE + b"s"
    for place in range(1, depth):
        pairs = b"".join(text(f"k{n}") + b"j" + struct.pack("<I", place - 1) for n in range(ways))
        inner += b"}r" + struct.pack("<I", place) + b"(" + pairs + b"u"
    return inner


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (nested(12, 2), "more objects within objects"),
        (nested(40, 1), "more objects within objects"),
        (b"](" + b"K\x01" * 500 + b"e", "more than 300 pickle instructions"),
    ],
)
def test_what_would_take_for_ever_is_bounded(tmp_path, monkeypatch, pickled, words):
    monkeypatch.setattr(pytorch, "MAXIMUM_DEPTH", 30 if pickled == nested(40, 1) else 100)
    monkeypatch.setattr(pytorch, "MAXIMUM_VISITS", 1000)
    monkeypatch.setattr(pytorch, "MAXIMUM_STEPS", 300 if "instructions" in words else 10_000)
    refused(golden.torch_zip(tmp_path / "w.pt", pickled, _0=SIX), words)


def test_an_object_that_is_a_key_is_not_written_with_all_it_holds(tmp_path):
    """Ten lists, each of which holds the one before twice, would be a text of thousands."""
    lists = b"]q\x00" + b"".join(b"0](h%ch%ceq%c" % (n, n, n + 1) for n in range(10))
    key = golden.name("a", "B") + b")\x81" + text("held") + lists + b"s"
    path = golden.torch_zip(tmp_path / "w.pt", b"}" + key + ONE + b"s", _0=SIX)
    assert len(read_arrays(path)) == 1


def test_objects_that_contain_themselves(tmp_path):
    pickled = b"}q\x05(" + text("a") + ONE + text("b") + b"h\x05u"
    assert list(read_arrays(golden.torch_zip(tmp_path / "w.pt", pickled, _0=SIX))) == ["a"]
    whole = module("Net", ordered(a=ONE), b"}q\x05")[:-1] + b"b"
    assert list(read_arrays(golden.torch_zip(tmp_path / "v.pt", whole, _0=SIX))) == ["a"]


def test_storages_that_unpack_to_more_than_the_limit(tmp_path):
    zeros = np.zeros(2**18, "f4")
    pickled = ordered(**{f"n{i}": tensor(storage(str(i), 2**18), (1,), (1,)) for i in range(3)})
    path = golden.torch_zip(tmp_path / "w.pt", pickled, **{f"_{i}": zeros for i in range(3)})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "p.pt", "w", 8) as packed:
        for info in old.infolist():
            packed.writestr(info.filename, old.read(info), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "p.pt").stat().st_size < 20_000
    assert list(read_arrays(tmp_path / "p.pt", 2**22)) == ["n0", "n1", "n2"]
    refused(tmp_path / "p.pt", "take more than 2 MiB", 2**21)


def header(**changes):
    return {"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24], **changes}}


SAFETENSORS = [
    (header(data_offsets=[0, 20]), "needs 24 bytes, but 20|where it should|more bytes"),
    (header(data_offsets=[4, 28]), "where it should"),
    (header(data_offsets=[0, 2**10]), "where it should"),
    (header(data_offsets=[24, 0]), "where it should"),
    (header(data_offsets=[0, 24.0]), "no possible place"),
    (header(shape=[2**10, 2**10]), "needs .* bytes, but 24 are there"),
    (header(shape=[-6]), "no possible shape"),
    (header(shape=[True, 6]), "no possible shape"),
    (header(shape="6"), "no possible place"),
    (header(dtype="F8_E4M3"), "'F8_E4M3', such as quantised"),
    (header(dtype=["F32"]), "such as quantised"),
    ({"a": 3}, "no dtype, shape or place"),
    ({**header(), "b": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, "where it should"),
    ({}, "more bytes than its header says"),
    (b'{"a": 1, "a": 2}', "'a' twice"),
    (b"{" * 50, "no JSON"),
    (b"{]", "no JSON"),
]


@pytest.mark.parametrize(("written", "words"), SAFETENSORS)
def test_safetensors_that_lie(tmp_path, written, words):
    refused(golden.safetensors(tmp_path / "w.safetensors", written, SIX.tobytes()), words)


def test_arrays_within_a_limit(tmp_path):
    path = golden.safetensors(tmp_path / "w.safetensors", header(), SIX.tobytes())
    assert read_arrays(path, 24)["a"].nbytes == 24
    refused(path, "'a' take more than 0 MiB; refused, unless a larger limit is given", 23)
    half = golden.safetensors(tmp_path / "h", header(dtype="BF16", data_offsets=[0, 12]), bytes(12))
    refused(half, "take more than", 23)  # as float32


@pytest.mark.parametrize("name", ["../w", "a/w", "..\\w", "/nowhere", "", "..", "absent"])
def test_parts_and_data_lie_in_the_same_folder(tmp_path, name):
    golden.safetensors(tmp_path / "w", header(), SIX.tobytes())
    (tmp_path / "model" / "a").mkdir(parents=True)
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refused(index, "is not beside it; refused|is missing")
    if name != "a/w":
        entry = golden.onnx_entry("location", name)
        path = tmp_path / "model" / "m.onnx"
        golden.onnx(path, golden.onnx_tensor("a", 1, [6], external=[entry]))
        refused(path, "is not beside it; refused|is missing")


def test_links_out_of_the_folder(tmp_path):
    (tmp_path / "secret").write_bytes(SIX.tobytes())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "data").symlink_to(tmp_path / "secret")
    path = tmp_path / "model" / "m.onnx"
    golden.onnx(path, golden.onnx_tensor("a", 1, [6], external=[golden.onnx_entry("location", "data")]))
    refused(path, "is not beside it; refused")


def test_parts_that_are_indexes_or_lack_an_array(tmp_path):
    index = parts(tmp_path) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    refused(index, "begins with")
    index.write_text(json.dumps({"weight_map": {"c": "model-0.safetensors"}}))
    refused(index, "'c' is not in 'model-0.safetensors'; download")
    index.write_text(json.dumps({"weights": 1}))
    refused(index, "JSON without a weight_map")


RAW = {"raw_data": SIX.tobytes()}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (golden.onnx_tensor("a", 1, [7], **RAW), "needs 28 bytes, but 24 are there"),
        (golden.onnx_tensor("a", 1, [2**10, 2**10], **RAW), "but 24 are there"),
        (golden.onnx_tensor("a", 1, [2**64 - 6], **RAW), "no possible shape"),
        (golden.onnx_tensor("a", 17, [6], **RAW), "ONNX type 17, such as quantised"),
        (golden.onnx_tensor("a", 8, [6], **RAW), "ONNX type 8"),
        (golden.onnx_tensor("a", 1, [1], float_data=2**31), "broken numbers"),
        (golden.onnx_tensor("a", 1, [1])[:-3] + b"\xff", "no ONNX model, or truncated"),
        (b"\x0f", "no ONNX model, or truncated"),
    ],
)
def test_onnx_that_lies(tmp_path, model, words):
    refused(golden.onnx(tmp_path / "w.onnx", model), words)


def test_other_onnx(tmp_path):
    refused(golden.onnx(tmp_path / "a.onnx"), "without weights, or no ONNX model")
    refused(golden.onnx(tmp_path / "b.onnx", graph=golden.field(15, b"")), "sparse weights")
    one = golden.onnx_tensor("a", 1, [6], **RAW)
    refused(golden.onnx(tmp_path / "c.onnx", one, one), "'a' twice")
    refused(golden.onnx(tmp_path / "d.onnx", one), "the limit; refused", 20)
    (tmp_path / "data").write_bytes(bytes(20))
    for place in ({"length": "24"}, {"offset": "-4"}, {"offset": "21"}, {"offset": "x"}):
        entries = [golden.onnx_entry(k, v) for k, v in {"location": "data", **place}.items()]
        path = golden.onnx(tmp_path / "e.onnx", golden.onnx_tensor("a", 1, [6], external=entries))
        refused(path, "too short|no possible place")


def test_npz_of_objects_and_with_lying_headers(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([{}, print], object))
    refused(tmp_path / "objects.npz", "Object arrays cannot be loaded")
    np.savez(tmp_path / "texts.npz", a=np.array(["text"]))
    refused(tmp_path / "texts.npz", "holds <U4, not numbers")
    content = golden.npz(tmp_path / "w.npz", a=SIX)
    with zipfile.ZipFile(content) as archive:
        member = archive.read("a.npy")
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("a.npy", member.replace(b"(6,)", b"(9,)"))
    refused(tmp_path / "lies.npz", "truncated, damaged or no file of weights")


OTHERS = {
    "empty": (b"", "is empty; download"),
    "page": (b"\n<!DOCTYPE html>", "a web page, not weights; download"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "Git LFS pointer"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
    "gguf": (b"GGUF\x03" + bytes(20), "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip archive; unpack"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(9), "TensorFlow Lite"),
    "npy": (b"\x93NUMPY\x01\0", "single NumPy array"),
    "text": (b"hello, world", "begins with b'hello, w', as no file of weights"),
    "zeros": (bytes(600), "begins with"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named(tmp_path, kind):
    content, words = OTHERS[kind]
    (tmp_path / "w.pt").write_bytes(content)
    refused(tmp_path / "w.pt", words)


def test_other_archives_and_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("model/weights.pt", b"x")
    refused(tmp_path / "w.zip", "a zip archive; unpack it .*PyTorch, Keras 3 and NumPy")
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(tmp_path / "w.zip", "a" * 90)
    refused(tmp_path / "w.tar", "a tar archive, perhaps PyTorch's")
    refused(tmp_path / "absent.pt", "no such file; give")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "a folder with 0 files of weights; give")
    for name in ("a.pt", "b.pt"):
        (tmp_path / "folder" / name).write_bytes(b"")
    refused(tmp_path / "folder", r"2 files of weights \(a.pt, b.pt")


WHOLE = {
    "zip": lambda p: golden.torch_zip(p, ordered(a=ONE), _0=SIX),
    "legacy": lambda p: golden.torch_legacy(p, ordered(a=ONE), _0=SIX),
    "safetensors": lambda p: golden.safetensors(p, header(), SIX.tobytes()),
    "onnx": lambda p: golden.onnx(p, golden.onnx_tensor("a", 1, [6], **RAW)),
    "npz": lambda p: golden.npz(p, a=SIX),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated(tmp_path, kind):
    path = WHOLE[kind](tmp_path / "w")
    whole = path.read_bytes()
    for end in [*range(1, len(whole), max(1, len(whole) // 40)), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(path, "; |download")


@given(
    st.sampled_from(list(WHOLE)),
    st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=4)), min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_damage_gives_one_kind_of_error(tmp_path_factory, kind, edits):
    path = WHOLE[kind](tmp_path_factory.getbasetemp() / "damaged")
    data = bytearray(path.read_bytes())
    for place, change in edits:
        data[place : place + len(change)] = change
    path.write_bytes(data)
    found: dict[str, np.ndarray] = {}
    with contextlib.suppress(BundleError):
        found = read_arrays(path, 2**20)
    assert sum(values.nbytes for values in found.values()) <= 2**20


def test_the_file_itself_is_never_changed_or_unpacked(tmp_path):
    path = golden.torch_zip(tmp_path / "w.pt", ordered(a=ONE), _0=SIX)
    before = path.read_bytes()
    read_arrays(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.pt"]
