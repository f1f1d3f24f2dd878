"""Confidence intervals of scores, and tests of differences: the jackknife over patients.

Every score is computed once without each patient. What a patient's absence changes is that
patient's *pseudo-value*; their spread, divided by the number of patients, is the standard error of
the score, as if they were independent observations whose mean it is (Tukey 1958; Miller 1974; all
studies of a patient at once: Cameron and Miller 2015). A difference of two systems is a paired t
test of pseudo-values (Efron and Tibshirani 1993, chapter 11).

Of several runs of a system the score is the mean. Every run captions every study, so the mean's
pseudo-values are the runs' means; the variance between runs, divided by their number, is added to
the squared standard error (Bouthillier et al. 2021), with Satterthwaite's degrees of freedom.

An interval is that of a share with the root mean squared error (Wilson 1927, with an effective
number of observations as Dean and Pagano 2015): the standard error and the bias that the
pseudo-values' mean shows; in a paired difference biases cancel. It always holds its score, which
bootstrap percentiles of an average over rare findings do not: resamples lose findings and score
lower. Counts of different texts or n-grams have none: leaving out a patient can only lower them.

``docs/statistics.md`` says what an interval is of, how it was checked, and where all that stands.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from xray_captioning.errors import DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import statistics
from xray_captioning.metrics.cider import document_frequency
from xray_captioning.metrics.columns import checked_texts
from xray_captioning.metrics.finding_intervals import wilson
from xray_captioning.metrics.ngrams import BLOCK
from xray_captioning.metrics.statistics import Statistics
from xray_captioning.progress import progress

# Patients that a score has to stand on before it has an interval, and those with the rarest finding
# for averages that count an absent finding as 0.
LEAST_PATIENTS, LEAST_RAREST = 5, 10
# What scores cannot exceed, where that is not 1.
HIGHEST = {"CIDEr": 10.0} | dict.fromkeys(("false_positives", "false_positives_present"), len(FINDINGS) - 1.0)
UNBOUNDED = ("mean_length", "length_ratio")
_ROWS = 1 << 16  # patients who are left out at a time, in turn

Array = NDArray[np.float64]
Interval = tuple[float, float]
NO_INTERVAL = (float("nan"), float("nan"))


class Comparison(NamedTuple):
    """A system against a rival on the same studies; nan where a score is a share of nothing."""

    rival: str
    metric: str
    score: float
    rival_score: float
    difference: float  # score minus the rival's
    low: float  # 95 % interval of the difference; nan where it does not vary
    high: float
    p: float  # two-sided

    @property
    def clear(self) -> bool:
        """Whether the score is higher, at a level of .05."""
        return self.difference > 0 and self.p <= 0.05


@dataclass(frozen=True)
class Jackknife:
    """Scores of several systems on the same studies, by system and metric."""

    scores: dict[str, dict[str, float]]
    pseudo: dict[str, dict[str, Array]]  # (patients,), in the same order for all systems
    support: dict[str, dict[str, int]]  # patients that a score stands on
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # each run's scores

    def intervals(self, system: str) -> dict[str, Interval]:
        """Return the 95 % interval of each metric, nan where nothing is known of how it varies."""
        return {metric: self._interval(system, metric, score) for metric, score in self.scores[system].items()}

    def _interval(self, system: str, metric: str, score: float) -> Interval:
        least = LEAST_RAREST if metric.startswith("macro_f1") else LEAST_PATIENTS
        if self.support[system][metric] < least:
            return NO_INTERVAL
        pseudo = self.pseudo[system][metric]
        error, freedom = self._error(pseudo, metric, system)
        # Their mean is the score without most of its bias (F1 of few cases is too low).
        error, quantile = float(np.hypot(error, score - pseudo.mean())), stdtrit(freedom, 0.975)
        if metric in UNBOUNDED:
            low, high = _t_interval(score, error, quantile)
            return max(low, 0.0), high  # no text has fewer words than none
        highest = HIGHEST.get(metric, 1.0)
        share = score / highest
        if not (error > 0 and 0 < share < 1):
            return NO_INTERVAL
        # Of as many independent observations as would have the same standard error.
        low, high = wilson(share, (quantile * (error / highest)) ** 2 / (share * (1 - share)))
        return low * highest, high * highest

    def compare(self, system: str, rival: str, metric: str) -> Comparison:
        """Compare two systems by one metric: a paired t test of pseudo-values, uncorrected."""
        score, other = (self.scores[name][metric] for name in (system, rival))
        pseudo = self.pseudo[system][metric] - self.pseudo[rival][metric]
        if score == other and not pseudo.any():
            return Comparison(rival, metric, score, other, score - other, 0.0, 0.0, 1.0)
        error, freedom = self._error(pseudo, metric, system, rival)
        low, high = _t_interval(score - other, error, stdtrit(freedom, 0.975))
        # The patients whom scores stand on: of F1, those with any finding in a report.
        name = metric.replace("clinical", "micro").replace("macro", "micro")
        carrying = min(self.support[one][name] for one in (system, rival))
        p = _two_sided(score - other, error, freedom, carrying)
        return Comparison(rival, metric, score, other, score - other, low, high, p)

    def _error(self, pseudo: Array, metric: str, *systems: str) -> tuple[float, float]:
        """Return a standard error, over patients and the systems' runs, and its freedom."""
        samples = [pseudo]
        samples += [np.array([run[metric] for run in self.runs.get(name, [])]) for name in systems]
        known = [sample for sample in samples if len(sample) > 1]
        variances = np.array([sample.var(ddof=1) / len(sample) for sample in known])
        if len(pseudo) < 2 or not variances.sum() > 0:
            return float("nan"), float("nan")
        spread = sum(v**2 / (len(sample) - 1) for v, sample in zip(variances, known))
        return float(np.sqrt(variances.sum())), float(variances.sum() ** 2 / spread)


