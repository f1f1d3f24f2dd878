import errno
import io
import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from xray_captioning.bundles.bundle import bundle_files, read_bundle, rewrite_bundle
from xray_captioning.captioner.calibration import (
    Calibration,
    UnfamiliarImageWarning,
    distances,
    hedged,
    is_unfamiliar,
    load_calibration,
    pooled_views,
    search_of,
    sure_labels,
)
from xray_captioning.captioner.caption import Caption, Sentence
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import DecodingConfig
from xray_captioning.errors import BundleError
from xray_captioning.phantom.dataset import render
from xray_captioning.phantom.studies import sample_study
from xray_captioning.search import Sampling
from xray_captioning.training.run_state import BEST, RunState

pytestmark = pytest.mark.usefixtures("eagerly")


def calibration(channels=3, **changes):
    precision = np.diag(np.arange(1.0, channels + 1)).astype("float32")
    values = {"lines": {None: (4.0, 2.0)}, "radius": 2.0, "about": {"fitted": {"studies": 9}}}
    return Calibration(centre=np.ones(channels, "float32"), precision=precision, **values | changes)


def test_confidence_is_a_logistic_line():
    known = calibration()
    assert known.confidence(-0.5) == pytest.approx(0.5)
    assert known.confidence(0) == pytest.approx(1 / (1 + np.exp(-2)))
    assert 0 <= known.confidence(-1e9) < 1e-100
    assert known.confidence(1e9) == 1


def test_novelty_is_the_distance_of_the_strangest_image_that_is_there():
    pooled = np.ones((3, 2, 3), "float32")
    pooled[0, 1] += (0, 0, 2)  # 3 * 2 ** 2 = 12
    pooled[1, 1] += (0, 0, 2)  # but there is no such image
    pooled[2, 0] += (2, 0, 0)  # 1 * 2 ** 2 = 4
    present = np.array([[True, True], [True, False], [True, True]])
    found = calibration().novelty(pooled, present)
    np.testing.assert_allclose(found, [np.sqrt(12) / 2, 0, 1])


def test_distances_are_mahalanobis():
    from scipy.spatial.distance import mahalanobis

    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    precision, centre, points = root @ root.T, rng.normal(size=4), rng.normal(size=(5, 1, 4))
    found = distances(points, np.ones((5, 1), bool), centre, precision)
    expected = [mahalanobis(point[0], centre, precision) for point in points]
    np.testing.assert_allclose(found, expected)


def test_views_are_averaged_one_by_one():
    regions = np.arange(2 * 6 * 4, dtype="float32").reshape(2, 6, 4)
    mask = np.array([[True] * 6, [True] * 3 + [False] * 3])
    pooled, present = pooled_views(regions, mask, 2)
    np.testing.assert_array_equal(pooled[1, 1], regions[1, 3:].mean(axis=0))
    np.testing.assert_array_equal(present, [[True, True], [True, False]])


def test_what_is_not_sure_is_not_said():
    said = [Sentence("A.", -0.1, 0.9), Sentence("B.", -0.7, 0.5), Sentence("C.", -0.1)]
    assert hedged(said, 0.8) == ["A.", "not confident", "not confident"]
    assert hedged(said, 0.5) == ["A.", "B.", "not confident"]
    assert hedged(said, 0.0) == ["A.", "B.", "C."]
    assert hedged([], 0.5) == []


@pytest.mark.parametrize(("novelty", "withheld"), [(None, False), (1.0, False), (1.1, True)])
def test_of_unfamiliar_images_nothing_is_said_however_sure(novelty, withheld):
    said = [Sentence("Small left effusion.", -0.1, 0.99)]
    caption = Caption("", [], -0.1, said, None, [], novelty)
    assert is_unfamiliar(caption) is withheld
    assert (hedged(caption, 0.01) == ["not confident"]) is withheld
    assert (sure_labels(caption, 0.01)["Pleural Effusion"] is None) is withheld
    assert hedged(caption, 0.0) == ["Small left effusion."]


def test_sentences_without_their_caption_are_not_shown_for_lack_of_a_novelty():
    """Those of noise have no confidence; only a caption can say that its bundle never has any."""
    said = [Sentence("Small left effusion.", -0.1)]
    for novelty, shown in ((None, True), (0.5, False), (9.0, False)):
        caption = Caption("", [], -0.1, said, None, [], novelty)
        assert (hedged(caption, 0.5) == ["Small left effusion."]) is shown
    assert hedged(said, 0.5) == ["not confident"]
    assert sure_labels(said, 0.5)["Pleural Effusion"] is None


