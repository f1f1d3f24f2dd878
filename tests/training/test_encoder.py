"""The finding classifier after training: its sigmoid is a probability."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from xray_captioning.backend import ops, seeded
from xray_captioning.cli import main
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.encoders import ENCODERS, Encoder
from xray_captioning.encoders.encoder import mean_region
from xray_captioning.encoders.encoding import encode_studies
from xray_captioning.encoders.saved import new_encoder, starting_encoder, weights_digest, weights_of
from xray_captioning.errors import ConfigError
from xray_captioning.training import encoder as training
from xray_captioning.training.encoder import PENALTY, _LabelledStudies, _measure, logistic_regressions, train_encoder
from xray_captioning.training.labels import finding_labels, prevalence


def test_the_mean_probability_of_validation_images_is_the_prevalence(tiny_encoder_run, tiny_config, phantoms):
    studies, split = read_studies(phantoms), Split.from_json(tiny_encoder_run / "split.json")
    encoder = Encoder.load(tiny_encoder_run)
    images = [images for i, images in studies[["study_id", "images"]].values if i in split.val]
    features = encode_studies(encoder.encode, tiny_config, images)
    found = ops.convert_to_numpy(encoder.probabilities(*features)).mean(axis=0)
    learned = studies["study_id"].isin([*split.train, *split.val])
    expected = prevalence(finding_labels(studies)[1][learned])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_weights_are_a_name_or_a_path(phantoms, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="or the path of a bundle or file of weights, got int"):
        train_encoder(phantoms, tiny_config, tmp_path / "run", weights=3)
    assert not (tmp_path / "run").exists()


def test_a_network_that_has_learned_keeps_that_while_its_classifier_is_found(
    tiny_encoder_run, tiny_config, tiny_cache, phantoms, tmp_path
):
    """At a rate of nothing what is left is the logistic regression, and the network as it was."""
    changes = {"classifier_first": True, "learning_rate": 1e-9, "epochs": 1, "weight_decay": 0}
    config = tiny_config.replace({f"encoder_training.{k}": v for k, v in changes.items()})
    before, out = str(tiny_encoder_run), tmp_path / "run"
    tuned, _ = train_encoder(phantoms, config, out, before, cache=tiny_cache)
    pairs = zip(tuned.backbone.weights, Encoder.load(before).backbone.weights)
    assert max(float(ops.max(ops.abs(a - b))) for a, b in pairs) < 1e-6  # statistics, too
    studies, split = read_studies(phantoms), Split.from_json(out / "split.json")
    learned = studies[studies["study_id"].isin(split.train)]
    regions, mask = encode_studies(tuned.encode, config, list(learned["images"]))
    kernel, _ = logistic_regressions(
        ops.convert_to_numpy(mean_region(regions, mask)), finding_labels(studies)[1][learned.index]
    )
    np.testing.assert_allclose(tuned.classifier.kernel, kernel, atol=2e-3 * np.abs(kernel).max())  # of the solver


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("first", [False, True])
def test_kept_outputs_of_frozen_layers_train_as_the_layers_themselves(
    phantoms, tiny_config, tiny_cache, tmp_path, monkeypatch, first
):
    changes = {"trainable_from": "block2_", "classifier_first": first, "learning_rate": 0.001}
    changes = {f"encoder_training.{name}": value for name, value in changes.items()}
    config, studies = tiny_config.replace({**changes, "image.augment": False}), read_studies(phantoms)
    for column in ("images", "views"):  # every third study lacks a view
        studies[column] = [row[: 1 + (i % 3 > 0)] for i, row in enumerate(studies[column])]
    kept, rows = train_encoder(studies, config, tmp_path / "kept", "random", cache=tiny_cache)
    parts = training._parts
    monkeypatch.setattr(training, "_parts", lambda *given: (parts(*given)[0], None))  # as where images vary
    computed, expected = train_encoder(studies, config, tmp_path / "computed", "random", cache=tiny_cache)
    losses = [pd.read_csv(tmp_path / name / "log.csv")[["loss", "val_loss"]] for name in ("kept", "computed")]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    # Adam makes steps of the learning rate of gradients that are but rounding, as of a classifier at its optimum.
    for a, b in zip(kept.get_weights(), computed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 if first else 1e-5)
    assert [row["AUROC"] for row in rows] == [row["AUROC"] for row in expected]
    with seeded(config.encoder_training.seed):
        start = new_encoder(config, "random", kept.findings)
    for layer, before in zip(kept.backbone.layers, start.backbone.layers, strict=True):
        same = all(map(np.array_equal, layer.get_weights(), before.get_weights()))
        assert same != layer.name.startswith("block2_")
        assert layer.trainable  # the next run may train them
    assert weights_digest(Encoder.load(tmp_path / "kept")) == weights_digest(kept)


def test_logistic_regressions_are_at_the_minimum_of_their_penalised_loss():
    rng = np.random.default_rng(0)
    features = rng.normal(3, [1, 20, 0.1, 0], (40, 4)).astype("float32")
    labels = (features[:, :1] + rng.normal(0, 1, (40, 3)) > 3).astype("float32")
    labels[:8, 1], labels[:, 2] = (np.nan, 1)  # unknown ones do not count; nothing to learn of the last
    kernel, bias = logistic_regressions(features, labels)
    scaled = (features - features.mean(0)) / (features.std(0) + 0.01 * features.std())
    for i, known in enumerate(np.isfinite(labels).T[:2]):
        error = expit(features @ kernel[:, i] + bias[i])[known] - labels[known, i]
        weights = kernel[:, i] * (features.std(0) + 0.01 * features.std())
        np.testing.assert_allclose(PENALTY * error @ scaled[known] + weights, 0, atol=1e-4)
        assert abs(error.sum()) < 1e-2
    assert not kernel[:, 2].any()
    assert bias[2] > 4


@pytest.fixture
def offline(monkeypatch):
    """Let no published weights be had."""

    def build(size, published):
        if published:
            print("Downloading data from https://example.org/weights.h5")  # as Keras does
            raise OSError("URL fetch failure on https://example.org/weights.h5")
        return ENCODERS["phantom_cnn"].build(size, published)

    monkeypatch.setitem(ENCODERS, "densenet121", ENCODERS["densenet121"]._replace(build=build))


@pytest.mark.parametrize("command", ["train-encoder", "train"])
def test_published_weights_that_cannot_be_had_stop_a_run(command, offline, phantoms, tmp_path, capsys):
    """They are what a preset asks for where nothing is said."""
    out = tmp_path / "run"
    line = [command, "--data", str(phantoms), "--out", str(out), "--cache", str(tmp_path / "cache")]
    assert main([*line, "--preset", "densenet_gru"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in ("densenet121", "https://example.org/weights.h5", "--weights random"):
        assert part in error
    assert not out.exists()


def test_random_weights_asked_for_need_no_network(offline, tiny_config):
    config = tiny_config.replace({"model.encoder": "densenet121"})
    assert starting_encoder(config, None, "random").name_of_backbone == "densenet121"
    with pytest.raises(ConfigError, match="cannot be had"):
        starting_encoder(config, None)
    with pytest.raises(ConfigError, match="not both"):
        starting_encoder(config, "runs/encoder", "random")
    with pytest.raises(ConfigError, match="given as the encoder"):
        starting_encoder(config, None, "runs/encoder")
    assert weights_of(tiny_config, None) == "random"  # its network has no published ones


def test_studies_of_unknown_patients_are_patients_of_their_own(phantoms):
    """A table made by hand may lack ids of patients; its findings have intervals nevertheless."""
    studies = read_studies(phantoms).assign(patient_id=None)

    truth = np.arange(len(studies))[:, None] % 2.0
    rows = dict.fromkeys(("train", "test"), np.arange(len(studies)))
    given = _LabelledStudies(studies, truth, rows)
    scores = truth + np.linspace(0, 2, len(truth))[:, None]
    encoder = SimpleNamespace(findings=["Edema"])
    model = SimpleNamespace(predict=lambda *_, **__: scores, encoder=encoder)
    rows = _measure(model, [], given, None)
    assert rows[0]["AUROC_low"] is not None
