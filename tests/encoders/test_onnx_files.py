"""ONNX files as encoders; the files are written here, as onnx.proto has their fields."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import golden
from tests.encoders.encoded import encode_files
from xray_captioning.cli import main
from xray_captioning.encoders.onnx_files import regions_of
from xray_captioning.errors import BundleError, ConfigError, MissingExtraError

pytest.importorskip("onnxruntime", reason="it runs the files")

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
AS_READ = {"image.normalisation": "unit", "image.size": 32}


def value(name: str, *shape: int | str) -> bytes:
    """A ValueInfoProto of float32."""
    field = golden.field
    sides = [field(1, n) if isinstance(n, int) else field(2, n.encode()) for n in shape]
    tensor = field(1, 1) + field(2, b"".join(field(1, side) for side in sides))
    return field(1, name.encode()) + field(2, field(1, tensor))


def node(kind: str, source: str, target: str, **whole: int | list[int]) -> bytes:
    """A NodeProto with attributes of whole numbers."""
    field, body = golden.field, b""
    for name, number in whole.items():
        many = isinstance(number, list)
        numbers = [field(8, n) for n in number] if many else [field(3, number)]
        body += field(5, field(1, name.encode()) + b"".join(numbers) + field(20, 7 if many else 2))
    return field(1, source.encode()) + field(2, target.encode()) + field(4, kind.encode()) + body


def write(path: Path, nodes: list[bytes], inputs: list[bytes], output: bytes, more: bytes = b"") -> Path:
    field = golden.field
    graph = more + b"".join(field(1, n) for n in nodes) + field(2, b"g")
    graph += b"".join(field(11, i) for i in inputs) + field(12, output)
    opset = field(8, field(2, 13))
    path.write_bytes(field(1, 8) + field(7, graph) + opset)
    return path


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Channels first; 8 x 8 means of 4 x 4 pixels, after 16 x 16 means of 2 x 2, named `half`."""
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [node("AveragePool", "x", "half", **pool), node("AveragePool", "half", "y", **pool)]
    inputs = [value("x", "n", 3, 32, 32)]
    return write(tmp_path / "halves.onnx", nodes, inputs, value("y", "n", 3, 8, 8))


def means(side: int) -> np.ndarray:
    step = 32 // side
    return (IMAGE / 255).reshape(side, step, side, step, 3).mean(axis=(1, 3))


def test_maps_of_the_output_and_of_a_layer(halves: Path) -> None:
    studies = [[IMAGE], [None, IMAGE]]
    found = encode_files(studies, str(halves), changes=AS_READ)
    assert found.regions.shape == (2, 2, 8, 8, 3)
    np.testing.assert_allclose(found.regions[0, 0], means(8), atol=1e-6)
    assert found.views.tolist() == [[True, False], [False, True]]
    inner = encode_files(studies, str(halves), changes=AS_READ, layer="half")
    np.testing.assert_allclose(inner.regions[1, 1], means(16), atol=1e-6)
    assert inner.about["layer"] == "half"


def test_numbers_beside_the_file(tmp_path: Path) -> None:
    np.full(1, 2, "<f4").tofile(tmp_path / "w.bin")
    entries = [golden.onnx_entry("location", "w.bin"), golden.onnx_entry("length", "4")]
    weight = golden.field(5, golden.onnx_tensor("w", 1, [1], external=entries))
    nodes = [golden.field(1, b"w") + node("Mul", "x", "y")]
    inputs = [value("x", "n", 32, 32, 3)]
    path = write(tmp_path / "m.onnx", nodes, inputs, value("y", "n", 32, 32, 3), weight)
    found = encode_files([[IMAGE]], str(path), changes=AS_READ).regions[0, 0]
    np.testing.assert_allclose(found, IMAGE / 127.5, atol=1e-5)


def test_channels_last_one_channel_one_image_at_a_time(tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "y")]
    inputs = [value("x", 1, "h", "w", 1)]
    path = write(tmp_path / "same.onnx", nodes, inputs, value("y", 1, "h", "w", 1))
    found = encode_files([[IMAGE], [IMAGE.copy()], [IMAGE]], str(path), changes=AS_READ)
    assert found.regions.shape == (3, 1, 32, 32, 1)
    np.testing.assert_allclose(found.regions[1, 0], IMAGE[..., :1] / 255, atol=1e-6)


