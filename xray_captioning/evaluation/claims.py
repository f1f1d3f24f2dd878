"""What is claimed of systems: that they look at the images, differ, and beat every baseline.

A permutation test gives captions to other patients, not studies, because the findings of one patient's studies are
alike; a patient may draw himself. Paired tests of systems are corrected by Holm's method; better than *all* rivals
needs no correction: an intersection-union test. Sources: ``docs/statistics.md``.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain, combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import System
from xray_captioning.evaluation.jackknife import Comparison, Jackknife
from xray_captioning.evaluation.table import finite
from xray_captioning.files import read_toml
from xray_captioning.findings import CONSTANT, FINDINGS, ORACLE
from xray_captioning.metrics import clinical, ngrams

Array = NDArray[Any]
Row = dict[str, Any]
LEVEL = 0.05  # of every test, and of every statement that a table makes
COLLAPSED, NO_BETTER = "collapsed", "no better than a fixed report"
TOO_FEW = "too few studies"  # to tell
SHUFFLES, FEW_SHUFFLES = 1_999, 199  # of a test, with which .05 is a whole number of ranks; of a large set
METRIC_SHUFFLES = 19  # where there are further metrics, which may take seconds a text: p can just be .05
WORDS = "word_f1"  # F1 of the different words of a caption and of its reference, mean over studies
_NAMES = {"clinical_f1": "clinical F1", WORDS: "F1 of words"}
_SAID: dict[str, str] = read_toml(__file__, "claims.toml")  # of alarms, by their kind


class CollapseWarning(UserWarning):
    """A system does not look, or no one can tell; or it is no better than a fixed report."""


class Spread(NamedTuple):
    """How varied a system's captions are; shares are in [0, 1], nan where of nothing."""

    copied: float  # captions that are a training text, word for word
    distinct: float  # different captions
    top_share: float  # of the most frequent caption
    entropy: float  # of the distribution of captions, in bits
    abnormal_recall: float  # abnormal studies whose caption names a finding that they have


class ShuffleTest(NamedTuple):
    """A system's captions where they belong, and given to other patients."""

    metric: str  # "clinical_f1", or "word_f1" where no reference has a finding, or a further one
    score: float  # where they belong
    shuffled: float  # mean over the shuffles
    excess: float  # score minus shuffled
    # Excess over what is possible, 1 - shuffled: 0 by chance, 1 a perfect system; None where a score may be above 1.
    share: float | None
    p: float  # one-sided, at least 1 / (shuffles + 1)
    least_p: float  # what the references themselves, as captions, would have
    shuffles: int


class Alarm(NamedTuple):
    """Why a system's scores are not to be believed."""

    system: str  # name of its column in ``captions.csv``
    kind: str  # COLLAPSED, NO_BETTER or TOO_FEW
    message: str  # one sentence
    shuffle_test: ShuffleTest | None  # None where all studies are of one patient
    comparisons: list[Comparison]  # with a fixed report; empty where there is none

    def values(self) -> Row:
        """Return the alarm as JSON has it."""
        test = self.shuffle_test._asdict() if self.shuffle_test else None
        return self._asdict() | {"shuffle_test": test, "comparisons": list(map(comparison_values, self.comparisons))}


def caption_spread(
    references: clinical.Texts, texts: Sequence[str], training: Sequence[str], labels: clinical.Labels | None = None
) -> Spread:
    """Measure how varied captions are, and how many abnormal studies they recognise; `labels` are theirs, if known."""
    columns: tuple[clinical.Texts, ...] = (references, texts if labels is None else labels)
    true, said = (clinical.asserted(column) & clinical.IS_FINDING for column in columns)
    abnormal = true.any(axis=1)
    known, hits, times = frozenset(training), (true & said).any(axis=1) & abnormal, ngrams.occurrences(texts)
    copied, most = sum(text in known for text in texts), int(times.max())
    recall = float(clinical.share(hits.sum(), abnormal.sum()))
    return Spread(copied / len(texts), len(times), most / len(texts), ngrams.caption_entropy(texts), recall)


