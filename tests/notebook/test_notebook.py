"""What the notebooks share: data that are found, recipes that fit, tables and small collections."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xray_captioning as xc
from xray_captioning import notebook
from xray_captioning.captioner.caption import Caption, Sentence
from xray_captioning.data.dicom.pixels import view_of
from xray_captioning.data.images import read_image
from xray_captioning.data.sources.openi import TABLES
from xray_captioning.data.studies import with_images
from xray_captioning.errors import ConfigError, DataError, MissingExtraError
from xray_captioning.metrics.bleu import bleu
from xray_captioning.notebook import data as places


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


def test_a_note_escapes_what_it_says():
    assert "<b>a &lt; b</b>" in notebook.Note("a < b", "c")._repr_html_()


def test_missing_images_are_told(studies, capsys):
    lost = studies.copy()
    lost["images"] = [
        images if i < 3 else ["gone.png"] for i, images in enumerate(studies["images"])
    ]
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
    one, other = (
        notebook.recipe(name, data, studies, "small") for name in ("chexnet_simple", "cnn_lstm")
    )
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


def caption(words: str, lateral: float) -> Caption:
    maps = np.zeros((len(words.split()), 2, 1, 1), np.float32)
    maps[:, 0], maps[:, 1] = 1 - lateral, lateral
    sentences = [Sentence(f"{text.strip()} .", -0.5) for text in words.split(".") if text.strip()]
    return Caption(words, words.split(), -1.0, sentences, maps, [])


def test_shares_of_views_are_means_over_captions():
    shares = notebook.lateral_shares([caption("spine bent .", 0.5), caption("spine .", 1.0)] * 3)
    assert shares == pytest.approx({"spine": 0.75, ".": 0.75})


def test_sentences_are_told_by_whether_they_stand_in_the_report():
    captions = [caption("no effusion . heart large .", 0.5)]
    right, wrong = notebook.sentences_by_truth(captions, ["lungs clear . no effusion ."])
    assert (right, wrong) == ([-0.5], [-0.5])


def test_text_rows_have_the_side():
    rows = notebook.text_rows("left pleural effusion .", {"other": "right pleural effusion ."})
    assert rows[0]["text"] == "other"
    assert rows[0]["clinical_f1"] == 1
    assert rows[0]["sides"] == 0


def test_the_legacy_constant_is_the_best_of_the_common_and_the_short():
    texts = ["no acute disease .", "no acute disease .", "clear lungs and heart .", "no ."]
    chosen = notebook.legacy_constant(texts)
    values = {text: bleu(texts, [text] * 4, "legacy")[3] for text in texts}
    assert values[chosen] == max(values.values())


def test_a_table_escapes_texts_and_rounds_numbers():
    rows = [{"a": "<x>", "b": 0.12345, "c": None, "d": "0.01"}]
    shown = notebook.table(rows, ["a", "b", "c", "d"])._repr_html_()
    for cell in ("&lt;x&gt;", "0.123<", "<td>0.01<"):
        assert cell in shown
    assert "None" not in shown


def test_sizes_of_images(studies):
    assert set(notebook.image_sizes(studies)) == {(96, 96)}


def test_written_captions_are_read_again(studies, tmp_path):
    read = xc.read_studies(notebook.write_captions(studies, tmp_path / "own"))
    assert list(read["study_id"]) == list(studies["study_id"])
    assert list(read["impression"]) == list(studies["impression"])
    assert len(with_images(read)) == len(studies)


def test_written_dicom_shows_the_same_pixels(studies, tmp_path):
    pytest.importorskip("pydicom")
    png = studies["images"][0][0]
    dicom = notebook.write_dicom(png, tmp_path / "one.dcm")
    assert view_of(dicom) == "frontal"
    png, dicom = (read_image(str(path), 96) for path in (png, dicom))
    stretched = (png - png.min()) / (png.max() - png.min())  # as DICOM pixels always are
    assert np.abs(stretched - dicom).max() < 1e-5


def test_written_xml_is_read_again(studies, tmp_path):
    studies = studies.assign(comparison="a < b & c")
    read = xc.read_studies(notebook.write_openi(studies, tmp_path / "openi"))
    for name in ("findings", "impression", "comparison"):
        assert list(read[name]) == list(studies[name])
    assert [len(images) for images in read["images"]] == [len(i) for i in studies["images"]]


def test_a_server_that_does_not_start_is_an_error(tmp_path):
    with (
        pytest.raises(DataError, match="the server did not start"),
        notebook.serving(tmp_path / "nothing"),
    ):
        raise AssertionError


def test_a_server_is_ready_when_it_answers_and_ended_afterwards(monkeypatch):
    class Process(subprocess.Popen):
        def __init__(self, line, **options):
            super().__init__([sys.executable, "-c", SERVER], **options)
            started.append(self)

    started = []
    monkeypatch.setattr(subprocess, "Popen", Process)
    with notebook.serving("anything") as address:
        assert address.startswith("http://127.0.0.1:")
    assert started[0].poll() is not None


SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        Handler.asked += 1
        self.send_response(200 if Handler.asked > 1 else 503)
        self.end_headers()

server = HTTPServer(("127.0.0.1", 0), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
