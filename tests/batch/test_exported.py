"""Captions of exported graphs in a file, also where Keras is not installed."""

import csv
from pathlib import Path

import pytest

from xray_captioning.cli import main

pytest.importorskip("onnxruntime")


def test_a_file_of_captions_is_written_and_gone_on_with(phantoms: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "captions.csv", tmp_path / "captions.csv.part"
    images = [str(path) for path in sorted(phantoms.rglob("*.png"))[:4]]
    (bad := tmp_path / "bad.png").write_bytes(b"no image")
    words = ["caption", *images, str(bad), "--out", str(out), "--runtime", "onnx"]
    assert main(words) == 1  # one image cannot be read
    rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    assert not part.exists()
    assert main([*words, "--resume"]) == 1


def test_printed_captions_have_findings(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(min(phantoms.rglob("*.png")))
    assert main(["caption", image, "--findings", "--runtime", "onnx"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("images\tcaption\t")
    assert len(row.split("\t")) == len(header.split("\t"))
