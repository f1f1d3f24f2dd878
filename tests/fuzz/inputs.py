"""Valid inputs, made here, and what damages them. Everything follows from a seed."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from random import Random
from typing import Any

TEXTS = (
    "Heart size is normal. No pneumothorax or pleural effusion.",
    "FINDINGS: Mild cardiomegaly; possible left basilar atelectasis versus infiltrate.\nIMPRESSION: No acute disease.",
    "Right-sided PICC with tip in the SVC. Interval removal of the endotracheal tube, no consolidation or edema.",
    "The XXXX are clear bilaterally , without evidence of focal airspace disease . Degenerative changes of the spine .",
)
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
MARKS = [*'\0\n",\t;|{}[]<>&:.é\u2028\ud7ff\U0001d51e', "-1", "1e999"]
MOST = 1 << 16  # bytes of an input; what is longer is cut


def damaged(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Return a copy with one to six edits: bits, bytes, numbers, runs gone, doubled or from another input."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at, run = random.randrange(len(changed) + 1), random.choice((1, 1, 2, 4, 16, 64))
        match random.randrange(8):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << random.randrange(8)
            case 1:
                changed[at : at + run] = random.randbytes(run)
            case 2:
                size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
                number = random.choice(NUMBERS) % (1 << 8 * size)
                changed[at : at + size] = number.to_bytes(size, order)
            case 3:
                del changed[at : at + run]
            case 4:
                changed[at:at] = changed[at : at + run]
            case 5:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                changed[at : at + run] = other[start : start + random.choice((4, 16, 256))]
            case 6:
                del changed[at:]
            case _:
                changed[at:at] = random.choice(MARKS).encode("utf-8")
    return bytes(changed[:MOST])


def inputs(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Yield the valid inputs, then damaged ones without end."""
    yield from seeds
    random = Random(seed)
    while True:
        yield damaged(random.choice(seeds), seeds, random)


def images() -> list[bytes]:
    """One of each kind and depth that is read, 24 rows of 20 pixels."""
    import cv2
    import numpy as np
    from PIL import Image

    grey = np.add.outer(np.arange(24) * 7, np.arange(20) * 3).astype(np.uint8)
    deep, colour = grey.astype(np.uint16) * 257, np.dstack([grey, grey[::-1], grey[:, ::-1]])
    found = [cv2.imencode(kind, one)[1].tobytes() for kind in (".png", ".tiff") for one in (grey, deep, colour)]
    found += [cv2.imencode(kind, one)[1].tobytes() for kind in (".jpg", ".bmp", ".webp") for one in (grey, colour)]
    saved = [
        ("png", "P", {}),
        ("png", "LA", {}),
        ("png", "RGBA", {}),
        ("png", "1", {}),
        ("jpeg", "L", {"progressive": True}),
    ]
    saved += [("tiff", "L", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits")]
    for kind, mode, how in saved:
        file = io.BytesIO()
        Image.fromarray(grey).convert(mode).save(file, kind, **how)
        found.append(file.getvalue())
    return found


def dicoms() -> list[bytes]:
    """Files of some transfer syntaxes, with windows and rescaling; the first three are not compressed."""
    import numpy as np
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

    from tests.serving.parts import dicom

    grey = np.add.outer(np.arange(24) * 7, np.arange(20) * 3).astype(np.uint8)
    study = {"StudyInstanceUID": "1.2.3"}
    window = {"WindowCenter": 100, "WindowWidth": 120, "RescaleSlope": "2", "RescaleIntercept": "-10"}
    found = [dicom(grey, "PA", **study), dicom(grey, "LL", PhotometricInterpretation="MONOCHROME1", **study, **window)]
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit):
        dataset = pydicom.dcmread(io.BytesIO(found[0]))
        if syntax == RLELossless:
            dataset.compress(RLELossless, generate_instance_uid=False)
        if syntax == JPEGBaseline8Bit:
            dataset.PixelData = encapsulate([images()[6]])
            dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        pydicom.dcmwrite(file, dataset, enforce_file_format=True)
        found.append(file.getvalue())
    return found


def reports() -> list[bytes]:
    """Open-i's XML."""
    from tests.data.sources.layouts import XML

    return [
        XML.format(n=n, f=text, i="Normal.", images=f'<parentImage id="CXR{n}_1"/>').encode()
        for n, text in enumerate(TEXTS)
    ]


def tables() -> list[bytes]:
    """Delimited tables of images and captions, as text and packed."""
    rows = [("image", "caption", "study", "view")]
    rows += [(f"{n}.png", f'{text}, "{n}"', str(n), "frontal") for n, text in enumerate(TEXTS)]
    found = []
    for sign in (",", "\t", ";", "|"):
        quoted = (sign.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
        found.append("\r\n".join(quoted).encode())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("captions.csv", found[0])
    return [*found, found[0].decode().encode("utf-16"), gzip.compress(found[0], 1), packed.getvalue()]


def jsons() -> list[bytes]:
    """JSON tables: rows, lines, columns, R2Gen's and COCO's annotations."""
    rows = [{"image": f"{n}.png", "caption": text, "study": n} for n, text in enumerate(TEXTS)]
    r2gen = {
        "train": [
            {"id": str(n), "report": text, "image_path": [f"{n}.png"], "split": "train"} for n, text in enumerate(TEXTS)
        ]
    }
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, "caption": text} for n, text in enumerate(TEXTS)],
    }
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return [
        *(json.dumps(one).encode() for one in (rows, r2gen, coco, columns)),
        "\n".join(map(json.dumps, rows)).encode(),
    ]


