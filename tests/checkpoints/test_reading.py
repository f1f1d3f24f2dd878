"""Arrays out of files of every format, equal to the bit, without the libraries that wrote them."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.checkpoints import golden
from tests.checkpoints.golden import module, number, ordered, storage, tensor, text
from tests.legacy.keras2_files import write
from xray_captioning.checkpoints import read_arrays

RNG = np.random.default_rng(0)
SIX = RNG.normal(size=6).astype("f4")


def same(found, wanted):
    assert list(found) == list(wanted)
    for label, values in wanted.items():
        assert found[label].shape == values.shape, label
        assert found[label].dtype == values.dtype, label
        assert found[label].tobytes() == np.ascontiguousarray(values).tobytes(), label


def upper_halves(values):
    """What bfloat16 keeps of float32 numbers, and its two bytes each."""
    bits = values.view("u4") >> 16
    return (bits << 16).view("f4"), bits.astype("u2").tobytes()


LAYOUTS = [golden.torch_zip, golden.torch_legacy]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_of_one_storage(tmp_path, layout):
    pickled = ordered(
        whole=tensor(storage("0", 6), (2, 3), (3, 1)),
        turned=tensor(storage("0", 6), (3, 2), (1, 3)),
        part=tensor(storage("0", 6), (2, 2), (3, 1), offset=1),
        spread=tensor(storage("0", 6), (4, 2), (0, 1)),
        one=tensor(storage("0", 6), (), (), offset=5),
        none=tensor(storage("0", 6), (0, 7), (7, 1)),
    )
    whole = SIX.reshape(2, 3)
    wanted = {
        "whole": whole,
        "turned": whole.T,
        "part": whole[:, 1:],
        "spread": np.broadcast_to(SIX[:2], (4, 2)),
        "one": whole[1, 2],
        "none": np.zeros((0, 7), "f4"),
    }
    same(read_arrays(layout(tmp_path / "w", pickled, _0=SIX)), wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "stored", "result"),
    [
        ("HalfStorage", "f2", "f4"),
        ("DoubleStorage", "f8", "f8"),
        ("LongStorage", "i8", "i8"),
        ("CharStorage", "i1", "i1"),
        ("ByteStorage", "u1", "u1"),
        ("BoolStorage", "?", "?"),
    ],
)
def test_kinds_of_numbers(tmp_path, layout, kind, stored, result):
    values = np.array([0, 1, 100, 3]).astype(stored)
    path = layout(tmp_path / "w", ordered(a=tensor(storage("k", 4, kind), (4,), (1,))), _k=values)
    same(read_arrays(path), {"a": values.astype(result)})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16(tmp_path, layout):
    wanted, data = upper_halves(SIX)
    pickled = ordered(a=tensor(storage("0", 6, "BFloat16Storage"), (6,), (1,)))
    same(read_arrays(layout(tmp_path / "w", pickled, _0=np.frombuffer(data, "u2"))), {"a": wanted})


def test_numbers_of_a_big_endian_machine(tmp_path):
    pickled = ordered(a=tensor(storage("0", 6), (6,), (1,)))
    path = golden.torch_zip(tmp_path / "w", pickled, b"big", _0=SIX.astype(">f4"))
    same(read_arrays(path), {"a": SIX})


def test_a_storage_that_is_a_view_of_another(tmp_path):
    view = b"(" + text("other") + number(2) + number(3) + b"t"
    pickled = ordered(
        a=tensor(storage("0", 6, view=b"N"), (6,), (1,)), b=tensor(storage("0", 6, view=view), (2,), (1,), offset=1)
    )
    same(read_arrays(golden.torch_legacy(tmp_path / "w", pickled, _0=SIX)), {"a": SIX, "b": SIX[3:5]})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_modules_give_what_their_state_dict_names(tmp_path, layout):
    weight = tensor(storage("0", 6), (6,), (1,))
    inner = module("Linear", ordered(weight=weight, bias=b"N"))
    buffers = ordered(mean=weight, mask=weight)
    passing = golden.name("__builtin__", "set") + b"](" + text("mask") + b"e\x85R"
    whole = module(
        "Net",
        ordered(scale=weight),
        ordered(layer=inner, again=inner),
        _buffers=buffers,
        _non_persistent_buffers_set=passing,
    )
    names = ["scale", "mean", "layer.weight", "again.weight"]
    for number_, pickled in enumerate((whole, golden.dictionary(epoch=b"K\x01", model=whole))):
        found = read_arrays(layout(tmp_path / f"w{number_}", pickled, _0=SIX))
        same(found, dict.fromkeys(names, SIX))
        assert found["scale"] is found["mean"]  # what is one tensor stays one


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_give_their_weights_only(tmp_path, wrapper):
    one = tensor(storage("0", 6), (6,), (1,))
    parts = {"optimizer_states": b"](" + one + b"e", wrapper: ordered(**{"a.b": one})}
    parts["hyper"] = golden.name("argparse", "Namespace") + b")\x81" + golden.dictionary(x=one) + b"b"
    path = golden.torch_zip(tmp_path / "w.ckpt", golden.dictionary(**parts), _0=SIX)
    same(read_arrays(path), {"a.b": SIX})


def test_nested_dictionaries_have_dotted_names(tmp_path):
    one = tensor(storage("0", 6), (6,), (1,))
    parts = {"encoder": ordered(a=one), "heads": b"](" + one + b"e", "optimizer": ordered(a=one)}
    path = golden.torch_zip(tmp_path / "w", golden.dictionary(**parts), _0=SIX)
    same(read_arrays(path), {"encoder.a": SIX, "heads.0": SIX})


NUMBERS = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
ARRAYS = st.dictionaries(
    st.text("abc.é", min_size=1, max_size=4),
    arrays_of.arrays(NUMBERS, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=3)),
    min_size=1,
    max_size=4,
)


def as_read(values):
    return np.ascontiguousarray(values.astype("f4") if values.dtype == "f2" else values).reshape(values.shape)


@given(ARRAYS)
@settings(max_examples=60, deadline=None)
def test_npz_round_trip(tmp_path_factory, arrays):
    path = golden.npz(tmp_path_factory.getbasetemp() / "w.npz", **arrays)
    same(read_arrays(path), {name: as_read(values) for name, values in arrays.items()})


@given(ARRAYS)
@settings(max_examples=60, deadline=None)
def test_safetensors_round_trip(tmp_path_factory, arrays):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.getbasetemp() / "w.safetensors"
    library.save_file({n: np.ascontiguousarray(v).reshape(v.shape) for n, v in arrays.items()}, path)
    found = read_arrays(path)
    same(dict(sorted(found.items())), {n: as_read(v) for n, v in sorted(arrays.items())})


def test_npz_in_the_order_of_columns_and_compressed(tmp_path):
    values = np.asfortranarray(SIX.reshape(2, 3))
    np.savez_compressed(tmp_path / "w.npz", a=values, b=values.astype(">f8"))
    same(read_arrays(tmp_path / "w.npz"), {"a": values, "b": values.astype("f8")})


def test_golden_safetensors(tmp_path):
    wanted, halves = upper_halves(SIX)
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [24, 36]},
        "a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]},
    }
    path = golden.safetensors(tmp_path / "w", header, SIX.tobytes() + halves)
    same(read_arrays(path), {"b": wanted.reshape(2, 3), "a": SIX})


def parts(folder: Path) -> Path:
    """A model in two parts, as Hugging Face saves it."""
    for number_, label in enumerate("ab"):
        header = {label: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}
        golden.safetensors(folder / f"model-{number_}.safetensors", header, (SIX + number_).tobytes())
    index = {"weight_map": {"b": "model-1.safetensors", "a": "model-0.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_parts_and_folders(tmp_path):
    wanted = {"b": SIX + 1, "a": SIX}
    same(read_arrays(parts(tmp_path) / "model.safetensors.index.json"), wanted)
    (tmp_path / "config.json").write_text("{}")
    same(read_arrays(tmp_path), wanted)
    golden.npz(tmp_path / "model.safetensors", one=SIX)  # its content counts, not its name
    same(read_arrays(tmp_path), {"one": SIX})


def test_a_folder_with_one_file_and_links_as_in_a_cache(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    outside = [golden.onnx_entry("location", "model.onnx_data")]
    golden.onnx(blobs / "x1", golden.onnx_tensor("a", 1, [6], external=outside))
    (blobs / "x2").write_bytes(SIX.tobytes())
    for name, blob in (("model.onnx", "x1"), ("model.onnx_data", "x2")):
        (snapshot / name).symlink_to(blobs / blob)
    same(read_arrays(snapshot), {"a": SIX})


def test_golden_onnx(tmp_path):
    wanted, halves = upper_halves(SIX)
    packed = b"".join(golden.varint(v) for v in (1, 2**64 - 5, 3))  # -5 takes ten bytes
    half = np.array([1.5, -2], "f2")
    place = [golden.onnx_entry(k, v) for k, v in (("location", "w.bin"), ("offset", "8"), ("length", "8"))]
    (tmp_path / "w.bin").write_bytes(bytes(8) + SIX[:2].tobytes() + bytes(3))
    path = golden.onnx(
        tmp_path / "w.onnx",
        golden.onnx_tensor("raw", 1, [2, 3], raw_data=SIX.tobytes()),
        golden.onnx_tensor("floats", 1, [6], float_data=SIX.tobytes()),
        golden.onnx_tensor("bf16", 16, [6], raw_data=halves),
        golden.onnx_tensor("long", 7, [3], int64_data=packed),
        golden.onnx_tensor("int", 6, [3], int32_data=[1, 2**64 - 5, 3]),
        golden.onnx_tensor("half", 10, [2], int32_data=[int(v) for v in half.view("u2")]),
        golden.onnx_tensor("outside", 1, [2], external=place),
        golden.onnx_tensor("nothing", 7, [0]),
    )
    wanted = {
        "raw": SIX.reshape(2, 3),
        "floats": SIX,
        "bf16": wanted,
        "long": np.array([1, -5, 3]),
        "int": np.array([1, -5, 3], "i4"),
        "half": half.astype("f4"),
        "outside": SIX[:2],
        "nothing": np.array([], "i8"),
    }
    same(read_arrays(path), wanted)


def test_keras_2_and_3(tmp_path):
    layers = {"conv1/conv": {"conv1/conv/kernel": SIX.reshape(2, 3)}, "dense": {"kernel": SIX}}
    found = read_arrays(write(tmp_path / "w.h5", layers))
    same(found, {"conv1/conv/kernel": SIX.reshape(2, 3), "dense/kernel": SIX})
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = SIX
        file["layers/seed/vars/0"] = np.array([1, 2], "u4")
        file["layers/half/vars/0"] = SIX.astype("f2")
        data = np.frombuffer(upper_halves(SIX)[1], "V2")
        file["layers/bf16/vars/0"] = data
        file["layers/bf16/vars/0"].attrs["dtype"] = "bfloat16"
        file["optimizer/vars/0"] = SIX
    wanted = {
        "layers/bf16/vars/0": upper_halves(SIX)[0],
        "layers/dense/vars/0": SIX,
        "layers/half/vars/0": SIX.astype("f2").astype("f4"),
        "layers/seed/vars/0": np.array([1, 2], "u4"),
    }
    same(read_arrays(tmp_path / "w.weights.h5"), wanted)


def test_reading_loads_no_framework(tmp_path):
    golden.torch_zip(tmp_path / "w.pt", ordered(a=tensor(storage("0", 6), (6,), (1,))), _0=SIX)
    code = (
        "import sys; from xray_captioning.checkpoints import read_arrays; "
        f"read_arrays({str(tmp_path / 'w.pt')!r}); "
        "print({'torch', 'tensorflow', 'keras', 'onnx', 'safetensors', 'pandas', 'h5py'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
