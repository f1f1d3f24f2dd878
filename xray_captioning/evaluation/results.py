"""The results of an evaluation: all scores of some systems on the same studies, and two files."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.evaluation import claims, jackknife
from xray_captioning.evaluation.baselines import DRAWS, ReportTexts, System
from xray_captioning.evaluation.jackknife import Jackknife
from xray_captioning.evaluation.table import CLINICAL_COLUMNS, LEFT_OUT, SHOWN, TEXT_COLUMNS, finite
from xray_captioning.files import atomic_path, atomic_write
from xray_captioning.findings import SHUFFLED
from xray_captioning.metrics import cider, classification, clinical, further, mentions, ngrams
from xray_captioning.metrics.scores import word_statistics

Row = dict[str, Any]
LARGE_NOTE = (
    f"more than {ngrams.LARGE:,} studies: the table is the small one, `random` one draw, no page is written, a test of "
    f"captions given to other patients has {claims.FEW_SHUFFLES} shuffles"
)
_SHOWN_AS = {"side_recall": "sides"}
Tests = Mapping[str, claims.ShuffleTest]
Labelled = Callable[[Any], clinical.Labels]


@dataclass(frozen=True)
class Results:
    """What :func:`evaluate_systems` found."""

    studies: Sequence[str]  # ids
    references: Sequence[str]  # the texts that words are compared with
    reports: Sequence[str]  # those whose findings count
    systems: list[System]  # systems first, then baselines, then shuffled systems
    rows: list[Row]  # one a system
    found: Jackknife  # of systems and baselines, by column name
    shuffle_tests: dict[str, claims.ShuffleTest]  # of systems, by column name, or with a further metric "name (metric)"
    alarms: list[claims.Alarm]
    about: dict[str, Any]  # part, digest of the split, protocol, findings of `clinical_f1`
    whole_rows: list[Row]  # against references that are not truncated, where a protocol truncates
    paired_tests: list[Row]  # see :func:`xray_captioning.evaluation.claims.paired_tests`
    beats_every_baseline: list[Row]  # see the function of this name there

    def write(self, out: Path) -> None:
        """Write ``metrics.json`` and ``captions.csv``; docs/evaluation.md says what is in them."""
        shown = (*TEXT_COLUMNS, *CLINICAL_COLUMNS, *self.found.compared[len(jackknife.COMPARED) :])
        runs = {s.column: self.found.runs[s.column] for s in self.systems if s.kind == "system"}
        columns = {name: texts for s in self.systems for name, texts in s.columns.items()}
        columns |= {n: [str(v)] * len(self.studies) for n, v in self.left_out.items()}
        lines = zip(self.studies, self.references, *columns.values(), strict=True)
        with atomic_path(out / "captions.csv") as aside, open(aside, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(chain([["study_id", "reference", *columns]], lines))
        values = {
            **self.about,
            **({"note": self.note} if self.note else {}),
            "rows": self.rows,
            **({"rows_untruncated": self.whole_rows} if self.whole_rows else {}),
            "alarms": [alarm.values() for alarm in self.alarms],
            "shuffle_tests": {name: test._asdict() for name, test in self.shuffle_tests.items()},
            "differences": self.paired_tests,
            "beats_every_baseline": self.beats_every_baseline,
            "intervals": {name: self.intervals(name) for name in self.found.scores},
            "runs": {name: [{m: finite(run[m]) for m in shown} for run in of] for name, of in runs.items()},
            "spread": {s.column: spread for s in self.systems if (spread := self.spread(s))},
        }
        atomic_write(out / "metrics.json", json.dumps(values, indent=2) + "\n")

    def spread(self, system: System) -> dict[str, float | None]:
        """Return the standard deviations of a system's scores between its runs; of one run there are none."""
        runs = self.found.runs[system.column] if system.kind == "system" else []
        found = {name: float(np.std([run[name] for run in runs], ddof=1)) for name in (runs[0] if runs[1:] else ())}
        return {_SHOWN_AS.get(name, name): finite(value) for name, value in found.items()}

    @property
    def left_out(self) -> dict[str, int]:
        """What every table has a column of: the studies that lack a text of some system."""
        return {name: self.about[name] for name in (LEFT_OUT,) if name in self.about}

    @property
    def note(self) -> str:
        """The same as sentences for people, and what a large set goes without; often empty."""
        number, left = len(self.studies), self.left_out.get(LEFT_OUT)
        said = [] if left is None else [f"only {number} of {number + left} studies: {left} lack a text of some system"]
        return "; ".join([*said, LARGE_NOTE] if number > ngrams.LARGE else said)

    def intervals(self, column: str) -> dict[str, list[float] | None]:
        """Return the 95 % intervals of a system's scores, None for none, as of shuffled systems."""
        found = self.found.intervals(column) if column in self.found.scores else {}
        return {_SHOWN_AS.get(name, name): [low, high] if low == low else None for name, (low, high) in found.items()}


