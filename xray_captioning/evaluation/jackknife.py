"""Confidence intervals of scores, and tests of differences: the jackknife over patients (``docs/statistics.md``).

Every score is computed once without each patient, whose *pseudo-value* is what that changes (Tukey 1958), from sums of
what is counted study by study: no text is scored again. Intervals have Wilson's form, so that they hold their score,
which bootstrap percentiles of an average over rare findings do not. Counts of different texts or n-grams have none:
leaving out a patient can only lower them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from xray_captioning.errors import DataError
from xray_captioning.files import progress, trim_memory
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import bleu, calibration, cider, classification, clinical, further, mentions
from xray_captioning.metrics.ngrams import BLOCK, LARGE, checked_texts, paired
from xray_captioning.metrics.scores import word_statistics

COMPARED = ("clinical_f1", "BLEU-4", "ROUGE-L", "CIDEr")  # metrics of the paired tests
TOGETHER = 300_000  # studies of all systems, above which these are counted one by one
WINDOW = 1 << 14  # studies, or patients, at a time
# Patients that a score has to stand on before it has an interval, and those with the rarest finding
# for averages that count an absent finding as 0.
LEAST_PATIENTS, LEAST_RAREST = 5, 10
# What scores cannot exceed, where that is not 1.
HIGHEST = {"CIDEr": 10.0} | dict.fromkeys(("false_positives", "false_positives_present"), len(FINDINGS) - 1.0)
UNBOUNDED = ("mean_length", "length_ratio")
# Arrays whose first axis is the study, by the name of a score or of a group of scores.
Statistics: TypeAlias = dict[str, NDArray[Any]]
Texts: TypeAlias = Sequence[str]
MEANS = ("ROUGE-L", "CIDEr", "ROUGE-1", "ROUGE-2", "ROUGE-L-F1")  # of words, over studies
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
    pseudo: dict[str, dict[str, Any]]  # (patients,), in the same order for all systems, or `_moments`
    support: dict[str, dict[str, int]]  # patients that a score stands on
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # each run's scores

    @property
    def compared(self) -> tuple[str, ...]:
        """The metrics of the paired tests."""
        return (*COMPARED, *further.present(next(iter(self.scores.values()))))

    def intervals(self, system: str) -> dict[str, Interval]:
        """Return the 95 % interval of each metric, nan where nothing is known of how it varies."""
        return {metric: self._interval(system, metric, score) for metric, score in self.scores[system].items()}

    def _interval(self, system: str, metric: str, score: float) -> Interval:
        least = LEAST_RAREST if metric.startswith("macro_f1") else LEAST_PATIENTS
        if self.support[system][metric] < least or metric not in self.pseudo[system]:
            return NO_INTERVAL
        pseudo, highest = self.pseudo[system][metric], HIGHEST.get(metric, 1.0)
        error, freedom = self._error(pseudo, metric, system)
        # Their mean is the score without most of its bias (F1 of few cases is too low).
        error, quantile = float(np.hypot(error, score - _moments(pseudo)[1])), stdtrit(freedom, 0.975)
        if metric in UNBOUNDED or metric in further.SIGNED:
            low, high = _t_interval(score, error, quantile)
            return low if metric in further.SIGNED else max(low, 0.0), high  # no text has fewer words than none
        share = score / highest
        if not (error > 0 and 0 < share < 1):
            return NO_INTERVAL
        # Of as many independent observations as would have the same standard error.
        low, high = calibration.wilson(share, (quantile * (error / highest)) ** 2 / (share * (1 - share)))
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
        p = _two_sided(score - other, error, freedom, min(self.support[one][name] for one in (system, rival)))
        return Comparison(rival, metric, score, other, score - other, low, high, p)

    def _error(self, pseudo: Any, metric: str, *systems: str) -> tuple[float, float]:
        """Return a standard error, over patients and the systems' runs, and its freedom."""
        runs = [np.array([run[metric] for run in self.runs.get(name, [])]) for name in systems]
        known = [_moments(sample) for sample in (pseudo, *runs) if len(sample) > 1]
        variances = np.array([variance / number for number, _, variance in known])
        if len(pseudo) < 2 or not variances.sum() > 0:
            return float("nan"), float("nan")
        spread = sum(v**2 / (number - 1) for v, (number, *_) in zip(variances, known))
        return float(np.sqrt(variances.sum())), float(variances.sum() ** 2 / spread)


def study_statistics(
    references: Texts, hypotheses: Texts, reports: Texts | None = None, frequency: cider.Frequency = None
) -> Statistics:
    """Compute the statistics of one system, a text a study: 260 bytes."""
    # Findings and sides are those of `reports`, by default the references. CIDEr weighs n-grams, in any sample of
    # studies, by `frequency`, by default that of all.
    reports = references if reports is None else reports
    _, (references, hypotheses, reports) = paired(references=references, hypotheses=hypotheses, reports=reports)
    statistics = word_statistics(references, hypotheses, frequency, rouge_score=True)
    facts = [mentions.facts(column) for column in (reports, hypotheses)]
    statistics |= mentions.mention_statistics(*facts)
    return statistics | clinical.finding_statistics(*map(clinical.labels_of, facts))