def test_what_is_withheld_is_not_labelled_nor_taken_for_nothing():
    said = [Sentence("Small left effusion.", -0.7, 0.5), Sentence("Catheter in place.", -0.1, 0.9)]
    everything, sure = sure_labels(said, 0.5), sure_labels(said, 0.8)
    assert (everything["Pleural Effusion"], sure["Pleural Effusion"]) == (1, None)
    assert everything["Support Devices"] == sure["Support Devices"] == 1
    assert sure_labels(said[1:], 0.8)["No Finding"] == 1
    assert sure["No Finding"] is None  # there is one that is not said


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "bundle")
    return tmp_path / "bundle"


def calibrated(folder: Path) -> Calibration:
    known = calibration(Captioner.load(folder).encoder.channels)
    rewrite_bundle(folder, known.save)
    return known


def test_a_calibration_travels_and_touches_nothing_else(bundle: Path) -> None:
    assert load_calibration(bundle) is None
    before = {name: (bundle / name).read_bytes() for name in bundle_files(bundle)}
    known = calibrated(bundle)
    assert {name: (bundle / name).read_bytes() for name in before} == before
    assert set(bundle_files(bundle)) - set(before) == {"calibration.json", "calibration.h5"}
    found = load_calibration(bundle)
    assert found is not None
    for name in ("lines", "radius", "about"):
        assert getattr(found, name) == getattr(known, name)
    np.testing.assert_array_equal(found.precision, known.precision)
    np.testing.assert_array_equal(found.centre, known.centre)


