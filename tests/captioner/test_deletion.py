"""Deletion and insertion by a captioner that names what is bright in a quarter of the image."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import TINY
from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.deletion import deletion_curves
from xray_captioning.data.features import Features
from xray_captioning.errors import DataError

IMAGE = np.full((64, 64, 3), 0.2, np.float32)
IMAGE[32:, :32] = np.random.default_rng(0).random((32, 32, 1))


class Bright:
    """Its attention is on the quarters in the order lower left, upper left, upper right, lower right."""

    config = TINY.replace({"image.size": 64, "image.views": 2})
    encoder = SimpleNamespace(findings=("Edema",), grid=(2, 2))
    offset, tokenizer = (0.0, 0.0), None

    def features(self, studies, resized):
        assert resized  # else `image.resize` cuts them again
        self.shown = [study[0] for study in studies]
        return Features(np.zeros((len(studies), 8, 1)), np.repeat([[True, False]] * len(studies), 4, axis=1))

    def write_captions(self, features, beam, context):
        texts = ["edema ." if image[32:, :32].std() > 0.2 else "clear lungs ." for image in self.shown]
        attention = np.zeros((2, 2, 2, 2), np.float32)
        attention[0, 0] = [[0.3, 0.2], [0.4, 0.1]]
        return [Caption(text, text.split(), -1.0, [], attention, []) for text in texts]


@pytest.fixture
def captioner(monkeypatch):
    found = Bright()
    found.encoder.probabilities = lambda regions, mask: np.full((len(mask), 1), 0.25)
    return found


def test_the_finding_goes_with_its_region_and_comes_with_it(captioner):
    found = deletion_curves(captioner, [IMAGE], "Edema", steps=8)
    deleted, inserted = found["deletion"], found["insertion"]
    assert [row["named"] for row in deleted] == [True, *[False] * 8]
    assert [row["caption"] for row in deleted] == ["edema .", *["clear lungs ."] * 8]
    assert [row["named"] for row in inserted] == [False, *[True] * 8]
    assert inserted[2] == {"share": 0.25, "caption": "edema .", "named": True, "probability": 0.25}
    np.testing.assert_allclose(captioner.shown[-1], IMAGE)  # all of it is there again


def test_the_regions_of_a_missing_view_are_no_steps(captioner):
    image = np.random.default_rng(1).random((64, 64, 3)).astype("float32")
    deletion_curves(captioner, [image], "Edema", steps=4)
    insertion = np.array(captioner.shown)
    changed = [(np.abs(one - insertion[0]).max(axis=2) > 0).mean() for one in insertion[1:]]
    assert changed == pytest.approx([0.25, 0.5, 0.75, 1], abs=0.01)


def test_regions_are_changed_where_they_see(captioner):
    captioner.offset = (-0.25, 0.0)
    deletion_curves(captioner, [IMAGE], "Edema", steps=8)
    first = np.abs(captioner.shown[1] - captioner.shown[0]).sum(axis=2) > 0
    assert first[16:, :32].mean() > 0.9  # at the edge the outermost region sees the rest
    assert not first[:16].any()


def test_a_finding_that_the_caption_does_not_name_is_refused(captioner):
    with pytest.raises(DataError, match="Cardiomegaly: the caption does not name it, but says"):
        deletion_curves(captioner, [IMAGE], "Cardiomegaly")