def evaluate_systems(
    studies: Sequence[str],
    systems: Sequence[System],
    texts: ReportTexts,
    about: Mapping[str, Any],
    groups: Any = None,
    quick: bool = False,
    seed: int = 0,
    metrics: Mapping[str, further.Metric] | None = None,
) -> Results:
    """Score systems, then baselines; all studies of one of the `groups`, patients of any type, are one observation."""
    # `about` goes to ``metrics.json``. A row has the columns of `SHOWN` and, unless quick, every score of `jackknife`,
    # ``distinct-1``, ``distinct-2`` and a `Spread`, means over runs. Quick, or with more than `LARGE` studies, there
    # are no rows for shuffled systems; all tests are the same. Further `metrics` have `METRIC_SHUFFLES`.
    quick, shuffles = (True, claims.FEW_SHUFFLES) if len(studies) > ngrams.LARGE else (quick, claims.SHUFFLES)
    labelled = cache(clinical.label_matrix)
    systems = [s._replace(texts=_key(s.texts), others=list(map(_key, s.others))) for s in systems]
    texts = texts._replace(reports=_key(texts.reports))
    groups = classification.patient_numbers(studies if groups is None else groups, len(studies))
    own = [s for s in systems if s.kind == "system" and groups.max() > 0]
    findings, reports = clinical.counted_findings(texts.training), labelled(texts.reports)
    supported = clinical.supported_findings(reports, findings)
    # Without a finding it is words that are compared.
    read, metric = (labelled, "clinical_f1") if any(supported.values()) else (list, "BLEU-4")
    test = partial(claims.shuffle_test, patients=groups, seed=seed, shuffles=shuffles, findings=findings)
    tests = {s.column: test(read(texts.reports), list(map(read, s.runs))) for s in own}
    orders = [] if quick else list(claims.shuffled_orders(groups, claims.METRIC_SHUFFLES if metrics else DRAWS, seed))
    shuffled = {s.column: _shuffled(s, orders, bool(metrics)) for s in own if orders}
    shown = [*systems, *shuffled.values()]
    # What systems share is scored once: the different runs have numbers.
    named = {str(n): run for n, run in enumerate(dict.fromkeys(run for s in shown for run in s.runs))}
    runs = {run: number for number, run in named.items()}
    more = partial(further.statistics, metrics, list(texts.references), list(texts.reports)) if metrics else None
    alone = jackknife.jackknife(texts.references, named, groups, texts.reports, findings, more)
    found = jackknife.mean_of_runs(alone, {s.column: [runs[run] for run in s.runs] for s in systems})
    rows = {run: _row(run, texts, alone, number, None if quick else labelled) for run, number in runs.items()}
    whole = _whole_rows(texts.whole, rows) if texts.whole else {}
    for name, m in product(shuffled, further.present(alone.scores["0"])):
        others = np.reshape([alone.scores[runs[run]][m] for run in shuffled[name].runs], (len(orders), -1)).mean(axis=1)
        tests[f"{name} ({m})"] = claims.test_of(m, found.scores[name][m], others.tolist(), tests[name].least_p)
    notes = _notes(tests, shuffled, {name: about[name] for name in (LEFT_OUT,) if name in about})

    def mean(system: System, rows: Mapping[Any, Row]) -> Row:
        own = mean_row([rows[run] for run in system.runs]) | notes[system.column]
        return {**dict.fromkeys(SHOWN), "system": system.name, "search": system.search, **own}

    return Results(
        studies=studies,
        references=texts.references,
        reports=texts.reports,
        systems=shown,
        rows=[mean(s, rows) for s in shown],
        found=found,
        shuffle_tests=tests,
        alarms=list(_alarms(systems, texts, found, tests, metric, labelled)),
        about={**about, "findings": supported},
        whole_rows=[mean(s, whole) for s in shown if whole],
        paired_tests=claims.paired_tests(systems, found),
        beats_every_baseline=claims.beats_every_baseline(systems, found),
    )


