"""The finding classifier after training: its sigmoid is a probability."""

from types import SimpleNamespace

import numpy as np
import pytest

from xray_captioning.backend import ops
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import encode_studies
from xray_captioning.errors import ConfigError
from xray_captioning.training.encoder import _measure, train_encoder
from xray_captioning.training.labels import finding_labels, prevalence


def test_the_mean_probability_of_validation_images_is_the_prevalence(
    tiny_encoder_run, tiny_config, phantoms
):
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


def test_studies_of_unknown_patients_are_patients_of_their_own(phantoms):
    """A table made by hand may lack ids of patients; its findings have intervals nevertheless."""
    studies = read_studies(phantoms).assign(patient_id=None)
    ids = tuple(studies["study_id"])
    split = Split(ids, (), ids)
    truth = np.arange(len(studies))[:, None] % 2.0
    data = SimpleNamespace(studies=len(studies))
    model = SimpleNamespace(predict=lambda *_, **__: truth + np.linspace(0, 2, len(truth))[:, None])
    rows = _measure(model, data, truth, studies, split, ["Edema"], None)
    assert rows[0]["AUROC_low"] is not None
