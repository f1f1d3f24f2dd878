"""What a notebook shows: studies with captions, tables of scores, numbers behind a figure."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xray_captioning.config import Config

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.captioner.captioner import Caption
    from xray_captioning.data.splits import Split
    from xray_captioning.plots.panels import Example


@dataclass(frozen=True)
class Table:
    """Rows that a notebook shows as a table: texts to the left, numbers to the right.

    Attributes
    ----------
    rows : list of dict
    names : list of str
        The columns.
    """

    rows: list[dict[str, Any]]
    names: list[str]

    def __repr__(self) -> str:
        """Return it as aligned text."""
        from xray_captioning.evaluation.table import format_table

        return format_table(self.rows, self.names)

    def _repr_html_(self) -> str:
        heads = "".join(_cell("th", name, str(name)) for name in self.names)
        lines = ["".join(_cell("td", row[name]) for name in self.names) for row in self.rows]
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in (heads, *lines))}</table>"


def _cell(tag: str, value: Any, text: str | None = None) -> str:
    from xray_captioning.evaluation.table import format_cell

    side = "right" if isinstance(value, (int, float)) else "left"
    shown = html.escape("" if value is None else format_cell(value) if text is None else text)
    return f'<{tag} align="{side}" style="text-align: {side}">{shown}</{tag}>'


VIEWS, SIDE = 2, 224  # of a study, and pixels of an image, in figures


def part(studies: pd.DataFrame, split: Split, config: Config, name: str = "test") -> pd.DataFrame:
    """Return the studies of one part that have a text, with the column ``reference``.

    Parameters
    ----------
    studies : pandas.DataFrame
    split : Split
    config : Config
    name : {"train", "val", "test"}
    """
    from xray_captioning.data.targets import reference_texts

    found = studies[studies["study_id"].isin(split.parts[name])]
    found = found.assign(reference=reference_texts(found, config))
    return found[found["reference"] != ""].reset_index(drop=True)


def telling(studies: pd.DataFrame, count: int = 4) -> list[int]:
    """Return the row of the wordiest study of each of some equal shares: most name a finding."""
    lengths = [len(text.split()) for text in studies["reference"]]
    shares = [range(i, len(studies), count) for i in range(min(count, len(studies)))]
    return [max(rows, key=lambda row: lengths[row]) for rows in shares]


def images_of(studies: pd.DataFrame, config: Config) -> list[list[str]]:
    """Return the images of each study that a model looks at."""
    from xray_captioning.data.targets import study_images

    return study_images(studies, config)


def examples(
    studies: pd.DataFrame,
    rows: Sequence[int],
    captions: Mapping[str, Sequence[Caption]] | None = None,
    config: Config | None = None,
) -> list[Example]:
    """Lay some studies out for a figure, with what systems wrote of them.

    Parameters
    ----------
    studies : pandas.DataFrame
        With the column ``reference``.
    rows : sequence of int
        The studies to show.
    captions : mapping of str to sequence of Caption, optional
        Of all the studies, by the system's name; the attention drawn is that of the first.
    config : Config, optional
        Says how many views are looked at: two where absent.
    """
    return [_example(studies.iloc[row], row, captions or {}, config) for row in rows]


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> Table:
    """Return rows with numbers of three digits, for reading.

    Parameters
    ----------
    rows : sequence of mapping
    names : sequence of str, optional
        The columns; those of a comparison where absent.
    """
    from xray_captioning.evaluation.table import SHOWN

    present = [name for name in names or SHOWN if any(name in row for row in rows)]
    return Table([{name: row.get(name) for name in present} for row in rows], present)


def image_sizes(studies: pd.DataFrame, most: int = 200) -> list[tuple[int, int]]:
    """Return height and width, in pixels, of evenly chosen images; DICOM files are left out.

    Parameters
    ----------
    studies : pandas.DataFrame
        With images on disk.
    most : int
        Images opened.
    """
    from xray_captioning.data.images import opencv

    paths = [path for images in studies["images"] for path in images]
    chosen = paths[:: -(-len(paths) // most)]
    read = (opencv().imread(path, opencv().IMREAD_UNCHANGED) for path in chosen)
    return [image.shape[:2] for image in read if image is not None]


def view_shares(captions: Sequence[Caption], seen: int = 5) -> dict[str, float]:
    """Return the mean share of each word's attention that lies on the second view, highest first.

    Parameters
    ----------
    captions : sequence of Caption
        Of studies with two views, with attention.
    seen : int
        How often a word has to occur.
    """
    shares: dict[str, list[float]] = {}
    for caption in captions:
        for word, maps in zip(
            caption.words, () if caption.attention is None else caption.attention
        ):
            shares.setdefault(word, []).append(float(maps[1].sum()))
    means = {word: sum(found) / len(found) for word, found in shares.items() if len(found) >= seen}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def sentences_by_truth(
    captions: Sequence[Caption], references: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Return the mean log-probabilities of sentences that stand in the reference, and of others."""
    found: tuple[list[float], list[float]] = ([], [])
    for caption, reference in zip(captions, references):
        there = {_bare(sentence) for sentence in reference.split(" . ")}
        for sentence in caption.sentences:
            found[_bare(sentence.text) not in there].append(sentence.log_probability)
    return found


def text_rows(reference: str, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the scores of several texts against one reference, a row a text.

    Parameters
    ----------
    reference : str
    texts : mapping of str to str

    Returns
    -------
    list of dict
        What :func:`xray_captioning.evaluation.systems.score_system` gives, and
        ``contradictions``, the number of findings that one text asserts and the other denies.
    """
    from xray_captioning.evaluation.systems import System, score_system
    from xray_captioning.metrics.clinical import contradictions

    rows = [score_system([reference], System(name, None, [text])) for name, text in texts.items()]
    opposed = [len(contradictions([reference], [text])) for text in texts.values()]
    return [{"text": row["system"], **row, "contradictions": n} for row, n in zip(rows, opposed)]


def legacy_favourite(texts: Sequence[str], candidates: int = 300) -> str:
    """Return the text whose legacy BLEU-4 is highest when it is said of every study.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts.
    candidates : int
        The most frequent texts, and the shortest, so many of each, are tried against 200 others.
    """
    from xray_captioning.metrics.bleu import bleu

    counts = Counter(texts)
    common = [text for text, _ in counts.most_common(candidates)]
    short = sorted(counts, key=lambda text: (len(text.split()), text))[:candidates]
    judged = list(texts)[:: -(-len(texts) // 200)]
    values = {t: bleu(judged, [t] * len(judged), "legacy")[3] for t in {*common, *short}}
    return max(sorted(values), key=lambda text: float(values[text]))


def _bare(sentence: str) -> str:
    return sentence.lower().rstrip(" .").strip()


def _example(
    study: pd.Series[Any],
    row: int,
    captions: Mapping[str, Sequence[Caption]],
    config: Config | None,
) -> Example:
    from xray_captioning.data.features import select_images
    from xray_captioning.data.images import read_images
    from xray_captioning.plots.panels import Example

    written = {name: found[row] for name, found in captions.items()}
    first = next(iter(written.values()), None)
    seen = select_images(study["images"], study["views"], config.image.views if config else VIEWS)
    views = dict(zip(study["images"], study["views"]))
    return Example(
        read_images(seen, SIDE),
        study["reference"],
        {name: " ".join(caption.words) for name, caption in written.items()},
        first.attention if first else None,
        first.words if first else [],
        [views[path] for path in seen],
    )