def collapse_alarm(system: str, spread: Spread, test: ShuffleTest | None, constant: Comparison | None) -> Alarm | None:
    """Say whether a system looks collapsed: the permutation test is not significant but would be for the references."""
    # Else whether there are too few studies for that, or it is no better than a fixed report.
    weak = None if constant is None or constant.clear else constant
    if test is None or min(test.p, test.least_p) > LEVEL:
        kind = TOO_FEW
    elif test.p > LEVEL:
        kind = COLLAPSED
    elif weak:
        kind = NO_BETTER
    else:
        return None
    metric = weak.metric if weak and kind == NO_BETTER else test and test.metric
    told = {"system": system, "spread": spread, "test": test, "weak": weak, "name": _NAMES.get(str(metric), metric)}
    if weak:
        interval = _SAID["interval"].format(**told) if math.isfinite(weak.low) else "no interval"
        told["rival"] = _SAID["rival"].format(**told, interval=interval)
    told["fixed"] = f" and the {told['rival']}" if weak and test and weak.metric == test.metric else ""
    message = _SAID[kind if test else "one patient"].format(**told)
    return Alarm(system, kind, message, test, [constant] if constant else [])


def shuffled_orders(patients: Sequence[Hashable] | Array, number: int, seed: int) -> Iterator[Array]:
    """Yield, `number` times, which study's caption each study gets: int64, (studies,)."""
    # All of a patient get captions of one drawn at random, in their order and from the start again where he has fewer.
    codes = np.unique(np.asarray(patients), return_inverse=True)[1]
    rows, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts, place = np.cumsum(sizes) - sizes, np.empty_like(rows)
    place[rows] = np.arange(len(rows)) - starts[codes[rows]]
    rng = np.random.default_rng(seed)
    for _ in range(number):
        donor = rng.permutation(len(sizes))[codes]
        yield rows[starts[donor] + place % sizes[donor]]


def shuffle_test(
    reports: Any,
    runs: Sequence[Any],
    patients: Sequence[Hashable] | Array,
    seed: int = 0,
    shuffles: int = SHUFFLES,
    findings: Sequence[str] | None = None,
) -> ShuffleTest:
    """Test whether captions go better with their own studies than with others'; all are texts, or all labels."""
    # `runs` are shuffled alike and averaged; `findings` are those of ``clinical_f1``. ``least_p`` bounds ``p`` where
    # all patients have equally many studies; else captions unlike the references may come a little below it.
    if len(np.unique(np.asarray(patients))) < 2:
        raise DataError("captions of one patient cannot be given to others; give at least two")
    present = clinical.asserted(reports)
    counted = present & clinical.finding_columns(findings)
    some = bool(counted.any())
    alike = counted @ _PLACES if some else _words(reports)[1]
    counters = [_hits(present, clinical.asserted(run)) if some else _word_f1(reports, run) for run in runs]
    scored, unchanged = [], -1  # the first order changes nothing
    for order in chain([np.arange(len(reports))], shuffled_orders(patients, shuffles, seed)):
        scored.append([count(order) for count in counters])
        unchanged += bool((alike[order] == alike).all())
    scores = np.array(scored)
    if some:
        scores = np.nan_to_num(clinical.scores_from_counts(scores, findings)["clinical_f1"])
    own, *others = np.mean(np.ascontiguousarray(scores.T), axis=0)
    return test_of("clinical_f1" if some else WORDS, float(own), others, (1 + unchanged) / (1 + shuffles))


def test_of(metric: str, score: float, shuffled: Sequence[float], least_p: float) -> ShuffleTest:
    """Return the test of a score against those of the shuffles."""
    # Sums in another order differ in the last digits: a system that always says the same is equal.
    reached, mean = int((np.array(shuffled) >= score - 1e-9).sum()), float(np.mean(shuffled))
    share = None if metric.startswith("-") else (score - mean) / (1 - mean) if mean < 1 else 0.0
    p = (1 + reached) / (1 + len(shuffled))
    return ShuffleTest(metric, score, mean, score - mean, share, p, least_p, len(shuffled))


