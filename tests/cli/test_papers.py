"""What a paper needs: pictures of what a model saw, and what to cite."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.data.sources.reading import read_studies

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """Collect the rows of panels."""
    from xray_captioning.plots import panels

    rows: list = []
    draw = panels.panel
    monkeypatch.setattr(panels, "panel", lambda shown, **more: rows.extend(shown) or draw(shown, **more))
    return rows


def test_a_study_is_drawn_with_its_findings_by_each_method(
    fresh_phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list
) -> None:
    studies = read_studies(fresh_phantoms)
    two = [row for row in studies.itertuples() if len(row.images) == 2]
    row = max(two, key=lambda row: len(row.problems))  # something is there to be named
    out = tmp_path / "seen.png"
    assert main(["explain", ",".join(row.images), "--views", ",".join(row.views), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out.strip().removeprefix(f"{out}: ")
    assert drawn[0].captions["caption"] == text
    assert [list(row.captions) for row in drawn] == [
        ["caption", "attention"],
        ["class activation"],
        ["gradient", "notice"],
    ]
    for shown in drawn:
        assert shown.reference is None
        assert shown.attention.shape[:2] == (len(shown.words), 2)
        np.testing.assert_allclose(shown.attention.sum(axis=(1, 2, 3)), 1, rtol=1e-4)
        assert all(word in text.lower() for words in shown.words for word in words.split())


def test_one_image_and_a_folder_of_several(
    fresh_phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list
) -> None:
    image = next(row.images[0] for row in read_studies(fresh_phantoms).itertuples() if row.views[0] == "frontal")
    assert main(["explain", image, "--out", str(tmp_path / "seen.svg")]) == 0
    assert b"<svg" in (tmp_path / "seen.svg").read_bytes()
    assert all(len(shown.images) == 1 for shown in drawn)
    for name in ("a.png", "b.png"):
        shutil.copy(image, tmp_path / name)
    capsys.readouterr()
    assert main(["explain", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "is a folder of 2 images; name one" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_an_unfamiliar_image_is_drawn_with_nothing_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list
) -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    assert main(["explain", str(tmp_path / "noise.png"), "--out", str(tmp_path / "seen.png")]) == 0
    output = capsys.readouterr().out
    assert "not like the chest X-rays this model was trained on" in output
    assert output.endswith("(nothing)\n")
    ((shown,),) = [drawn]
    assert shown.attention is None
    assert shown.captions["caption"] == ""
    assert "not like the chest X-rays" in shown.captions["notice"]


def test_what_to_cite_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "openi", "rad-dino", "phantom_attention"]) == 0
    output, error = capsys.readouterr()
    assert not error
    assert output.startswith("% this software: xray_captioning\n")
    for key in ("papineni2002bleu", "demnerfushman2016openi", "perezgarcia2025raddino"):
        assert output.count(f"{{{key},\n") == 1
