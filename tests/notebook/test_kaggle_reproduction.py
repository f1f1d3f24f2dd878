"""The Kaggle data set's own names, from finding the folder to a trained model.

Where the real tables are on this machine they are used as they are; the pixels are phantoms'.
"""

import csv
import shutil
from pathlib import Path

import pytest

import xray_captioning as xc
import xray_captioning.notebook as places
from xray_captioning import notebook
from xray_captioning.data.sources.openi import IMAGE_FOLDER, PROJECTIONS, REPORTS
from xray_captioning.phantom.dataset import write_phantoms

pytestmark = pytest.mark.usefixtures("eagerly")

STUDIES = 24  # that get pixels


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Folder of phantoms whose tables and pixels stand in for what is absent."""
    return write_phantoms(tmp_path_factory.mktemp("pixels") / "phantom", STUDIES, seed=3, size=64)


def real_tables(shared_data: Path, pixels: Path, folder: Path) -> None:
    """Copy the real tables, and give the images of some studies that name a finding pixels."""
    for name in (REPORTS, PROJECTIONS):
        shutil.copyfile(shared_data / "iu" / name, folder / name)
    with (folder / REPORTS).open(encoding="utf-8", newline="") as file:
        told = [row["uid"] for row in csv.DictReader(file) if row["impression"].strip()]
    with (folder / PROJECTIONS).open(encoding="utf-8", newline="") as file:
        wanted = [row["filename"] for row in csv.DictReader(file) if row["uid"] in told[:STUDIES]]
    drawn = sorted((pixels / IMAGE_FOLDER).iterdir())
    (folder / IMAGE_FOLDER).mkdir(parents=True)
    for number, name in enumerate(wanted):
        shutil.copyfile(drawn[number % len(drawn)], folder / IMAGE_FOLDER / name)


@pytest.fixture(params=["real tables", "phantoms"])
def kaggle(request, pixels, tmp_path, monkeypatch):
    """Kaggle's input folder with the data set in it, as a notebook there sees it."""
    folder = tmp_path / "input" / "chest-xrays-indiana-university"
    if request.param == "phantoms":
        shutil.copytree(pixels, folder)
        for name in ("README.txt", "regions.json"):
            (folder / name).unlink()  # the data set has none
    else:
        folder.mkdir(parents=True)
        real_tables(request.getfixturevalue("shared_data"), pixels, folder)
    monkeypatch.setattr(places, "KAGGLE_INPUT", tmp_path / "input")
    return folder


@pytest.mark.slow
def test_the_data_set_is_found_read_and_learned_from(kaggle, tmp_path):
    assert sorted(path.name for path in kaggle.iterdir()) == sorted(["images", REPORTS, PROJECTIONS])
    work = tmp_path / "working"
    data = notebook.find_data(work=work)
    assert data == notebook.Data(kaggle, "kaggle")
    assert not data.phantoms

    studies = xc.read_studies(data.path)
    present = notebook.usable(studies)
    assert STUDIES - 1 <= len(present) <= STUDIES
    assert all(Path(p).parent == kaggle / IMAGE_FOLDER for images in present["images"] for p in images)
    assert set(present["views"].map(tuple)) <= {("frontal", "lateral"), ("frontal",), ("lateral",)}
    config = notebook.recipe("chexnet_attention", data, present, "quick")
    split = xc.split_studies(present, config.fractions)
    assert len(split.test) >= STUDIES // 5
    if len(studies) > STUDIES:
        assert (len(studies), sum(map(len, studies["images"]))) == (3851, 7466)
    else:  # what is learned does not depend on whose tables they are
        check_training(config, present, split, data, work)


def check_training(config, studies, split, data, work):
    """Train a captioner, once."""
    for size in ("auto", "full"):  # auto is full where there is a GPU
        encoder = notebook.recipe("chexnet_attention", data, studies, size).model.encoder
        assert encoder in ("chexnet", "phantom_cnn")
    sizes = {f"model.{size}": 16 for size in ("head", "units", "embedding", "attention")}
    config = config.replace(sizes | {"text.maximum_length": 16})
    captioner = notebook.fit_captioner(config, studies, split, data, work)
    run = notebook.run_folder(config, split, work)
    written = {path: path.stat().st_mtime_ns for path in work.rglob("*.h5")}
    again = notebook.fit_captioner(config, studies, split, data, work)
    _, rows = notebook.fit_encoder(config, studies, split, data, work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.h5")} == written
    assert rows[0]["finding"]
    assert [row["epoch"] for row in notebook.history(run)] == [1, 2]

    images = notebook.images_of(studies, config)[:2]
    captions = captioner.caption(images, beam_size=1)
    assert captions[0].attention.shape[1:] == (2, 4, 4)
    assert [c.text for c in captions] == [c.text for c in again.caption(images, beam_size=1)]
    assert again.about["source"] == "chest-xrays-indiana-university"
