"""Metrics of other packages in a comparison: rows, intervals, paired tests, shuffles and the alarm, as of ours."""

import json
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.evaluation.baselines import ReportTexts, System
from xray_captioning.evaluation.claims import COLLAPSED, METRIC_SHUFFLES, NO_BETTER
from xray_captioning.evaluation.report import write_report
from xray_captioning.evaluation.results import Results, evaluate_systems

NAMES = ("cardiomegaly", "left effusion", "scoliosis", "right nodule", "left fracture", "hiatal hernia")
REPORTS = [f"{name} ." for name in NAMES] * 10
IDS = [f"s{number}" for number in range(len(REPORTS))]
WRONG = "clear lungs ."


def overlap(references: list[str], texts: list[str]) -> dict[str, list[float]]:
    """Return the share of a reference's words that a text has."""
    shares = [len({*r.split()} & {*t.split()}) / len({*r.split()}) for r, t in zip(references, texts, strict=True)]
    return {"ratescore": shares, "radcliq_v1": [1 - share for share in shares]}


SYSTEMS = [
    System("good", None, [WRONG if n % 5 == 0 else text for n, text in enumerate(REPORTS)]),
    System("parrot", None, ["cardiomegaly ."] * len(REPORTS)),
    System("seeds", "greedy", REPORTS, "system", [["cardiomegaly ."] * len(REPORTS)]),
    System("constant", None, ["cardiomegaly ."] * len(REPORTS), "baseline"),
    System("random", None, REPORTS[1:] + REPORTS[:1], "baseline"),
]


def found_of(**changes: object) -> Results:
    given = {"metrics": {"ratescore": overlap, "radcliq": overlap}} | changes
    about = {"split": "", "part": "test", "protocol": "coco"}
    return evaluate_systems(IDS, SYSTEMS, ReportTexts.unaltered(REPORTS, REPORTS), about, **given)


@pytest.fixture(scope="module")
def found() -> Results:
    return found_of()


def row(found: Results, system: str) -> dict:
    return next(row for row in found.rows if row["system"] == system)


def test_rows_are_means_over_studies_and_runs(found: Results) -> None:
    shares = {s.name: np.mean([overlap(REPORTS, list(run))["ratescore"] for run in s.runs]) for s in SYSTEMS}
    for name, share in shares.items():
        assert row(found, name)["ratescore"] == pytest.approx(share)
        assert row(found, name)["-radcliq_v1"] == pytest.approx(share - 1)
    assert row(found, "good")["ratescore"] > row(found, "good shuffled")["ratescore"]
    assert row(found, "parrot")["ratescore"] == pytest.approx(row(found, "parrot shuffled")["ratescore"])


def test_intervals_hold_their_score(found: Results) -> None:
    low, high = found.intervals("good")["ratescore"]
    assert 0 <= low < row(found, "good")["ratescore"] < high <= 1
    low, high = found.intervals("good")["-radcliq_v1"]
    assert low < row(found, "good")["-radcliq_v1"] < high


def test_paired_tests_and_what_is_beaten(found: Results) -> None:
    tested = {(r["system"], r["rival"], r["metric"]): r for r in found.paired_tests}
    for metric in ("ratescore", "-radcliq_v1"):
        one = tested["good", "constant", metric]
        assert one["difference"] > 0
        assert one["p_holm"] < 0.001
        assert tested["parrot", "constant", metric]["difference"] == 0
        assert ("good", metric) in {(r["system"], r["metric"]) for r in found.beats_every_baseline}


def test_captions_are_given_to_others_and_the_alarm_says_by_which_metric(found: Results) -> None:
    tests = found.shuffle_tests
    assert tests["good (ratescore)"].p == 1 / (1 + METRIC_SHUFFLES) == 0.05
    assert tests["parrot (ratescore)"].p == 1
    assert tests["seeds greedy (-radcliq_v1)"].p == 0.05
    assert 0 < tests["good (ratescore)"].share < 1
    assert tests["good (-radcliq_v1)"].share is None  # it has no highest score of 1
    assert tests["good"].shuffles > tests["good (ratescore)"].shuffles == METRIC_SHUFFLES
    kinds = {(alarm.system, alarm.kind) for alarm in found.alarms if "its ratescore of" in alarm.message}
    assert kinds == {("parrot", COLLAPSED), ("seeds greedy", NO_BETTER)}  # of two seeds one is the parrot
    message = next(a.message for a in found.alarms if a.system == "parrot" and "its ratescore of" in a.message)
    assert "given to other studies (mean of 19 shuffles, p 1.000)" in message


def test_what_looks_but_is_no_better_than_a_fixed_report_is_warned_of() -> None:
    def narrow(references: list[str], texts: list[str]) -> dict[str, list[float]]:
        kept = [r == t == REPORTS[1] for r, t in zip(references, texts, strict=True)]
        return {"ratescore": [float(same or "cardiomegaly" in text) for same, text in zip(kept, texts, strict=True)]}

    found = found_of(metrics={"ratescore": narrow})
    assert ("good", NO_BETTER) in {(a.system, a.kind) for a in found.alarms if "its ratescore of" in a.message}


def test_files_have_them(found: Results, tmp_path: Path) -> None:
    found.write(tmp_path)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["rows"][0]["ratescore"] == row(found, "good")["ratescore"]
    assert stored["shuffle_tests"]["good (ratescore)"]["metric"] == "ratescore"
    assert stored["runs"]["seeds greedy"][0]["ratescore"] == 1
    write_report(found, tmp_path / "page.html")
    page, text = ((tmp_path / f"page.{kind}").read_text() for kind in ("html", "md"))
    assert "ratescore" in page
    assert "| ratescore" in text
    assert "ratescore_low" in (tmp_path / "page.csv").read_text().splitlines()[0].split(",")


def test_the_small_table_has_scores_and_paired_tests_but_no_shuffles() -> None:
    quick = found_of(quick=True)
    assert quick.rows[0]["ratescore"] == row(quick, "good")["ratescore"] > 0
    assert list(quick.shuffle_tests) == ["good", "parrot", "seeds greedy"]
    assert "ratescore" in {r["metric"] for r in quick.paired_tests}
