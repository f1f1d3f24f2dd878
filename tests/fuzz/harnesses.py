"""What is read from others, each with valid inputs and the law that holds for any other.

The law: an input is read, and then what was read is sane, or it is an error of this package in one line. A
target says more where more holds.
"""

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import inputs, kept, others, page
from tests.fuzz.harness import Harness, Target, as_file, own_folder, text


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

        found = read_studies(as_file(name, data))
        assert found["study_id"].is_unique
        assert found["study_id"].map(type).eq(str).all()

    return read


def captions(name: str) -> Target:
    def read(data: bytes) -> None:
        from xray_captioning.evaluation.caption_files import read_captions

        for column in read_captions(as_file(name, data)).values():
            assert all(isinstance(text, str) for text in column.texts)

    return read


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

    found = load_tokenizer(as_file("tokenizer.json", data))
    assert found.decode(found.encode("no effusion")) is not None


def pickled(data: bytes) -> None:
    from xray_captioning.text.tokenizer import Tokenizer

    Tokenizer.from_pickle(as_file("tokenizer.pkl", data))


def checkpoint(data: bytes) -> None:
    from xray_captioning.checkpoints import read_arrays

    found = read_arrays(as_file("weights", data), limit=1 << 20)
    assert sum(np.asarray(values).nbytes for values in found.values()) <= 1 << 22


def features(data: bytes) -> None:
    from xray_captioning.data.feature_files import open_features

    found = open_features(as_file("features.npz", data))
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


@cache
def _store() -> Path:
    """A Zarr group of features as `encode` writes it."""
    from xray_captioning.data.feature_files import write_features

    batch = {"regions": np.arange(24, dtype=np.float32).reshape(2, 1, 2, 2, 3), "views": np.ones((2, 1), bool)}
    write_features(path := own_folder() / "store.zarr", ["a", "b"], [batch], {"encoder": "mine"})
    return path


def store(name: str) -> Target:
    def read(data: bytes) -> None:
        """What a group or one of its arrays says of itself, with whole chunks."""
        from xray_captioning.data.feature_files import open_features

        file, whole = _store() / name, _whole(name)
        try:
            file.write_bytes(data)
            found = open_features(_store())
            assert np.isfinite(found.read(np.arange(len(found.ids)))[0]).all()
        finally:
            file.write_bytes(whole)

    return read


@cache
def _whole(name: str) -> bytes:
    return (_store() / name).read_bytes()


def preset(suffix: str) -> Target:
    def read(data: bytes) -> None:
        from xray_captioning.config import load_preset

        load_preset(str(as_file(f"own{suffix}", data)))

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
def _client() -> Any:
    from tests.serving.parts import toy_app
    from xray_captioning.serving.settings import Settings

    return toy_app(Settings(milliseconds=1)).test_client()


def http(kind: str) -> Target:
    def post(data: bytes) -> None:
        """A request's body: answered with a caption or a problem, never with 500."""
        answer = _client().post("/v1/captions", data=data, content_type=kind)
        assert answer.status_code in (200, 400, 413, 415, 422), (answer.status_code, answer.data)
        said = json.loads(answer.data)
        assert "text" in said if answer.status_code == 200 else said["status"] == answer.status_code

    return post


def bodies() -> list[bytes]:
    from tests.serving.parts import body

    png, jpeg = (inputs.images()[place] for place in (0, 6))
    more = b'--part\r\nContent-Disposition: form-data; name="beam_size"\r\n\r\n2\r\n--part--\r\n'
    return [body(png), body(png, jpeg), body(png).removesuffix(b"--part--\r\n") + more]


def json_bodies() -> list[bytes]:
    png, jpeg = (base64.b64encode(inputs.images()[place]).decode() for place in (0, 6))
    bodies = {"images": [png, jpeg], "beam_size": 2, "alternatives": 1}, {"images": [png], "attention": False}
    return [json.dumps(body).encode() for body in bodies]


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
    "store": Harness(store("zarr.json"), lambda: [_whole("zarr.json")], 5),
    "stored array": Harness(store("regions/zarr.json"), lambda: [_whole("regions/zarr.json")], 5),
    "preset": Harness(preset(".json"), presets),
    "yaml": Harness(preset(".yaml"), presets, 3),
    "assignment": Harness(assignment, assignments),
    "http": Harness(http("multipart/form-data; boundary=part"), bodies, 3),
    "http json": Harness(http("application/json"), json_bodies, 3),
    **kept.HARNESSES,
    **others.HARNESSES,
    "page": Harness(page.page, page.files, 5),
}
