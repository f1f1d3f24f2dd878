"""What the notebooks share: data that are found, recipes that fit, tables and small collections."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import xray_captioning as xc
import xray_captioning.notebook as places
from xray_captioning import notebook
from xray_captioning.data.sources.openi import TABLES
from xray_captioning.errors import ConfigError, DataError, MissingExtraError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Neither Kaggle nor Colab, whatever machine this is."""
    monkeypatch.setattr(places, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(places, "DRIVE", tmp_path / "drive")


@pytest.fixture(scope="module")
def studies(phantoms):
    return xc.read_studies(phantoms)


@pytest.fixture
def data(phantoms):
    return notebook.Data(phantoms, "given")


def tables(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        (folder / name).write_text("uid\n")
    return folder


def test_a_given_path_comes_first(tmp_path, phantoms):
    tables(tmp_path / "kaggle" / "indiana")
    assert notebook.find_data(phantoms, tmp_path) == notebook.Data(phantoms, "given")


def test_a_given_path_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere: does not exist"):
        notebook.find_data(tmp_path / "nowhere")


def test_kaggle_comes_before_drive_and_drive_before_a_download(tmp_path):
    drive = tables(tmp_path / "drive" / "MyDrive" / "x-rays" / "indiana")
    assert notebook.find_data(work=tmp_path, download=True) == notebook.Data(drive, "drive")
    for below in ("datasets/owner/indiana", "indiana", "."):  # the nearest is taken
        folder = tables(tmp_path / "kaggle" / below)
        assert notebook.find_data(work=tmp_path) == notebook.Data(folder, "kaggle")


def test_a_folder_with_one_of_the_tables_is_none(tmp_path):
    (tables(tmp_path / "kaggle" / "half") / TABLES[1]).unlink()
    assert notebook.find_data(work=tmp_path, studies=2).origin == "phantoms"


def test_a_download_happens_only_when_asked_for(tmp_path, monkeypatch):
    asked = []

    class Hub:
        @staticmethod
        def dataset_download(name):
            asked.append(name)
            return str(tables(tmp_path / "downloaded" / "2").parent)

    monkeypatch.setitem(sys.modules, "kagglehub", Hub)
    assert notebook.find_data(work=tmp_path, studies=2).origin == "phantoms"
    assert asked == []
    found = notebook.find_data(work=tmp_path, download=True)
    assert found == notebook.Data(tmp_path / "downloaded" / "2", "kagglehub")
    assert asked == [places.KAGGLE_DATASET]


def test_a_download_that_cannot_be_used_is_an_error(tmp_path, monkeypatch):
    class Hub:
        dataset_download = staticmethod(lambda name: str(tmp_path / "empty"))

    monkeypatch.setitem(sys.modules, "kagglehub", Hub)
    with pytest.raises(DataError, match="holds no Kaggle tables"):
        notebook.find_data(work=tmp_path, download=True)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match="kagglehub is needed"):
        notebook.find_data(work=tmp_path, download=True)


def test_warnings_become_notes_without_a_place(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pd.option_context("display.max_colwidth", 50):
        notebook.setup()
        assert pd.get_option("display.max_colwidth") == 300
    warnings.showwarning(UserWarning("beware"), UserWarning, "/tmp/somewhere.py", 1)
    assert capsys.readouterr().out == "Please note: beware\n"


def test_phantoms_are_drawn_once_and_announced(tmp_path, capsys):
    first = notebook.find_data(work=tmp_path, studies=2)
    drawn = {p: p.stat().st_mtime_ns for p in first.path.rglob("*")}
    assert notebook.find_data(work=tmp_path, studies=2) == first
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*")} == drawn
    assert first.phantoms
    assert "Synthetic phantoms, not patients" in capsys.readouterr().out
    assert "phantom" in first.about["notice"]


def test_notes_name_no_folder_of_the_machine(tmp_path, capsys):
    notebook.find_data(tables(tmp_path / "mine"))
    said = capsys.readouterr().out
    assert "mine" in said
    assert str(tmp_path) not in said


def test_a_note_escapes_what_it_says(monkeypatch):
    published = []
    shell = SimpleNamespace(display_pub=SimpleNamespace(publish=published.append))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    notebook.note("a < b", "c")
    (data,) = published
    assert data["text/plain"] == "a < b: c"
    assert "<b>a &lt; b</b>" in data["text/html"]


def test_missing_images_are_told(studies, capsys):
    lost = studies.copy()
    lost["images"] = [images if i < 3 else ["gone.png"] for i, images in enumerate(studies["images"])]
    lost["views"] = [views if i < 3 else ["frontal"] for i, views in enumerate(studies["views"])]
    assert len(notebook.usable(lost)) == 3
    assert "3 of 24 studies" in capsys.readouterr().out
    with pytest.raises(DataError, match="none of 24 studies"):
        notebook.usable(lost.assign(images=[["gone.png"]] * 24, views=[["frontal"]] * 24))


def test_small_recipes_keep_what_else_a_preset_decides(data, studies):
    for preset in ("chexnet_attention", "vit_gpt2", "phantom_attention"):
        small, whole = (notebook.recipe(preset, data, studies, size) for size in ("auto", "full"))
        assert small.model.encoder in ("phantom_cnn", "vit_tiny")
        assert small.model.decoder == whole.model.decoder
        assert whole.model == xc.load_preset(preset).model
        assert small.decoding == whole.decoding
        assert small.model.units < whole.model.units or preset == "phantom_attention"


def test_few_studies_leave_some_to_test_on(data, studies):
    config = notebook.recipe("chexnet_simple", data, studies, "quick")
    assert len(xc.split_studies(studies, config.fractions).test) == 9


def test_an_unknown_size_is_an_error(data, studies):
    with pytest.raises(ConfigError, match="size is 'huge'"):
        notebook.recipe("chexnet_simple", data, studies, "huge")


def test_presets_share_encoders_but_not_runs(data, studies, tmp_path):
    one, other = (notebook.recipe(name, data, studies, "small") for name in ("chexnet_simple", "cnn_lstm"))
    split = xc.split_studies(studies, one.fractions)
    assert notebook.encoder_recipe(one) == notebook.encoder_recipe(other)
    folders = [notebook.run_folder(config, split, tmp_path) for config in (one, other)]
    assert folders[0] != folders[1]
    fewer = xc.split_studies(studies.head(12), one.fractions)
    assert notebook.run_folder(one, fewer, tmp_path) != folders[0]


def test_part_and_wordiest(data, studies):
    config = notebook.recipe("phantom_attention", data, studies, "quick")
    split = xc.split_studies(studies, config.fractions)
    test = notebook.part(studies, split, config)
    assert set(test["study_id"]) == set(split.test)
    rows = notebook.wordiest(test, 2)
    lengths = [len(text.split()) for text in test["reference"]]
    assert max(lengths) in [lengths[row] for row in rows]
    shown = notebook.examples(test, rows)
    assert [example.reference for example in shown] == [test["reference"][row] for row in rows]
    assert all(len(e.views) == len(e.images) == len(test["images"][r]) for e, r in zip(shown, rows))
    writer = SimpleNamespace(config=config, offset=(0.5, 0.25))  # attention is drawn where its regions see
    assert notebook.examples(test, rows, writer=writer)[0].offset == (0.5, 0.25)


def test_a_table_escapes_texts_and_rounds_numbers():
    rows = [{"a": "<x>", "b": 0.12345, "c": None, "d": "0.01"}]
    shown = notebook.table(rows, ["a", "b", "c", "d"])._repr_html_()
    for cell in ("&lt;x&gt;", "0.123<", "<td>0.01<"):
        assert cell in shown
    assert "None" not in shown
