"""Arrays out of whatever file or folder of weights somebody brings, known by its content.

safetensors are read here, since the library of that name knows no bfloat16 in its NumPy part. The rules are those of
its README, "Format": no name twice, and numbers without holes or overlaps up to the file's end.
"""

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.checkpoints import arrays, hdf5, onnx, pytorch
from xray_captioning.checkpoints.arrays import MAXIMUM_BYTES, Array, Budget, RefusedError, entry
from xray_captioning.errors import BundleError
from xray_captioning.files import BROKEN_ZIP, read_toml

_KNOWN = read_toml(__file__, "known.toml")
_PARTS = 1000  # files of one model
_MAXIMUM_HEADER = 2**25  # bytes, also of an index of parts; a name takes about a hundred


def read_arrays(path: str | os.PathLike[str], limit: int = MAXIMUM_BYTES) -> dict[str, Array]:
    """Read the arrays of a file of weights, executing nothing: without PyTorch, TensorFlow or onnx.

    Parameters
    ----------
    path : str or os.PathLike
        A file, or a folder; its format, of those in docs/encoders.md, is known by the content.
    limit : int
        Bytes that the arrays may take. A file that declares more, or more than it has, is refused before it is read.

    Returns
    -------
    dict of str to array
        By the file's names, in its order: of Keras 2 ``conv1/conv/kernel``, of Keras 3 ``layers/dense/vars/0`` without
        what optimisers keep, of a whole PyTorch module those of its ``state_dict``. bfloat16 and float16 become
        float32; other kinds stay. Arrays may be read-only, and names of one array share it.

    Raises
    ------
    BundleError
        One line that says what the file seems to be and what to do.
    """
    try:
        return _read(Path(path), Budget(limit))
    except RefusedError as error:
        raise BundleError(f"{path}: {arrays.shortened(str(error), arrays.MESSAGE)}") from error
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise BundleError(f"{path}: truncated, damaged or no file of weights ({reason}); download it again") from error


def _read(path: Path, budget: Budget) -> dict[str, Array]:
    path = _in_folder(path) if path.is_dir() else path
    if not path.is_file():
        raise RefusedError("no such file; give the path of a file of weights, or its folder")
    return _of_parts(path, budget) if arrays.first_bytes(path, 1) == b"{" else _of_file(path, budget)


def _of_file(path: Path, budget: Budget) -> dict[str, Array]:
    start = arrays.first_bytes(path, 512)
    if start.startswith(hdf5.SIGNATURE):
        return _of_keras(path, budget)
    if start[:2] == b"PK":
        return _of_zip(path, budget)
    if pytorch.LEGACY in start[:64]:
        return pytorch.read_legacy(path, budget)
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size:
        return _read_safetensors(path, budget)
    if len(start) > 2 and start[0] == 0x08 and start[1] < 32:  # the version of ONNX's format, a small number
        return onnx.read_onnx(path, budget)
    raise RefusedError(_seems(start))


def _of_keras(path: Path, budget: Budget) -> dict[str, Array]:
    found = arrays.once((a.whole_name, a.values) for a in hdf5.ask_process(path, budget.bytes))
    for name, values in found.items():
        budget.pay(values.nbytes, name)
    return found


def _of_zip(path: Path, budget: Budget) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/data.pkl") for name in names):
                return pytorch.read_zip(archive, budget)
            if names and all(name.endswith(".npy") for name in names):
                return _read_npz(archive, budget)
    except BROKEN_ZIP as error:
        raise RefusedError(f"a truncated zip archive ({str(error)[:60]}), perhaps PyTorch's; get it again") from error
    if hdf5.WEIGHTS in names:
        return _of_keras(path, budget)
    advice = "unpack it and give the file of weights that is in it (PyTorch, Keras 3 and NumPy write others)"
    raise RefusedError(f"a zip archive; {advice}")


def _of_parts(path: Path, budget: Budget) -> dict[str, Array]:
    """Read the files that an index names, each once, and take from each what it says."""
    index = _parsed_json(arrays.first_bytes(path, _MAXIMUM_HEADER)).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(n, str) for n in index.values()):
        raise RefusedError("JSON without a weight_map, so no index of parts; give the weights, as model.safetensors")
    files = {name: onnx.beside(path, name) for name in list(dict.fromkeys(index.values()))[: _PARTS + 1]}
    if len(files) > _PARTS:
        raise RefusedError(f"names more than {_PARTS:,} files; refused")
    parts = {name: _of_file(file, budget) for name, file in files.items()}
    for name, file in index.items():
        if name not in parts[file]:
            raise RefusedError(f"{name[:60]!r} is not in {file[:60]!r}; download that file again")
    return {name: parts[file][name] for name, file in index.items()}