_PLACES = 1 << np.arange(len(FINDINGS), dtype=np.int32)  # of findings as the bits of a number


def _hits(present: Array, said: Array) -> Callable[[Array], Array]:
    """Return what counts, (18, 3), true and false positives and false negatives of captions in an order."""
    positives, wanted, own = present.sum(axis=0), present @ _PLACES, said @ _PLACES

    def count(order: Array) -> Array:
        given = own[order]
        hits, every = (np.array([np.count_nonzero(of & place) for place in _PLACES]) for of in (given & wanted, given))
        return np.column_stack([hits, every - hits, positives - hits])

    return count


def _word_f1(reports: Sequence[str], texts: Sequence[str]) -> Callable[[Array], float]:
    """Return what scores captions in an order, from the F1 of every caption with every report."""
    (wanted, row), (said, column) = (_words(column) for column in (reports, texts))
    words = sorted(frozenset().union(*wanted, *said))
    one, other = (np.array([[word in own for word in words] for own in sets], np.float32) for sets in (wanted, said))
    pairs = 2 * (one @ other.T) / np.maximum(one.sum(axis=1)[:, None] + other.sum(axis=1), 1)
    return lambda order: float(pairs[row, column[order]].mean(dtype=np.float64))


def _words(texts: Sequence[str]) -> tuple[list[frozenset[str]], Array]:
    """Return the different sets of words, and which of them each text has."""
    number: dict[frozenset[str], int] = {}
    codes = [number.setdefault(frozenset(text.split()), len(number)) for text in texts]
    return list(number), np.array(codes)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's method (1979), nan for nan."""
    values = np.asarray(p, dtype=np.float64)
    order = [int(i) for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    steps = [values[i] * (len(order) - rank) for rank, i in enumerate(order)]
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if steps else []
    return [float(value) for value in corrected]


def fixed_rival(systems: Sequence[System], metric: str) -> str | None:
    """Return the column of the fixed report that *training* texts choose by a metric, else by BLEU-4."""
    names = [system.column for system in systems if system.kind == "baseline"]
    return next((n for n in (f"{CONSTANT}-{metric}", CONSTANT) if n in names), None)


def paired_tests(systems: Sequence[System], found: Jackknife) -> list[Row]:
    """Compare systems with each metric's fixed report, then with each other; ``p_holm`` is over a metric's rows."""
    names = [system.column for system in systems if system.kind == "system"]
    pairs = [(name, fixed_rival(systems, m), m) for name in names for m in found.compared]
    pairs += [(*pair, metric) for pair in combinations(names, 2) for metric in found.compared]
    rows = [(name, found.compare(name, rival, m)) for name, rival, m in pairs if rival is not None]
    corrected = {metric: iter(holm([one.p for _, one in rows if one.metric == metric])) for metric in found.compared}
    return [{"system": n, **comparison_values(one), "p_holm": finite(next(corrected[one.metric]))} for n, one in rows]


def beats_every_baseline(systems: Sequence[System], found: Jackknife) -> list[Row]:
    """Return where a system beats all baselines (``rivals``) but the oracle, shown the answer; ``p`` is the largest."""
    rivals = [s.column for s in systems if s.kind == "baseline" and s.name != ORACLE]
    names = [system.column for system in systems if system.kind == "system"]
    tests = [(n, m, [found.compare(n, rival, m) for rival in rivals]) for n, m in product(names, found.compared)]
    won = [(n, m, max(one.p for one in every)) for n, m, every in tests if every and all(one.clear for one in every)]
    return [{"system": name, "metric": metric, "rivals": rivals, "p": p, "level": LEVEL} for name, metric, p in won]


def beaten(row: Row) -> str:
    """Return a row of :func:`beats_every_baseline` as a sentence."""
    largest = "below 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    said = f"{row['system']} beats every baseline ({len(row['rivals'])}) in {row['metric']}"
    return f"{said}: largest p {largest}, level {row['level']}"


def comparison_values(comparison: Comparison) -> Row:
    """Return a comparison as JSON has it."""
    return {name: finite(v) if isinstance(v, float) else v for name, v in comparison._asdict().items()}
