"""Captioners that read the indication or the prior report, in Keras and as exported graphs."""

import numpy as np
import pytest

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.runtime import load
from xray_captioning.text.tokenizer import Tokenizer

COUGH, CLEAR = "Cough, fever.", "The lungs are clear."


def tiny(*kinds):
    """An untrained captioner, as small as can be, that heeds what it is told."""
    sizes = {"units": 8, "embedding": 6, "attention": 4, "head": 10}
    text = {"maximum_length": 9, "context": kinds}
    image = {"size": 32, "views": 2}
    config = Config.from_dict({"image": image, "text": text, "model": {"encoder": "phantom_cnn", **sizes}}, "tiny")
    encoder = Encoder("phantom_cnn", 32)
    tokenizer = Tokenizer.fit(["the heart is normal . no effusion .", "cough , fever . the lungs are clear ."])
    model = new_model(config, encoder, tokenizer)
    if kinds:
        model.texts.project.kernel.assign(20 * model.texts.project.kernel)
    return Captioner(config, encoder, model, tokenizer)


def images(studies=3):
    rng = np.random.default_rng(1)
    return [list(rng.random((2, 32, 32), "float32")) for _ in range(studies)]


def told(captions):
    return [caption.log_probability for caption in captions]


@pytest.fixture(scope="module", params=[("indication",), ("indication", "prior")])
def captioner(request):
    return tiny(*request.param)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_each_study_is_told_its_own(captioner, beam_size):
    studies = images()
    without = captioner.caption(studies, beam_size)
    context = [{"indication": COUGH}, None, {"indication": ""}]
    found = captioner.caption(studies, beam_size, context=context)
    assert told(found)[0] != pytest.approx(told(without)[0], abs=1e-3)
    assert told(found)[1:] == pytest.approx(told(without)[1:], abs=1e-6)
    alone = captioner.caption(studies[:1], beam_size, context=[COUGH])  # a text alone is of the first kind
    assert told(alone) == pytest.approx(told(found)[:1], abs=1e-5)
    several = list(captioner.caption_iter(iter(studies), beam_size, context=iter(context)))
    assert told(several) == pytest.approx(told(found), abs=1e-6)
    known = captioner.caption_features(captioner.features(studies), beam_size, context=context)
    assert told(known) == pytest.approx(told(found), abs=1e-6)


def test_a_saved_bundle_reads_it_too(captioner, tmp_path):
    captioner.save(tmp_path / "bundle")
    loaded, context = Captioner.load(tmp_path / "bundle"), [COUGH, None, None]
    assert told(loaded.caption(images(), context=context)) == pytest.approx(
        told(captioner.caption(images(), context=context)), abs=1e-5
    )


def test_exported_graphs_read_it_too(captioner, tmp_path):
    pytest.importorskip("tf2onnx")
    captioner.export(tmp_path / "graphs")
    exported = load(tmp_path / "graphs")
    for context in ([COUGH, None, COUGH], None):
        found, expected = (told(one.caption(images(), 2, context=context)) for one in (exported, captioner))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("context", "error", "message"),
    [
        ([COUGH] * 2, DataError, "there are not as many as studies"),
        ([COUGH] * 4, DataError, "there are more than studies"),
        (COUGH, DataError, "expected a list"),
        ([{"indication": 7}] * 3, DataError, "a study's is a text, or a dict of texts"),
        ([{COUGH: COUGH}] * 3, ConfigError, "beside images this model reads indication"),
    ],
)
def test_what_does_not_fit_is_refused_without_its_words(captioner, context, error, message):
    with pytest.raises(error, match=f"^context: .*{message}") as caught:
        captioner.caption(images(), context=context)
    assert "ough" not in str(caught.value)


def test_a_model_that_reads_images_only_is_told_nothing():
    captioner = tiny()
    assert len(captioner.caption(images())) == 3
    with pytest.raises(ConfigError, match="reads images only") as caught:
        captioner.caption(images(), context=[COUGH] * 3)
    assert "ough" not in str(caught.value)
