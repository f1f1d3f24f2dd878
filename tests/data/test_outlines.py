"""Outlines of findings: read, laid over regions, painted over."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from xray_captioning.data import outlines
from xray_captioning.data.outlines import Outline
from xray_captioning.errors import DataError

ROW = {"study": "1", "finding": "Edema", "side": "left", "image": "1.png", "polygon": [[0.5, 0], [1, 0], [1, 0.25]]}


def square(left, top, right, bottom):
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Outline("1", "Edema", "left", "1.png", corners)


def test_rows_are_read_by_study_and_image_and_found_beside_a_table(tmp_path):
    file, studies = tmp_path / "regions.json", SimpleNamespace(attrs={})
    outlines.note_outlines(studies, tmp_path)
    assert studies.attrs == outlines.read_outlines(studies) == {}
    file.write_text(json.dumps([ROW, ROW | {"study": "2"}, ROW]))
    found = outlines.read_outlines(studies, file)
    assert {name: len(rows) for name, rows in found.items()} == {("1", "1.png"): 2, ("2", "1.png"): 1}
    (tmp_path / "table.csv").touch()
    for place in (tmp_path, tmp_path / "table.csv"):
        beside = SimpleNamespace(attrs={})
        outlines.note_outlines(beside, place)
        assert outlines.read_outlines(beside) == found


@pytest.mark.parametrize(
    "change",
    [
        {"study": 1},
        {"finding": "Nothing"},
        {"side": "up"},
        {"polygon": []},
        {"polygon": [[0, 1.1]]},
        {"polygon": [[0]]},
        {"more": 1},
    ],
)
def test_what_does_not_fit_is_one_error(tmp_path, change):
    (file := tmp_path / "regions.json").write_text(json.dumps([ROW | change]))
    with pytest.raises(DataError, match=r"regions\.json: .*; give rows of study, finding, side"):
        outlines.read_outlines(None, file)


def test_regions_within_half_a_region_of_an_outline_are_touched():
    found = outlines.touched([square(0.3, 0.3, 0.45, 0.7)], (4, 4))
    assert np.argwhere(found).tolist() == [[1, 1], [2, 1]]
    # A point is in one region, wherever it is; so is what is smaller than a pixel.
    for x in (0.0, 0.26, 0.99, 1.0):
        assert outlines.touched([square(x, 0.6, x, 0.6)], (4, 4)).sum() == 1


def test_outlines_are_laid_over_what_is_seen():
    # Of an image twice as wide as high a model sees the middle.
    found = outlines.touched([square(0.25, 0, 0.49, 1)], (2, 2), (0, 0.25, 1, 0.5))
    assert found.tolist() == [[True, False], [True, False]]
    assert not outlines.touched([square(0, 0, 0.2, 1)], (2, 2), (0, 0.25, 1, 0.5)).any()


def test_painting_over_changes_the_inside_alone():
    rng = np.random.default_rng(0)
    pixels = np.repeat(rng.uniform(0.2, 0.3, (28, 28, 1)), 3, axis=2).astype("float32")
    mask = outlines.filled([square(0.4, 0.4, 0.6, 0.6)], (28, 28))
    pixels[mask] = 0.9
    new = outlines.painted(pixels, outlines.widened(mask))
    assert new[mask].max() < 0.3
    assert (new[~outlines.widened(mask)] == pixels[~outlines.widened(mask)]).all()


def test_as_much_is_painted_elsewhere_without_touching_an_outline():
    left, right = (outlines.filled([square(x, 0.4, x + 0.2, 0.6)], (28, 28)) for x in (0.1, 0.7))
    assert (outlines.elsewhere(left, left) == left[:, ::-1]).all()
    moved = outlines.elsewhere(left, left | right)
    assert moved.sum() == left.sum()
    assert not (moved & (left | right)).any()
    assert outlines.elsewhere(left, np.ones((28, 28), bool)) is None
