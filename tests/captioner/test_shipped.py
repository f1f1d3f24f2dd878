"""The shipped bundle reads phantoms that it has never seen, and says that it knows nothing else."""

import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.bundles.bundle import find_bundle, shipped_bundles
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.data.images import read_image
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import reference_texts, study_images
from xray_captioning.evaluation.baselines import ReportTexts, System, constant_caption
from xray_captioning.evaluation.results import evaluate_systems
from xray_captioning.training import calibration
from xray_captioning.training.calibration import caption_outcomes, evaluate_calibration

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fresh(fresh_phantoms):
    return read_studies(fresh_phantoms)


@pytest.fixture(scope="module")
def captioner():
    return Captioner.load("phantom_attention")


@pytest.fixture(scope="module")
def features(fresh, captioner):
    return captioner.features(study_images(fresh, captioner.config))


@pytest.fixture(scope="module")
def rows(fresh, captioner, features):
    references = reference_texts(fresh, captioner.config)
    systems = [System("constant", None, [constant_caption(references)] * len(references))]
    for beam_size in (1, 3):
        captions = captioner.caption_features(features, beam_size)
        texts = [" ".join(caption.words) for caption in captions]
        systems.append(System("shipped", str(beam_size), texts))
    shuffled = np.random.default_rng(0).permutation(systems[1].texts).tolist()
    systems.append(System("shuffled", None, shuffled))
    known = ReportTexts.unaltered(references, [])
    found = evaluate_systems(list(fresh["study_id"]), systems, known, {}, quick=True)
    return {system.column: row for system, row in zip(systems, found.rows, strict=True)}


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
def outcomes(fresh, captioner, features):
    with pytest.MonkeyPatch.context() as patch:  # nothing is encoded twice
        patch.setattr(calibration, "BATCH", len(fresh))
        patch.setattr(Captioner, "features", lambda *_: features)
        return caption_outcomes(captioner, fresh, [captioner.config.decoding.beam_size])


def test_its_confidence_holds_for_unseen_phantoms(captioner, outcomes):
    values, _ = evaluate_calibration(captioner.calibration, outcomes)
    before, after = (values["sentences"][name] for name in ("uncalibrated", "calibrated"))
    assert before["n"] > 200
    assert before["ECE"] > 0.1
    assert after["ECE"] < 0.03
    assert after["Brier"] < 0.6 * before["Brier"]
    assert values["flagged"] <= 0.02


def test_what_is_no_chest_x_ray_is_flagged(fresh, captioner):
    strange = runpy.run_path(str(BENCHMARKS / "strange.py"))
    pairs = [study for study in fresh["images"] if len(study) > 1][:10]
    frontal, lateral = ([read_image(study[view], 224) for study in pairs] for view in (0, 1))
    for name, images in strange["strange_images"](frontal, lateral).items():
        found = [caption.novelty for caption in captioner.caption([[image] for image in images])]
        assert min(found) > 1, name
    # One strange image is enough, and one image alone is not strange.
    known, mixed = captioner.caption([[frontal[0]], [frontal[0], strange["page"]()]])
    assert known.novelty < 1 < mixed.novelty


def test_real_radiographs_are_strange_to_it(shared_data, captioner):
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