def test_captions_are_calibrated(bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    studies = [[str(path)] for path in sorted(phantoms.glob("images/*/*.png"))[:3]]
    captioner = Captioner.load(bundle)
    before = captioner.caption(studies)
    assert all(s.confidence is None for caption in before for s in caption.sentences)
    assert all(caption.novelty is None for caption in before)
    assert "## Confidence" not in (bundle / "README.md").read_text("utf-8")
    known = calibrated(bundle)
    known = replace(known, radius=1e6)  # all images are familiar
    rewrite_bundle(bundle, known.save)
    # The search is compiled already: only the calibration changes.
    captioner.calibration = Captioner.load(bundle).calibration
    for caption, plain in zip(captioner.caption(studies), before, strict=True):
        assert caption.text == plain.text
        assert caption.novelty is not None
        assert caption.novelty > 0
        for sentence in caption.sentences:
            assert sentence.confidence == known.confidence(sentence.log_probability)
    captioner.save(tmp_path / "copy")
    again = load_calibration(tmp_path / "copy")
    assert again is not None
    np.testing.assert_array_equal(again.precision, captioner.calibration.precision)
    assert "## Confidence" in (tmp_path / "copy" / "README.md").read_text("utf-8")


def test_a_full_disk_is_one_error_and_no_file_of_hdf5_is_ever_on_it(bundle, tmp_path, monkeypatch):
    """HDF5 ends the whole process when a file that it writes does not fit on the disk."""
    written = []

    class Seen(h5py.File):
        def __init__(self, name, mode="r", **options):
            written.extend([name] if mode != "r" else [])
            super().__init__(name, mode, **options)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    calibrated(bundle)
    captioner = Captioner.load(bundle)
    monkeypatch.setattr("h5py.File", Seen)
    captioner.save(tmp_path / "saved")
    state = RunState(tmp_path / "run", None, "loss", 2)
    state.set_model(SimpleNamespace(save_weights=captioner.model.save_weights))
    monkeypatch.setattr(Path, "write_bytes", full)
    for path, save in ((tmp_path / "full", captioner.save), (tmp_path / "run" / BEST, None)):
        with pytest.raises(OSError, match="No space left") as raised:
            save(path) if save else state.on_epoch_end(0, {"loss": 1.0})
        assert raised.value.filename == str(path)
    assert not [*(tmp_path / "full").iterdir(), *(tmp_path / "run").iterdir()]
    assert len(written) == 5  # encoder, decoder and calibration; the first of these, and the best weights
    assert all(isinstance(name, io.BytesIO) for name in written)


def test_what_another_bundle_left_behind_is_not_taken(bundle: Path) -> None:
    captioner = Captioner.load(bundle)
    calibrated(bundle)
    captioner.save(bundle)  # anew, without a calibration; the old one's files still lie there
    assert (bundle / "calibration.json").is_file()
    assert load_calibration(bundle) is None
    assert read_bundle(bundle, "captioner")


@pytest.mark.parametrize(
    "change",
    [
        {"lines": [{"intercept": 1}]},
        {"lines": [{"slope": "x"}]},
        {"lines": [{"slope": math.nan, "intercept": 1}]},
        {"radius": "x"},
        {"radius": math.inf},
    ],
)
def test_a_calibration_that_lacks_a_number(bundle: Path, change: dict[str, object]) -> None:
    calibrated(bundle)

    def lose(folder: Path) -> None:
        values = json.loads((folder / "calibration.json").read_text("utf-8")) | change
        (folder / "calibration.json").write_text(json.dumps(values), "utf-8")

    rewrite_bundle(bundle, lose)
    with pytest.raises(BundleError, match=r"does not fit calibration\.h5; calibrate anew"):
        Captioner.load(bundle)


def test_captions_drawn_at_random_have_no_confidence() -> None:
    known = calibration()
    pooled, present = np.ones((1, 2, 3), "float32"), np.ones((1, 2), bool)
    said = [Caption("", [], -0.1, [Sentence("Clear lungs.", -0.1, None)], None, [], None)]
    drawn, found = (known.calibrated(said, pooled, present, drawn=d)[0] for d in (True, False))
    assert drawn.sentences[0].confidence is None
    assert found.sentences[0].confidence == known.confidence(-0.1)
    assert drawn.novelty == found.novelty == 0


GREEDY, BEAM = DecodingConfig(), DecodingConfig(beam_size=3, length_penalty=1.0)
SAID = Caption("", [], -0.1, [Sentence("Clear lungs.", -0.1)], None, [])


def test_a_confidence_holds_for_the_searches_it_was_fitted_for_and_no_other() -> None:
    """A line fitted on greedy captions says nothing of a beam's, which are chosen otherwise."""
    known = calibration(lines={GREEDY: (4.0, 2.0), BEAM: (3.0, 1.0)})
    assert known.confidence(-0.5, GREEDY) == pytest.approx(0.5)
    assert known.confidence(-1 / 3, BEAM) == pytest.approx(0.5)
    assert known.confidence(-0.5, DecodingConfig(beam_size=5)) is None
    images = np.ones((1, 1, 3), "float32"), np.ones((1, 1), bool)
    for search, stated in ((GREEDY, True), (BEAM, True), (DecodingConfig(beam_size=2), False)):
        (found,) = known.calibrated([SAID], *images, search)
        assert (found.sentences[0].confidence is not None) is stated
        assert hedged(found, 0.1) == ["Clear lungs." if stated else "not confident"]


def test_the_file_says_which_searches_it_is_for(tmp_path: Path) -> None:
    calibration(lines={GREEDY: (4.0, 2.0), BEAM: (3.0, 1.0)}).save(tmp_path)
    assert json.loads((tmp_path / "calibration.json").read_text("utf-8"))["lines"] == [
        {"beam_size": 1, "length_penalty": 0, "no_repeat_ngram": 0, "slope": 4, "intercept": 2},
        {"beam_size": 3, "length_penalty": 1, "no_repeat_ngram": 0, "slope": 3, "intercept": 1},
    ]
    # Greedy search knows no length penalty.
    assert search_of(DecodingConfig(beam_size=3, length_penalty=1.0), 1) == GREEDY
    assert search_of(DecodingConfig(length_penalty=1.0), 3) == BEAM


def test_a_file_of_before_is_read(bundle: Path) -> None:
    calibrated(bundle)

    def older(folder: Path) -> None:
        values = json.loads((folder / "calibration.json").read_text("utf-8"))
        (line,) = values.pop("lines")
        (folder / "calibration.json").write_text(json.dumps({**line, **values}), "utf-8")

    rewrite_bundle(bundle, older)
    found = load_calibration(bundle)
    assert found is not None
    assert found.confidence(-0.5, BEAM) == pytest.approx(0.5)


def test_of_unfamiliar_images_no_confidence_is_stated_and_one_warning_is_given() -> None:
    """Noise has a fluent caption of high probability; no number may say that it is right."""
    captioner, rng = Captioner.load("phantom_attention"), np.random.default_rng(0)
    noise = [[rng.random((112, 112, 3), dtype="float32")] for _ in range(3)]
    chest = [render(sample_study(rng), 112)[0]]
    with pytest.warns(UnfamiliarImageWarning, match="images of 3 of 4 studies are") as warned:
        *strange, known = captioner.caption([*noise, chest], beam_size=1)
    assert len(warned) == 1
    assert Path(warned[0].filename) == Path(__file__)
    assert {s.confidence for caption in strange for s in caption.sentences} == {None}
    assert all(s.confidence is not None for s in known.sentences)
    with pytest.warns(UnfamiliarImageWarning) as warned:
        assert len(list(captioner.caption_iter([*noise, chest] * 20, beam_size=1))) == 80
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captioner.caption([chest], beam_size=1)


def test_a_random_search_is_drawn() -> None:
    captioner = Captioner.load("phantom_attention")
    study = [np.tile(np.linspace(0, 1, 112, dtype=np.float32), (112, 1))]
    drawn = captioner.caption([study], sampling=Sampling(seed=1))[0]
    assert [sentence.confidence for sentence in drawn.sentences] == [None] * len(drawn.sentences)
    assert drawn.novelty is not None
