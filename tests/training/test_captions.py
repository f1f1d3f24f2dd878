"""Runs: what they leave, that they go on, and that what they learn comes from the images."""

import contextlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from xray_captioning.backend import keras
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import reference_texts, study_images, usable_studies
from xray_captioning.encoders.saved import load_encoder
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.training.captions import train
from xray_captioning.training.run_state import STATE


def log(run):
    lines = (run / "log.csv").read_text().splitlines()
    return [[float(value) for value in line.split(",")] for line in lines[1:]]


@pytest.fixture
def start(phantoms, tiny_config, tiny_encoder_run, tiny_cache):
    """Train on the phantoms with the tiny recipe."""

    def run(out, epochs=2, resume=False, **changes):
        config = tiny_config.replace({"training.epochs": epochs, **changes})
        encoder = load_encoder(tiny_encoder_run)
        return train(read_studies(phantoms), config, out, encoder, tiny_cache, resume=resume)

    return run


def test_a_run_leaves_a_bundle_a_log_and_curves(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert {"captioner.json", "manifest.json", "README.md", "split.json"} <= names
    assert {"log.csv", "curves.png", "state.npz", "run.json"} <= names
    assert len(log(tiny_run)) == 2


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(start, tiny_run, tmp_path):
    start(tmp_path / "same")
    start(tmp_path / "other", **{"training.seed": 5})
    np.testing.assert_allclose(log(tmp_path / "same"), log(tiny_run), rtol=1e-6)
    assert log(tmp_path / "other") != log(tiny_run)


EVERYTHING = {
    "training.finding_weight": 0.5,
    "training.balanced": True,
    "training.label_smoothing": 0.1,
    "training.scheduled_sampling": 0.3,
    "model.tied_embeddings": True,
}


def test_an_interrupted_run_ends_with_the_losses_of_an_unbroken_one(start, tmp_path, monkeypatch):
    start(tmp_path / "whole", epochs=3, **EVERYTHING)
    original = keras.Model.fit

    def interrupted(model, *args, **kwargs):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        kwargs["callbacks"] = [*kwargs["callbacks"], Stop()]
        return original(model, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "broken", epochs=3, **EVERYTHING)
    assert len(log(tmp_path / "broken")) == 2
    with pytest.raises(ConfigError, match="--resume"):
        start(tmp_path / "broken", epochs=3, **EVERYTHING)
    start(tmp_path / "broken", epochs=3, resume=True, **EVERYTHING)
    np.testing.assert_allclose(log(tmp_path / "broken"), log(tmp_path / "whole"), rtol=1e-6)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_losses(
    phantoms, tiny_encoder_run, tiny_run, tiny_config, tiny_cache, tmp_path
):
    settings = [
        f"{group}.{name}={value}" if isinstance(values, dict) else f"{group}={values}"
        for group, values in tiny_config.replace({"training.epochs": 15}).to_dict().items()
        for name, value in (values.items() if isinstance(values, dict) else [("", "")])
        if group in ("image", "model", "training", "fractions")
    ]
    settings = [s.replace("True", "true").replace("False", "false") for s in settings]

    def command(out):
        return [
            *(sys.executable, "-m", "xray_captioning", "train", "--data", str(phantoms)),
            *("--out", str(out), "--preset", "phantom_attention", "--cache", str(tiny_cache)),
            *("--encoder", str(tiny_encoder_run)),
            *(part for text in settings for part in ("--set", text)),
        ]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "killed"), stdout=-3, stderr=-3)
    while process.poll() is None and not (tmp_path / "killed" / STATE).exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    subprocess.run([*command(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    np.testing.assert_allclose(log(tmp_path / "killed"), log(tmp_path / "whole"), rtol=1e-6)


def test_fine_tuning_changes_the_saved_encoder_and_no_other(start, tiny_encoder_run, tmp_path):
    from xray_captioning.encoders.saved import weights_digest

    captioner = start(tmp_path / "run", epochs=1, **{"training.encoder_learning_rate": 1e-3})
    saved = weights_digest(load_encoder(tmp_path / "run"))
    assert saved == weights_digest(captioner.encoder)
    assert saved != weights_digest(load_encoder(tiny_encoder_run))


def test_a_view_prefix_is_learned_but_not_scored(start, phantoms, tmp_path):
    from xray_captioning.comparison import compare
    from xray_captioning.data.splits import Split

    captioner = start(tmp_path / "run", epochs=1, **{"text.view_prefix": True})
    assert {"two", "views"} <= set(captioner.tokenizer.words)
    split = Split.from_json(tmp_path / "run" / "split.json")
    compare(
        *(usable_studies(read_studies(phantoms), captioner.config), split, captioner.config),
        *(tmp_path, tmp_path / "cache", {"model": captioner}),
        beams=[1],
    )
    found = (tmp_path / "captions.csv").read_text()
    assert "two views" not in found


def test_resuming_with_other_options_or_a_damaged_state_is_refused(start, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(ConfigError, match="other config"):
        start(run, resume=True, **{"training.seed": 3})
    (run / STATE).write_bytes(b"not an archive")
    with pytest.raises(BundleError, match="not a state of this run"):
        start(run, resume=True)


def test_resuming_with_another_encoder_or_split_is_refused(
    phantoms, tiny_config, tiny_cache, tiny_run, tmp_path
):
    from xray_captioning.data.splits import Split
    from xray_captioning.encoders import Encoder

    run = shutil.copytree(tiny_run, tmp_path / "run")
    studies, config = read_studies(phantoms), tiny_config
    other = Encoder("phantom_cnn", 64)
    with pytest.raises(ConfigError, match="other weights"):
        train(studies, config, run, other, tiny_cache, resume=True)
    found = Split.from_json(run / "split.json")
    swapped = Split(found.test, found.val, found.train)
    with pytest.raises(ConfigError, match="other split and weights"):
        train(studies, config, run, other, tiny_cache, split=swapped, resume=True)


def test_resuming_a_finished_run_changes_nothing(start, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = (run / "log.csv").read_text()
    start(run, resume=True)
    assert (run / "log.csv").read_text() == before


def test_training_stops_when_validation_no_longer_improves(start, tmp_path):
    start(tmp_path / "run", epochs=30, **{"training.patience": 1, "training.learning_rate": 0.3})
    losses = [row[3] for row in log(tmp_path / "run")]
    assert len(losses) < 30
    assert min(losses) == losses[-2]


def test_bfloat16_and_accumulation_leave_a_bundle_of_float32_that_answers_alike(
    start, phantoms, tmp_path
):
    changes = {"training.precision": "bfloat16", "training.accumulated_batches": 2}
    captioner = start(tmp_path / "run", epochs=1, **changes)
    assert captioner.model.dtype_policy.name == "float32"
    images = study_images(read_studies(phantoms), captioner.config)[:2]
    loaded = Captioner.load(tmp_path / "run").caption(images, beam_size=1)
    for one, other in zip(captioner.caption(images, beam_size=1), loaded):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


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


@pytest.mark.slow
def test_eight_real_studies_are_learned_by_heart(shared_data, tmp_path):
    """A run that may overfit writes at least seven of eight impressions word for word."""
    from xray_captioning.encoders import Encoder

    config = Config().replace(
        {
            "fractions": [1, 0, 0],
            "model": {"pool": 2, "units": 128, "attention": 64, "head": 128, "embedding": 64},
            "model.dropout": 0.0,
            "training": {"epochs": 160, "patience": 160, "learning_rate": 4e-3},
        }
    )
    studies = read_studies(shared_data / "iu")
    usable = usable_studies(studies, config)
    assert len(usable) == 8
    keras.utils.set_random_seed(0)
    train(studies, config, tmp_path / "run", Encoder("chexnet", 224, pool=2), tmp_path / "cache")
    captioner = Captioner.load(tmp_path / "run")
    captions = captioner.caption(study_images(usable, config), beam_size=1)
    written = [" ".join(caption.words) for caption in captions]
    right = sum(a == b for a, b in zip(written, reference_texts(usable, config)))
    assert right >= 7
    assert not any("xxxx" in caption.text.lower() for caption in captions)
