"""What prepare tells of a source: all that training would meet."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.config import load_preset

TEXTS = ["Small left effusion.", "No acute disease.", "Cardiomegaly."]


def write(folder: Path, rows: list[dict[str, str]], images: str | None = "images") -> Path:
    """Write a captions table, and its images into a folder of their own."""
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    if images:
        (folder / images).mkdir()
        for row in rows:
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
            cv2.imwrite(str(folder / images / row["image"]), pixels)
    return folder


def rows(count: int = 9, **columns: list[str]) -> list[dict[str, str]]:
    return [
        {"image": f"{i}.png", "caption": TEXTS[i % 3]}
        | {name: values[i % len(values)] for name, values in columns.items()}
        for i in range(count)
    ]


def told(capsys: pytest.CaptureFixture[str], *line: object) -> tuple[dict[str, str], list[str]]:
    """Run prepare; return what it prints by name, and its warnings."""
    capsys.readouterr()
    assert main(["prepare", *map(str, line)]) == 0
    output, error = capsys.readouterr()
    pairs = (text.partition("  ") for text in output.splitlines())
    warned = [line for line in error.splitlines() if "fell into" not in line]  # there are few
    return {name: value.strip() for name, _, value in pairs}, warned


def test_all_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patients, parts = ["a", "b", "c"], ["train", "val", "test"]
    data = write(tmp_path / "data", rows(patient_id=patients, split=parts, view=["PA"]))
    (data / "images" / "0.png").unlink()
    found, warned = told(capsys, data, "--out", tmp_path / "out")
    assert (found["source"], found["studies"], found["patients"]) == ("captions", "9", "3")
    assert (found["images present"], found["images missing"]) == ("8", "1")
    assert found["views"] == "frontal: 9"
    assert (found["with findings"], found["without both"]) == ("9", "0")
    assert found["parts named by the source"] == "train: 3, val: 3, test: 3"
    assert found["patients in two of them"] == "0"
    assert any("as the source names them" in name for name in found)
    assert warned == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["source"], summary["torn_patients"]) == ("captions", 0)


def test_patients_in_two_parts_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", rows(patient_id=["a", "b"], split=["train", "val", "test"]))
    found, warned = told(capsys, data)
    assert found["patients in two of them"] == "2"
    assert len(warned) == 1
    assert "more than one part, such as 'a'" in warned[0]


def test_studies_without_a_patient_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = told(capsys, write(tmp_path / "data", rows()))
    assert found["patients"].startswith("9 (none is named")
    assert any("made here, by study" in name for name in found)
    known, _ = told(capsys, write(tmp_path / "known", rows(patient_id=["a", "b"])))
    assert any("made here, by patient" in name for name in known)


def test_columns_that_play_no_role_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody sees from counts that patients, or studies, stand in a column of another name."""
    data = write(tmp_path / "data", rows(chart=["a", "b"], exam=["1", "2", "3"]))
    found, _ = told(capsys, data)
    assert found["columns"] == "image=image, caption=caption"
    assert found["columns not used"] == "chart, exam"
    asked = "image=image,caption=caption,patient=chart,study=exam"
    (data / "captions.csv").write_text("image,caption,chart,exam\n0.png,Clear lungs.,a,1\n")
    found, _ = told(capsys, data, "--columns", asked, "--out", tmp_path / "out")
    assert found["columns not used"] == "none"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["columns"]["patient"] == "chart"


def test_where_no_labels_are_it_says_where_findings_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = told(capsys, write(tmp_path / "data", rows()))
    assert found["with labels"].startswith("0 (train-encoder takes findings from the words")


def test_an_id_that_only_counts_rows_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted = [row | {"id": str(i), "image": "0.png"} for i, row in enumerate(rows(3))]
    found, _ = told(capsys, write(tmp_path / "data", counted))
    assert (found["studies"], found["columns not used"]) == ("1", "id")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_where_no_image_is_it_says_what_was_looked_for_and_what_lies_there(
    elsewhere: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", rows(), images=None)
    if elsewhere:
        (data / "scans").mkdir()
        (data / "scans" / "other.dcm").write_bytes(b"x")
    _, warned = told(capsys, data)
    assert "none of 9 images is there: looked for" in warned[0]
    assert "0.png" in warned[0]
    assert ("other.dcm" if elsewhere else "no image lies there") in warned[0]
    assert "--images" in warned[0]


def test_texts_that_are_all_alike_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alike = [row | {"caption": "No acute disease."} for row in rows()]
    _, warned = told(capsys, write(tmp_path / "data", alike))
    assert len(warned) == 1
    assert "all studies have the same text, 'No acute disease.'" in warned[0]
    _, warned = told(capsys, write(tmp_path / "few", alike[:3]))
    assert "same text" not in " ".join(warned)  # three may be alike by chance


def test_train_says_why_there_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source may publish no test part, as CheXpert Plus does."""
    trained = SimpleNamespace(about={}, config=load_preset("phantom_attention"))
    monkeypatch.setattr("xray_captioning.training.captions.train", lambda *_, **__: trained)
    data = write(tmp_path / "data", rows(split=["train", "val"]))
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "the test part has no study to score" in printed
    assert "--part val" in printed


def test_an_unknown_folder_is_told_what_was_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    assert main(["prepare", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith("*.txt, DICOM files or another table")
