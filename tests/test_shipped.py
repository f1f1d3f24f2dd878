"""The shipped bundle reads phantoms that it has never seen, and says that it knows nothing else."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from xray_captioning.bundle import find_bundle, shipped_bundles
from xray_captioning.calibration import measured, see
from xray_captioning.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.data.images import read_image
from xray_captioning.data.phantom import write_phantoms
from xray_captioning.data.sources import read_studies
from xray_captioning.evaluation.baselines import constant_caption
from xray_captioning.evaluation.table import System, system_row
from xray_captioning.references import reference_texts, study_images


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return read_studies(write_phantoms(tmp_path_factory.mktemp("fresh") / "p", 150, seed=11))


@pytest.fixture(scope="module")
def rows(fresh):
    captioner = Captioner.load("phantom_attention")
    references = reference_texts(fresh, captioner.config)
    features = captioner.features(study_images(fresh, captioner.config))
    systems = [System("constant", None, [constant_caption(references)] * len(references))]
    for beam_size in (1, 3):
        captions = captioner.caption_features(features, beam_size)
        texts = [" ".join(caption.words) for caption in captions]
        systems.append(System("shipped", str(beam_size), texts))
    shuffled = np.random.default_rng(0).permutation(systems[1].texts).tolist()
    systems.append(System("shuffled", None, shuffled))
    return {system.column: system_row(references, system) for system in systems}


def test_it_reads_unseen_phantoms(rows):
    for name in ("shipped 1", "shipped 3"):
        assert rows[name]["clinical_f1"] >= 0.9
        assert rows[name]["clinical_f1"] >= rows["constant"]["clinical_f1"] + 0.5
        assert rows[name]["BLEU-4"] >= rows["constant"]["BLEU-4"] + 0.1
        assert rows[name]["sides"] >= 0.85
        assert rows[name]["distinct"] > 40


def test_what_it_says_depends_on_the_image(rows):
    assert rows["shuffled"]["clinical_f1"] < 0.3


def test_beam_search_is_not_worse_than_greedy(rows):
    for metric in ("BLEU-4", "clinical_f1"):
        assert rows["shipped 3"][metric] >= rows["shipped 1"][metric] - 0.01


def test_the_command_captions_and_says_what_the_model_is(fresh, capsys):
    images = fresh["images"][0]
    assert main(["caption", ",".join(images)]) == 0
    said = capsys.readouterr()
    assert "synthetic phantoms only" in said.err
    assert said.out.count("\n") == 1
    assert said.out.startswith(",".join(images))


@pytest.fixture(scope="module")
def calibrated(fresh):
    captioner = Captioner.load("phantom_attention")
    return captioner, see(captioner, fresh)


def test_its_confidence_holds_for_unseen_phantoms(calibrated):
    captioner, seen = calibrated
    values, _ = measured(captioner.calibration, seen)
    before, after = (values["sentences"][name] for name in ("uncalibrated", "calibrated"))
    assert before["n"] > 200
    assert before["calibration error"] > 0.1
    assert after["calibration error"] < 0.03
    assert after["Brier"] < 0.6 * before["Brier"]
    assert values["flagged"] <= 0.02


def blank(value):
    return np.full((256, 256, 3), value, np.float32)


def photograph(rng):
    """Coloured things before a sky, and a word."""
    sky = np.linspace((90, 140, 220), (200, 180, 150), 256)[:, None].repeat(256, axis=1)
    image = sky.astype(np.uint8)
    for _ in range(9):
        colour = [int(part) for part in rng.integers(0, 256, 3)]
        centre = [int(part) for part in rng.integers(0, 256, 2)]
        cv2.circle(image, centre, int(rng.integers(10, 50)), colour, -1)
        cv2.rectangle(image, centre, [part + 40 for part in centre], colour[::-1], -1)
    cv2.putText(image, "HOLIDAY", (40, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
    return image.astype(np.float32) / 255


def hand():
    """Bright bones in soft tissue, five fingers, before black."""
    image = np.zeros((256, 256), np.float32)
    cv2.ellipse(image, (128, 190), (50, 55), 0, 0, 360, 0.4, -1)
    tips = [(60, 60), (100, 30), (136, 20), (172, 40), (40, 140)]
    for width, shade in ((24, 0.4), (9, 0.85)):
        for x, y in tips:
            cv2.line(image, (128 + (x - 128) // 3, 190), (x, y), shade, width)
    return cv2.GaussianBlur(image, (0, 0), 1.5)[..., None].repeat(3, axis=2)


def strange(fresh):
    rng = np.random.default_rng(0)
    chests = [read_image(images[0], 224) for images in fresh["images"][:10]]
    noise = rng.random((256, 256, 3), np.float32)
    return {
        "blank": [blank(value) for value in (0, 0.5, 1)],
        "noise": [noise, noise[..., :1].repeat(3, axis=2)],
        "photograph": [photograph(rng) for _ in range(10)],
        "hand": [hand()],
        "inverted": [1 - chest for chest in chests],
        "turned": [np.ascontiguousarray(np.rot90(chest)) for chest in chests],
        "upside down": [np.ascontiguousarray(chest[::-1]) for chest in chests],
    }


def test_what_is_no_chest_x_ray_is_flagged(fresh, calibrated):
    captioner, _ = calibrated
    for name, images in strange(fresh).items():
        found = [caption.novelty for caption in captioner.caption([[image] for image in images])]
        assert min(found) > 1, name
    # One strange image is enough, and one image alone is not strange.
    chest = read_image(fresh["images"][0][0], 224)
    known, mixed = captioner.caption([[chest], [chest, blank(0)]])
    assert known.novelty < 1 < mixed.novelty


def test_real_radiographs_are_strange_to_it(shared_data, calibrated):
    captioner, _ = calibrated
    images = sorted(shared_data.glob("nih14/images/*.jpg"))[::20]
    captions = captioner.caption([[image] for image in images])
    assert np.mean([caption.novelty > 1 for caption in captions]) > 0.95


def test_bundles_are_small_and_hold_no_pickle():
    assert "phantom_attention" in shipped_bundles()
    files = [path for path in Path(find_bundle("phantom_attention")).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    assert not any(path.suffix in (".pkl", ".pickle") for path in files)


def test_the_pickled_tokenizer_opens_with_nothing_installed():
    path = Path(find_bundle("phantom_attention")).parent / "tokenizer.pkl"

    class Builtins(pickle.Unpickler):
        def find_class(self, module, name):
            raise AssertionError(f"{module}.{name} is not a builtin type")

    with open(path, "rb") as file:
        found = Builtins(file).load()
    words = Captioner.load("phantom_attention").tokenizer.words
    assert isinstance(found, dict)
    assert found["words"] == list(words)
