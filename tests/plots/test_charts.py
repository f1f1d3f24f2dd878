"""Charts are figures with labelled axes; what they show stays inside them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from xray_captioning.errors import ConfigError
from xray_captioning.plots import charts

ROWS = [
    {"system": "mine", "search": "greedy", "BLEU-4": 0.3, "clinical_f1": 0.8, "sides": None},
    {"system": "constant", "search": None, "BLEU-4": 0.1, "clinical_f1": 0.0, "sides": 0.0},
]
FIGURES = {
    "nothing": lambda: charts.bars({"empty": {}}),
    "bars": lambda: charts.bars({"one": {"a": 3, "b": 1200}, "two": {"$c$": 0}}),
    "histograms": lambda: charts.histograms({"few": [1, 2, 2], "none": [], "part": [0.1, -4]}, "n"),
    "scores": lambda: charts.scores(ROWS, ("BLEU-4", "sides"), {"mine greedy": {"BLEU-4": [0, 1]}}),
    "intervals": lambda: charts.intervals({"Edema": (0.8, 0.7, 0.9)}, "area", 0.5),
    "lines": lambda: charts.lines({str(n): [1, 2, 3] for n in range(9)}, "epoch", "loss", True),
    "scatter": lambda: charts.scatter({"constant": (0.1, 0), "other": (0.1, 0)}, "x", "y"),
    "heatmap": lambda: charts.heatmap(np.array([[0.2, np.nan]]), ["r"], ["c", "d"], "F1"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_charts_draw(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    assert figure.get_size_inches()[0] <= charts.WIDTH
    assert figure.get_tightbbox().width <= charts.WIDTH + 0.1


def test_baselines_are_grey_and_intervals_are_lines():
    axis = FIGURES["scores"]().axes[0]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in points] == [charts.COLOURS[0], charts.GREY]
    assert [list(line.get_xdata()) for line in axis.lines if line not in points] == [[0, 1]]


def test_whole_numbers_have_whole_bins():
    axis = charts.histograms({"words": [1, 2, 2, 5]}, "words").axes[0]
    counts = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axis.patches}
    assert {round(place): count for place, count in counts.items() if count} == {1: 1, 2: 2, 5: 1}


def test_names_of_equal_points_do_not_lie_on_each_other():
    axis = FIGURES["scatter"]().axes[0]
    assert len({round(text.get_position()[1], 3) for text in axis.texts}) == 2


def test_a_figure_is_written_in_each_format_and_is_always_the_same_file(tmp_path):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert tuple(begins) == charts.FORMATS
    for kind, start in begins.items():
        written = []
        for name in ("first", "second"):
            charts.save(charts.bars({"<b> & $x$ -->": {"]]> </svg>": 1}}), tmp_path / f"{name}.{kind}")
            written.append((tmp_path / f"{name}.{kind}").read_bytes())
        assert written[0].startswith(start)
        assert written[0] == written[1]
    ElementTree.fromstring(written[0])  # whatever a name holds
    with pytest.raises(ConfigError, match=r"--plot x\.gif: is a picture; let its name end in \.png, \.pdf, \.svg"):
        charts.check_format(Path("x.gif"), "--plot")
