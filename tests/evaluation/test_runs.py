"""A system of several runs: means, and intervals that hold for other seeds."""

import json

import numpy as np
import pytest

from xray_captioning.evaluation import jackknife
from xray_captioning.evaluation.baselines import DRAWS, ReportTexts, System, random_captions
from xray_captioning.evaluation.jackknife import statistics_of_runs, study_statistics
from xray_captioning.evaluation.results import evaluate_systems, mean_row
from xray_captioning.metrics import ngrams
from xray_captioning.metrics.cider import document_frequency
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.metrics.scores import score


def test_rows_are_averaged():
    rows = [{"n": 4, "distinct": 3, "x": 0.5, "sides": None, "s": "a"}]
    rows.append({"n": 4, "distinct": 6, "x": 1.0, "sides": 0.5, "s": "a"})
    found = mean_row(rows)
    assert found == {"n": 4, "distinct": 4, "x": 0.75, "sides": None, "s": "a"}
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
    values = {name: [run[name] for run in found.found.runs["mine greedy"]] for name in ("ROUGE-L", "BLEU-4")}
    assert found.spread(systems[0])["ROUGE-L"] == pytest.approx(np.std(values["ROUGE-L"], ddof=1))
    assert found.spread(systems[1]) == {}
    found.write(tmp_path)
    stored = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert list(stored["spread"]) == ["mine greedy"]
    assert stored["spread"]["mine greedy"]["BLEU-4"] == pytest.approx(np.std(values["BLEU-4"], ddof=1))
    header = (tmp_path / "captions.csv").read_text().splitlines()[0].split(",")
    assert header[2:7] == [*(f"mine greedy run {n}" for n in (1, 2, 3)), "good", "bad"]
    assert header[8:] == ["mine shuffled greedy", "good shuffled", "bad shuffled"]


def test_equal_pairs_of_runs_are_counted_once_and_rows_do_not_depend_on_it(monkeypatch):
    monkeypatch.setattr(jackknife, "BLOCK", 3)
    references = ["left effusion .", "clear lungs .", "clear lungs ."]
    said = [["effusion .", "clear .", "clear ."], ["edema .", "clear .", "lungs ."]]
    pairs = []

    def count(wanted, hypotheses):
        pairs.extend(zip(wanted, hypotheses))
        frequency = document_frequency(references)
        return study_statistics(wanted, hypotheses, frequency=frequency)

    found = list(statistics_of_runs(count, said, references))
    assert [text for _, text in pairs] == ["effusion .", "edema .", "clear .", "lungs ."]
    for texts, statistics in zip(said, found, strict=True):
        for name, alone in study_statistics(references, texts).items():
            np.testing.assert_allclose(statistics[name], alone, rtol=1e-12, err_msg=name)


def test_an_evaluation_counts_all_runs_at_once_as_if_each_were_alone(monkeypatch):
    """The draws of a random baseline cost no more than their different texts do."""
    references = ["cardiomegaly .", "clear lungs .", "left effusion .", "<unk> scoliosis ."] * 6
    whole = [f"{text} without effusion ." for text in references]
    draws = [random_captions(references, 24, draw) for draw in range(DRAWS)]
    systems = [System("mine", None, references), System("random", None, draws[0], "baseline", draws[1:])]
    texts = ReportTexts(references, whole, whole, references, whole)
    counted, count = [], ngrams.Words
    monkeypatch.setattr(ngrams, "Words", lambda texts: counted.append(len(texts)) or count(texts))
    found = evaluate_systems([str(i) for i in range(24)], systems, texts, {})
    # References and an empty text for the weights of n-grams, then all different texts; and again with
    # the references that are not truncated.
    assert counted == [5, 4, 5, 8]
    findings = tuple(found.about["findings"])
    for rows, wanted in ((found.rows, references), (found.whole_rows, whole)):
        for row, system in zip(rows, systems):
            alone = [
                score(wanted, run)
                | {"sides": compare_mentions(whole, run)["side_recall"], "distinct": len(set(run))}
                | {"clinical_f1": clinical_scores(whole, run, findings)["clinical_f1"]}
                for run in system.runs
            ]
            for name, value in mean_row(alone).items():
                assert row[name] == pytest.approx(value, abs=1e-12), name


def test_a_score_that_one_run_has_not_has_no_mean_in_any_table():
    """Nobody asserts a finding in one run; the mean of the others would be that of the wrong."""
    references, wrong = ["clear lungs ."] * 20, ["cardiomegaly ."] + ["clear lungs ."] * 19
    system = System("x", None, references, "system", [wrong])
    texts = ReportTexts.unaltered(references, references)
    found = evaluate_systems([str(i) for i in range(20)], [system], texts, {}, quick=True)
    assert found.rows[0]["clinical_f1"] is None
    assert np.isnan(found.found.scores["x"]["clinical_f1"])
