"""What this package keeps and reads again: bundles, runs, journals, reading studies."""

import csv
import hashlib
import io
import json
import math
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fuzz import inputs
from tests.fuzz.harness import Harness, as_file, own_folder, refused


@cache
def _bundle() -> Path:
    """A folder that looks like a bundle; its weights are none, and nobody opens them."""
    folder = own_folder() / "bundle"
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


@cache
def _export() -> Path:
    from xray_captioning.files import shipped_folder

    folder = own_folder() / "export"
    shutil.copytree(shipped_folder() / "phantom_attention" / "export", folder)
    return folder


def export(data: bytes) -> None:
    """What is said of exported graphs, with graphs that are whole: loaded, and asked for a caption."""
    from xray_captioning.runtime import load

    (_export() / "captioner.json").write_bytes(data)
    _manifest(_export())
    (found,) = load(_export()).caption([[inputs.images()[0]]])
    assert isinstance(found.text, str)


def exports() -> list[bytes]:
    return [descriptions()[1]]


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

    path = as_file("it.part", data)
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

    (folder := own_folder() / "partitions").mkdir(exist_ok=True)
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
def _calibrated() -> Path:
    """A folder with the arrays of the shipped bundle's calibration."""
    from xray_captioning.files import shipped_folder

    folder = own_folder() / "calibrated"
    folder.mkdir()
    shutil.copy(shipped_folder() / "phantom_attention" / "calibration.h5", folder)
    (folder / "manifest.json").write_text('{"calibration.h5": "", "calibration.json": ""}', "utf-8")
    return folder


def calibration(data: bytes) -> None:
    from xray_captioning.captioner.calibration import load_calibration

    (_calibrated() / "calibration.json").write_bytes(data)
    found = load_calibration(_calibrated())
    assert found is not None
    assert all(math.isfinite(number) for line in found.lines.values() for number in line)
    assert math.isfinite(found.radius)


def calibrations() -> list[bytes]:
    from xray_captioning.files import shipped_folder

    return [(shipped_folder() / "phantom_attention" / "calibration.json").read_bytes()]


def split(data: bytes) -> None:
    from xray_captioning.data.splits import Split

    found = Split.from_json(as_file("split.json", data))
    assert all(isinstance(name, str) for part in found.parts.values() for name in part)


def splits() -> list[bytes]:
    from xray_captioning.data.splits import Split

    Split(("a", "b", "c"), ("d",), ("e",)).to_json(path := own_folder() / "split.json")
    return [path.read_bytes()]


def state(data: bytes) -> None:
    """Where a run has come to; `run_state` looks at every array by its number."""
    from xray_captioning.training.run_folder import open_state

    (folder := own_folder() / "state").mkdir(exist_ok=True)
    (folder / "state.npz").write_bytes(data)
    with open_state(folder) as (history, arrays):
        assert [dict(row) for row in history] == history
        for name in arrays.files:
            assert arrays[name].dtype != object


def states() -> list[bytes]:
    history = json.dumps([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    np.savez(file := io.BytesIO(), history=history, **{"0": np.arange(6.0), "1": np.ones((2, 3), np.float32)})
    return [file.getvalue()]


def run(data: bytes) -> None:
    """A run's settings, which one asks to go on with; most are of another run, and refused."""
    from xray_captioning.config import load_preset
    from xray_captioning.training.run_folder import check_folder

    (folder := own_folder() / "run").mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(data)
    check_folder(folder, load_preset("phantom_attention"), resume=True)


def runs() -> list[bytes]:
    from xray_captioning.config import load_preset

    about = {"group": "training", "data": "a", "split": "b", "weights": "c"}
    return [json.dumps({"config": load_preset("phantom_attention").to_dict(), **about}).encode(), b""]


@cache
def _study() -> tuple[Path, Any]:
    """A reading study of four texts by two readers; the key is read again."""
    from xray_captioning.review.study import Key, export_study

    rows = [
        ("study_id", "reference", "one", "two"),
        *((str(n), text, text, "Normal.") for n, text in enumerate(inputs.TEXTS)),
    ]
    with (captions := own_folder() / "both.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    export_study(captions, ("one", "two"), folder := own_folder() / "study", repeats=1)
    return folder, Key.from_json(folder / "key.json")


def key(data: bytes) -> None:
    from xray_captioning.review.study import Key

    found = Key.from_json(as_file("key.json", data))
    assert all(set(case.texts) == set(found.systems) for sheet in found.sheets for case in sheet.cases)


def keys() -> list[bytes]:
    return [(_study()[0] / "key.json").read_bytes()]


def answers(data: bytes) -> None:
    """A sheet that was filled in: read, summed up, and told."""
    from xray_captioning.review.study import read_answers
    from xray_captioning.review.summary import format_summary, summarise

    found = read_answers(_study()[1], [as_file("sheet.csv", data)])
    assert all(value != value or value in range(1, 6) for rating in found for value in rating.values)
    assert all(rating.note.isprintable() for rating in found)
    told = summarise(_study()[1], found)
    assert all(row["mean"] is None or 1 <= row["mean"] <= 5 for row in told["means"])
    format_summary(told)


def sheets() -> list[bytes]:
    found = []
    for reader, value in (("reader-1", "4"), ("reader-2", "2")):
        rows = list(csv.reader(io.StringIO((_study()[0] / reader / "sheet.csv").read_text("utf-8-sig"))))
        for row in rows[1:]:
            row[5:-1] = [value] * len(row[5:-1])
        csv.writer(text := io.StringIO()).writerows(rows)
        found.append(text.getvalue().encode())
    return found


def outlines(data: bytes) -> None:
    """Polygons on images, drawn into a mask."""
    from xray_captioning.data.outlines import filled, read_outlines, touched

    for found in read_outlines(SimpleNamespace(attrs={}), as_file("regions.json", data)).values():
        assert filled(found, (16, 16)).shape == (16, 16)
        assert touched(found, (4, 4)).any() in (True, False)


def drawn() -> list[bytes]:
    from xray_captioning.findings import FINDINGS

    one = {"study": "1", "finding": FINDINGS[0], "side": "left", "image": "1.png"}
    return [
        json.dumps([{**one, "polygon": [[0.1, 0.1], [0.5, 0.25], [0.3, 1.0]]}, {**one, "polygon": [[0, 0]]}]).encode()
    ]


HARNESSES: dict[str, Harness] = {
    "bundle": Harness(bundle, descriptions),
    "export": Harness(export, exports, 100),
    "manifest": Harness(manifest, manifests),
    "calibration": Harness(calibration, calibrations),
    "split": Harness(split, splits),
    "journal": Harness(journal, journals),
    "partitions": Harness(partitions, partition_manifests),
    "state": Harness(state, states),
    "run": Harness(run, runs),
    "key": Harness(key, keys),
    "answers": Harness(answers, sheets, 5),
    "outlines": Harness(outlines, drawn),
}
