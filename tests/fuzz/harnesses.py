"""What is read from others, each with valid inputs and the law that holds for any other.

The law: an input is read, and then what was read is sane, or it is an error of this package in one line. A
target says more where more holds.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.fuzz import inputs
from xray_captioning.errors import XrayCaptioningError

Target = Callable[[bytes], object]


class Harness(NamedTuple):
    """A reader, and what it is known to read."""

    target: Target
    seeds: Callable[[], list[bytes]]
    cost: float = 1.0  # how much longer than others an input takes, roughly


def refused(target: Target, data: bytes) -> bool:
    """Return whether an input was refused as it should be; anything else that is raised is a fault."""
    try:
        target(data)
    except XrayCaptioningError as error:
        message = str(error)
        assert message, "an error without a word"
        assert "\n" not in message, f"more than one line: {message!r}"
        return True
    return False


@cache
def _folder() -> Path:
    kept = tempfile.TemporaryDirectory(prefix="fuzz-")
    _held.append(kept)
    return Path(kept.name)


_held: list[Any] = []


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _silent(name: str, reason: str) -> None:
    """Stand for the warning that goes with an image."""


def image(data: bytes) -> None:
    from xray_captioning.data.images import decode_image

    found = decode_image(data, "it", size=16, max_pixels=1e5, note=_silent)
    assert found.shape == (16, 16, 3)
    assert 0 <= found.min() <= found.max() <= 1


def view(data: bytes) -> None:
    from xray_captioning.data.dicom.pixels import view_of

    assert view_of(data) in ("frontal", "lateral", "unknown")


def openi(data: bytes) -> None:
    from xray_captioning.data.sources.openi import parse_report

    parse_report(data, "it")


def studies(name: str) -> Target:
    def read(data: bytes) -> None:
        from xray_captioning.data.sources.reading import read_studies

        found = read_studies(_file(name, data))
        assert found["study_id"].is_unique
        assert found["study_id"].map(type).eq(str).all()

    return read


def captions(name: str) -> Target:
    def read(data: bytes) -> None:
        from xray_captioning.evaluation.caption_files import read_captions

        for column in read_captions(_file(name, data)).values():
            assert all(isinstance(text, str) for text in column.texts)

    return read


def text(data: bytes) -> str:
    """Every input is some text, also with lone surrogates."""
    return (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data[:64] else "replace")
        if _is_text(data)
        else data.decode("latin-1")
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def sections(data: bytes) -> None:
    from xray_captioning.text.sections import split_report

    for found in vars(split_report(text(data))).values():
        assert found is None or isinstance(found, str)


def cleaning(data: bytes) -> None:
    from xray_captioning.text import cleaning

    for protocol in ("plain", "r2gen", "legacy"):
        once = cleaning.clean(text(data), protocol)
        assert "\n" not in once
        if protocol != "legacy":
            assert cleaning.clean(once, protocol) == once
    assert cleaning.sentences(cleaning.prettify(text(data))) is not None


def labels(data: bytes) -> None:
    from xray_captioning.findings import FINDINGS
    from xray_captioning.metrics.labeler import label_report

    for convention in ("chexpert", "mesh"):
        found = label_report(text(data), convention)
        assert list(found) == list(FINDINGS)
        assert set(found.values()) <= {None, -1, 0, 1}


def metrics(data: bytes) -> None:
    from xray_captioning.metrics.scores import score

    middle = len(data) // 2
    for pair in (([text(data)], [text(data)]), ([text(data[:middle])], [text(data[middle:])])):
        for name, value in score(*pair).items():
            assert 0 <= value <= (10 if name == "CIDEr" else 1) + 1e-9, (name, value)


@cache
def _vocabularies() -> tuple[Any, Any]:
    from xray_captioning.text.tokenizer import Tokenizer

    return Tokenizer.fit(inputs.TEXTS), inputs.pairs()


def words(data: bytes) -> None:
    for tokenizer in _vocabularies():
        ids = tokenizer.encode(text(data), 20)
        assert len(ids) <= 20
        assert all(0 < number < tokenizer.vocabulary_size for number in ids)
        assert isinstance(tokenizer.decode(ids), str)


def tokenizer(data: bytes) -> None:
    from xray_captioning.text.tokenizer import load_tokenizer

    found = load_tokenizer(_file("tokenizer.json", data))
    assert found.decode(found.encode("no effusion")) is not None


def pickled(data: bytes) -> None:
    from xray_captioning.text.tokenizer import Tokenizer

    Tokenizer.from_pickle(_file("tokenizer.pkl", data))


def checkpoint(data: bytes) -> None:
    from xray_captioning.checkpoints import read_arrays

    found = read_arrays(_file("weights", data), limit=1 << 20)
    assert sum(np.asarray(values).nbytes for values in found.values()) <= 1 << 22


def features(data: bytes) -> None:
    from xray_captioning.data.feature_files import open_features

    found = open_features(_file("features.npz", data))
    found.read(np.arange(len(found.ids)))


def feature_files() -> list[bytes]:
    file = io.BytesIO()
    arrays = {
        "ids": np.array(["a", "b"]),
        "regions": np.ones((2, 1, 2, 2, 3), np.float32),
        "mask": np.ones((2, 1), bool),
    }
    np.savez(file, **arrays)
    return [file.getvalue()]


def preset(suffix: str) -> Target:
    def read(data: bytes) -> None:
        from xray_captioning.config import load_preset

        load_preset(str(_file(f"own{suffix}", data)))

    return read


def presets() -> list[bytes]:
    from xray_captioning.config import load_preset

    whole = json.dumps(load_preset("phantom_attention").to_dict()).encode()
    return [whole, b'{"training": {"epochs": 3}, "image": {"size": 64}}']


def assignment(data: bytes) -> None:
    from xray_captioning.config import Config, parse_assignment

    Config().replace(dict([parse_assignment(text(data))]))


def assignments() -> list[bytes]:
    return [b"training.epochs=3", b"decoding.beam_size=2", b'model.decoder="gru"', b"fractions=[0.8, 0.1, 0.1]"]


@cache
def _bundle() -> Path:
    """A folder that looks like a bundle; its weights are none, and nobody opens them."""
    folder = _folder() / "bundle"
    folder.mkdir()
    for name in ("encoder.weights.h5", "decoder.weights.h5", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    return folder


def _manifest(folder: Path) -> None:
    names = [path for path in folder.iterdir() if path.name != "manifest.json"]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}
    (folder / "manifest.json").write_text(json.dumps(digests), "utf-8")


def bundle(data: bytes) -> None:
    """A bundle's description that its manifest vouches for, with whatever is in it."""
    from xray_captioning.bundles.bundle import read_bundle, read_config
    from xray_captioning.runtime import find_export

    folder = _bundle()
    (folder / "captioner.json").write_bytes(data)
    _manifest(folder)
    read_bundle(folder, "captioner", exported=True)
    find_export(folder)
    if b'"export"' not in data:
        read_config(folder, "captioner")


