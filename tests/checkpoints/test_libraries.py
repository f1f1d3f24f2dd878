"""Files as the libraries themselves write them; skipped where a library is absent."""

import numpy as np
import pytest

from tests.checkpoints.test_reading import same
from xray_captioning.backend import keras, ops
from xray_captioning.checkpoints import read_arrays


def as_numpy(tensors, torch):
    halves = (torch.bfloat16, torch.float16)
    values = {name: value.detach() for name, value in tensors.items()}
    return {n: (v.float() if v.dtype in halves else v).numpy() for n, v in values.items()}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch writes these files")


@pytest.fixture(scope="module")
def network(torch):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ModuleList([torch.nn.GRU(2, 3)])
    )
    net.half_ = torch.nn.Parameter(torch.randn(3, 2).bfloat16().T)
    net.tied = net[0].weight
    net.register_buffer("passing", torch.ones(3), persistent=False)
    net.register_buffer("count", torch.tensor([1, 65535], dtype=torch.uint16))
    return net


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["module", "state_dict", "lightning", "wrapped", "protocol 4"])
def test_torch_save(tmp_path, torch, network, zipped, how):
    state = network.state_dict()
    options = {"pickle_protocol": 4} if how == "protocol 4" else {}
    value = {
        "module": network,
        "lightning": {"epoch": 1, "state_dict": state, "optimizer_states": [{"m": torch.ones(3)}]},
        "wrapped": {"model": torch.nn.DataParallel(network), "args": slice(3)},
    }.get(how, state)
    if how == "wrapped":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(value, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped, **options)
    same(read_arrays(tmp_path / "w.pt"), as_numpy(state, torch))


def test_views_of_torch(tmp_path, torch):
    base = torch.randn(4, 5, 6)
    views = {
        "turned": base.transpose(0, 2)[1:],
        "every_other": base[::2, 1::2],
        "expanded": torch.ones(1).expand(3, 2),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "same": base,
    }
    torch.save(views, tmp_path / "w.pt")
    same(read_arrays(tmp_path / "w.pt"), as_numpy(views, torch))


def test_torchscript(tmp_path, torch):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.jit.script(net).save(tmp_path / "w.pt")
    same(read_arrays(tmp_path / "w.pt"), as_numpy(net.state_dict(), torch))


def test_safetensors_of_torch(tmp_path, torch, network):
    library = pytest.importorskip("safetensors.torch", reason="safetensors writes this file")
    state = {n: v.contiguous().clone() for n, v in network.state_dict().items()}
    library.save_file(state, tmp_path / "w.safetensors")
    found = read_arrays(tmp_path / "w.safetensors")
    same(dict(sorted(found.items())), dict(sorted(as_numpy(state, torch).items())))


@pytest.mark.parametrize("outside", [False, True])
def test_onnx(tmp_path, outside):
    library = pytest.importorskip("onnx", reason="onnx writes this file")
    rng = np.random.default_rng(0)
    types = library.TensorProto
    arrays = {
        "float": rng.normal(size=(64, 64)).astype("f4"),
        "half": rng.normal(size=(8, 8)).astype("f2"),
        "long": rng.integers(-9, 9, (64, 64)),
        "bool": rng.integers(0, 2, 9).astype(bool),
    }
    tensors = [library.numpy_helper.from_array(v, n) for n, v in arrays.items()]
    for name, kind, values in (
        ("t1", types.FLOAT, [1.5, -2]),
        ("t2", types.FLOAT16, [1.5, -2]),
        ("t3", types.BFLOAT16, [1.5, -2]),
        ("t4", types.INT64, [-1, 2]),
        ("t5", types.UINT8, [1, 255]),
        ("t6", types.DOUBLE, [1.5, -2]),
        ("t7", types.INT8, [-1, 2]),
    ):
        tensors.append(library.helper.make_tensor(name, kind, [2], values))
        kind = {"t2": "f4", "t3": "f4", "t4": "i8", "t5": "u1", "t6": "f8", "t7": "i1"}.get(name, "f4")
        arrays[name] = np.array(values).astype(kind)
    graph = library.helper.make_graph([], "g", [], [], tensors)
    model = library.helper.make_model(graph)
    options = {"save_as_external_data": True, "location": "w.data"} if outside else {}
    library.save(model, tmp_path / "w.onnx", **options)
    arrays["half"] = arrays["half"].astype("f4")
    same(read_arrays(tmp_path / "w.onnx"), arrays)


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.h5"])
def test_keras(tmp_path, name):
    layers = [keras.layers.Dense(3, name="dense"), keras.layers.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.layers.Input((2,)), *layers])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)  # its own arrays are left out
    save = model.save_weights if name.endswith(".weights.h5") else model.save
    save(tmp_path / name)
    found = read_arrays(tmp_path / name)
    own = {v.path: ops.convert_to_numpy(v) for v in model.weights}
    assert len(found) == len(own) == 6
    for variable, array in zip(own.values(), in_order(found), strict=True):
        np.testing.assert_array_equal(array, variable)


def in_order(found):
    """Arrays of the dense layer, then of the normalisation; each in the order of its variables."""
    norm = [name for name in found if "norm" in name]
    return [found[name] for name in (*(n for n in found if n not in norm), *norm)]