def jackknife(
    references: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    groups: Sequence[Hashable] | None = None,
    reports: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
) -> Jackknife:
    """Score systems, also without each patient in turn; `systems` are the texts of each.

    All studies of a patient (`groups`) are left out together. `reports` are the texts whose
    findings and sides count, where a protocol has replaced words of the `references`; `findings`
    what ``clinical_f1`` averages over. CIDEr's n-gram weights stay when a study is left out.
    Memory, beyond the texts: about 1 kB a study and system.
    """
    if not systems:
        raise DataError("there is no system to score; give at least one")
    checked_texts("references", references)
    reports = references if reports is None else checked_texts("reports", reports)
    patients = statistics.patient_numbers(groups, len(references))
    for name, texts in systems.items():
        if len(checked_texts(name, texts)) != len(references):
            raise DataError(f"{name} has {len(texts)} texts, but there are {len(references)} references")
    frequency = document_frequency(references)

    def count(said: Sequence[str], *known: Sequence[str]) -> Statistics:
        return statistics.study_statistics(known[0], said, known[1], frequency)

    runs = statistics_of_runs(count, list(systems.values()), references, reports)
    sums = (statistics.patient_sums(run, patients) for run in runs)
    return jackknife_sums(zip(systems, sums, strict=True), findings)


def statistics_of_runs(
    count: Callable[..., Statistics], runs: Sequence[Sequence[str]], *columns: Sequence[str]
) -> Iterator[Statistics]:
    """Yield the statistics that `count` makes of columns of texts, a run's first, then `columns`
    (references, reports). No row depends on another: equal ones are counted once.
    """
    number: dict[tuple[str, ...], int] = {}
    # Study by study, so that what is counted of a reference serves all runs.
    rows = [
        [number.setdefault((text, *known), len(number)) for text in said]
        for known, said in zip(zip(*columns, strict=True), zip(*runs, strict=True), strict=True)
    ]
    pairs = list(number)
    starts = progress(range(0, len(pairs), BLOCK), "scores", leave=False)
    parts = [count(*zip(*pairs[start : start + BLOCK], strict=True)) for start in starts]
    counted = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for row in np.array(rows).T:
        yield {name: values[row] for name, values in counted.items()}


def jackknife_sums(systems: Iterable[tuple[str, Statistics]], findings: Sequence[str] | None = None) -> Jackknife:
    """Return what `jackknife` does, of each system's `statistics.patient_sums`."""
    found = Jackknife({}, {}, {})
    for name, sums in systems:
        scores, pseudo = _leave_one_out(sums, findings)
        found.scores[name], found.pseudo[name] = scores, pseudo
        every = dict.fromkeys(scores, len(sums["n"]))
        found.support[name] = every | statistics.support(sums, findings)
    return found


def mean_of_runs(alone: Jackknife, systems: Mapping[str, Sequence[str]]) -> Jackknife:
    """Return systems as the means over their runs, which `alone` has by these names."""
    found = Jackknife({}, {}, {})
    for name, runs in systems.items():
        scores = [alone.scores[run] for run in runs]
        pseudo = [alone.pseudo[run] for run in runs]
        support = [alone.support[run] for run in runs]
        found.scores[name] = {m: float(np.mean([run[m] for run in scores])) for m in scores[0]}
        found.pseudo[name] = {m: np.mean([run[m] for run in pseudo], axis=0) for m in scores[0]}
        found.support[name] = {m: min(run[m] for run in support) for m in scores[0]}
        found.runs[name] = scores
    return found


def _leave_one_out(sums: Statistics, findings: Sequence[str] | None) -> tuple[dict[str, float], dict[str, Array]]:
    """Return the scores of all patients, and each patient's pseudo-values: (patients,)."""
    total = {name: values.sum(0, keepdims=True) for name, values in sums.items()}
    whole = statistics.scores_from_sums(total, findings)
    scores = {name: float(values[0]) for name, values in whole.items()}
    number, parts = len(sums["n"]), []
    if number == 1:
        return scores, {name: np.array([score]) for name, score in scores.items()}
    for start in range(0, number, _ROWS):
        part = slice(start, start + _ROWS)
        rest = {name: total[name] - values[part] for name, values in sums.items()}
        parts.append(statistics.scores_from_sums(rest, findings))
    pseudo = {}
    for name, score in scores.items():
        without = np.concatenate([part[name] for part in parts])
        # A patient without whom there is no score counts as if nothing changed.
        change = np.where(np.isfinite(without), score - without, 0.0)
        pseudo[name] = score + (number - 1) * change
    return scores, pseudo


def _two_sided(difference: float, error: float, freedom: float, patients: int) -> float:
    """Return p, no less than a sign test says where all `patients` that carry the scores agree: all
    that is known of a perfect system and one that names nothing.
    """
    least = min(2.0 ** (1 - patients), 1.0) if np.isfinite(difference) else float("nan")
    return max(least, 2 * float(stdtr(freedom, -abs(difference) / error))) if error > 0 else least


def _t_interval(score: float, error: float, quantile: float) -> Interval:
    if not error > 0:
        return NO_INTERVAL
    return float(score - quantile * error), float(score + quantile * error)
