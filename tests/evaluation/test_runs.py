"""A system of several runs: means, and intervals that hold for other seeds."""

import numpy as np
import pytest

from xray_captioning.evaluation.results import evaluate_systems
from xray_captioning.evaluation.runs import mean_row
from xray_captioning.evaluation.systems import ReportTexts, System


def test_rows_are_averaged():
    rows = [{"n": 4, "distinct": 3, "x": 0.5, "sides": None, "s": "a"}]
    rows.append({"n": 4, "distinct": 6, "x": 1.0, "sides": 0.5, "s": "a"})
    found = mean_row(rows)
    assert found == {"n": 4, "distinct": 4, "x": 0.75, "sides": 0.5, "s": "a"}
    assert mean_row(rows[:1]) == rows[0]


def test_a_system_of_several_runs_has_a_row_and_a_column_a_run(tmp_path):
    references = ["cardiomegaly .", "clear lungs .", "left effusion .", "scoliosis ."] * 6
    worse = ["cardiomegaly .", "clear lungs .", "clear lungs .", "scoliosis ."] * 6
    systems = [
        System("mine", "greedy", references, "system", [worse, worse]),
        System("good", None, references),
        System("bad", None, worse),
        System("constant", None, ["clear lungs ."] * 24, "baseline"),
    ]
    ids = [str(i) for i in range(24)]
    found = evaluate_systems(ids, systems, ReportTexts.unaltered(references, references), {})
    mine, good, bad = (dict(row) for row in found.rows[:3])
    for metric in ("clinical_f1", "BLEU-4", "CIDEr", "ROUGE-1", "abnormal_recall"):
        assert mine[metric] == pytest.approx((good[metric] + 2 * bad[metric]) / 3)
    widths = [np.diff(found.intervals(s.column)["ROUGE-L"])[0] for s in (systems[0], systems[2])]
    assert widths[0] > widths[1]  # another seed could be the bad one again
    found.write(tmp_path)
    header = (tmp_path / "captions.csv").read_text().splitlines()[0].split(",")
    assert header[2:7] == [*(f"mine greedy run {n}" for n in (1, 2, 3)), "good", "bad"]
    assert header[8:] == ["mine shuffled greedy", "good shuffled", "bad shuffled"]
