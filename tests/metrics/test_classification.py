"""AUROC and F1 of finding scores."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from xray_captioning.metrics.classification import best_threshold, classification_table


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("xray_captioning.metrics.classification.RESAMPLES", 25)


def data(seed=0, studies=300):
    rng = np.random.default_rng(seed)
    truth = (rng.random((studies, 2)) < [0.3, 0.1]).astype(float)
    return truth, truth * 1.2 + rng.normal(size=truth.shape)


def test_values_equal_scikit_learns():
    truth, scores = data()
    row = classification_table(["Edema", "Fracture"], truth, scores)[0]
    assert row["AUROC"] == pytest.approx(roc_auc_score(truth[:, 0], scores[:, 0]))
    assert row["F1"] == pytest.approx(f1_score(truth[:, 0], scores[:, 0] >= 0))
    assert row["AUROC_low"] < row["AUROC"] < row["AUROC_high"]
    assert row["positives"] == truth[:, 0].sum()


def test_unknown_labels_are_left_out():
    truth, scores = data()
    truth[::2, 0] = np.nan
    row = classification_table(["Edema", "Fracture"], truth, scores)[0]
    assert row["n"] == 150
    assert row["AUROC"] == pytest.approx(roc_auc_score(truth[1::2, 0], scores[1::2, 0]))


def test_a_finding_nobody_has_is_no_number_and_not_in_the_mean():
    truth, scores = data()
    truth[:, 1] = 0
    rows = classification_table(["Edema", "Fracture"], truth, scores)
    assert rows[1]["AUROC"] is None
    assert rows[-1]["finding"] == "mean"
    assert rows[-1]["AUROC"] == rows[0]["AUROC"]


def test_the_threshold_is_the_best_of_all():
    truth, scores = data(3, studies=90)
    best = best_threshold(truth[:, 0], scores[:, 0])
    values = [f1_score(truth[:, 0], scores[:, 0] >= t) for t in scores[:, 0]]
    assert f1_score(truth[:, 0], scores[:, 0] >= best) == pytest.approx(max(values))
    assert best_threshold(np.zeros(4), np.arange(4.0)) == 0
