"""AUROC, F1 and calibration of finding scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from xray_captioning.errors import DataError
from xray_captioning.metrics.calibration import calibration_scores
from xray_captioning.metrics.classification import (
    best_threshold,
    classification_table,
    format_intervals,
    frequent_findings,
)

NAMES = ["Edema", "Fracture"]
MEASURES = ("AUROC", "F1", "mean_over_prevalence")


def data(seed=0, studies=300):
    rng = np.random.default_rng(seed)
    truth = (rng.random((studies, 2)) < [0.3, 0.1]).astype(float)
    return truth, truth * 1.2 + rng.normal(size=truth.shape)


def few(positives, studies=400):
    """Return labels and scores of two findings; of the first, few studies are positive."""
    truth, scores = data(studies=studies)
    truth[:, 0] = np.arange(studies) < positives
    return truth, scores


def test_values_equal_scikit_learns():
    truth, scores = data()
    row = classification_table(NAMES, truth, scores)[0]
    assert row["AUROC"] == pytest.approx(roc_auc_score(truth[:, 0], scores[:, 0]))
    assert row["F1"] == pytest.approx(f1_score(truth[:, 0], scores[:, 0] >= 0))
    assert row["Brier"] == pytest.approx(brier_score_loss(truth[:, 0], expit(scores[:, 0])))
    assert row["mean_over_prevalence"] == pytest.approx(expit(scores[:, 0]).mean() / truth[:, 0].mean())
    for name in MEASURES:
        assert row[name + "_low"] < row[name] < row[name + "_high"]
    assert row["positives"] == truth[:, 0].sum()


def test_the_calibration_error_stands_beside_what_true_probabilities_have_by_chance():
    rng = np.random.default_rng(0)
    scores = rng.normal(-2, 1, (500, 1))
    truth = (rng.random(scores.shape) < expit(scores)).astype(float)
    row = classification_table(["Edema"], truth, scores)[0]
    again = rng.random((400, 500)) < expit(scores[:, 0])
    errors = [calibration_scores(expit(scores[:, 0]), y).calibration_error for y in again]
    assert row["ECE_by_chance"] == pytest.approx(np.mean(errors), rel=0.05)
    assert row["ECE"] < 2 * row["ECE_by_chance"]
    wrong = classification_table(["Edema"], truth, scores + 1)[0]
    assert wrong["ECE"] > 3 * wrong["ECE_by_chance"]


def test_unknown_labels_are_left_out():
    truth, scores = data()
    truth[::2, 0] = np.nan
    row = classification_table(NAMES, truth, scores)[0]
    assert row["n"] == 150
    assert row["AUROC"] == pytest.approx(roc_auc_score(truth[1::2, 0], scores[1::2, 0]))


def test_a_finding_nobody_has_is_no_number_and_the_mean_says_that_it_is_missing():
    truth, scores = data()
    truth[:, 1] = 0
    rows = classification_table(NAMES, truth, scores)
    assert rows[1]["AUROC"] is None
    assert rows[-1]["finding"] == "mean of 1 of 2"
    for name in ("AUROC", "F1", "Brier"):
        assert rows[-1][name] == pytest.approx(rows[0][name])
    assert rows[-1]["AUROC_low"] is rows[-1]["mean_over_prevalence_low"] is None
    # What is promised of a finding that nobody has is promised too much.
    assert rows[-1]["mean_over_prevalence"] > rows[0]["mean_over_prevalence"]


def test_the_mean_is_over_the_same_findings_in_any_test_part():
    """Over whichever have five positives, the same scores are better or worse by the draw."""
    names, rng = ["Cardiomegaly", "Edema", "Fracture"], np.random.default_rng(0)
    truth = (rng.random((4000, 3)) < [0.3, 0.03, 0.004]).astype(float)
    scores = truth * [3.0, 1.0, 0.0] + rng.normal(size=truth.shape)
    counted = frequent_findings(names, truth)
    assert counted == ["Cardiomegaly", "Edema"]
    parts = [
        classification_table(names, truth[rows], scores[rows], counted=counted)
        for rows in (slice(None), slice(120), slice(2000, 2120))
    ]
    for found in parts:
        assert found[-1]["finding"] == "mean of 2"
        both = np.mean([row["AUROC"] for row in found[:2]])
        assert found[-1]["AUROC"] == pytest.approx(both)
    assert parts[0][-1]["AUROC_low"] is not None
    # Edema has fewer than five cases there, but it still counts.
    assert parts[1][1]["positives"] < 5
    assert parts[1][-1]["AUROC_low"] is None


def test_findings_are_frequent_by_their_known_labels_and_all_are_where_none_is():
    labels = np.zeros((1000, 2))
    labels[:19] = 1
    assert frequent_findings(NAMES, labels) == NAMES
    labels[19, 0] = 1
    assert frequent_findings(NAMES, labels) == ["Edema"]
    labels[500:, 1] = np.nan
    assert frequent_findings(NAMES, labels) == NAMES
    assert frequent_findings(NAMES, labels[:0]) == NAMES


@pytest.mark.parametrize("positives", [1, 4])
def test_below_five_positives_nothing_has_an_interval(positives):
    """An interval from one positive, .967 to .995, says how the negatives vary and no more."""
    rows = classification_table(NAMES, *few(positives))
    assert rows[0]["AUROC"] is not None
    assert rows[0]["F1"] is not None
    for name in MEASURES:
        assert rows[0][name + "_low"] is rows[0][name + "_high"] is None
        assert rows[-1][name + "_low"] is rows[-1][name + "_high"] is None
    assert rows[-1]["AUROC"] == pytest.approx((rows[0]["AUROC"] + rows[1]["AUROC"]) / 2)
    # Five studies of one patient are one patient.
    patients = np.maximum(np.arange(400), 5)
    rows = classification_table(NAMES, *few(5), patients=patients)
    assert rows[0]["AUROC_low"] is None
    assert classification_table(NAMES, *few(5))[0]["AUROC_low"] is not None


def test_where_no_finding_has_a_value_the_mean_has_none():
    rows = classification_table(["Edema"], *(values[:, :1] for values in few(0)))
    assert rows[-1]["finding"] == "mean of 0 of 1"
    assert rows[-1]["AUROC"] is rows[-1]["F1"] is rows[-1]["AUROC_low"] is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_best_of_all_with_ties_too(studies):
    truth, scores = (np.array(column, float) for column in zip(*studies))
    best = best_threshold(truth, scores)
    if not truth.any():
        assert best == 0
        return
    values = [f1_score(truth, scores >= t) for t in scores]
    assert f1_score(truth, scores >= best) == pytest.approx(max(values))


def test_a_threshold_amid_ties_is_not_chosen():
    """Cut between equal scores, the curve promises an F1 that no threshold has."""
    truth = np.array([1, 0, 0, 0, 0, 0, 1, 0])
    scores = np.array([2, 2, 2, 2, 2, 2, 1, 0])
    assert best_threshold(truth, scores) == 1


def test_scores_that_do_not_fit_or_are_no_numbers_are_refused():
    truth, scores = data()
    with pytest.raises(DataError, match=r"2 findings, labels \(300, 2\) and scores"):
        classification_table(NAMES, truth, scores[1:])
    scores[7, 1] = np.nan
    with pytest.raises(DataError, match="the score of Fracture in row 7 is nan; give numbers"):
        classification_table(NAMES, truth, scores)


def test_a_terminal_shows_intervals_in_the_cells_of_their_measures():
    rows = format_intervals(classification_table(NAMES, *few(3)))
    assert list(rows[0]) == [
        *("finding", "positives", "n", "AUROC", "F1", "Brier", "ECE", "ECE_by_chance"),
        "mean_over_prevalence",
    ]
    assert isinstance(rows[0]["AUROC"], float)
    assert rows[1]["AUROC"].startswith("0.")
    assert " to " in rows[1]["AUROC"]


@pytest.mark.parametrize("missing", [None, np.nan, ""])
def test_studies_of_nobody_known_are_not_of_one_patient(missing):
    expected = classification_table(NAMES, *data())
    assert expected[0]["AUROC_low"] is not None
    assert classification_table(NAMES, *data(), patients=[missing] * 300) == expected
    with pytest.raises(DataError, match="2 patients but 300 studies"):
        classification_table(NAMES, *data(), patients=["a", "b"])