def _in_folder(folder: Path) -> Path:
    found = [folder / name for name in _KNOWN["in_folders"] if (folder / name).is_file()][:1]
    found = found or sorted(p for p in folder.iterdir() if p.suffix in _KNOWN["suffixes"] and p.is_file())
    if len(found) == 1:
        return found[0]
    if (folder / "saved_model.pb").is_file():
        raise RefusedError("a TensorFlow SavedModel, which is a program; save its weights as .h5")
    named = f" ({', '.join(p.name[:40] for p in found[:3])} ...)" if found else ""
    raise RefusedError(f"a folder with {len(found)} files of weights{named}; give the path of the one to read")


def _seems(start: bytes) -> str:
    if not start:
        return "is empty; download or copy it again"
    for offset, beginning, what in _KNOWN["others"]:
        if start[offset:].lstrip().startswith(beginning.encode("latin-1")):
            return f"seems to be {what}"
    known = "(Keras, safetensors, PyTorch, ONNX, npz)"
    return f"begins with {start[:8]!r}, as no file of weights does that is read here {known}; convert it"


def _read_safetensors(path: Path, budget: Budget) -> dict[str, Array]:
    found, end = {}, 0
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAXIMUM_HEADER:
            raise RefusedError(f"a header of {length:,} bytes, more than any model needs; refused")
        header, size = _parsed_json(file.read(length)), path.stat().st_size - 8 - length
        header.pop("__metadata__", None)
        entries = [(*_entry(name, about), name) for name, about in header.items()]
        for first, last, kind, shape, name in sorted(entries, key=lambda entry: entry[:2]):
            if first != end or not first <= last <= size:
                raise RefusedError(f"{name[:60]!r} does not lie where it should; download or copy it again")
            found[name] = arrays.decoded(file.read(last - first), kind, shape, budget, name)
            end = last
    if end != size:
        raise RefusedError("more bytes than its header says; damaged, download or copy it again")
    return {name: found[name] for name in header}


def _parsed_json(data: bytes) -> dict[str, Any]:
    """Return an object of JSON in which no name stands twice, or refuse it."""
    try:
        value = json.loads(data, object_pairs_hook=arrays.once)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"its header is no JSON ({str(error)[:60]}); get it again") from error
    if not isinstance(value, dict):
        raise RefusedError("its header is no JSON object; download or copy it again")
    return value


def _entry(name: str, about: Any) -> tuple[int, int, str, list[Any]]:
    """Return where an array's bytes begin and end, their kind and shape."""
    try:
        kind, shape, (first, last) = str(about["dtype"]), about["shape"], about["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{name[:60]!r} has no dtype, shape or place; get it again") from error
    if kind not in _KNOWN["safetensors"]:
        raise RefusedError(f"{name[:60]!r} has the kind {kind[:20]!r}, such as quantised numbers; save it as float32")
    if type(first) is not int or type(last) is not int or not isinstance(shape, list):
        raise RefusedError(f"{name[:60]!r} has no possible place; download or copy it again")
    return first, last, _KNOWN["safetensors"][kind], shape


def _read_npz(archive: zipfile.ZipFile, budget: Budget) -> dict[str, Array]:
    """Read all arrays that ``np.savez`` wrote; those of objects, which are pickles, are refused."""
    members, stored, found = arrays.entries(archive), Budget(budget.limit), {}
    for name in members:
        values = np.lib.format.read_array(io.BytesIO(entry(archive, members, name, stored)), allow_pickle=False)
        code = f"{values.dtype.kind}{values.dtype.itemsize}"
        if code[0] not in "fiubc":
            raise RefusedError(f"{name[:60]!r} holds {str(values.dtype)[:40]}, not numbers; refused")
        budget.pay(values.size * arrays.result_size(code), name)
        found[name.removesuffix(".npy")] = arrays.plain(values, code)
    return found
