"""The command caption with --out: what is written, what goes wrong, and what a kill leaves."""

import csv
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from xray_captioning.batch import caption_table
from xray_captioning.batch import run as batch
from xray_captioning.batch.caption_table import Study, check_whole, json_line
from xray_captioning.bundles.bundle import find_bundle
from xray_captioning.captioner.calibration import UnfamiliarImageWarning
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.errors import ConfigError


def run(*words: object) -> int:
    return main([str(word) for word in words])


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module", autouse=True)
def _one_captioner() -> Iterator[None]:
    """Load each bundle, and compile its search, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Captioner, "load", functools.cache(Captioner.load))
        yield


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "SIZE", 2)
    monkeypatch.setattr(batch, "SHARE", 1)


@pytest.fixture
def folder(phantoms: Path, tmp_path: Path) -> Path:
    """Copies of nine images of the phantoms."""
    (tmp_path / "images").mkdir()
    for image in sorted(phantoms.glob("images/*/*.png"))[:9]:
        shutil.copy(image, tmp_path / "images")
    return tmp_path / "images"


def test_a_folder_of_images(folder: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "captions.jsonl"
    assert run("caption", folder, "--bundle", tiny_run, "--out", out) == 0
    output, error = capfd.readouterr()
    assert output == ""
    assert error.endswith(f"{out}: 9 studies, 0 of them with an error\n")
    rows, images = read(out), sorted(map(str, folder.iterdir()))
    assert [row["study"] for row in rows] == images
    captioner = Captioner.load(tiny_run)
    chances = captioner.findings([[images[0]]])[0]
    for image, row in zip(images, rows, strict=True):
        [caption] = captioner.caption([[image]])
        assert (row["images"], row["error"]) == ([image], None)
        assert row["caption"] == caption.text
        assert row["log_probability"] == pytest.approx(caption.log_probability, rel=6e-5)
        assert [s["text"] for s in row["sentences"]] == [s.text for s in caption.sentences]
    assert rows[0]["findings"] == pytest.approx(chances, abs=1e-5)
    assert not list(out.parent.glob("*.part"))


def test_two_views_of_a_data_source_are_one_study(phantoms: Path, tiny_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    out = tmp_path / "captions.parquet"
    assert run("caption", "--data", phantoms, "--bundle", tiny_run, "--out", out) == 0
    table = pd.read_parquet(out)
    assert len(table) == 24
    assert table["study"].str.startswith("9000").all()
    assert set(map(len, table["images"])) <= {1, 2}
    assert "_IM-0001-1001" in table["images"][0][0]
    assert table["error"].isna().all()


def test_a_study_without_its_images_has_a_row(
    phantoms: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    for image in data.glob("images/*/900003_*"):
        image.unlink()
    out = tmp_path / "captions.csv"
    assert run("caption", "--data", data, "--bundle", tiny_run, "--out", out) == 1
    assert "24 studies, 1 of them with an error" in capfd.readouterr().err
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert rows["900003"]["error"] == "none of its images is there; check the image folder"
    assert rows["900003"]["caption"] == ""
    assert run("caption", "--data", data, "--bundle", tiny_run) == 0
    output, error = capfd.readouterr()
    assert "1 of 24 studies have no image there" in error
    assert output.count("\n") == 23


def test_hostile_files_are_rows_and_the_others_are_captioned(
    folder: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sound = sorted(folder.iterdir())
    content = sound[0].read_bytes()
    hostile = {
        "a_empty.png": b"",
        "b_text.png": b"not an image",
        "c_cut.png": content[: len(content) // 2],
        "d_flipped.png": content[:500] + bytes([content[500] ^ 64]) + content[501:],
        "e_jpeg.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 40,
        "f_dicom.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 60,
        "g_line\nbreak.png": b"\x89PNG",
        "h_=cmd().png": b"",
        os.fsdecode(b"i_\xff\xfe.png"): b"",
    }
    for name, data in hostile.items():
        (folder / name).write_bytes(data)
    (folder / "z_folder.png").mkdir()
    for suffix in ("csv", "jsonl"):
        out = tmp_path / f"captions.{suffix}"
        assert run("caption", folder, "--bundle", tiny_run, "--out", out) == 1
        assert "18 studies, 9 of them with an error" in capfd.readouterr().err
    rows = read(tmp_path / "captions.jsonl")
    failed = [row for row in rows if row["error"]]
    assert len(failed) == len(hostile)
    assert {row["caption"] for row in failed} == {None}
    assert not any("\n" in str(row["error"]) for row in failed)
    alone = Captioner.load(tiny_run).caption([[str(image)] for image in sound])
    assert [row["caption"] for row in rows if not row["error"]] == [c.text for c in alone]


def test_absent_and_surplus_images_are_reasons(folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    image, out = str(next(folder.iterdir())), tmp_path / "captions.jsonl"
    studies = [Study("absent", [f"{tmp_path}/no.png"]), Study("surplus", [image] * 3)]
    captioner = Captioner.load(tiny_run)
    assert batch.caption_to_file(captioner, "digest", studies, out) == 2
    absent, surplus = (str(row["error"]) for row in read(out))
    assert "no.png" in absent
    assert surplus == "3 images, but this model looks at 2; choose among them"


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> Captioner:
    """The shipped captioner, to which no image is familiar."""
    captioner = Captioner.load(find_bundle("phantom_attention"))
    assert captioner.calibration is not None
    monkeypatch.setattr(captioner, "calibration", replace(captioner.calibration, radius=1e-9))
    monkeypatch.setattr("xray_captioning.runtime.open_captioner", lambda *_: captioner)
    return captioner


def test_captions_without_a_word_are_warned_of() -> None:
    def counted(*read: tuple[str | None, bool | None, str | None]) -> Counter[str]:
        return Counter(batch.kind(dict(zip(("caption", "unfamiliar", "error"), row))) for row in read)

    counts = counted(("", None, None), ("", False, None), ("Edema.", False, None), (None, None, ""))
    with pytest.warns(UserWarning, match="wrote nothing about 2 of 4 studies"):
        batch.warn_of_empty(counts, show_unfamiliar=False)
    assert counts["error"] == 1
    with pytest.warns() as warned:
        batch.warn_of_empty(counted(("", True, None)), show_unfamiliar=False)  # another reason
    assert [found.category for found in warned] == [UnfamiliarImageWarning]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_of_unfamiliar_images_nothing_is_said_and_one_warning_is_given(
    folder: Path, tmp_path: Path, strange: Captioner, suffix: str
) -> None:
    import pandas as pd

    studies = [Study(str(path), [str(path)]) for path in folder.iterdir()]
    out, shown = tmp_path / f"c.{suffix}", tmp_path / "shown.jsonl"
    with pytest.warns(UnfamiliarImageWarning, match=r"9 of 9 .*--show-unfamiliar") as warned:
        batch.caption_to_file(strange, "digest", studies, out)
    assert len(warned) == 1  # of five batches
    if suffix == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    elif suffix == "csv":
        rows = pd.read_csv(out, keep_default_na=False).to_dict("records")
    else:
        rows = read(out)
    for row in rows:
        assert (float(row["novelty"]) > 1, row["unfamiliar"], row["caption"]) == (True, True, "")
        assert row["sentences"] == "[]" if suffix == "csv" else not len(row["sentences"])
        assert not row["findings"]
        assert not row["error"]
    with pytest.warns(UnfamiliarImageWarning, match="sentences have no confidence"):
        batch.caption_to_file(strange, "digest", studies, shown, show_unfamiliar=True)
    for row in read(shown):
        assert row["caption"]
        assert row["unfamiliar"] is True
        assert row["findings"] is None
        assert {sentence["confidence"] for sentence in row["sentences"]} == {None}


@pytest.mark.usefixtures("strange")
def test_what_is_printed_of_unfamiliar_images_is_empty_unless_asked_for(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["caption", min(folder.iterdir()), "--findings", "--beam", "1"]
    assert run(*line) == 0
    output, error = capfd.readouterr()
    header, row = (text.split("\t") for text in output.splitlines())
    assert len(header) == len(row) > 10
    assert not any(row[1:])
    assert "--show-unfamiliar" in error
    assert run(*line, "--show-unfamiliar") == 0
    row = capfd.readouterr().out.splitlines()[1].split("\t")
    assert row[1]
    assert not any(row[2:])  # a number would be believed


def test_views_are_said_on_the_command_line(
    folder: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, other = sorted(folder.iterdir())[:2]
    out = {name: tmp_path / f"{name}.jsonl" for name in ("unsaid", "lateral", "both")}
    line = ["caption", "--bundle", tiny_run, image, "--out"]
    assert run(*line, out["unsaid"]) == 0
    assert run(*line, out["lateral"], "--views", "lateral") == 0
    captioner = Captioner.load(tiny_run)
    for name, views in (("unsaid", None), ("lateral", ["lateral"])):
        (expected,) = captioner.caption([[str(image)]], views=views)
        (row,) = read(out[name])
        assert row["log_probability"] == pytest.approx(expected.log_probability, rel=6e-5)
    pair = [f"{image},{other}", "--views", "lateral,frontal", "--out", out["both"]]
    assert run("caption", "--bundle", tiny_run, *pair) == 0
    (expected,) = captioner.caption([[str(other), str(image)]])
    (row,) = read(out["both"])
    assert row["log_probability"] == pytest.approx(expected.log_probability, rel=6e-5)
    assert row["study"] == f"{image},{other}"
    capfd.readouterr()
    for line, words in (
        ([image, "--views", "lateral,frontal"], "names 2 images of a study, but"),
        ([image, "--views", "side"], "one of frontal, lateral, unknown"),
        (["--data", folder, "--views", "lateral"], "stand in its table"),
        ([f"{image},{other}", "--views", "frontal,frontal"], "one frontal and one lateral"),
    ):
        assert run("caption", "--bundle", tiny_run, *line) == 2
        assert words in capfd.readouterr().err


def test_what_a_file_is_called_decides_nothing_and_that_is_said(
    folder: Path, tiny_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = folder / "view1_lateral.png"
    shutil.copy(min(folder.iterdir()), image)
    said = "is called lateral and taken for a frontal image, as 1 of 1 are"
    for options, expected in ((), True), (("--views", "lateral"), False):
        assert run("caption", "--bundle", tiny_run, image, *options) == 0
        assert (said in capfd.readouterr().err) is expected
    assert run("caption", "--bundle", tiny_run, f"{min(folder.iterdir())},{image}") == 0
    assert said not in capfd.readouterr().err


def test_a_lone_lateral_is_read_in_its_own_place(folder: Path, tiny_run: Path) -> None:
    captioner, path = Captioner.load(tiny_run), str(min(folder.iterdir()))
    ((row,),) = batch.captioned(captioner, iter([[Study("1", [None, path])]]))
    (expected,) = captioner.caption([[path]], views=["lateral"])
    assert (row["images"], row["caption"]) == ([path], expected.text)
    assert row["log_probability"] == pytest.approx(expected.log_probability, rel=6e-5)
    (frontal,) = captioner.caption([[path]])
    assert row["log_probability"] != pytest.approx(frontal.log_probability, rel=6e-5)


class Killed(BaseException):
    """Stands for a kill, which no handler sees."""


def killed_writing(monkeypatch: pytest.MonkeyPatch, writes: int, share: float) -> None:
    """Let the next run end within what it writes to its journal after so many other writes."""

    def append(file: BinaryIO, values: Iterable[object]) -> None:
        nonlocal writes
        writes -= 1
        if writes < 0:
            content = b"".join(map(json_line, values))
            file.write(content[: int(share * (len(content) + 1))])
            file.flush()
            raise Killed
        original(file, values)

    original = caption_table.append
    monkeypatch.setattr(caption_table, "append", append)


def test_ten_kills_change_nothing(
    phantoms: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted(map(str, phantoms.glob("images/*/*.png")))[:16]
    studies = [batch.Study(image, [image]) for image in images]
    captioner, rng, calls, counted = (Captioner.load(tiny_run), random.Random(3), list[str](), batch.predict)

    def count(captioner, features, *options):
        calls.extend(["one"] * len(features.mask))
        return counted(captioner, features, *options)

    for suffix in ("csv", "jsonl", "parquet"):
        whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"killed.{suffix}"
        batch.caption_to_file(captioner, "digest", studies, whole)
        calls.clear()
        with monkeypatch.context() as counting:
            counting.setattr(batch, "predict", count)
            for _ in range(10):
                with monkeypatch.context() as patch:
                    killed_writing(patch, rng.randrange(2), rng.random())
                    with pytest.raises(Killed):
                        batch.caption_to_file(captioner, "digest", studies, out, resume=True)
                assert not out.exists()
            batch.caption_to_file(captioner, "digest", studies, out, resume=True)
        assert out.read_bytes() == whole.read_bytes()
        # Nothing but the batch that was being written is ever done again.
        assert len(calls) - len(studies) <= 10 * batch.SIZE


def test_a_kill_between_the_last_two_steps(
    folder: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["caption", folder, "--bundle", tiny_run, "--out", tmp_path / "captions.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(*line)
    before = (tmp_path / "captions.csv").read_bytes()
    assert run(*line, "--resume") == 0
    assert (tmp_path / "captions.csv").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_an_unfinished_run_of_something_else_is_refused(
    folder: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, part = tmp_path / "captions.csv", tmp_path / "captions.csv.part"
    line = ["caption", folder, "--out", out, "--bundle", tiny_run]
    with monkeypatch.context() as patch:
        killed_writing(patch, 2, 0.5)
        with pytest.raises(Killed):
            run(*line)
    before = part.read_bytes()

    def refused(words: str, *line: object) -> None:
        assert run(*line) == 2
        assert words in capfd.readouterr().err
        assert not out.exists()

    refused("unfinished run; go on with --resume", *line)
    refused("begun with another beam size", *line, "--resume", "--beam", "2")
    refused("begun with another --show-unfamiliar", *line, "--resume", "--show-unfamiliar")
    Captioner.load(tiny_run).save(tmp_path / "other")
    refused("begun with another bundle", *line[:-1], tmp_path / "other", "--resume")
    header, _, *rest = before.splitlines(keepends=True)
    for damaged in (before.replace(b'"images"', b'"imagos"', 1), b"".join([header, *rest])):
        part.write_bytes(damaged)
        refused("is damaged; remove it", *line, "--resume")
        assert part.read_bytes() == damaged
    part.write_bytes(before)
    image = next(folder.iterdir())
    known, content = image.stat(), image.read_bytes()
    middle = len(content) // 2
    image.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    os.utime(image, ns=(known.st_atime_ns, known.st_mtime_ns))
    refused("begun with another set of studies or images", *line, "--resume")
    image.write_bytes(content)
    os.utime(image, (1, 1))
    refused("begun with another set of studies or images", *line, "--resume")
    assert part.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_whole_file_needs_no_resuming(
    phantoms: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    images, out = sorted(phantoms.glob("images/*/*.png"))[:2], tmp_path / f"there{suffix}"
    (tmp_path / "no.png").write_bytes(b"no image")
    line = ["caption", *images, tmp_path / "no.png", "--bundle", tiny_run, "--out", out]
    assert run(*line) == 1
    before, _ = out.read_bytes(), capfd.readouterr()
    assert run(*line, "--resume") == 1
    said = capfd.readouterr().err
    assert "whole; there is nothing to resume" in said
    assert "3 studies, 1 of them" in said
    del line[1]
    assert run(*line, "--resume") == 2
    assert "is there already, of other studies" in capfd.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt"])
def test_a_whole_file_of_something_else(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"there{suffix}"
    for content in (b"mine", b"", b"\xff\xfe\x00", b"study\n1\n", b"3\n"):
        out.write_bytes(content)
        with pytest.raises(ConfigError, match="is there already"):
            check_whole(out, [Study("1", ["1.png"])])
        assert out.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("x.png --data {data}", "give either IMAGE or DIR, or --data"),
        ("", "give either IMAGE or DIR, or --data"),
        ("{image} --images {data}", "give --data, too"),
        ("{image} --resume", "give its --out, too"),
        ("{image} --out {out}.csv --findings", "leave out --findings"),
        ("{image} --out {out}.txt", "let its name end in .csv, .parquet or .jsonl"),
        ("{image} --out {there}", "is there already; choose another --out"),
        ("{image} --out {out}.csv --bundle {encoder}", "holds an encoder only"),
    ],
)
def test_refusals(
    options: str, words: str, phantoms: Path, tiny_encoder_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    image = next(phantoms.glob("images/*/*.png"))
    places = {"data": phantoms, "image": image, "out": tmp_path / "out"}
    places |= {"there": tmp_path / "there.csv", "encoder": tiny_encoder_run}
    capfd.readouterr()
    assert run("caption", *options.format(**places).split()) == 2
    assert words in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.slow
def test_a_killed_process_is_resumed(phantoms: Path, tmp_path: Path) -> None:
    images = [phantoms / "images" / "images_normalized"] * 50
    whole, out, part = (tmp_path / name for name in ("whole.csv", "k.csv", "k.csv.part"))

    def started(*words: object) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "xray_captioning", "caption", "--runtime", "onnx", *images, "--out", *words]
        return subprocess.Popen(list(map(str, line)), stderr=subprocess.DEVNULL)

    assert started(whole).wait() == 0
    process = started(out)
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert started(out, "--resume").wait() == 0
    assert out.read_bytes() == whole.read_bytes()
