"""Files of other libraries, byte for byte as they write them, made here without them."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# pickle opcodes, for files of classes that do not exist here
PROTO, STOP = b"\x80\x02", b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: Any) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def dictionary(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def ordered(**items: bytes) -> bytes:
    return name("collections", "OrderedDict") + b")R(" + dictionary(**items)[2:]


def storage(key: str, count: int, kind: str = "FloatStorage", view: bytes = b"") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + view + b"tQ"


def tensor(stored: bytes, shape: Any, strides: Any, offset: int = 0) -> bytes:
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + stored
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89"
        + ordered()
        + b"tR"
    )


def module(kind: str, parameters: bytes = b"}", modules: bytes = b"}", **more: bytes) -> bytes:
    state = {"training": b"\x88", "_parameters": parameters, "_modules": modules, **more}
    return name("torch.nn.modules", kind) + b")\x81" + dictionary(**state) + b"b"


def torch_zip(path: Path, pickled: bytes, order: bytes = b"little", **storages: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", PROTO + pickled + STOP)
        archive.writestr("archive/byteorder", order)
        for key, values in storages.items():
            archive.writestr(f"archive/data/{key[1:]}", values.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def torch_legacy(path: Path, pickled: bytes, **storages: np.ndarray) -> Path:
    keys = [key[1:] for key in storages]
    system = {"protocol_version": 1001, "little_endian": True}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    tail = [pickle.dumps(keys, 2)]
    for values in storages.values():
        tail += [struct.pack("<q", values.size), values.tobytes()]
    path.write_bytes(b"".join([*head, PROTO + pickled + STOP, *tail]))
    return path


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + data)
    return path


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_tensor(label: str, kind: int, shape: Any, **parts: Any) -> bytes:
    """A TensorProto; its parts by the names of onnx.proto."""
    numbers_of = {"raw_data": 9, "float_data": 4, "int32_data": 5, "int64_data": 7, "external": 13}
    body = b"".join(field(1, n) for n in shape) + field(2, kind) + field(8, label.encode())
    for part, value in parts.items():
        for one in value if isinstance(value, list) else [value]:
            body += field(numbers_of[part], one)
    return body + (field(14, 1) if "external" in parts else b"")


def onnx_entry(key: str, value: str) -> bytes:
    return field(1, key.encode()) + field(2, value.encode())


def onnx(path: Path, *tensors: bytes, **more: bytes) -> Path:
    graph = b"".join(field(5, tensor) for tensor in tensors) + more.get("graph", b"")
    path.write_bytes(field(1, 8) + field(2, b"test") + field(7, graph))
    return path


def npz(path: Path, **arrays: np.ndarray) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return path
