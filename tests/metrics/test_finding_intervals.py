"""Intervals of finding scores: against closed forms, and by simulation."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from xray_captioning.metrics.classification import auroc, f1, mean_of, mean_over_prevalence


def finding(prevalence=0.2, studies=200, seed=0, shift=1.0):
    """Return labels and scores of studies of known AUROC, and the patient of each."""
    rng = np.random.default_rng(seed)
    present = rng.random(studies) < prevalence
    return present, rng.normal(size=studies) + shift * present, np.arange(studies)


def delong(present, scores):
    """Return DeLong's variance, as DeLong et al. (1988) write it: pair by pair."""
    pairs = scores[present][:, None] - scores[~present]
    won = (pairs > 0) + (pairs == 0) / 2
    rows, columns = won.mean(axis=1), won.mean(axis=0)
    return rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)


@pytest.mark.parametrize("ties", [False, True])
def test_influences_give_delongs_variance(ties):
    present, scores, patients = finding()
    scores = scores.round() if ties else scores
    found = auroc(present, scores, patients)
    assert (found.influence**2).sum() == pytest.approx(delong(present, scores))
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_copies_of_studies_narrow_an_interval_only_if_they_are_other_patients():
    present, scores, patients = finding()
    single = auroc(present, scores, patients)
    copied = [np.repeat(values, 3) for values in (present, scores, patients)]
    same, other = auroc(*copied), auroc(*copied[:2], np.arange(600))
    assert (same.influence**2).sum() == pytest.approx((single.influence**2).sum())
    assert same.high - same.low == pytest.approx(single.high - single.low, rel=0.03)
    assert other.high - other.low < 0.65 * (single.high - single.low)
    said = scores > 0.5
    same = f1(copied[0], np.repeat(said, 3), copied[2])
    assert same[:3] == pytest.approx(f1(present, said, patients)[:3])
    ratio = mean_over_prevalence(present, expit(scores), patients)
    copied = mean_over_prevalence(copied[0], expit(copied[1]), copied[2])
    assert copied[:3] == pytest.approx(ratio[:3])


def test_perfect_separation_has_an_interval_that_narrows_with_the_studies():
    found = []
    for studies in (50, 500, 5000):
        present = np.arange(studies) % 10 == 0
        perfect = auroc(present, present.astype(float), np.arange(studies))
        assert (perfect.value, perfect.high) == (1, 1)
        found.append(perfect.low)
        inverted = auroc(present, -present.astype(float), np.arange(studies))
        assert (inverted.value, inverted.low) == (0, 0)
        assert inverted.high == pytest.approx(1 - perfect.low)
    assert found == sorted(found)
    assert 0.3 < found[0] < 0.9
    assert 0.99 < found[-1] < 1
    # A single exchange among many pairs changes little.
    present = np.arange(500) % 10 == 0
    scores = np.where(present, 2.0, 1.0)
    scores[0] = 0.0
    nearly = auroc(present, scores, np.arange(500))
    assert nearly.value < 1
    assert nearly.low < found[1]


@pytest.mark.parametrize("right", [0, 3, 12])
def test_f1_has_wilsons_interval_of_a_share(right):
    present, said = np.arange(100) < 12, np.zeros(100, bool)
    said[:right] = said[50:58] = True
    found = f1(present, said, np.arange(100))
    low, high = binomtest(right, 20).proportion_ci(method="wilson")
    expected = [2 * j / (1 + j) for j in (right / 20, low, high)]
    assert found[:3] == pytest.approx(expected)
    assert found.low < found.high


def test_the_interval_of_a_mean_knows_that_findings_go_together():
    present, scores, patients = finding()
    one, other = auroc(present, scores, patients), auroc(*finding(seed=1))
    same = mean_of([one, one])
    assert same[:3] == pytest.approx(one[:3])
    width = one.high - one.low, other.high - other.low
    mean = mean_of([one, other])
    assert mean.high - mean.low == pytest.approx(np.hypot(*width) / 2, rel=0.1)


def test_intervals_of_95_percent_cover_in_95_percent():
    """At 20 positives of 200 studies, in one simulation for all; benchmarks/statistics.py: more."""
    hits = []
    shift = np.sqrt(2) * norm.ppf(0.8)
    for seed in range(400):
        present, scores, patients = finding(0.1, seed=seed, shift=shift)
        probabilities = expit(logit(0.1) + shift * scores - shift**2 / 2)
        area, ratio = (auroc(present, scores, patients), mean_over_prevalence(present, probabilities, patients))
        hits.append((area.low <= 0.8 <= area.high, ratio.low <= 1 <= ratio.high))
    assert (np.mean(hits, axis=0) > 0.92).all()
    assert (np.mean(hits, axis=0) < 0.985).all()
