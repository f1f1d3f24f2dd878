"""What a decoder can learn, compiled as users run it."""

import pytest

from xray_captioning.backend import keras
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import reference_texts, study_images, usable_studies
from xray_captioning.encoders import Encoder
from xray_captioning.training.captions import train


@pytest.mark.slow
def test_eight_real_studies_are_overfitted(shared_data, tmp_path):
    """A run that may overfit writes at least seven of eight impressions word for word."""
    config = Config().replace(
        {
            "fractions": [1, 0, 0],
            "image": {"size": 64, "normalisation": "unit"},
            "model": {"encoder": "phantom_cnn", "units": 128, "attention": 64, "head": 96},
            "model.dropout": 0.0,
            "training": {"epochs": 48, "patience": 48, "learning_rate": 1e-2},
        }
    )
    studies = read_studies(shared_data / "iu")
    usable = usable_studies(studies, config)
    assert len(usable) == 8
    keras.utils.set_random_seed(0)
    train(studies, config, tmp_path / "run", Encoder("phantom_cnn", 64), cache=tmp_path / "cache")
    captioner = Captioner.load(tmp_path / "run")
    captions = captioner.caption(study_images(usable, config), beam_size=1)
    written = [" ".join(caption.words) for caption in captions]
    right = sum(a == b for a, b in zip(written, reference_texts(usable, config)))
    assert right >= 7
    assert not any("xxxx" in caption.text.lower() for caption in captions)