@pytest.mark.parametrize(("rows", "kept"), [(1, 1), (4, 4), (5, 4), (21, 16)])
def test_tokens_are_a_square_after_class_and_registers(rows: int, kept: int) -> None:
    tokens = np.arange(rows * 3, dtype="float32").reshape(1, rows, 3)
    found = regions_of(tokens, True)
    np.testing.assert_array_equal(found.reshape(kept, 3), tokens[0, -kept:])


def test_a_vector_is_one_region_and_other_shapes_none(tmp_path: Path) -> None:
    inputs = [value("x", "n", 3, 16, 16)]
    for axes, shape in (([2, 3], (3,)), ([3], (3, 16))):
        nodes = [node("ReduceMean", "x", "y", axes=axes, keepdims=0)]
        path = write(tmp_path / f"{len(axes)}.onnx", nodes, inputs, value("y", "n", *shape))
        if len(axes) == 2:
            assert encode_files([[IMAGE]], str(path)).regions.shape == (1, 1, 1, 1, 3)
        else:
            with pytest.raises(ConfigError, match=r"y has the shape \(1, 3, 16\), .* by --layer"):
                encode_files([[IMAGE]], str(path))


def test_the_command_and_what_it_refuses(halves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    image, out = tmp_path / "a.png", tmp_path / "f.npz"
    cv2.imwrite(str(image), IMAGE)
    line = ["encode", str(image), "--encoder", str(halves), "--out", str(out)]
    assert main([*line, "--set", "image.normalisation=unit"]) == 0
    with np.load(out) as arrays:
        assert arrays["regions"].shape == (1, 1, 8, 8, 3)
        assert json.loads(str(arrays["about"]))["image"]["size"] == 32  # the file's own
    capsys.readouterr()
    for more, message in {
        "--layer nothing": "has no 'nothing'; its outputs are ['y']",
        "--weights random": "--layer is for ONNX files, and --weights for all others",
        "--set image.size=64": "expects images of 32 x 32 px, not 64",
        "--set model.units=3": "encode has image.size, .resize, .normalisation",
    }.items():
        assert main([*line, *more.split()]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="--layer is for ONNX files"):
        encode_files([[IMAGE]], "phantom_cnn", layer="y")


def test_files_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> str:
        with pytest.raises((ConfigError, BundleError)) as found:
            encode_files([[IMAGE]], str(path))
        assert "\n" not in str(found.value)
        return str(found.value)

    (tmp_path / "no.onnx").write_bytes(b"no model")
    assert "onnxruntime cannot read it" in refused(tmp_path / "no.onnx")
    assert "onnxruntime cannot read it" in refused(tmp_path / "absent.onnx")
    add = [golden.field(1, b"a") + node("Add", "b", "y")]
    two = [value("a", "n", 3, 8, 8), value("b", "n", 3, 8, 8)]
    assert "an encoder has one input of floats" in refused(
        write(tmp_path / "two.onnx", add, two, value("y", "n", 3, 8, 8))
    )
    flat = [value("x", "n", 512)]
    assert "expects x ['n', 512], tensor(float); an encoder" in refused(
        write(tmp_path / "flat.onnx", [node("Identity", "x", "y")], flat, value("y", "n", 512))
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xray-captioning\[onnx\]'"):
        encode_files([[IMAGE]], str(tmp_path / "two.onnx"))


def test_nothing_is_reported_to_the_makers_of_onnxruntime(tmp_path: Path) -> None:
    """Its telemetry begins with the import, by a file in the temporary folder (version 1.32)."""
    code = "from xray_captioning.files import load_onnxruntime as load; print(load('x', 'onnx'))"
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    line, given = [sys.executable, "-c", code], {**kept, "TMPDIR": str(tmp_path)}
    assert "onnxruntime" in subprocess.run(line, env=given, check=True, capture_output=True, text=True).stdout
    assert not list(tmp_path.iterdir())
