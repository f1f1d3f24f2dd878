"""Reading weights files, and refusing what could do harm."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.legacy.keras2_files import decoder_layers, stored, write
from xray_captioning.checkpoints import hdf5
from xray_captioning.checkpoints.arrays import RefusedError
from xray_captioning.checkpoints.hdf5 import is_keras2, read_here, read_keras2
from xray_captioning.errors import BundleError

LAYERS = decoder_layers()
SMALL = {"bkdense": {"bkdense/kernel": np.ones((3, 2), "float32")}, "input_1": {}}


@pytest.mark.parametrize(("text", "parts", "root"), [(str, 0, ""), (bytes, 1, ""), (str, 3, "model_weights")])
def test_every_way_keras_writes_names(tmp_path, text, parts, root):
    path = write(tmp_path / "w.h5", LAYERS, text, parts, root)
    found = read_here(path)
    wanted = stored(LAYERS)
    assert [(a.layer, a.name) for a in found] == [(a.layer, a.name) for a in wanted]
    for array, other in zip(found, wanted):
        np.testing.assert_array_equal(array.values, other.values)
        assert array.values.dtype == np.float32
    assert is_keras2(path)


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8"])
def test_other_floats_and_compressed_arrays(tmp_path, kind):
    values = np.arange(6, dtype=kind).reshape(3, 2)
    path = write(tmp_path / "w.h5", {"bkdense": {}})
    with h5py.File(path, "a") as file:
        options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file["bkdense"].create_dataset("bkdense/kernel:0", data=values, chunks=(2, 2), **options)
        file["bkdense"].attrs["weight_names"] = ["bkdense/kernel:0"]
    (found,) = read_here(path)
    np.testing.assert_array_equal(found.values, values)


def test_arrays_listed_and_absent_or_present_and_not_listed(tmp_path):
    path = write(tmp_path / "w.h5", LAYERS)
    with h5py.File(path, "a") as file:
        del file["bkdense/bkdense/bias:0"]
        del file["encoder_batch_norm"]
        file["decoder/more/kernel:0"] = np.ones(3, "float32")
    names = [array.name for array in read_here(path)]
    decoder = [array.name for array in stored(LAYERS) if array.layer == "decoder"]
    assert names == ["bkdense/kernel", *decoder, "more/kernel"]


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "a web page":
        path.write_text("<!DOCTYPE html><html>Not found</html>")
    elif how == "a pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\nsize 45539904\n")
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "signature only":
        path.write_bytes(content[:8])
    elif how == "absent":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty", "not an HDF5 file .it is empty.; download"),
        ("a web page", "not an HDF5 file .it begins with .*<!DOC.*; download"),
        ("a pointer", "not an HDF5 file .*; download"),
        ("zeros", "not an HDF5 file .*; download"),
        ("signature only", "truncated or damaged HDF5 .*; download"),
        ("absent", "no such file; give"),
        ("a folder", "no such file; give"),
    ],
)
def test_what_is_no_hdf5(tmp_path, how, words):
    path = write(tmp_path / "w.h5", SMALL)
    damaged(path, how)
    with pytest.raises(BundleError, match=f"w.h5: .*{words}") as caught:
        read_keras2(path)
    assert "\n" not in str(caught.value)
    assert not is_keras2(path)


def test_truncated(tmp_path):
    path = write(tmp_path / "w.h5", LAYERS)
    for share in (0.999, 0.9, 0.6, 0.3, 0.1, 0.01):
        os.truncate(path, int(path.stat().st_size * share))
        with pytest.raises(RefusedError, match=r"truncated or damaged HDF5 \(.*; download"):
            read_here(path)


def plant(path: Path, what: str) -> None:
    """Put something that is no plain array where one is expected."""
    with h5py.File(path, "a") as file:
        group, name = file["bkdense"], "bkdense/kernel:0"
        del group[name]
        if what == "gigantic":
            group.create_dataset(name, shape=(64, 64), dtype="f4", chunks=(8, 8))
        elif what == "large and unwritten":
            group.create_dataset(name, shape=(4, 4), dtype="f4")
        elif what == "gigantic chunk":
            group.create_dataset(name, (1, 1), "f8", maxshape=(None, None), chunks=(16, 16))
        elif what == "objects":
            group.create_dataset(name, data=["text"], dtype=h5py.string_dtype())
        elif what == "numbers of variable length":
            group.create_dataset(name, (2,), dtype=h5py.vlen_dtype(np.dtype("f4")))
        elif what == "bytes":
            group.create_dataset(name, data=np.void(b"x" * 24))
        elif what == "nothing":
            group.create_dataset(name, data=h5py.Empty("f4"))
        elif what == "external storage":
            external = [("beside", 0, 24)]
            group.create_dataset(name, shape=(3, 2), dtype="f4", external=external)
        elif what == "virtual":
            layout = h5py.VirtualLayout((3, 2), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3, 2))
            group.create_virtual_dataset(name, layout)
        elif what == "plugin":
            group.create_dataset(name, data=np.ones((3, 2), "f4"), chunks=True, compression="lzf")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("gigantic", r"more than 0 MiB"),
        ("large and unwritten", "never written"),
        ("gigantic chunk", "pieces of more than 0 MiB"),
        ("objects", "holds object, not numbers"),
        ("numbers of variable length", "holds object, not numbers"),
        ("bytes", "not numbers"),
        ("nothing", "not numbers"),
        ("external storage", "not stored plainly"),
        ("virtual", "not stored plainly"),
        ("plugin", "not stored plainly"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path, what, words):
    path = write(tmp_path / "w.h5", SMALL)
    plant(path, what)
    with pytest.raises(RefusedError, match=rf"bkdense/kernel:0.*{words}.*"):
        read_here(path, 2**10)


@pytest.mark.parametrize("what", ["soft", "external", "group"])
def test_no_link_is_followed(tmp_path, what):
    path = write(tmp_path / "w.h5", {"bkdense": {f"bkdense/{name}": np.ones((3, 2), "f4") for name in "ab"}})
    with h5py.File(path, "a") as file:
        del file["bkdense/bkdense/a:0"]
        file["elsewhere"] = np.ones((3, 2), "f4")
        links = {"soft": h5py.SoftLink("/elsewhere"), "external": h5py.ExternalLink("/nowhere", "/x")}
        file["bkdense/bkdense/a:0"] = links.get(what) or file.create_group("another")
    assert [array.name for array in read_here(path)] == ["bkdense/b"]


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_numbers_that_are_not_finite(tmp_path, value):
    path = write(tmp_path / "w.h5", SMALL)
    with h5py.File(path, "a") as file:
        del file["bkdense/bkdense/kernel:0"]
        file["bkdense/bkdense/kernel:0"] = np.array([[value, 1], [2, 3]])
    with pytest.raises(BundleError, match=r"w\.h5: bkdense/kernel holds .* no finite numbers"):
        read_keras2(path)


def test_arrays_too_large_altogether(tmp_path):
    names = [f"bkdense/{letter}" for letter in "abc"]
    path = write(tmp_path / "w.h5", {"bkdense": {name: np.ones(1) for name in names}})
    with h5py.File(path, "a") as file:
        for name in names:
            del file[f"bkdense/{name}:0"]
            options = {"dtype": "f4", "chunks": (1, 1), "compression": "gzip"}
            file.create_dataset(f"bkdense/{name}:0", (16, 16), **options)[0, 0] = 1
    with pytest.raises(RefusedError, match=r"arrays up to 'bkdense/bkdense/c:0' .* 0 MiB"):
        read_here(path, 2**11)


@pytest.mark.parametrize("what", ["link", "numbers", "empty names", "control", "none"])
def test_lists_of_names_that_are_none(tmp_path, what):
    path = write(tmp_path / "w.h5", SMALL)
    with h5py.File(path, "a") as file:
        if what == "link":
            del file["bkdense"]
            file["bkdense"] = h5py.ExternalLink("other.h5", "/")
        elif what == "numbers":
            file["bkdense"].attrs["weight_names"] = np.arange(3)
        elif what == "empty names":
            file["bkdense"].attrs["weight_names"] = np.zeros(3, "S1")
        elif what == "control":
            file["bkdense"].attrs["weight_names"] = ["a\nb"]
        else:
            del file["bkdense"].attrs["weight_names"]
    with pytest.raises(RefusedError, match=r"without arrays|names") as caught:
        read_here(path)
    assert "\n" not in str(caught.value)


def test_a_whole_models_code_is_never_read(tmp_path):
    path = write(tmp_path / "w.h5", SMALL, root="model_weights")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = '{"class_name": "Lambda", "config": "1 + 1"}'
        file.attrs["training_config"] = h5py.Empty("f4")
        file["optimizer_weights"] = h5py.ExternalLink("nowhere.h5", "/")
    assert [array.name for array in read_here(path)] == ["bkdense/kernel"]


def test_groups_that_contain_themselves(tmp_path):
    path = write(tmp_path / "w.h5", SMALL)
    with h5py.File(path, "a") as file:
        file["bkdense/again"] = file["bkdense"]
        file["bkdense/bkdense/root"] = file["/"]
    assert [array.name for array in read_here(path)] == ["bkdense/kernel"]


def test_another_process_reads_the_same(tmp_path):
    path = write(tmp_path / "with space\nand more.h5", LAYERS)
    for array, other in zip(read_keras2(path), stored(LAYERS), strict=True):
        assert array[:2] == other[:2]
        np.testing.assert_array_equal(array.values, other.values)


def test_another_process_says_what_is_wrong(tmp_path):
    path = write(tmp_path / "w.h5", SMALL)
    plant(path, "objects")
    with pytest.raises(BundleError, match=r"w\.h5: bkdense/bkdense/kernel:0 holds object, not numbers") as caught:
        read_keras2(path)
    assert str(caught.value).count("w.h5") == 1


def test_what_that_process_sends(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setattr(hdf5, "_limit_this_process", lambda *limits: None)
    path = str(write(tmp_path / "w.h5", SMALL))
    hdf5.send_arrays(path, "1", str(2**30))
    header, numbers = capfdbinary.readouterr().out.split(b"\n", 1)
    assert header == b'{"arrays": [["bkdense", "bkdense/kernel", [3, 2], "<f4"]]}'
    assert numbers == SMALL["bkdense"]["bkdense/kernel"].tobytes()
    plant(Path(path), "objects")
    hdf5.send_arrays(path, "1", str(2**30))
    assert b'{"error": "bkdense/bkdense/kernel:0 holds object' in capfdbinary.readouterr().out


def test_a_damaged_file_cannot_hang_its_user(tmp_path, monkeypatch):
    """HDF5 1.14 never ends with some files; what stands for it here does not either."""
    monkeypatch.setattr(hdf5, "CPU_SECONDS", 1)
    endless = "send_arrays = lambda path, seconds, limit: [_limit_this_process(1, 2**40), *iter(int, 1)]"
    code = hdf5._CODE.replace("import send_arrays; ", f"import _limit_this_process\n{endless}\n")
    monkeypatch.setattr(hdf5, "_CODE", code)
    path = write(tmp_path / "w.h5", SMALL)
    with pytest.raises(BundleError, match=r"w\.h5: truncated or damaged HDF5 .*; download"):
        read_keras2(path)


def test_messages_stay_short_whatever_a_file_calls_its_layers(tmp_path):
    path = tmp_path / "w.h5"
    long = "layer" * 90
    for content in ("no names", "nothing"):
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [long]
            group = file.create_group(long)
            if content == "nothing":
                group.attrs["weight_names"] = [long]
                group[long] = h5py.Empty("f4")
        with pytest.raises(BundleError) as caught:
            read_keras2(path)
        assert len(str(caught.value)) <= len(str(path)) + 300


@pytest.mark.parametrize(("start", "words"), [(b"PK\x03\x04", "zip archive"), (b"abc", "begins")])
def test_other_formats_are_named(tmp_path, start, words):
    (tmp_path / "w.h5").write_bytes(start + bytes(100))
    with pytest.raises(BundleError, match=words):
        read_keras2(tmp_path / "w.h5")


def test_weights_of_keras_3_are_named(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 2), "float32")
    with pytest.raises(BundleError, match=r"no layer_names: .* as Keras 3 writes them"):
        read_keras2(tmp_path / "w.h5")
