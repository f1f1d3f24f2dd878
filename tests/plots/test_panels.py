"""Panels of studies: what is written fits, and the attention drawn is that of the word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_captioning.data.images import read_images
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.plots import Example, curves, panel, png, save, words

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
    named = [(3,), (3,), (6, 7, 8)]  # two findings by one word
    return Example(images, "small effusion .", captions, attention, words, studies["views"][row], named)


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


def test_panel(example: Example) -> None:
    figure = panel([example, example])
    check_layout(figure)
    assert titles(figure)[:2] == ["frontal", "lateral"]
    assert len(figure.axes) == 2 * 4
    assert {"reference", "small effusion .", "mine greedy", TEXT, "constant"} <= set(texts(figure))
    assert [title.split("\n")[0] for title in titles(figure)[2:4]] == ["“effusion”", "“heart is enlarged”"]
    assert all(title.split("\n")[1].split(", ")[0] in ("frontal", "lateral") for title in titles(figure)[2:4])
    content = png(figure)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert 900 < int.from_bytes(content[16:20]) < 1300  # read at the width of a page


def test_words_that_name_findings_are_shown_and_not_those_that_look_at_one_place(example: Example) -> None:
    attention = np.full((10, 2, 4, 4), 1 / 32)
    for number in (2, 7):
        attention[number] = 0
        attention[number, 1, 0, 0] = 1
    figure = panel([example._replace(attention=attention)], note := "Attention: how often it is right.")
    check_layout(figure)
    assert titles(figure)[2:] == ["“effusion”\nfrontal, 50 %", "“heart is enlarged”\nlateral, 67 %"]
    assert note in texts(figure)
    normal = panel([example._replace(named=())], note)  # there is no picture that the note could be of
    assert titles(normal) == ["frontal", "lateral"]
    assert note not in texts(normal)


def test_attention_is_drawn_where_a_region_sees(example: Example) -> None:
    plain, moved = (e.attended_views([3])[0].seen for e in (example, example._replace(offset=(0.1, 0.2))))
    assert (plain, moved) == ((0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 1.0, 1.0))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_text_fits(example: Example) -> None:
    for text in ("", "word " * 500, "x" * 3000, "WIDE LETTERS EVERYWHERE " * 40, "$x_1$ \\frac{", "ünïcode — 肺"):
        captions = {"a_system_with_a_very_long_name beam-3": text, "other": TEXT}
        check_layout(panel([example._replace(reference=text, captions=captions)]))


def test_studies_of_different_kinds(example: Example) -> None:
    single = example._replace(images=example.images[:1], views=["unknown"])
    silent = example._replace(words=[], attention=np.zeros((0, 2, 4, 4)), captions={"mine": ""}, named=())
    short = example._replace(words=["a", "b"], attention=example.attention[:2], views=(), named=[(1,)])
    figure = panel([example, single, silent, short])
    check_layout(figure)
    assert "view 1" in titles(figure)
    assert "view 2" in titles(figure)
    assert "(nothing)" in texts(figure)


def test_attention_of_a_view_that_is_not_there_is_not_drawn(example: Example) -> None:
    attention = np.zeros((1, 2, 4, 4))
    attention[0, 0, 1, 1], attention[0, 1, 2, 2] = 0.25, 0.75
    alone = example._replace(images=example.images[:1], attention=attention, words=["left"], named=[(0,)])
    _, axis = panel([alone]).axes
    assert axis.get_title() == "“left”\nfrontal, 25 %"
    colour = np.ptp(np.asarray(axis.images[0].get_array(), int), axis=2)
    assert colour[16:32, 16:32].mean() > 5 * colour[32:, 32:].mean()


def test_curves() -> None:
    two = ["loss", "val_loss", "token_accuracy", "val_token_accuracy"]
    for names in (["loss"], two, [*two, "val_BLEU-4"]):
        for epochs in (1, 12):
            history = [{"epoch": e + 1.0, **dict.fromkeys(names, 1 / (e + 1))} for e in range(epochs)]
            axes = curves(history).axes
            labels = ["loss", "token accuracy", "BLEU-4"][: len(axes)]
            assert [axis.get_ylabel() for axis in axes] == labels
            assert sum(len(axis.lines) for axis in axes) == len(names)
    some = [{"epoch": 1, "loss": 2, "reward": 1}, {"epoch": 2, "loss": 1}, {"epoch": 3, "loss": 1, "val_reward": 2}]
    assert [len(axis.lines) for axis in curves(some).axes] == [1, 2]  # each where it is known


def test_a_failure_leaves_the_old_picture(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "panel.png"
    path.write_bytes(b"old")
    figure = panel([example])
    with monkeypatch.context() as full:
        full.setattr("os.replace", fail)
        with pytest.raises(OSError, match="No space"):
            save(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_every_word_is_drawn_over_both_views(example: Example) -> None:
    figure = words(example)
    check_layout(figure)
    spoken = [word for word in example.words if word != "."]
    assert titles(figure)[:2] == ["frontal", "lateral"]
    assert [title for title in titles(figure)[2:] if title] == spoken
    assert len(figure.axes) == 2 + 2 * len(spoken)
    assert figure.get_size_inches()[0] <= 7.2


def test_texts_are_beside_the_views_where_there_is_no_attention(example: Example) -> None:
    plain = example._replace(attention=None)
    figure = panel([plain, plain])
    check_layout(figure)
    assert titles(figure) == ["frontal", "lateral"] * 2
    assert {"reference", TEXT} & set(texts(figure))