def descriptions() -> list[bytes]:
    from xray_captioning.files import shipped_folder

    home = shipped_folder() / "phantom_attention"
    return [(home / "captioner.json").read_bytes(), (home / "export" / "captioner.json").read_bytes()]


def manifest(data: bytes) -> None:
    """A manifest that is damaged: of files that it does not name, or as they are not."""
    from xray_captioning.bundles.bundle import read_bundle

    folder = _bundle()
    (folder / "captioner.json").write_bytes(descriptions()[0])
    (folder / "manifest.json").write_bytes(data)
    read_bundle(folder, "captioner")


def manifests() -> list[bytes]:
    folder = _bundle()
    (folder / "captioner.json").write_bytes(descriptions()[0])
    _manifest(folder)
    return [(folder / "manifest.json").read_bytes()]


_RUN = {"version": "1", "bundle": "b", "beam size": None, "--show-unfamiliar": False, "set of studies or images": "s"}
_NAMES = ["a", "b", "c"]


def journal(data: bytes) -> None:
    from xray_captioning.batch import caption_table

    path = _file("it.part", data)
    with caption_table.open_journal(path, True) as file:
        done = caption_table.begin(file, _RUN, [caption_table.Study(name, []) for name in _NAMES], 2)
        rows = list(caption_table.read_rows(file))
    assert len(rows) == done <= len(_NAMES)


