"""Where findings are seen: maps of each method, the regions of captions, and where a grid's regions look."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import TINY
from xray_captioning.captioner import evidence
from xray_captioning.captioner.calibration import stated
from xray_captioning.captioner.caption import Caption, Region, Sentence
from xray_captioning.data.features import Features
from xray_captioning.metrics.mentions import named_findings
from xray_captioning.text.tokenizer import Tokenizer

TEXT = "small left effusion . the heart is enlarged ."
WORDS = TEXT.split()
CONFIG = TINY.replace({"image.size": 64})


def row(method, finding, hits, low):
    known = {"words": "finding", "n": 50, "mass": 0.3, "chance": 0.2}
    return {"method": method, "finding": finding, "hits": hits, "low": low, **known}


ROWS = [
    row("class activation", "Pleural Effusion", 0.9, 0.8),
    row("attention", "Pleural Effusion", 0.5, 0.4),
    row("attention", "Cardiomegaly", 0.3, 0.19),
    row("attention", "all", 0.5, 0.4),
]


@pytest.fixture
def captioner():
    """What evidence asks of a captioner, its grid 2 x 2: the effusion's weights are those of the first channel."""
    weights = SimpleNamespace(kernel=np.array([[1.0, 0.0], [0.0, 1.0]]))
    findings = ("Pleural Effusion", "Edema")
    encoder = SimpleNamespace(findings=findings, classifier=weights, pooling="mean", grid=(2, 2))
    about = {evidence.MEASURE: {"rows": [dict(row) for row in ROWS]}}
    return SimpleNamespace(encoder=encoder, config=CONFIG, about=about, offset=(0.25, 0.0), compiles=True)


@pytest.fixture
def features():
    regions = np.zeros((1, 8, 2), np.float32)
    regions[0, 5, 0], regions[0, 7, 0], regions[0, 0, 0] = 2, 1.5, -3
    return Features(regions, np.ones((1, 8), bool))


@pytest.fixture
def caption():
    attention = np.zeros((len(WORDS), 2, 2, 2), np.float32)
    attention[1, 0, 0, 0] = attention[2, 1, 1, 0] = 1
    attention[5:8, 0, 1, 1] = 1
    said = [Sentence("Small left effusion.", -0.1), Sentence("The heart is enlarged.", -0.1)]
    return Caption("", WORDS, -0.1, said, attention, [])


def test_maps_are_of_the_words_that_name_a_finding_or_its_side(captioner, features, caption):
    asked = [(0, named) for named in named_findings(WORDS)]
    assert [named.finding for _, named in asked] == ["Pleural Effusion", "Cardiomegaly"]
    found = evidence.evidence_maps("attention", captioner, features, [caption], asked, None)
    assert [np.argwhere(shares).tolist() for shares in found] == [[[1, 1, 0]], [[0, 1, 1]]]
    sides = evidence.evidence_maps("attention", captioner, features, [caption], asked, None, side=True)
    assert np.argwhere(sides).tolist() == [[0, 0, 0, 0]]  # no side is said of the heart
    found = evidence.evidence_maps("class activation", captioner, features, [caption], asked, None)
    assert found[0].ravel() == pytest.approx(np.array([0, 0, 0, 0, 0, 2, 0, 1.5]) / 3.5)
    assert not found[1].any()  # the encoder does not know it
    assert not evidence.evidence_maps("class activation", captioner, features, [caption], asked, None, side=True).any()
    assert len(evidence.evidence_maps("attention", captioner, features, [caption], [], None)) == 0


def test_the_share_in_pooled_evidence_leaves_out_views_that_are_not_there(captioner, features, caption):
    captioner.encoder.pooling = "evidence"
    features.mask[0, 4:] = False
    asked = [(0, named_findings(WORDS)[0])]
    found = evidence.evidence_maps("class activation", captioner, features, [caption], asked, None)[0].ravel()
    weights = np.exp(features.regions[0, :4, 0])
    assert found == pytest.approx([*weights / weights.sum(), 0, 0, 0, 0], abs=1e-6)


def test_regions_are_of_the_best_method_and_none_if_it_is_no_better_than_chance(captioner, features, caption):
    (found,) = evidence.grounded(captioner, features, [caption], None)
    # Of the second view's right column; a quarter of the image further down than its place.
    assert found.regions == [
        Region(0, "Pleural Effusion", 1, (0.5, 0.25, 1.0, 1.0), "class activation", 0.9, 0.2, "effusion")
    ]
    first, _, heart, _ = captioner.about[evidence.MEASURE]["rows"]
    first["low"], heart["low"] = 0.1, 0.21
    (found,) = evidence.grounded(captioner, features, [caption], None)
    assert [(one.sentence, one.finding, one.method) for one in found.regions] == [
        (0, "Pleural Effusion", "attention"),
        (1, "Cardiomegaly", "attention"),
    ]
    (found,) = evidence.grounded(captioner, features, [caption._replace(words=["normal", "."])], None)
    assert found.regions == []
    captioner.about = {}
    assert evidence.grounded(captioner, features, [caption], None)[0].regions is None


