"""References and hypotheses out of two files, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xray_captioning.errors import DataError
from xray_captioning.evaluation import matching
from xray_captioning.evaluation.caption_files import Written, read_captions, read_references
from xray_captioning.evaluation.matching import ResultsWarning, Studies
from xray_captioning.evaluation.table import LEFT_OUT


class Pairs(NamedTuple):
    """What a system wrote beside the reports of the same studies."""

    system: str
    references: list[list[str]]  # one or more a study
    hypotheses: list[str]
    counts: dict[str, int]  # ``n`` and, where only common studies were asked for, ``left_out``


def read_pairs(
    reports: Path,
    captions: Path,
    reference: str | None = None,
    prediction: Sequence[str] = (),
    only_common: bool = False,
) -> Iterator[Pairs]:
    """Yield each system of a file beside the reports of another one, or of the same.

    Texts are matched by id where both files have ids; several reports of one id, as of an image of
    COCO, are its references. Otherwise texts are matched by their order. `reference` and
    `prediction` name the columns. With `only_common` reports without a hypothesis are left out;
    otherwise there must be none.
    """
    known = read_references(reports, reference)
    for system, written in read_captions(captions, prediction).items():
        if known.ids and written.ids:
            yield _by_id(system, written, known, only_common)
        else:
            yield _by_order(system, written, known)


def _by_order(system: str, written: Written, known: Written) -> Pairs:
    if len(written.texts) != len(known.texts):
        raise DataError(
            f"{written.source}: {len(written.texts)} texts, but {known.source} has "
            f"{len(known.texts)}; give one hypothesis for each reference, or ids in both files"
        )
    if known.ids or written.ids:
        without = written.source if known.ids else known.source
        warnings.warn(
            f"{without} names no study: texts are compared in the order of the files",
            ResultsWarning,
            stacklevel=3,
        )
    references = [text if isinstance(text, list) else [text] for text in known.texts]
    return Pairs(system, references, written.texts, {"n": len(references)})


def _by_id(system: str, written: Written, known: Written, only_common: bool) -> Pairs:
    found = [_grouped(values, known.texts) for values in known.ids.values()]
    texts = max(found, key=lambda texts: matching.best_column(written, Studies(list(texts)))[2])
    ids, left_out = list(texts), {}
    if only_common:
        rows = matching.by_row(system, written, Studies(ids))
        left_out = {LEFT_OUT: len(ids) - len(rows)}
        ids = [ids[row] for row in sorted(rows)]
    studies = Studies(ids, others=frozenset(texts) - set(ids))
    hypotheses = matching.in_order(system, written, studies)
    return Pairs(system, [texts[i] for i in ids], hypotheses, {"n": len(ids), **left_out})


def _grouped(ids: Sequence[object], texts: Sequence[str | list[str]]) -> dict[str, list[str]]:
    """Return the different texts of each id."""
    found: dict[str, dict[str, None]] = {}
    for study, text in zip(ids, texts):
        several = text if isinstance(text, list) else [text]
        found.setdefault(str(study), {}).update(dict.fromkeys(several))
    return {study: list(group) for study, group in found.items()}