def _key(run: Sequence[str]) -> Any:
    return run if isinstance(run, ngrams.PackedTexts) else tuple(run)


def _row(run: Any, texts: ReportTexts, alone: Jackknife, number: str, labelled: Labelled | None) -> Row:
    """Return the row of a run, which `alone` has by its number; without labels the small one."""
    found, support = alone.scores[number], alone.support[number]
    row = {name: finite(found[name]) for name in (*TEXT_COLUMNS, *CLINICAL_COLUMNS, *further.present(found))}
    row |= {"sides": finite(found["side_recall"]), "distinct": len(ngrams.occurrences(run)), "n": len(run)}
    if labelled is None:
        return row
    row |= {f"{kind}_support": support[f"{kind}_agreement"] for kind in mentions.DETAILS}
    distinct = {f"distinct-{n}": ngrams.distinct_ngrams(run, n) for n in (1, 2)}
    spread = claims.caption_spread(labelled(texts.reports), run, texts.training, labelled(run))
    return row | distinct | {n: finite(v) for n, v in {**found, **spread._asdict()}.items() if n not in row}


def _whole_rows(whole: list[str], rows: Mapping[Any, Row]) -> dict[Any, Row]:
    """Return the rows of runs with their words scored against references that are not truncated."""
    count, found = partial(word_statistics, frequency=cider.document_frequency(whole)), {}
    for run, counted in zip(rows, jackknife.statistics_of_runs(count, list(rows), whole)):
        scores = jackknife.text_scores({n: v.sum(0, keepdims=True, dtype=float) for n, v in counted.items()})
        words = {name: float(scores[name][0]) for name in TEXT_COLUMNS}
        found[run] = {n: v for n, v in rows[run].items() if n in SHOWN} | words
    return found


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over runs, None where a run has none: the rest would be of other runs. Counts stay counts."""
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Sequence[Any]) -> Any:
    if None in values or isinstance(values[0], str):
        return None if None in values else values[0]
    mean = sum(values) / len(values)
    return round(mean) if all(isinstance(value, int) for value in values) else mean


def _shuffled(system: System, orders: Sequence[NDArray[Any]], every: bool) -> System:
    """Return a system whose captions are given to other patients; each shuffle is a run, or one of every run."""
    pairs = product(orders, system.runs) if every else zip(orders, cycle(system.runs))
    runs = [tuple(texts[row] for row in order) for order, texts in pairs]
    return System(f"{system.name} {SHUFFLED}", system.search, runs[0], SHUFFLED, runs[1:])


def _notes(tests: Tests, shuffled: Mapping[str, System], everywhere: Row) -> dict[str, Row]:
    """Return what is noted in rows, by column: what the test says of systems, and everywhere."""
    notes: dict[str, Row] = defaultdict(lambda: everywhere)
    for name, test in tests.items():
        notes[name] = {"p_shuffled": test.p, **everywhere}
        # The clinical F1 of a shuffled system is the mean over all shuffles of the test, so that
        # table and test say the same; its other scores are means over `DRAWS` of them.
        if name in shuffled and test.metric != claims.WORDS:
            notes[shuffled[name].column] = {test.metric: test.shuffled, **everywhere}
    return notes


def _alarms(
    systems: Sequence[System], texts: ReportTexts, found: Jackknife, tests: Tests, metric: str, labelled: Labelled
) -> Iterator[claims.Alarm]:
    reports = labelled(texts.reports)
    for system in (s for s in systems if s.kind == "system"):
        name = system.column
        spreads = [claims.caption_spread(reports, run, texts.training, labelled(run)) for run in system.runs]
        spread = claims.Spread(**mean_row([one._asdict() for one in spreads]))
        more = [(m, tests[f"{name} ({m})"]) for m in further.COLUMNS if f"{name} ({m})" in tests]
        for by, test in [(metric, tests.get(name)), *more]:
            constant = claims.fixed_rival(systems, by)
            rival = found.compare(name, constant, by) if constant else None
            if alarm := claims.collapse_alarm(name, spread, test, rival):
                yield alarm