def parquets() -> list[bytes]:
    """Parquet files, plain and compressed."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    table = arrow.table({"image": [f"{n}.png" for n in range(4)], "caption": list(TEXTS)})
    found = []
    for compression in ("none", "snappy"):
        file = io.BytesIO()
        parquet.write_table(table, file, compression=compression)
        found.append(file.getvalue())
    return found


def checkpoints() -> list[bytes]:
    """Weights as NumPy, safetensors, PyTorch (both layouts) and ONNX write them."""
    import tempfile
    from pathlib import Path

    import numpy as np

    from tests.checkpoints import golden

    six, found = np.arange(6, dtype=np.float32), []
    tensor = golden.tensor(golden.storage("0", 6), (2, 3), (3, 1))
    pickled = golden.ordered(**{"conv.weight": tensor, "conv.bias": golden.tensor(golden.storage("0", 6), (6,), (1,))})
    header = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"format": "pt"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        golden.npz(path, a=six, b=six.astype(np.int8))
        found.append(path.read_bytes())
        golden.safetensors(path, header, six.tobytes())
        found.append(path.read_bytes())
        for write in (golden.torch_zip, golden.torch_legacy):
            write(path, pickled, _0=six)
            found.append(path.read_bytes())
        golden.onnx(path, golden.onnx_tensor("a", 1, (2, 3), raw_data=six.tobytes()))
        found.append(path.read_bytes())
    return found


def hdf5_files() -> list[bytes]:
    """Weights in HDF5, as Keras 2 and Keras 3 lay them out."""
    import h5py
    import numpy as np

    found = []
    for names in (["model_weights/conv1/conv1/kernel:0"], ["layers/dense/vars/0", "layers/dense/vars/1"]):
        file = io.BytesIO()
        with h5py.File(file, "w") as target:
            for name in names:
                target.create_dataset(name, data=np.arange(6, dtype=np.float32))
            if names[0].startswith("model_weights"):
                target["model_weights"].attrs["layer_names"] = [b"conv1"]
                target["model_weights/conv1"].attrs["weight_names"] = [b"conv1/kernel:0"]
        found.append(file.getvalue())
    return found


def pairs() -> Any:
    """Return a tokenizer of pairs of bytes with two merges."""
    from xray_captioning.text import tokenizer

    return tokenizer.BytePairTokenizer((*tokenizer._BYTES, "th", "the", "<|endoftext|>"), (("t", "h"), ("th", "e")))


def tokenizers() -> list[bytes]:
    """Vocabularies: our JSON of words and of pairs of bytes, and Keras' pickle."""
    import tempfile
    from pathlib import Path

    from xray_captioning.text.tokenizer import Tokenizer

    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        Tokenizer.fit(TEXTS).to_json(path)
        found.append(path.read_bytes())
        pairs().to_json(path)
        found.append(path.read_bytes())
        Tokenizer.fit(TEXTS).to_pickle(path)
        found.append(path.read_bytes())
    return found
