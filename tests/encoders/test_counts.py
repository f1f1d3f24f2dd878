"""Counts instead of seconds: each image is read and encoded once, and a second run encodes none."""

from collections import Counter

import numpy as np
import pytest

from xray_captioning.backend import ops
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data import encoding as reading
from xray_captioning.data.features import BATCH
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import study_images
from xray_captioning.encoders import Encoder, encoding
from xray_captioning.encoders.encoding import cached_features
from xray_captioning.training import captions as training

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def reads(monkeypatch):
    """Count how often each image is read on its way to an encoder."""
    counts, original = Counter(), reading.read_images

    def counting(paths, *args, **kwargs):
        counts.update(paths)
        return original(paths, *args, **kwargs)

    monkeypatch.setattr(reading, "read_images", counting)
    return counts


def two_epochs_of_batches(model, data, *settings):
    """Stand in for a fit: ask for every batch as Keras does, and learn nothing."""
    for epoch in range(2):
        for part in data.values():
            part.epoch = epoch
            for index in range(len(part)):
                part[index]


def test_training_encodes_each_image_once_and_a_second_run_none(
    phantoms, tiny_config, tiny_encoder_run, tmp_path, reads, monkeypatch
):
    monkeypatch.setattr(training, "fit", two_epochs_of_batches)
    studies, cache = read_studies(phantoms), tmp_path / "cache"
    options = {"encoder": tiny_encoder_run, "cache": cache, "measured": False}
    training.train(studies, tiny_config, tmp_path / "first", **options)
    assert set(reads.values()) == {1}
    reads.clear()
    other = tiny_config.replace({"model.units": 8})
    training.train(studies, other, tmp_path / "second", **options)
    assert not reads


def test_an_encoder_is_called_once_for_each_batch_of_images(phantoms, tiny_config):
    images = [path for study in read_studies(phantoms)["images"] for path in study]
    sizes = []

    def encode(pixels):
        sizes.append(len(pixels))
        return ops.zeros((len(pixels), 1, 1, 2))

    maps = encoding.encode_images(encode, tiny_config, images[: 2 * BATCH + 3])
    assert len(maps) == 2 * BATCH + 3
    assert sorted(sizes) == [4, BATCH, BATCH]  # a power of two, so that few shapes are compiled


def test_other_preprocessing_is_never_served_what_was_there(phantoms, tiny_config, tmp_path, reads):
    images = study_images(read_studies(phantoms), tiny_config)[:3]
    weights = Encoder("phantom_cnn", 64).get_weights()
    changes = [
        {},
        {"image.size": 96},
        {"image.resize": "nearest"},
        {"image.normalisation": "signed"},
        {"model.pool": 2},
        {"training.cache_dtype": "float16"},
    ]
    for number, change in enumerate(changes, 1):
        config = tiny_config.replace(change)
        encoder = Encoder("phantom_cnn", config.image.size, config.model.pool)
        encoder.set_weights(weights)
        cached_features(images, encoder, config, tmp_path)
        assert sum(reads.values()) == number * len({path for row in images for path in row})


def test_another_weight_or_image_is_never_served_what_was_there(
    phantoms, tiny_config, tiny_encoder_run, tmp_path, reads
):
    import cv2

    image = study_images(read_studies(phantoms), tiny_config)[0][0]
    copy = str(tmp_path / "image.png")
    cv2.imwrite(copy, cv2.imread(image))
    encoder = Encoder.load(tiny_encoder_run)
    first = cached_features([[copy]], encoder, tiny_config, tmp_path)[copy]
    encoder.backbone.trainable_variables[0].assign_add(0.1 * ops.ones_like(encoder.backbone.trainable_variables[0]))
    second = cached_features([[copy]], encoder, tiny_config, tmp_path)[copy]
    cv2.imwrite(copy, 255 - cv2.imread(image))
    third = cached_features([[copy]], encoder, tiny_config, tmp_path)[copy]
    assert sum(reads.values()) == 3
    for one, other in ((first, second), (second, third)):
        assert np.abs(one - other).max() > 1e-3


def test_captioning_encodes_each_image_of_a_batch_once(phantoms, tiny_run, reads):
    captioner = Captioner.load(tiny_run)
    studies = study_images(read_studies(phantoms), captioner.config)
    captioner.caption(studies)
    assert set(reads.values()) == {1}
    reads.clear()
    captioner.caption([[studies[0][0]], [studies[0][0]]])
    assert list(reads.values()) == [1]


def test_captions_do_not_depend_on_the_cache(phantoms, tiny_run, tmp_path):
    from xray_captioning.data.features import stack_features
    from xray_captioning.decoders import Features

    captioner = Captioner.load(tiny_run)
    studies = study_images(read_studies(phantoms), captioner.config)[:9]
    computed = captioner.caption(studies, beam_size=1)
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-2)):
        config = captioner.config.replace({"training.cache_dtype": dtype})
        cache = cached_features(studies, captioner.encoder, config, tmp_path)
        rows = [[cache[path] for path in study] for study in studies]
        kept = captioner.caption_features(Features(*stack_features(rows, 2)), beam_size=1)
        for one, other in zip(computed, kept):
            assert one.text == other.text
            assert one.log_probability == pytest.approx(other.log_probability, abs=tolerance)
