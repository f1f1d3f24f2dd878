"""Captions of thousands of studies: nothing lost by a kill, and a row for what cannot be read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning import __version__
from xray_captioning.batch.caption_table import COLUMNS, Row, check_out, read_errors, write_rows
from xray_captioning.batch.journal import Journal
from xray_captioning.captioner.captioner import Caption, Captioner
from xray_captioning.config import Config
from xray_captioning.data.images import Image, frontal_first, read_image
from xray_captioning.decoders import Features
from xray_captioning.encoders.classification import finding_probabilities
from xray_captioning.errors import ConfigError, DataError, XrayCaptioningError

SIZE = 64  # studies a batch
DIGITS = 6


class Study(NamedTuple):
    """A study to be captioned.

    Attributes
    ----------
    name : str
        Its id, or its images' paths.
    images : list of str
        Paths, frontal first.
    """

    name: str
    images: list[str]


def caption_to_file(
    captioner: Captioner,
    bundle: str,
    studies: Sequence[Study],
    out: Path,
    beam_size: int | None = None,
    resume: bool = False,
) -> int:
    """Write a row for each study: what was said of it, or why nothing was.

    Until the file is whole its rows are kept beside it, in ``OUT.part``, a batch at a time. A run
    that goes on from there writes the same file, byte for byte, as one that was never stopped.

    Parameters
    ----------
    captioner : Captioner
    bundle : str
        Digest of the bundle it was loaded from.
    studies : sequence of Study
    out : Path
        Ends in ``.csv``, ``.parquet`` or ``.jsonl``.
    beam_size : int, optional
    resume : bool
        Go on with a run that was killed.

    Returns
    -------
    int
        Rows with an error.

    Raises
    ------
    ConfigError
        `out` is of another kind, is there already, or an unfinished run of another bundle, other
        studies, changed images or another beam size is, or a damaged one.
    MissingExtraError
        A Parquet file is asked for without pyarrow.
    """
    from tqdm import tqdm

    journal = out.with_name(out.name + ".part")
    check_out(out, resume)
    header = {
        "version": __version__,
        "bundle": bundle,
        "beam size": beam_size,
        "set of studies or images": _digest(studies),
    }
    batches = [studies[i : i + SIZE] for i in range(0, len(studies), SIZE)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        Journal(journal, header, resume) as kept,
        tqdm(total=len(studies), desc="caption", unit="study", disable=None) as bar,
    ):
        if not all(map(_is_batch, kept.batches, batches)):
            raise ConfigError(f"{journal}: is damaged; remove it to start anew")
        bar.update(sum(map(len, kept.batches)))
        for batch in batches[len(kept.batches) :]:
            kept.append(caption_rows(captioner, batch, beam_size))
            bar.update(len(batch))
        rows = [row for batch in kept.batches for row in batch]
    write_rows(rows, out, captioner.encoder.findings)
    journal.unlink()
    return sum(row["error"] is not None for row in rows)


def _is_batch(kept: Any, studies: Sequence[Study]) -> bool:
    return (
        isinstance(kept, list)
        and all(isinstance(row, dict) and tuple(row) == COLUMNS for row in kept)
        and [row["study"] for row in kept] == _names(studies)
    )


def check_whole(out: Path, studies: Sequence[Study]) -> int:
    """Make sure that a file which is there already is of these studies.

    Which bundle wrote it, and with which beam size, it does not tell.

    Parameters
    ----------
    out : Path
    studies : sequence of Study

    Returns
    -------
    int
        Rows with an error.

    Raises
    ------
    ConfigError
        It is of other studies, or no table of captions.
    MissingExtraError
        It is a Parquet file and pyarrow is not installed.
    """
    found = read_errors(out)
    if [name for name, _ in found] != _names(studies):
        raise ConfigError(
            f"{out}: is there already, of other studies or damaged; choose another --out, or "
            "remove it"
        )
    return sum(error is not None for _, error in found)


def caption_rows(
    captioner: Captioner, studies: Sequence[Study], beam_size: int | None = None
) -> list[Row]:
    """Caption one batch; a study that cannot be read has an error in its row.

    Parameters
    ----------
    captioner : Captioner
    studies : sequence of Study
    beam_size : int, optional

    Returns
    -------
    list of dict
        JSON values by column, a row a study.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        read = list(pool.map(lambda study: _read(study, captioner.config), studies))
    rows = [_row(study, error) for study, (_, error) in zip(studies, read)]
    sound = [row for row in rows if row["error"] is None]
    if sound:
        features = captioner.features([pixels for pixels, error in read if error is None])
        captions = captioner.caption_features(features, beam_size)
        for row, caption, findings in zip(sound, captions, _findings(captioner, features)):
            row.update(_said(caption), findings=findings)
    return rows


def _read(study: Study, config: Config) -> tuple[list[Image], str | None]:
    image = config.image
    try:
        if not study.images:
            raise DataError("none of its images is there; check the image folder")
        if len(study.images) > image.views:
            raise DataError(
                f"{len(study.images)} images, but this model looks at {image.views}; choose among "
                "them"
            )
        # In order before they are pixels, which name no view.
        paths = frontal_first(study.images)
        return [read_image(path, image.size, image.resize) for path in paths], None
    except (XrayCaptioningError, OSError) as error:
        return [], _printable(" ".join(str(error).split()))


def _findings(captioner: Captioner, features: Features) -> list[dict[str, float] | None]:
    if not captioner.encoder.findings:
        return [None] * len(features.mask)
    return [
        {name: round(chance, DIGITS) for name, chance in row.items()}
        for row in finding_probabilities(captioner.encoder, *features)
    ]


def _row(study: Study, error: str | None) -> Row:
    images = [_printable(path) for path in study.images]
    known = {"study": _printable(study.name), "images": images, "error": error}
    return {name: known.get(name) for name in COLUMNS}


def _names(studies: Sequence[Study]) -> list[str]:
    return [_printable(study.name) for study in studies]


def _printable(text: str) -> str:
    # A file's name may hold bytes that are no text.
    return text.encode("utf-8", "replace").decode()


def _said(caption: Caption) -> Row:
    sentences = [
        {
            "text": sentence.text,
            "log_probability": round(sentence.log_probability, DIGITS),
            "confidence": _rounded(sentence.confidence),
        }
        for sentence in caption.sentences
    ]
    return {
        "caption": caption.text,
        "log_probability": round(caption.log_probability, DIGITS),
        "sentences": sentences,
        "novelty": _rounded(caption.novelty),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, DIGITS)


def _digest(studies: Sequence[Study]) -> str:
    """Return the SHA-256 of names, paths, and the sizes and times of the files there."""
    listed = [[study.name, [[p, *_state(p)] for p in study.images]] for study in studies]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _state(path: str) -> tuple[int, int] | tuple[()]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns
