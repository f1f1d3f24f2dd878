from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_captioning.data.images import read_images
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.plots import panels as plots
from xray_captioning.plots.panels import (
    Example,
    draw_attention,
    plot_curves,
    plot_panel,
    words_figure,
)

TEXT = "small left pleural effusion . the heart is enlarged ."


@pytest.fixture(scope="module")
def example(phantoms: Path) -> Example:
    """A study of two views with an attention that looks at one region a word."""
    studies = read_studies(phantoms)
    row = next(i for i, views in enumerate(studies["views"]) if len(views) == 2)
    words = TEXT.split()
    attention = np.full((len(words), 2, 4, 4), 0.001, np.float32)
    for number, weights in enumerate(attention):
        weights[number % 2, number % 4, 2] += number
        weights /= weights.sum()
    images = read_images(studies["images"][row], 64)
    captions = {"mine greedy": TEXT, "constant": "no acute disease ."}
    return Example(images, "small effusion .", captions, attention, words, studies["views"][row])


def drawn(examples: list[Example], path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draw a panel, check the file and return the figure."""
    figures = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda f, p: (figures.append(f), save(f, p)))
    plot_panel(examples, path)
    assert size(path)
    return figures[0]


def size(path: Path) -> tuple[int, int]:
    """Check that a file is a PNG, alone in its folder, and return width and height."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content[12:16] == b"IHDR"
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def titles(figure: Any) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def check_layout(figure: Any) -> None:
    """Check that no text leaves the picture or lies on another."""
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.texts]
    boxes += [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    width, height = figure.bbox.width, figure.bbox.height
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        for other in boxes[:i]:
            assert not box.shrunk(0.9, 0.7).overlaps(other)
        for axis in figure.axes:
            assert not box.overlaps(axis.get_window_extent())


def test_panel(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn([example, example], tmp_path / "panel.png", monkeypatch)
    check_layout(figure)
    assert titles(figure)[:2] == ["frontal", "lateral"]
    assert len(figure.axes) == 2 * 5
    assert {"reference", "small effusion .", "mine greedy", TEXT, "constant"} <= set(texts(figure))
    for title in titles(figure)[2:5]:
        word, where = title.split("\n")
        assert word.strip("“”") in example.words
        assert where.split(", ")[0] in ("frontal", "lateral")
    assert 900 < size(tmp_path / "panel.png")[0] < 1300  # read at the width of a page


def test_words_that_look_at_one_place_are_shown(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = np.full((10, 2, 4, 4), 1 / 32)
    for number in (2, 6):
        attention[number] = 0
        attention[number, 1, 0, 0] = 1
    changed = example._replace(attention=attention)
    shown = titles(drawn([changed], tmp_path / "panel.png", monkeypatch))
    assert {"“pleural”\nlateral, 100 %", "“heart”\nlateral, 100 %"} <= set(shown)


def test_without_attention(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn([example._replace(attention=None)], tmp_path / "panel.png", monkeypatch)
    check_layout(figure)
    assert titles(figure) == ["frontal", "lateral"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word " * 500,
        "x" * 3000,
        "WIDE LETTERS EVERYWHERE " * 40,
        "$x_1$ \\frac{",
        "ünïcode — 肺",
    ],
    ids=["empty", "long", "one word", "capitals", "mathematics", "other letters"],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_text_fits(
    text: str, example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = {"a_system_with_a_very_long_name beam-3": text, "other": TEXT}
    changed = example._replace(reference=text, captions=captions)
    check_layout(drawn([changed, example], tmp_path / "panel.png", monkeypatch))


def test_studies_of_different_kinds(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = example._replace(images=example.images[:1], views=["unknown"])
    silent = example._replace(words=[], attention=np.zeros((0, 2, 4, 4)), captions={"mine": ""})
    short = example._replace(words=["a", "b"], attention=example.attention[:2], views=())
    figure = drawn([example, single, silent, short], tmp_path / "panel.png", monkeypatch)
    check_layout(figure)
    assert "view 1" in titles(figure)
    assert "view 2" in titles(figure)
    assert "(nothing)" in texts(figure)


def test_attention_of_a_view_that_is_not_there_is_not_drawn(example: Example) -> None:
    from matplotlib.figure import Figure

    attention = np.zeros((1, 2, 4, 4))
    attention[0, 0, 1, 1], attention[0, 1, 2, 2] = 0.25, 0.75
    axis = Figure().subplots()
    alone = example._replace(images=example.images[:1], attention=attention, words=["left"])
    draw_attention(axis, alone, 0)
    assert axis.get_title() == "“left”\nfrontal, 25 %"
    heat = np.asarray(axis.images[1].get_array())
    assert np.unravel_index(heat.argmax(), heat.shape) == (1, 1)
    assert axis.images[0].get_extent() == axis.images[1].get_extent()


@pytest.mark.parametrize(
    "names",
    [("loss",), ("loss", "val_loss"), ("loss", "val_loss", "token_accuracy", "val_token_accuracy")],
)
@pytest.mark.parametrize("epochs", [1, 12])
def test_curves(names: tuple[str, ...], epochs: int, tmp_path: Path) -> None:
    history = [{"epoch": float(e), **dict.fromkeys(names, 1 / e)} for e in range(1, epochs + 1)]
    plot_curves(history, tmp_path / "curves.png")
    width, height = size(tmp_path / "curves.png")
    assert width > height


def test_a_failure_leaves_the_old_picture(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "panel.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        plot_panel([example], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_word_is_drawn_over_both_views(example: Example) -> None:
    figure = words_figure(example)
    check_layout(figure)
    words = [word for word in example.words if word != "."]
    assert titles(figure)[:2] == ["frontal", "lateral"]
    assert [title for title in titles(figure)[2:] if title] == words
    assert len(figure.axes) == 2 + 2 * len(words)
    assert figure.get_size_inches()[0] <= 7.2


def test_texts_stand_beside_the_views_where_there_is_no_attention(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = example._replace(attention=None)
    figure = drawn([plain, plain], tmp_path / "panel.png", monkeypatch)
    check_layout(figure)
    assert len(figure.axes) == 2 * 2
    assert {"reference", TEXT} & set(texts(figure))