def journals() -> list[bytes]:
    from xray_captioning.batch import caption_table

    head = caption_table.json_line({"format": caption_table.FORMAT, **_RUN})
    rows = [dict.fromkeys(caption_table.COLUMNS) | {"study": name} for name in _NAMES]
    return [head + b"".join(map(caption_table.json_line, rows)), head]


def partitions(data: bytes) -> None:
    """The manifest of a folder of captions: looked at by readers, and gone on with."""
    from xray_captioning.batch import caption_table
    from xray_captioning.batch.partitions import _finished
    from xray_captioning.data.records import _whole_partitions

    (folder := _folder() / "partitions").mkdir(exist_ok=True)
    (path := folder / "_manifest.jsonl").write_bytes(data)
    refused(lambda _: _whole_partitions(folder), data)  # as it is where it names any: none is there
    with caption_table.open_journal(path, True) as file:
        finished = _finished(file, _RUN)
        assert {line["partition"] for line in caption_table.read_rows(file)} == finished.keys()
    assert all(type(number) is int for one in finished.values() for number in one.rows.values())


def partition_manifests() -> list[bytes]:
    from xray_captioning.batch import caption_table

    head = {"format": caption_table.FORMAT, **_RUN}
    rows = [{"partition": f"part-{n:05}.parquet", "rows": {"captioned": n, "error": 2}, "sha256": "ab"} for n in (0, 1)]
    return [b"".join(map(caption_table.json_line, [head, *rows])), caption_table.json_line(head)]


@cache
def _client() -> Any:
    from tests.serving.parts import toy_app
    from xray_captioning.serving.settings import Settings

    return toy_app(Settings(milliseconds=1)).test_client()


def http(data: bytes) -> None:
    """A request's body: answered with a caption or a problem, never with 500."""
    answer = _client().post("/v1/captions", data=data, content_type="multipart/form-data; boundary=part")
    assert answer.status_code in (200, 400, 413, 415, 422), (answer.status_code, answer.data)
    said = json.loads(answer.data)
    assert "text" in said if answer.status_code == 200 else said["status"] == answer.status_code


def bodies() -> list[bytes]:
    from tests.serving.parts import body

    png, jpeg = (inputs.images()[place] for place in (0, 6))
    more = b'--part\r\nContent-Disposition: form-data; name="beam_size"\r\n\r\n2\r\n--part--\r\n'
    return [body(png), body(png, jpeg), body(png).removesuffix(b"--part--\r\n") + more]


def texts() -> list[bytes]:
    return [one.encode() for one in inputs.TEXTS]


HARNESSES: dict[str, Harness] = {
    "image": Harness(image, inputs.images),
    "dicom": Harness(image, inputs.dicoms, 3),
    "view": Harness(view, inputs.dicoms),
    "openi": Harness(openi, inputs.reports),
    "table": Harness(studies("captions.csv"), inputs.tables, 3),
    "json": Harness(studies("captions.json"), lambda: inputs.jsons()[:3], 3),
    "parquet": Harness(studies("captions.parquet"), inputs.parquets, 5),
    "captions": Harness(captions("captions.csv"), lambda: inputs.tables() + inputs.jsons()),
    "sections": Harness(sections, texts),
    "cleaning": Harness(cleaning, texts),
    "labels": Harness(labels, texts),
    "metrics": Harness(metrics, texts, 3),
    "words": Harness(words, texts),
    "tokenizer": Harness(tokenizer, lambda: inputs.tokenizers()[:2], 3),
    "pickle": Harness(pickled, lambda: inputs.tokenizers()[2:]),
    "checkpoint": Harness(checkpoint, inputs.checkpoints),
    "hdf5": Harness(checkpoint, inputs.hdf5_files, 200),
    "features": Harness(features, feature_files, 3),
    "preset": Harness(preset(".json"), presets),
    "yaml": Harness(preset(".yaml"), presets, 3),
    "assignment": Harness(assignment, assignments),
    "bundle": Harness(bundle, descriptions),
    "manifest": Harness(manifest, manifests),
    "journal": Harness(journal, journals),
    "partitions": Harness(partitions, partition_manifests),
    "http": Harness(http, bodies, 3),
}