def test_exported_graphs_have_no_gradients_and_older_ones_attention_alone(captioner, features, caption):
    (before,) = evidence.grounded(captioner, features, [caption], None)
    activation = np.asarray(evidence.class_activation(captioner.encoder, features.regions))
    del captioner.encoder.classifier
    captioner.compiles = False
    assert evidence.methods_of(captioner) == ["attention"]
    (found,) = evidence.grounded(captioner, features, [caption], None)
    assert [(one.finding, one.method) for one in found.regions] == [("Pleural Effusion", "attention")]
    captioner.encoder.activation = lambda regions, mask: activation
    assert evidence.methods_of(captioner) == ["attention", "class activation"]
    (found,) = evidence.grounded(captioner, features, [caption], None)
    assert found.regions == before.regions


def test_one_case_that_is_right_tells_nothing(captioner, features, caption):
    captioner.about[evidence.MEASURE] = {"rows": [row("attention", "Pleural Effusion", 1.0, 0.21) | {"n": 1}]}
    assert evidence.grounded(captioner, features, [caption], None)[0].regions is None


def test_nothing_is_shown_of_unfamiliar_images(captioner, features, caption):
    (found,) = evidence.grounded(captioner, features, [caption._replace(novelty=2.0)], None)
    assert found.regions
    assert stated(found)[0].regions is None
    assert stated(found, show_unfamiliar=True)[0].regions is None  # of such images it was not measured


def test_how_often_maps_point_right_is_said_where_it_was_measured(captioner):
    said = "its maximum lies in the finding's outline in 50 % of 50 cases, by chance in 20 %"
    assert evidence.how_often(captioner.about) == said
    unknown = "how often it points at the finding was not measured"
    assert evidence.how_often({}) == unknown
    # Of several systems that were compared another's figure says nothing of this one.
    several = {evidence.MEASURE: {"rows": [{"system": "other", **row} for row in ROWS]}}
    assert [evidence.how_often(several, name) for name in ("other", "this")] == [said, unknown]


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.1, -0.05)])
def test_where_a_region_sees_is_measured(offset):
    def encode(images):
        """Means of squares that lie beside their places."""
        moved = np.roll(images, [-round(part * 64) for part in offset], axis=(1, 2))
        return moved.reshape(len(images), 8, 8, 8, 8, 3).mean(axis=(2, 4))

    assert evidence.region_offset(encode, CONFIG, (8, 8)) == pytest.approx(offset, abs=0.02)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("decoder", "kinds"), [("global_attention", 0), ("global_attention", 1), ("lstm", 0)])
def test_gradients_are_of_the_words_and_of_regions_that_are_there(captioner, decoder, kinds):
    """Without attention, too; and where the search is of a beam, tokens are those of the caption."""
    from xray_captioning.backend import keras
    from xray_captioning.decoders.model import CaptionModel

    keras.utils.set_random_seed(0)
    captioner.tokenizer = Tokenizer.fit([TEXT])
    config = CONFIG.replace({"model.decoder": decoder}).model
    captioner.model = CaptionModel(config, captioner.tokenizer.vocabulary_size, (2, 2, 2), 3, 16, kinds)
    told = np.full((2, 1, 16), 3, "int32") if kinds else None
    regions = np.random.default_rng(0).normal(size=(2, 8, 3)).astype("float32")
    features = Features(regions, np.arange(8)[None] < [[4], [8]])
    captions = [Caption("", WORDS, -1.0, [], None, [])] * 2
    asked = [(row, named) for row in (0, 1) for named in named_findings(WORDS)]
    found = evidence.evidence_maps("gradient", captioner, features, captions, asked, told)
    assert found.sum(axis=(1, 2, 3)) == pytest.approx(np.ones(4), abs=1e-5)
    assert not found[:2, 1].any()
    sides = evidence.evidence_maps("gradient", captioner, features, captions, asked, told, side=True)
    assert sides.any(axis=(1, 2, 3)).tolist() == [True, False, True, False]
    assert found[2].ravel() == pytest.approx(_by_differences(captioner, features, told), abs=0.02)


def _by_differences(captioner, features, told):
    """Return what each region of the second study adds to "effusion" if it grows a little, as shares."""
    from xray_captioning.backend import ops

    tokens = captioner.tokenizer.encode_batch([TEXT], 16)

    def gain(regions):
        given = {"regions": regions, "mask": features.mask[1:], "tokens": tokens[:, :-1]}
        given |= {} if told is None else {"context": told[1:]}
        logits = ops.convert_to_numpy(ops.log_softmax(captioner.model(given, training=False)))
        return float(logits[0, 2, tokens[0, 3]])

    regions, grown = features.regions[1:], 1 + 0.03 * np.eye(8)[:, None, :, None]
    gains = np.array([max(gain(regions * more) - gain(regions), 0) for more in grown])
    return gains / gains.sum()
