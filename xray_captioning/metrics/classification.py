"""How well finding scores separate present from absent, and hold as probabilities, with intervals over patients:
the influences of a patient's studies on a measure are added up before they are squared (``docs/statistics.md``).
"""

from collections.abc import Collection, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm, rankdata, t

from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.metrics import calibration, clinical

Array = NDArray[Any]
# Of the studies whose label is known: present, logits and numbers of patients.
Part = tuple[Array, Array, Array]
ENDS = ("_low", "_high")
COLUMNS = ["positives", "n", "AUROC", "AUROC_low", "AUROC_high", "F1", "F1_low", "F1_high", "Brier", "ECE"]
COLUMNS += ["ECE_by_chance", "mean_over_prevalence", "mean_over_prevalence_low", "mean_over_prevalence_high"]
LEAST = 5  # with fewer patients who have a finding, or who have it not, nothing has an interval
PRIOR = 10  # patients as many as which the assumed variance of an area counts; chosen by simulation
LEVEL = 0.975


class Estimate(NamedTuple):
    """A measure and its 95 % interval: nan where a class has fewer than `LEAST` patients."""

    value: float
    low: float
    high: float
    influence: Array  # of each patient up to the last one here; sums to 0


def classification_table(
    names: Sequence[str],
    truth: Array,
    scores: Array,
    validation: tuple[Array, Array] | None = None,
    patients: Sequence[str] | None = None,
    counted: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure logits of findings, (studies, findings), as docs/training.md says; `truth` is 1, 0 or nan for unknown."""
    # F1's threshold is chosen on `validation` (truth, scores), or a logit of 0. Without `patients` each study is of
    # another. The last row is over the findings in `counted`, chosen without these labels, or over all.
    _check(names, truth, scores)
    codes = patient_numbers(patients, len(truth))
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


def patient_numbers(patients: Sequence[Hashable] | NDArray[Any] | None, studies: int) -> NDArray[np.int64]:
    """Number the patient of each study, from 0 by first appearance: (studies,). Each unknown one is another."""
    patients = np.arange(studies) if patients is None else patients
    if len(patients) != studies:
        raise DataError(f"{len(patients)} patients but {studies} studies: give each study its own")
    if isinstance(patients, np.ndarray) and patients.dtype.kind == "i":  # without an object for each
        return np.unique(patients, return_inverse=True)[1]
    number: dict[Hashable, int] = {}
    known = (object() if is_missing(patient) else patient for patient in patients)
    return np.array([number.setdefault(patient, len(number)) for patient in known], np.int64)


def frequent_findings(names: Sequence[str], labels: Array) -> list[str]:
    """Return what the mean of a table is over: `counted_findings` by training labels of 1, 0 or nan, unknown."""
    known, present = np.isfinite(labels).sum(axis=0), np.nansum(labels, axis=0)
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

    def cell(row: dict[str, Any], name: str) -> Any:
        low, high = (row.get(name + end) for end in ENDS)
        return row[name] if low is None else f"{row[name]:.3f} ({low:.2f} to {high:.2f})"

    return [{name: cell(row, name) for name in row if not name.endswith(ENDS)} for row in rows]


def _check(names: Sequence[str], truth: Array, scores: Array) -> None:
    if truth.shape != scores.shape or truth.shape[1:] != (len(names),):
        what = f"{len(names)} findings, labels {truth.shape} and scores {scores.shape} do not fit"
        raise DataError(f"{what}; give one label and one score for each study and finding")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        what = f"the score of {names[column]} in row {row} is {scores[row, column]}"
        raise DataError(f"{what}; give numbers, or train again with a smaller learning rate")


def _measured(part: Part, threshold: float) -> dict[str, Estimate]:
    """Return what has intervals, or nothing where a class is missing."""
    present, logits, patients = part
    if not 0 < present.sum() < len(present):
        return {}
    return {
        "AUROC": auroc(present, logits, patients),
        "F1": f1(present, logits >= threshold, patients),
        "mean_over_prevalence": mean_over_prevalence(present, expit(logits), patients),
    }


def _row(part: Part, measured: dict[str, Estimate]) -> dict[str, Any]:
    present, logits, _ = part
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"positives": int(present.sum()), "n": len(present)}
    if not measured:
        return row
    found = calibration.calibration_scores(expit(logits), present)
    row |= {"Brier": found.brier, "ECE": found.calibration_error, "ECE_by_chance": found.error_by_chance}
    return row | _with_ends(measured)


def _with_ends(measured: dict[str, Estimate]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, (value, low, high, _) in measured.items():
        ends = (low, high) if np.isfinite(low) else (None, None)
        found |= {name: value, **{name + end: number for end, number in zip(ENDS, ends)}}
    return found


def _mean(rows: list[dict[str, Any]], measured: list[dict[str, Estimate]], parts: list[Part]) -> dict[str, Any]:
    """Return the row over findings, of which some may have no value, and so no interval."""
    known = [m for m in measured if m]
    several = f"{len(known)} of {len(rows)}" if len(known) < len(rows) else f"{len(rows)}"
    mean: dict[str, Any] = {"finding": f"mean of {several}", **dict.fromkeys(COLUMNS)}
    if not known:
        return mean
    averaged = {name: mean_of([m[name] for m in known]) for name in ("AUROC", "F1")}
    present, logits, patients = (np.concatenate(columns) for columns in zip(*parts))
    ratio = mean_over_prevalence(present, expit(logits), patients)
    for name in ("Brier", "ECE", "ECE_by_chance"):
        mean[name] = float(np.mean([row[name] for row in rows if row[name] is not None]))
    mean |= _with_ends({**averaged, "mean_over_prevalence": ratio})
    if not all(m and np.isfinite(m["AUROC"].low) for m in measured):
        mean |= {name: None for name in mean if name.endswith(ENDS)}
    return mean


def auroc(present: Array, scores: Array, patients: Array) -> Estimate:
    """Measure the area under the ROC curve of scores, (studies,); both classes are present."""
    # The interval solves ``(area - a)² = t² V(a)`` for ``a`` (Newcombe 2006, method 5). ``V`` is Hanley and McNeil's
    # variance (1982) times what DeLong's with clusters is of it: a ratio moderated (Smyth 2004) by `PRIOR` patients.
    positives, negatives = int(present.sum()), int((~present).sum())
    side = np.empty(len(scores))  # the share of the other class that it is on the right side of; ties count half
    for own, ordered, others in ((present, scores, negatives), (~present, -scores, positives)):
        side[own] = (rankdata(ordered)[own] - rankdata(ordered[own])) / others
    area, counts = float(side[present].mean()), _patients(present, patients)
    fewest = min(counts)
    # Each class is averaged over its own patients (Bessel's correction).
    single = (side - area) * np.where(present, _bessel(counts[1]) / positives, _bessel(counts[0]) / negatives)
    influence = np.bincount(patients, single)
    ratio = cluster = 1.0
    if fewest < LEAST:
        return Estimate(area, np.nan, np.nan, influence)
    if assumed := _hanley_mcneil(area, positives, negatives):
        ratio, cluster = (influence**2).sum() / assumed, _design_effect(influence, float((single**2).sum()))
    factor = (fewest * ratio + PRIOR * cluster) / (fewest + PRIOR)
    factor *= t.ppf(LEVEL, fewest - 1 + PRIOR) ** 2
    low, high = _solved(area, positives, negatives, factor)
    return Estimate(area, low, high, influence)


def f1(present: Array, said: Array, patients: Array) -> Estimate:
    """Measure F1 of what is said to be present, (studies,) of bool."""
    # It is ``2 j / (1 + j)`` where ``j`` is the share of studies with the finding in both among those with it in
    # either: a proportion, whose interval is Wilson's.
    both, either = present & said, present | said
    share = both.sum() / either.sum()
    influence = np.bincount(patients, both - share * either) / either.sum()
    count = either.sum() / _design_effect(influence, share * (1 - share) / either.sum())
    ends = calibration.wilson(float(share), norm.ppf(LEVEL) ** 2 / count)
    if min(_patients(present, patients)) < LEAST:
        ends = np.nan, np.nan
    value, low, high = (float(2 * j / (1 + j)) for j in (share, *ends))
    return Estimate(value, low, high, influence * 2 / (1 + share) ** 2)


def mean_over_prevalence(present: Array, probabilities: Array, patients: Array) -> Estimate:
    """Measure the mean probability over the share present, 1 if calibrated; Student's interval of the logarithm."""
    value = float(probabilities.sum() / present.sum())
    influence = np.bincount(patients, probabilities / probabilities.sum() - present / present.sum())
    fewest = min(_patients(present, patients))
    if fewest < LEAST:
        return Estimate(value, np.nan, np.nan, influence)
    factor = float(np.exp(t.ppf(LEVEL, fewest - 1) * (np.sqrt((influence**2).sum()) * _bessel(fewest))))
    return Estimate(value, value / factor, value * factor, influence * value)


def mean_of(measured: Sequence[Estimate]) -> Estimate:
    """Average a measure over findings; limits are those of a sum of terms that correlate (Zou 2007) as influences."""
    values, lows, highs = (np.array([m[i] for m in measured]) for i in range(3))
    patients = max(len(m.influence) for m in measured)
    influences = np.array([np.pad(i, (0, patients - len(i))) for *_, i in measured])
    length = np.linalg.norm(influences, axis=1, keepdims=True)
    unit = influences / np.where(length, length, 1)
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1)
    below, above = (np.sqrt(d @ correlation @ d) / len(d) for d in (values - lows, highs - values))
    value = values.mean()
    return Estimate(float(value), value - below, value + above, influences.mean(axis=0))


def _patients(present: Array, patients: Array) -> tuple[int, int]:
    """Return how many patients have studies without, and with, the finding."""
    return len(np.unique(patients[~present])), len(np.unique(patients[present]))


def _bessel(count: int) -> float:
    return float(np.sqrt(count / max(count - 1, 1)))


def _design_effect(influence: Array, independent: float) -> float:
    """Return how many times the variance is what it would be if studies were independent."""
    return max(float((influence**2).sum()) / independent, 1.0) if independent else 1.0


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    # Newcombe's form: half the total in place of either class' count.
    pairs = (positives + negatives) / 2 - 1
    return area * (1 - area) / (positives * negatives) * (1 + pairs * ((1 - area) / (2 - area) + area / (1 + area)))


def _solved(area: float, positives: int, negatives: int, factor: float) -> tuple[float, float]:
    def excess(other: float) -> float:
        return (area - other) ** 2 - factor * _hanley_mcneil(other, positives, negatives)

    near = 1e-9  # at the area itself both terms may be 0
    low = brentq(excess, 0, area - near) if area > near else 0.0
    return float(low), float(brentq(excess, area + near, 1) if area < 1 - near else 1.0)
