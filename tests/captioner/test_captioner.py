"""Bundles caption the same wherever and however they are asked."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL.Image import fromarray

from xray_captioning.backend import ops
from xray_captioning.batch.caption_table import Study
from xray_captioning.batch.run import _seen
from xray_captioning.captioner.caption import spelled_sentences
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data.images import read_images
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import study_images
from xray_captioning.decoders import Features
from xray_captioning.errors import BundleError, ConfigError, DataError, ImageError


@pytest.fixture(scope="module")
def captioner(tiny_run):
    return Captioner.load(tiny_run)


@pytest.fixture(scope="module")
def studies(phantoms, tiny_config):
    return study_images(read_studies(phantoms), tiny_config)


def same(first, second):
    return all(
        a.words == b.words and math.isclose(a.log_probability, b.log_probability, abs_tol=1e-5, rel_tol=1e-6)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("beam_size", [1, 3])
def test_one_study_alone_is_captioned_as_in_a_batch(captioner, studies, beam_size):
    together = captioner.caption(studies[:3], beam_size)
    alone = [captioner.caption([study], beam_size)[0] for study in studies[:3]]
    assert same(together, alone)


def test_paths_bytes_and_pixels_are_captioned_alike(captioner, studies):
    image = captioner.config.image
    as_bytes = [[Path(path).read_bytes() for path in study] for study in studies[:3]]
    pixels = [list(read_images(study, image.size, image.resize)) for study in studies[:3]]
    expected = captioner.caption(studies[:3])
    assert same(captioner.caption(as_bytes), expected)
    assert same(captioner.caption(pixels), expected)


def test_pixels_of_the_models_size_are_not_cut_again(captioner, studies, monkeypatch):
    image = replace(captioner.config.image, resize="pillow-bilinear-256/224")
    monkeypatch.setattr(captioner, "config", replace(captioner.config, image=image))
    expected = captioner.features(studies[:1]).regions
    pixels = [list(read_images(studies[0], image.size, image.resize))]
    np.testing.assert_array_equal(captioner.features(pixels, resized=True).regions, expected)
    # Beside a file that cannot be read the others are read one by one.
    rows, features = _seen(captioner, [Study("good", studies[0]), Study("bad", ["gone.png"])], None)
    assert "gone.png" in rows[1]["error"]
    np.testing.assert_array_equal(features.regions, expected)


def test_a_frontal_dicom_is_looked_at_first(captioner, studies):
    pytest.importorskip("pydicom")
    from tests.data.dicom.test_dicom import RAMP, dicom

    frontal, lateral = dicom(ViewPosition="PA"), dicom(RAMP[::-1], ViewPosition="LL")
    expected = captioner.features([[frontal, lateral]])
    np.testing.assert_array_equal(captioner.features([[lateral, frontal]]).regions, expected.regions)
    unnamed = [dicom(), dicom(RAMP[::-1])]
    regions = [captioner.features([order]).regions for order in (unnamed, unnamed[::-1])]
    assert np.abs(regions[0] - regions[1]).max() > 0


def test_a_lone_lateral_stands_in_its_own_place(captioner, studies):
    """As in a study of both views the lateral is read in its place, and the frontal is masked."""
    both = next(study for study in studies if len(study) == 2)
    whole, half = captioner.features([both]), len(captioner.features([both]).mask[0]) // 2
    for given, views in (
        ([both[1:]], ["lateral"]),
        ([both[1:]], [["lateral"]]),
        ([[None, both[1]]], None),
        ([list(read_images(both[1:], 64))], ["lateral"]),
    ):
        found = captioner.features(given, views)
        assert found.mask.tolist() == [[False] * half + [True] * half]
        np.testing.assert_allclose(found.regions[:, half:], whole.regions[:, half:], atol=1e-5)
        assert not found.regions[:, :half].any()
    (caption,) = captioner.caption([both[1:]], beam_size=1, views=["lateral"])
    assert np.isfinite(caption.log_probability)
    assert not caption.attention[:, 0].any()
    assert captioner.features([both[1:]]).mask[0, :half].all()  # of an unknown view


def test_views_that_do_not_fit_are_refused(captioner, studies):
    both = next(study for study in studies if len(study) == 2)
    for views, words in (
        ("lateral", "give a list"),
        (["left", "right"], "each image one of frontal, lateral, unknown"),
        (["lateral"], r"\['lateral'\] of 2 images"),
        ([["frontal", "lateral"]] * 2, "not as many as studies"),
        (["frontal", "frontal"], "study 0: 2 images .*one frontal and one lateral image"),
    ):
        with pytest.raises(DataError, match=words):
            captioner.features([both], views)
    with pytest.raises(DataError, match="expected a list of one to 2 images"):
        captioner.features([[None]])


def test_saving_and_loading_keeps_every_caption(captioner, studies, tmp_path):
    captioner.save(tmp_path / "copy")
    again = Captioner.load(tmp_path / "copy")
    assert same(captioner.caption(studies[:4], 1), again.caption(studies[:4], 1))
    assert again.config == captioner.config
    assert again.split == captioner.split is not None
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert not any(name.endswith((".pkl", ".pickle", ".npy")) for name in names)


def test_the_log_probability_is_that_of_the_words(captioner, studies):
    features = captioner.features(studies[:3])
    captions = captioner.caption_features(features, 3)
    tokenizer = captioner.tokenizer
    for i, caption in enumerate(captions):
        state = captioner.model.start(Features(features.regions[i : i + 1], features.mask[i : i + 1]))
        token, total = tokenizer.start_id, 0.0
        ids = [tokenizer.index[word] for word in caption.words]
        if len(ids) < captioner.rules().maximum_length:
            ids.append(tokenizer.end_id)
        for following in ids:
            logits, state = captioner.model.step(ops.convert_to_tensor([token]), state)
            total += float(ops.log_softmax(logits)[0, following])
            token = following
        assert caption.log_probability == pytest.approx(total, abs=1e-4)


def test_attention_has_a_map_a_word_and_a_view_and_sums_to_one(captioner, studies):
    alone = next(study for study in studies if len(study) == 2)[:1]
    (caption,) = captioner.caption([alone])
    views, (rows, columns) = captioner.config.image.views, captioner.encoder.grid
    assert caption.attention.shape == (len(caption.words), views, rows, columns)
    np.testing.assert_allclose(caption.attention.sum(axis=(1, 2, 3)), 1, atol=1e-4)
    assert not caption.attention[:, 1].any()


def test_alternatives_are_other_captions_in_order(captioner, studies):
    (caption,) = captioner.caption(studies[:1], beam_size=3)
    assert len(caption.alternatives) == 2
    found = [caption.log_probability, *(a.log_probability for a in caption.alternatives)]
    assert len(set(found)) == 3
    assert max(found) < 0


def test_a_changed_weight_changes_the_next_caption(captioner, studies):
    first = captioner.caption(studies[:1])[0].log_probability
    bias = captioner.model.decoder.logits.bias
    before = ops.convert_to_numpy(bias)
    bias.assign(before + np.linspace(0, 3, bias.shape[0]))
    changed = captioner.caption(studies[:1])[0].log_probability
    bias.assign(before)
    assert changed != pytest.approx(first)


def test_captions_never_hold_special_tokens_or_redaction_marks(captioner, studies):
    for caption in captioner.caption(studies[:4], 3):
        assert not {"<unk>", "<cls>", "<end>", ""} & set(caption.words)
        assert "xxxx" not in caption.text.lower()


@pytest.mark.parametrize("beam_size", [0, -1, 2.5])
def test_a_beam_size_that_is_no_whole_number_is_refused(captioner, studies, beam_size):
    with pytest.raises(ConfigError, match="beam_size"):
        captioner.caption(studies[:1], beam_size)


def test_a_beam_size_may_be_a_numpy_integer(captioner, studies):
    assert same(captioner.caption(studies[:1], np.int64(3)), captioner.caption(studies[:1], 3))


def test_no_study_gives_no_caption(captioner, studies):
    assert captioner.caption([]) == captioner.findings([]) == []
    for empty, one in zip(captioner.features([]), captioner.features(studies[:1])):
        assert (empty.shape[0], empty.shape[1:], empty.dtype) == (0, one.shape[1:], one.dtype)


@pytest.mark.parametrize(
    ("study", "error", "message"),
    [
        ([], DataError, "study 0: expected a list of one to 2 images"),
        ("one.png", DataError, "study 0: expected a list"),
        (["a.png", "b.png", "c.png"], DataError, "3 images given, but this model looks at 2"),
        (["absent.png"], ImageError, "absent.png"),
        (3, DataError, "study 0: expected a list"),
        (fromarray(np.zeros((9, 9), "uint8")), DataError, "study 0: expected a list"),
        ([fromarray(np.zeros((9, 9), "uint8"))], DataError, "image: all of its pixels have one va"),
        ([np.zeros((9, 9), "uint8")], DataError, "image: all of its pixels have one value"),
        ([3], DataError, "study 0: an image is of type int; give its path"),
    ],
)
def test_what_is_no_study_is_refused(captioner, study, error, message):
    with pytest.raises(error, match=message):
        captioner.caption([study])


def test_an_image_of_pillow_is_its_pixels(captioner):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    expected, *others = captioner.caption([[pixels], [fromarray(pixels)], [pixels.astype("u2")]])
    assert all(same([expected], [other]) for other in others)


def test_weights_of_another_shape_are_refused(tiny_run, tmp_path):
    import json

    from xray_captioning.files import sha256_file

    broken = shutil.copytree(tiny_run, tmp_path / "broken")
    about = json.loads((broken / "captioner.json").read_text())
    about["config"]["model"]["units"] = 24
    (broken / "captioner.json").write_text(json.dumps(about))
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["captioner.json"] = sha256_file(broken / "captioner.json")
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"decoder.weights.h5: does not fit captioner.json"):
        Captioner.load(broken)


def test_full_stops_alone_are_no_sentences():
    spelled = [(word, [place]) for place, word in enumerate([".", "clear", "lungs", ".", "."])]
    gains = np.arange(5.0)
    assert list(spelled_sentences(spelled, gains)) == [("clear lungs .", 2.0)]
