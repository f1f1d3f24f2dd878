"""Outlines of findings, by which an encoder can learn where they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.training.test_sides import check_added_loss
from xray_captioning.backend import keras, ops
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.encoders import Encoder
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.training import encoder as training
from xray_captioning.training.encoder import FindingsInTraining, train_encoder
from xray_captioning.training.losses import evidence_outside

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def outlined(phantoms, tmp_path):
    """Return a function that reads phantoms with a box in the lower left quarter as the outline of some findings."""
    shutil.copytree(phantoms, tmp_path / "data", ignore=lambda *_: ["regions.json"])
    box = [[0.1, 0.55], [0.3, 0.55], [0.3, 0.7], [0.1, 0.7]]

    def read(*findings, views=2):
        studies = read_studies(tmp_path / "data")
        rows = [
            {"study": study, "finding": finding, "side": "", "image": Path(image).name, "polygon": box}
            for study, images in zip(studies["study_id"], studies["images"])
            for image in images[:views]
            for finding in findings
        ]
        (tmp_path / "data" / "regions.json").write_text(json.dumps(rows), "utf-8")
        return read_studies(tmp_path / "data")

    return read


def test_a_region_is_outlined_if_an_outline_touches_what_it_sees(outlined, tiny_config, monkeypatch):
    encoder = Encoder("phantom_cnn", 64, findings=["Fracture", "Edema"])  # four rows, four columns
    monkeypatch.setattr(training, "region_offset", lambda *_: (0.0, 0.0))
    cells = training.outlined_cells(outlined("Edema", "Granuloma", views=1), encoder, tiny_config)
    assert (cells.shape[1:], cells.dtype) == ((32, 2), bool)
    assert np.argwhere(cells[0]).tolist() == [[8, 1], [9, 1]]
    monkeypatch.setattr(training, "region_offset", lambda *_: (0.0, 0.125))  # regions see half a region to the right
    cells = training.outlined_cells(outlined("Edema", views=1), encoder, tiny_config)
    assert np.argwhere(cells[0]).tolist() == [[8, 1]]


def test_outlines_that_are_not_there_are_one_clear_error(outlined, tiny_config):
    encoder = Encoder("phantom_cnn", 64, findings=["Edema"])
    for studies in (outlined(), outlined("Fracture")):
        with pytest.raises(DataError, match=r"no finding is outlined on a training image; leave encoder_training\.r"):
            training.outlined_cells(studies, encoder, tiny_config)


def test_the_loss_of_outlines_is_how_little_of_the_evidence_lies_in_them():
    rng = np.random.default_rng(0)
    scores, cells, mask = rng.normal(size=(3, 5, 2)), rng.random((3, 5, 2)) < 0.4, np.ones((3, 5), bool)
    cells[0, :, 1] = mask[2, 4] = cells[2, 4] = False  # of what is not outlined nothing is asked
    cells[1, :, 0] = True
    logs = log_softmax(np.where(mask[..., None], scores, -np.inf), axis=1)
    inside = np.where(cells, np.exp(logs), 0).sum(axis=1)
    expected = -np.log(np.where(cells.any(axis=1), inside, 1)).mean(axis=1)
    found = ops.convert_to_numpy(evidence_outside(scores.astype("float32"), mask, cells))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_loss_of_outlines_is_added_in_training_only():
    keras.utils.set_random_seed(0)
    encoder, rng = Encoder("phantom_cnn", 32, findings=["Edema", "Fracture"]), np.random.default_rng(0)
    model = FindingsInTraining(0, (0, 1), encoder)
    images = rng.normal(size=(4, 2, 32, 32, 3)).astype("float32")
    inputs = {"images": images, "mask": np.ones((4, 2), bool), "cells": rng.random((4, 8, 2)) < 0.3}
    check_added_loss(model, inputs)


def test_a_run_learns_outlines_and_leaves_an_encoder_as_any(outlined, tiny_config, tmp_path):
    config = tiny_config.replace({"encoder_training.region_weight": 1, "encoder_training.epochs": 1})
    studies = outlined("Cardiomegaly", "Pleural Effusion")
    trained, _ = train_encoder(studies, config, tmp_path / "run", "random", cache=tmp_path / "cache")
    train_encoder(studies, config, tmp_path / "run", "random", cache=tmp_path / "cache", resume=True)
    file = tmp_path / "altered.json"
    file.write_text(
        Path(studies.attrs["regions.json"]).read_text("utf-8").replace("Pleural Effusion", "Edema"), "utf-8"
    )
    studies.attrs["regions.json"] = str(file)
    with pytest.raises(ConfigError, match="was started with other outlines; resume with the same data"):
        train_encoder(studies, config, tmp_path / "run", "random", cache=tmp_path / "cache", resume=True)
    run = (tmp_path / "run" / "run.json").read_bytes()
    del studies.attrs["regions.json"]
    longer = config.replace({"encoder_training.epochs": 2})
    with pytest.raises(ConfigError, match="was started with other outlines"):
        train_encoder(studies, longer, tmp_path / "run", "random", cache=tmp_path / "cache", resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == run
    again, plain = Encoder.load(tmp_path / "run"), Encoder("phantom_cnn", 64, findings=trained.findings)
    assert [w.shape for w in again.weights] == [w.shape for w in plain.weights]