def patient_sums(statistics: Statistics, patients: NDArray[np.integer]) -> Statistics:
    """Add up the statistics of each patient's studies, by `patient_numbers`: (patients, ...); it takes them out."""
    order = np.argsort(patients, kind="stable")
    starts = np.flatnonzero(np.diff(patients[order], prepend=-1))
    most = int(np.diff(starts, append=len(order)).max(initial=0))

    def add(of: NDArray[Any]) -> NDArray[Any]:
        rows = _narrow(of, most)[order]
        return _narrow(np.add.reduceat(rows, starts, 0, rows.dtype))  # of another type all would be copied

    return {name: add(statistics.pop(name)) for name in list(statistics)}


def _narrow(counts: NDArray[Any], times: int = 1) -> NDArray[Any]:
    """Return counts in as few bytes as so many times the largest fits in, other numbers as they are."""
    whole = counts.dtype.kind != "f" and counts.size
    return counts.astype(np.min_scalar_type(-1 - times * int(counts.max())), copy=False) if whole else counts


def scores_from_sums(sums: Statistics, findings: clinical.Findings = None) -> dict[str, NDArray[Any]]:
    """Compute all scores of samples, each (samples,), from sums of `study_statistics`; nan is a share of nothing."""
    return text_scores(sums) | clinical.finding_scores(sums, findings) | mentions.mention_scores(sums)


def support(sums: Statistics, findings: clinical.Findings = None) -> dict[str, int]:
    """Count the patients, (patients, ...) of `sums`, that a score stands on, if not on all."""
    # For micro F1 those with a finding of the group in some reference; for macro F1 those with the rarest finding; for
    # ``clinical_f1`` those with the median of the `findings` that any text asserts.
    counted = mentions.mention_support(sums)
    for suffix in (suffix for suffix in ("", "_present", further.CHEXBERT) if f"findings{suffix}" in sums):
        supported = _finding_support(sums["findings" + suffix], clinical.finding_columns(findings))
        counted |= {name + suffix: number for name, number in supported.items()}
    return counted


def _finding_support(counts: Any, columns: NDArray[np.bool_]) -> dict[str, int]:
    positive = counts[..., [0, 2]].any(-1)
    patients = positive.sum(0)
    averaged = patients[columns & counts.any((0, 2))]
    counted = {"clinical_f1": int(np.median(averaged)) if averaged.size else 0}
    counted["micro_f1"] = int(positive[:, clinical.IS_FINDING].any(1).sum())
    for name, group in clinical.GROUPS.items():
        counted[f"macro_f1_{name}"] = int(patients[group].min())
        counted[f"micro_f1_{name}"] = int(positive[:, group].any(1).sum())
    return counted


def text_scores(sums: Statistics) -> dict[str, NDArray[Any]]:
    """Compute those of words: ``mean_length``, ``length_ratio`` to the closest references, and what else is counted."""
    length, closest = sums["n-grams"][:, 8], sums["n-grams"][:, 9]
    columns = bleu.bleu_from_statistics(sums["n-grams"]).T
    scores = {f"BLEU-{order}": column for order, column in enumerate(columns, 1)}
    scores |= {name: sums[name] / sums["n"] for name in MEANS if name in sums} | further.scores_from_sums(sums)
    return scores | {"mean_length": length / sums["n"], "length_ratio": clinical.share(length, closest)}


def jackknife(
    references: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    groups: Sequence[Hashable] | None = None,
    reports: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
    more: Callable[[Texts], Statistics] | None = None,
) -> Jackknife:
    """Score systems, by name their texts, also without each patient (of `groups`) in turn, all studies together."""
    # `reports`, where a protocol altered the `references`, are the texts whose findings count; `findings` those of
    # ``clinical_f1``; `more` counts further metrics. CIDEr's weights stay. Memory: about 1 kB a study and system.
    if not systems:
        raise DataError("there is no system to score; give at least one")
    checked_texts("references", references)
    reports = references if reports is None or reports is references else checked_texts("reports", reports)
    patients = classification.patient_numbers(groups, len(references))
    for name, texts in systems.items():
        if len(checked_texts(name, texts)) != len(references):
            raise DataError(f"{name} has {len(texts)} texts, but there are {len(references)} references")
    count, runs = partial(study_statistics, frequency=cider.document_frequency(references)), list(systems.values())
    batches = [runs] if len(runs) * len(references) <= TOGETHER else [[run] for run in runs]
    several = chain.from_iterable(statistics_of_runs(count, batch, references, reports) for batch in batches)
    asked = zip(several, progress(runs, "metrics", leave=False) if more else runs, strict=True)
    sums = (patient_sums({**own, **more(run)} if more else own, patients) for own, run in asked)
    return jackknife_sums(zip(systems, sums, strict=True), findings)


