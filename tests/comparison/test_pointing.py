"""The pointing game, and findings painted over, by a captioner that looks at one place."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY
from xray_captioning.captioner.caption import Caption, Region
from xray_captioning.comparison.pointing import located, pointing_games
from xray_captioning.data.features import Features
from xray_captioning.data.outlines import Outline

WORDS = ["small", "left", "effusion", "."]


def said(words):
    """A caption that looks, for every word, at the first view's upper right of four regions."""
    attention = np.zeros((len(words), 2, 2, 2), np.float32)
    attention[:, 0, 0, 1] = 1
    return Caption(" ".join(words), words, -1.0, [], attention, [])


class Looking:
    """Names an effusion where the upper right of the first image is bright."""

    config = TINY.replace({"image.size": 64})
    encoder = SimpleNamespace(findings=(), grid=(2, 2))
    offset, compiles, about, tokenizer = (0.0, 0.0), False, {}, None

    def features(self, studies, resized):
        assert resized  # else `image.resize` cuts them again
        self.shown = studies
        return studies

    def write_captions(self, studies, beam, context):
        return [said(WORDS if study[0][:32, 32:].max() > 0.8 else ["normal", "."]) for study in studies]


@pytest.fixture
def played(tmp_path):
    """What is found of four studies of two patients; the effusion of the second is outlined elsewhere."""
    pixels = np.full((64, 64), 40, np.uint8)
    pixels[8:16, 40:56] = 250
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    upper, lower = ([(x, y), (x + 0.22, y), (x + 0.22, y + 0.1), (x, y + 0.1)] for x, y in ((0.64, 0.14), (0.1, 0.8)))
    effusion, name = "Pleural Effusion", "a.png"
    outlines = {
        ("1", name): [Outline("1", effusion, "left", name, upper)],
        ("2", name): [Outline("2", effusion, "right", name, lower), Outline("2", "Edema", "", name, upper)],
        ("3", "other.png"): [Outline("3", effusion, "left", "other.png", upper)],
    }
    columns = {"images": [[str(tmp_path / "a.png")]] * 4, "views": [["frontal"]] * 4}
    test = pd.DataFrame({"study_id": ["1", "2", "3", "4"], **columns})
    mask = np.repeat([[True, False]] * 4, 4, axis=1)
    features = Features(np.zeros((4, 8, 3), np.float32), mask)
    captioner = Looking()
    run = SimpleNamespace(
        config=captioner.config,
        captioner=captioner,
        features=None,
        batches=lambda *_: (Features(*(part[i : i + 3] for part in features)) for i in (0, 3)),
    )
    captions = {"mine": [said(WORDS)] * 4}
    task = SimpleNamespace(test=test, cache=None)
    return run, pointing_games({"mine": [run, None]}, task, captions, outlines, [0, 0, 1, 1], 1)


def test_a_hit_is_the_strongest_region_in_an_outline_of_the_finding_that_is_named(played):
    rows = {(row["words"], row["finding"]): row for row in played[1]["rows"]}
    assert {row["method"] for row in rows.values()} == {"attention"}
    every = rows["finding", "all"]
    assert (every["n"], every["hits"], every["mass"], every["chance"]) == (2, 0.5, 0.5, 0.25)
    assert 0 <= every["low"] < 0.5 < every["high"] <= 1
    assert rows["finding", "Pleural Effusion"] == every | {"finding": "Pleural Effusion"}
    # The words for the side point at outlines on that side alone.
    assert (rows["side", "all"]["n"], rows["side", "all"]["hits"]) == (1, 1.0)


def test_a_finding_goes_from_the_caption_when_its_outline_is_painted_over(played):
    run, found = played
    rows = {row["painted"]: row for row in found["painted"] if row["finding"] == "all"}
    assert (rows["outline"]["n"], rows["outline"]["gone"]) == (2, 0.5)
    assert (rows["elsewhere"]["n"], rows["elsewhere"]["gone"]) == (2, 0.0)
    over, beside = (study[0] for study in run.captioner.shown[:2])
    assert over[8:16, 40:56].max() < 0.2
    assert beside[8:16, 8:24].max() < 0.2  # mirrored
    assert beside[8:16, 40:56].min() > 0.9


def test_what_is_cut_off_is_not_painted_over(played, tmp_path):
    run, _ = played
    run.config = run.config.replace({"image.resize": "pillow-bilinear-256/128"})
    edge, name = [(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.1)], "a.png"
    outlines = {("1", name): [Outline("1", "Pleural Effusion", "left", name, edge)]}
    test = pd.DataFrame({"study_id": ["1"], "images": [[str(tmp_path / name)]], "views": [["frontal"]]})
    features = Features(np.zeros((1, 8, 3), np.float32), np.array([[True] * 4 + [False] * 4]))
    run.batches = lambda *_: iter([features])
    task = SimpleNamespace(test=test, cache=None)
    found = pointing_games({"mine": [run]}, task, {"mine": [said(WORDS)]}, outlines, [0], 1)
    assert found == {"rows": [], "painted": []}


def test_features_cannot_be_painted_over(played):
    run, _ = played
    run.features = object()
    task = SimpleNamespace(test=pd.DataFrame({"study_id": [], "images": [], "views": []}), cache=None)
    run.batches = lambda *_: iter(())
    assert pointing_games({"mine": [run]}, task, {"mine": []}, {}, [], 1) == {"rows": [], "painted": []}


def test_regions_lie_beside_the_captions_in_shares_of_whole_images(tmp_path):
    for name in ("front", "side"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.arange(100 * 50, dtype=np.uint8).reshape(50, 100))
    images = [str(tmp_path / name) for name in ("side.png", "front.png")]
    test = pd.DataFrame({"study_id": ["1", "2"], "images": [images] * 2, "views": [["lateral", "frontal"]] * 2})
    run = SimpleNamespace(config=TINY.replace({"image.resize": "xrv"}))  # the middle square
    region = Region(0, "Edema", 1, (0.0, 0.5, 0.5, 1.0), "attention", 0.8, 0.2, "edema")
    captions = [Caption("", ["edema"], -1.0, [], None, [], None, own) for own in ([], [region])]
    found = located(run, test, captions)
    assert list(found) == ["2"]
    (row,) = found["2"]
    assert (row["image"], row["box"]) == ("side.png", pytest.approx((0.25, 0.5, 0.5, 1.0)))
    assert (row["finding"], row["words"], row["hits"]) == ("Edema", "edema", 0.8)
