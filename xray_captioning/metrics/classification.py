"""How well finding scores separate present from absent, and hold as probabilities."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from xray_captioning.errors import DataError
from xray_captioning.metrics import calibration, clinical, statistics
from xray_captioning.metrics import finding_intervals as intervals

Array = NDArray[Any]
# Of the studies whose label is known: present, logits and numbers of patients.
Part = tuple[Array, Array, Array]
ENDS = ("_low", "_high")
COLUMNS = [
    *("positives", "n"),
    *(name + end for name in ("AUROC", "F1") for end in ("", *ENDS)),
    *("Brier", "ECE", "ECE_by_chance"),
    *("mean_over_prevalence" + end for end in ("", *ENDS)),
]


def classification_table(
    names: Sequence[str],
    truth: Array,
    scores: Array,
    validation: tuple[Array, Array] | None = None,
    patients: Sequence[str] | None = None,
    counted: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure the logits of findings, (studies, findings), with 95 % intervals over patients.

    docs/training.md says what the columns are, docs/statistics.md how they are computed. `truth` is
    1, 0 or nan for unknown, which is left out. The threshold of F1 is chosen on `validation`
    (truth, scores), or a logit of 0. Without `patients`, and where one is missing, each study is of
    another. The last row is over the findings in `counted`, chosen without these labels (see
    `frequent_findings`), or over all; its name says how many of them have a value, and it has
    intervals where all have. None is what has no value. A DataError says that shapes differ or a
    score is not finite.
    """
    _check(names, truth, scores)
    codes = statistics.patient_numbers(patients, len(truth))
    rows, averaged, parts = [], [], []
    chosen = [name for name in names if counted is None or name in counted]
    for i, name in enumerate(names):
        threshold = 0.0 if validation is None else best_threshold(*(v[:, i] for v in validation))
        known = np.isfinite(truth[:, i])
        part = truth[known, i] > 0, scores[known, i].astype(np.float64), codes[known]
        measured = _measured(part, threshold)
        rows.append({"finding": name, **_row(part, measured)})
        if name in chosen:
            averaged.append(measured)
            parts.append(part)
    mean = _mean([row for row in rows if row["finding"] in chosen], averaged, parts)
    return [*rows, {**mean, "positives": None, "n": len(truth)}]


def frequent_findings(names: Sequence[str], labels: Array) -> list[str]:
    """Return the findings that the mean of a table is over: `counted_findings` with labels of the
    training part, (studies, findings), of 1, 0 or nan for unknown.
    """
    known = np.isfinite(labels).sum(axis=0)
    present = np.nansum(labels, axis=0)
    frequent = (present > 0) & (present >= clinical.LEAST_SHARE * known)
    return [name for name, is_frequent in zip(names, frequent) if is_frequent] or list(names)


def best_threshold(truth: Array, scores: Array) -> float:
    """Return the score at or above which F1 is highest; 0 where there is no positive."""
    from sklearn.metrics import precision_recall_curve

    known = np.isfinite(truth)
    truth, scores = truth[known], scores[known]
    if not truth.any():
        return 0.0
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1_scores = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1_scores[:-1])])  # the last point has no threshold


def format_intervals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with each interval in the cell of its measure, as a terminal shows them."""
    return [{name: _cell(row, name) for name in row if not name.endswith(ENDS)} for row in rows]


def _cell(row: dict[str, Any], name: str) -> Any:
    low, high = (row.get(name + end) for end in ENDS)
    return row[name] if low is None else f"{row[name]:.3f} ({low:.2f} to {high:.2f})"


def _check(names: Sequence[str], truth: Array, scores: Array) -> None:
    if truth.shape != scores.shape or truth.shape[1:] != (len(names),):
        raise DataError(
            f"{len(names)} findings, labels {truth.shape} and scores {scores.shape} do not fit; "
            "give one label and one score for each study and finding"
        )
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise DataError(
            f"the score of {names[column]} in row {row} is {scores[row, column]}; give numbers, "
            "or train again with a smaller learning rate"
        )


def _measured(part: Part, threshold: float) -> dict[str, intervals.Estimate]:
    """Return what has intervals, or nothing where a class is missing."""
    present, logits, patients = part
    if not 0 < present.sum() < len(present):
        return {}
    ratio = intervals.mean_over_prevalence(present, expit(logits), patients)
    return {
        "AUROC": intervals.auroc(present, logits, patients),
        "F1": intervals.f1(present, logits >= threshold, patients),
        "mean_over_prevalence": ratio,
    }


def _row(part: Part, measured: dict[str, intervals.Estimate]) -> dict[str, Any]:
    present, logits, _ = part
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"positives": int(present.sum()), "n": len(present)}
    if not measured:
        return row
    calibrated = calibration.calibration_scores(expit(logits), present)
    row |= {"Brier": calibrated.brier, "ECE": calibrated.calibration_error}
    row["ECE_by_chance"] = calibrated.error_by_chance
    return row | _with_ends(measured)


def _with_ends(measured: dict[str, intervals.Estimate]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, (value, low, high, _) in measured.items():
        ends = (low, high) if np.isfinite(low) else (None, None)
        found |= {name: value, **{name + end: number for end, number in zip(ENDS, ends)}}
    return found


def _mean(
    rows: list[dict[str, Any]], measured: list[dict[str, intervals.Estimate]], parts: list[Part]
) -> dict[str, Any]:
    """Return the row over findings, of which some may have no value, and so no interval."""
    known = [m for m in measured if m]
    several = f"{len(known)} of {len(rows)}" if len(known) < len(rows) else f"{len(rows)}"
    mean: dict[str, Any] = {"finding": f"mean of {several}", **dict.fromkeys(COLUMNS)}
    if not known:
        return mean
    averaged = {name: intervals.mean_of([m[name] for m in known]) for name in ("AUROC", "F1")}
    present, logits, patients = (np.concatenate(columns) for columns in zip(*parts))
    ratio = intervals.mean_over_prevalence(present, expit(logits), patients)
    for name in ("Brier", "ECE", "ECE_by_chance"):
        mean[name] = float(np.mean([row[name] for row in rows if row[name] is not None]))
    mean |= _with_ends({**averaged, "mean_over_prevalence": ratio})
    if not all(m and np.isfinite(m["AUROC"].low) for m in measured):
        mean |= {name: None for name in mean if name.endswith(ENDS)}
    return mean
