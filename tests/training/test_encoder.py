"""The finding classifier after training: its sigmoid is a probability."""

import numpy as np

from xray_captioning.backend import ops
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import encode_studies
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