def statistics_of_runs(
    count: Callable[..., Statistics], runs: Sequence[Sequence[str]], *columns: Sequence[str]
) -> Iterator[Statistics]:
    """Yield the statistics that `count` makes of `columns` (references, reports), a run's texts behind the first."""
    # No row depends on another: equal ones near each other are counted once.
    windows = (slice(start, start + WINDOW) for start in range(0, len(columns[0]), WINDOW))
    parts = [_of_window(count, [column[part] for column in (*columns, *runs)], len(runs)) for part in windows]
    trim_memory(0)  # what was there for a moment may be as much as what stays
    for own in zip(*parts, strict=True):
        yield {name: np.concatenate([part.pop(name) for part in own]) for name in list(own[0])}


def _of_window(count: Callable[..., Statistics], columns: Sequence[Sequence[str]], runs: int) -> list[Statistics]:
    number: dict[tuple[str, ...], int] = {}
    # Study by study, so that what is counted of a reference serves all runs.
    studies = zip(*columns, strict=True)
    rows = [[number.setdefault((row[0], text, *row[1:-runs]), len(number)) for text in row[-runs:]] for row in studies]
    pairs = list(number)
    starts = progress(range(0, len(pairs), BLOCK), "scores", leave=False)
    parts = [count(*zip(*pairs[start : start + BLOCK], strict=True)) for start in starts]
    counted = {name: _narrow(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return [{name: values[row] for name, values in counted.items()} for row in np.array(rows).T]


def jackknife_sums(systems: Iterable[tuple[str, Statistics]], findings: Sequence[str] | None = None) -> Jackknife:
    """Return what `jackknife` does, of each system's `patient_sums`."""
    found = Jackknife({}, {}, {})
    for name, sums in systems:
        found.scores[name], found.pseudo[name] = _leave_one_out(sums, findings)
        found.support[name] = dict.fromkeys(found.scores[name], len(sums["n"])) | support(sums, findings)
    return found


def mean_of_runs(alone: Jackknife, systems: Mapping[str, Sequence[str]]) -> Jackknife:
    """Return systems as the means over their runs, which `alone` has by these names."""
    found = Jackknife({}, {}, {})
    for name, runs in systems.items():
        found.runs[name] = [alone.scores[run] for run in runs]
        metrics = list(found.runs[name][0])
        found.scores[name] = {m: float(np.mean([alone.scores[run][m] for run in runs])) for m in metrics}
        pseudo = [alone.pseudo[run] for run in runs]  # of moments alone there is no mean
        several = [m for m, values in pseudo[0].items() if not isinstance(values, tuple)]
        means = {m: np.mean([one[m] for one in pseudo], axis=0) for m in several if len(runs) > 1}
        found.pseudo[name] = means if len(runs) > 1 else pseudo[0]
        found.support[name] = {m: min(alone.support[run][m] for run in runs) for m in metrics}
    return found


def _leave_one_out(sums: Statistics, findings: Sequence[str] | None) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the scores of all patients, and each patient's pseudo-values: (patients,)."""
    total = {name: values.sum(0, keepdims=True, dtype=np.float64) for name, values in sums.items()}
    scores = {name: float(values[0]) for name, values in scores_from_sums(total, findings).items()}
    if (number := len(sums["n"])) == 1:
        return scores, {name: np.array([score]) for name, score in scores.items()}
    pseudo: dict[str, Any] = {name: np.empty(number) for name in scores}
    for part in (slice(start, start + WINDOW) for start in range(0, number, WINDOW)):
        found = scores_from_sums({name: total[name] - values[part] for name, values in sums.items()}, findings)
        for name, score in scores.items():
            # A patient without whom there is no score counts as if nothing changed.
            pseudo[name][part] = score + (number - 1) * np.where(np.isfinite(found[name]), score - found[name], 0.0)
    for name in () if number <= LARGE else pseudo.keys() - {*COMPARED, *further.COLUMNS}:
        pseudo[name] = _moments(pseudo[name])
    return scores, pseudo


def _moments(values: Any) -> tuple[int, float, float]:
    """Return number, mean and variance of several values; of very many that are not compared no more is kept."""
    return values if isinstance(values, tuple) else (len(values), float(values.mean()), float(values.var(ddof=1)))


def _two_sided(difference: float, error: float, freedom: float, patients: int) -> float:
    """Return p, no less than a sign test's where all `patients` that carry the scores agree: a perfect system's."""
    least = min(2.0 ** (1 - patients), 1.0) if np.isfinite(difference) else float("nan")
    return max(least, 2 * float(stdtr(freedom, -abs(difference) / error))) if error > 0 else least


def _t_interval(score: float, error: float, quantile: float) -> Interval:
    return (float(score - quantile * error), float(score + quantile * error)) if error > 0 else NO_INTERVAL
