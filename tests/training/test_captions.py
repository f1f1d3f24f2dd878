"""Runs: what they leave, that they go on, and that what they learn comes from the images."""

import csv
import shutil

import numpy as np
import pytest

from xray_captioning.backend import keras
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.comparison.evaluate import evaluate
from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.data.targets import study_images, usable_studies
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.training.captions import train
from xray_captioning.training.encoder import train_encoder
from xray_captioning.training.run_folder import STATE

pytestmark = pytest.mark.usefixtures("eagerly")


def log(run):
    """Return the rows of a log, but not how long an epoch took."""
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert {"learning_rate", "seconds"} <= set(rows[0])
    return [[float(value or 0) for name, value in row.items() if name != "seconds"] for row in rows]


@pytest.fixture
def start(phantoms, tiny_config, tiny_encoder_run, tiny_cache):
    """Train on the phantoms with the tiny recipe."""

    def run(out, epochs=2, resume=False, **changes):
        config = tiny_config.replace({"training.epochs": epochs, **changes})
        encoder = Encoder.load(tiny_encoder_run)
        options = {"cache": tiny_cache, "resume": resume, "measured": False}
        return train(read_studies(phantoms), config, out, encoder, **options)

    return run


def test_a_run_leaves_a_bundle_a_log_and_curves(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert {"captioner.json", "manifest.json", "README.md", "split.json"} <= names
    assert {"log.csv", "curves.png", "samples.md", "state.npz", "run.json"} <= names
    assert len(log(tiny_run)) == 2


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(start, tiny_run, tmp_path):
    start(tmp_path / "same")
    start(tmp_path / "other", epochs=1, **{"training.seed": 5})
    np.testing.assert_allclose(log(tmp_path / "same"), log(tiny_run), rtol=1e-6)
    assert log(tmp_path / "other")[0] != log(tiny_run)[0]


EVERYTHING = {
    "training.finding_weight": 0.5,
    "training.balanced": True,
    "training.label_smoothing": 0.1,
    "training.scheduled_sampling": 0.3,
    "model.tied_embeddings": True,
}


REWARDED = {"training.finding_weight": 0.5, "training.reward": {"sides": 1, "CIDEr": 1}, "training.reward_epochs": 1}


@pytest.mark.parametrize("options", [EVERYTHING, REWARDED])
def test_a_run_killed_in_an_epoch_ends_with_the_losses_of_an_unbroken_one(start, tmp_path, monkeypatch, options):
    """What lies on the disk amid the second epoch is what a killed process leaves."""
    original = keras.Model.fit

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (tmp_path / "whole" / STATE).is_file() and not (tmp_path / "killed").exists():
                shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    def watched(model, *args, **kwargs):
        kwargs["callbacks"] = [*kwargs["callbacks"], Killed()]
        return original(model, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", watched)
        start(tmp_path / "whole", epochs=2, **options)
    assert len(log(tmp_path / "killed")) == 1
    assert not (tmp_path / "killed" / "manifest.json").exists()
    with pytest.raises(ConfigError, match="--resume"):
        start(tmp_path / "killed", epochs=2, **options)
    start(tmp_path / "killed", epochs=2, resume=True, **options)
    np.testing.assert_allclose(log(tmp_path / "killed"), log(tmp_path / "whole"), rtol=1e-6)


VARIED = {
    "training.encoder_learning_rate": 1e-3,
    "training.precision": "bfloat16",
    "training.accumulated_batches": 2,
    "training.monitor": "val_BLEU-4",
    "text.view_prefix": True,
}


@pytest.fixture(scope="module")
def varied(phantoms, tiny_config, tiny_encoder_run, tiny_cache, tmp_path_factory):
    """Run folder, captioner (fine-tuned, in bfloat16, with a view prefix) and given encoder."""
    out = tmp_path_factory.mktemp("varied") / "run"
    config = tiny_config.replace({"training.epochs": 1, **VARIED})
    encoder = Encoder.load(tiny_encoder_run)
    captioner = train(phantoms, config, out, encoder, cache=tiny_cache, measured=False)
    return out, captioner, encoder


def test_fine_tuning_changes_the_saved_encoder_and_no_other(varied, tiny_encoder_run):
    out, captioner, given = varied
    before = Encoder.load(tiny_encoder_run)
    assert weights_digest(given) == weights_digest(before)
    assert len(given.trainable_variables) == len(before.trainable_variables)
    saved = weights_digest(Encoder.load(out))
    assert saved == weights_digest(captioner.encoder)
    assert saved != weights_digest(Encoder.load(tiny_encoder_run))


def test_the_monitored_score_is_logged(varied):
    out, captioner, _ = varied
    assert (out / "log.csv").read_text().splitlines()[0].split(",")[-3] == "val_BLEU-4"
    assert 0 <= log(out)[0][-2] <= 1
    assert captioner.config.training.monitor == "val_BLEU-4"


def test_a_view_prefix_is_learned_but_not_scored(varied, phantoms, tmp_path):
    out, captioner, _ = varied
    assert {"two", "views"} <= set(captioner.tokenizer.words)
    evaluate(phantoms, {"model": out}, tmp_path, beams=[1], cache=tmp_path / "cache", quick=True)
    found = (tmp_path / "captions.csv").read_text()
    assert "two views" not in found


def test_bfloat16_and_accumulation_leave_a_bundle_of_float32_that_answers_alike(varied, phantoms):
    out, captioner, _ = varied
    assert captioner.model.dtype_policy.name == "float32"
    images = study_images(read_studies(phantoms), captioner.config)[:2]
    loaded = Captioner.load(out).caption(images, beam_size=1)
    for one, other in zip(captioner.caption(images, beam_size=1), loaded):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


def test_data_are_described_and_the_training_studies_kept(varied, phantoms, tiny_cache):
    out, captioner, _ = varied
    assert captioner.about["source"] == "phantom"
    assert "notice" in captioner.about
    record = Captioner.load(out).trained_on
    assert record == captioner.trained_on
    trained = list(captioner.split.train)
    studies = read_studies(phantoms).assign(findings="another .", impression=None)
    assert record.recognised(studies, studies["study_id"], tiny_cache) == trained


def test_what_an_encoder_was_trained_on_does_not_test_a_decoder(
    phantoms, tiny_config, tiny_encoder_run, tiny_cache, tmp_path
):
    found = Split.from_json(tiny_encoder_run / "split.json")
    Split(found.test, found.val, found.train).to_json(tmp_path / "swapped.json")
    options = {"split": tmp_path / "swapped.json", "cache": tiny_cache}
    for encoder in (tiny_encoder_run, Encoder.load(tiny_encoder_run)):
        with pytest.raises(ConfigError, match=f"was trained on {len(found.train)} of the"):
            train(phantoms, tiny_config, tmp_path / "run", encoder, **options)
    weights = str(tiny_encoder_run)
    with pytest.raises(ConfigError, match=f"was trained on {len(found.train)} of the"):
        train_encoder(phantoms, tiny_config, tmp_path / "run", weights, **options)
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_options_or_a_damaged_state_is_refused(start, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"training\.seed 0, not 3"):
        start(run, resume=True, **{"training.seed": 3})
    (run / STATE).write_bytes(b"not an archive")
    with pytest.raises(BundleError, match="not a state of this run"):
        start(run, resume=True)


def test_resuming_with_another_encoder_or_split_is_refused(phantoms, tiny_config, tiny_cache, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    studies, config = read_studies(phantoms), tiny_config
    other = Encoder("phantom_cnn", 64)
    with pytest.raises(ConfigError, match="other weights"):
        train(studies, config, run, other, cache=tiny_cache, resume=True)
    found = Split.from_json(run / "split.json")
    swapped = Split(found.test, found.val, found.train)
    with pytest.raises(ConfigError, match="other split and weights"):
        train(studies, config, run, other, split=swapped, cache=tiny_cache, resume=True)


def test_resuming_a_finished_run_changes_nothing(start, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = (run / "log.csv").read_text()
    start(run, resume=True)
    assert (run / "log.csv").read_text() == before


def test_training_stops_when_validation_no_longer_improves(start, tmp_path):
    start(tmp_path / "run", epochs=20, **{"training.patience": 1, "training.learning_rate": 0.3})
    losses = [row[3] for row in log(tmp_path / "run")]
    assert len(losses) < 30
    assert min(losses) == losses[-2]


def test_a_folder_with_other_things_is_left_alone(start, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_studies_without_image_or_text_are_not_trained_on(phantoms, tmp_path):
    studies = read_studies(phantoms)
    studies.at[0, "images"] = [str(tmp_path / "absent.png")] * len(studies.at[0, "views"])
    studies.at[1, "impression"] = None
    assert len(usable_studies(studies, Config())) == len(studies) - 2
    studies["impression"] = None
    with pytest.raises(DataError, match="text in its impression"):
        usable_studies(studies, Config())
