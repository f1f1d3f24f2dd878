"""Finding labels of studies, from the source's own coding or from the report's words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.studies import Studies
from xray_captioning.errors import DataError
from xray_captioning.findings import FINDINGS, NIH14
from xray_captioning.metrics.labeler import find_mentions, label_report
from xray_captioning.metrics.labels.details import MESH_FINDINGS
from xray_captioning.metrics.mentions import asserted_details

Labels = NDArray[np.float32]
Floats = NDArray[np.float64]


def finding_labels(studies: Studies) -> tuple[list[str], Labels]:
    """Return the findings that some study has, and labels (studies, findings), float32: 1 present, 0 absent,
    not-a-number unknown. Where the source codes findings (``problems``), what it does not name is absent, what it calls
    ``uncertain`` unknown; else the report's words are labelled: uncertain is unknown, not mentioned absent, all of a
    study without words unknown. Where no study has a finding that is known here, that is a DataError.
    """
    coded = any(len(problems) for problems in studies["problems"])
    names = list(dict.fromkeys((*FINDINGS[1:], *NIH14)))
    rows = _from_problems(studies, names) if coded else _from_text(studies, names)
    found = np.flatnonzero(np.nansum(rows, axis=0) > 0)
    if not len(found):
        advice = f"give data whose problems or reports name some, such as {', '.join(FINDINGS[1:4])}"
        raise DataError(f"none of {len(studies)} studies has a finding to learn; {advice}")
    return [names[i] for i in found], rows[:, found]


def side_labels(studies: Studies, names: Sequence[str], labels: Labels) -> Labels:
    """Return labels (studies, some): of findings that occur whether they are left, and right; unknown if unsaid."""
    sided = np.repeat(labels[:, :, None], 2, axis=2)
    for row, *texts in zip(sided, studies["findings"], studies["impression"]):
        said = asserted_details(find_mentions(" ".join(filter(None, texts)))) if (row > 0).any() else {}
        for place in np.flatnonzero(row[:, 0] > 0).tolist():
            sides = said.get(names[place], [()])[0]
            row[place] = [side in sides for side in ("left", "right")] if sides else np.nan
    flat = sided.reshape(len(sided), -1)
    return flat[:, np.nansum(flat, axis=0) > 0]


def sided_labels(studies: Studies) -> Labels:
    """Return labels (studies, some) of findings, and of the sides of findings behind them."""
    names, labels = finding_labels(studies)
    return np.hstack([labels, side_labels(studies, names, labels)])


def rarity(labels: Labels) -> Labels:
    """Return weights (studies,) by which studies are drawn, so that rare findings come more often."""
    # A study counts by its rarest finding, none being one of its own: the inverse square root of its frequency.
    present = np.nan_to_num(labels) > 0
    present = np.column_stack([present, ~present.any(axis=1)])
    return (present * np.maximum(present.sum(axis=0), 1) ** -0.5).max(axis=1).astype("float32")


def prevalence(labels: Labels) -> Floats:
    """Return the share of known labels (studies, findings) that are present, above 0, below 1."""
    # A finding that all or none of the studies has counts as half a study away from that.
    known = np.maximum(np.isfinite(labels).sum(axis=0), 1)
    return np.clip(np.nansum(labels, axis=0, dtype=np.float64), 0.5, known - 0.5) / known


def intercept_shift(logits: NDArray[Any], labels: Labels, shares: NDArray[Any]) -> Floats:
    """Return what, added to logits (studies, findings), makes the mean of each finding's probabilities right on those
    with a known label, (findings,) float64, 0 where none is: calibration in the large. `shares` (findings,), in (0, 1),
    are usual ones, of many studies; docs/statistics.md says how they are weighed against these studies' own.
    """
    rows = zip((z[k].astype(np.float64) for z, k in zip(logits.T, np.isfinite(labels).T)), prevalence(labels), shares)
    return np.array([_shift(z, own, usual) if z.size else 0.0 for z, own, usual in rows])


def _shift(logits: Floats, own: float, usual: float) -> float:
    from scipy.special import expit

    explained = expit(logits + _shift_to(logits, own)).var() / (own * (1 - own))
    return _shift_to(logits, explained * own + (1 - explained) * usual)


def _shift_to(logits: Floats, share: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    def excess(shift: float) -> float:
        return float(expit(logits + shift).mean() - share)

    # One study's probability would be the share at the one end, and another's at the other.
    return float(brentq(excess, logit(share) - logits.max() - 1, logit(share) - logits.min() + 1))


def _from_problems(studies: Studies, names: list[str]) -> Labels:
    rows = np.zeros((len(studies), len(names)), np.float32)
    none: list[list[str]] = [[]] * len(studies)
    for row, unsure, problems in zip(rows, studies.get("uncertain", none), studies["problems"]):
        for value, found in ((np.nan, unsure), (1, problems)):
            for problem in found:
                if (name := problem if problem in names else MESH_FINDINGS.get(problem.lower())) is not None:
                    row[names.index(name)] = value
    return rows


def _from_text(studies: Studies, names: list[str]) -> Labels:
    values, rows = {1: 1.0, 0: 0.0, -1: np.nan, None: 0.0}, np.zeros((len(studies), len(names)), np.float32)
    for row, findings, impression in zip(rows, studies["findings"], studies["impression"]):
        text = " ".join(part for part in (findings, impression) if part)
        labels = label_report(text)
        row[:] = [values[labels.get(name)] if text else np.nan for name in names]
    return rows
