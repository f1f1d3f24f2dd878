import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from xray_captioning.errors import DataError
from xray_captioning.metrics import calibration as module
from xray_captioning.metrics.calibration import (
    brier_interval,
    calibration_scores,
    mean_risk,
    selective_risk,
    sentence_is_right,
    share_interval,
    skill_interval,
)
from xray_captioning.plots.charts import reliability_diagram, save

SENTENCES = [
    ("Small left pleural effusion.", "left pleural effusion . cardiomegaly .", True),
    ("Small right pleural effusion.", "left pleural effusion .", False),
    ("Small bilateral pleural effusions.", "left pleural effusion .", False),
    ("Small pleural effusion.", "left pleural effusion .", True),
    ("Small left pleural effusion.", "pleural effusion .", True),
    ("Cardiomegaly and left pleural effusion.", "left pleural effusion .", False),
    ("Cardiomegaly.", "heart size is normal .", False),
    ("Cardiomegaly.", "possible cardiomegaly .", True),
    ("No pleural effusion.", "cardiomegaly .", True),
    ("No pleural effusion.", "small left pleural effusion .", False),
    ("No acute disease.", "no acute cardiopulmonary abnormality .", True),
    ("No acute disease.", "cardiomegaly .", False),
    ("No acute disease.", "left chest wall pacemaker .", True),
]


def test_a_sentence_is_right_where_the_reference_bears_it_out():
    for sentence, reference, right in SENTENCES:
        assert sentence_is_right(sentence, reference) is right, (sentence, reference)


def test_a_fully_reliable_and_a_fully_wrong_speaker():
    outcomes = [True, False, True, True]
    good = calibration_scores([1, 0, 1, 1], outcomes)
    assert (good.brier, good.calibration_error, good.right, good.n) == (0, 0, 0.75, 4)
    bad = calibration_scores([0, 1, 0, 0], outcomes)
    assert (bad.brier, bad.calibration_error) == (1, 1)


def test_numbers_by_hand(monkeypatch):
    # Two bins of two: (0.2, 0.4) with half right, (0.6, 0.8) with all right.
    monkeypatch.setattr(module, "BINS", 2)
    found = calibration_scores([0.8, 0.2, 0.6, 0.4], [True, False, True, True])
    assert found.brier == pytest.approx((0.04 + 0.04 + 0.16 + 0.36) / 4)
    assert found.calibration_error == pytest.approx((0.2 + 0.3) / 2)
    assert [b.n for b in found.bins] == [2, 2]
    # Wilson's interval of 1 in 2 is .0945 to .9055 (Newcombe 1998).
    assert found.bins[0].low == pytest.approx(0.0945, abs=1e-4)
    assert found.bins[0].high == pytest.approx(0.9055, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
@example([(1e-308, False)] * 60)
def test_shares_stay_shares(pairs):
    stated, outcome = zip(*pairs)
    found = calibration_scores(stated, outcome)
    assert 0 <= found.calibration_error <= 1
    assert found.brier == pytest.approx(brier_score_loss(outcome, stated, pos_label=True))
    assert sum(b.n for b in found.bins) == found.n == len(pairs)
    assert all(0 <= b.low <= b.right <= b.high <= 1 for b in found.bins)


def test_intervals_cover_where_sentences_of_a_study_are_right_together():
    """The 95 % interval of a bin's share covers it in 95 % of samples, clustered or not.

    As if each sentence were a study of its own, Wilson's interval covers far less often.
    """
    rng = np.random.default_rng(0)
    study = np.repeat(np.arange(60), 4)
    for share, low, clustered in ((0.7, 0.92, True), (0.95, 0.92, True), (0.7, 0.92, False)):
        covers = np.zeros(2)
        for _ in range(400):
            chance = rng.beta(share, 1 - share, 60)[study] if clustered else share
            outcome = (rng.random(240) < chance).astype(float)
            for i, unit in enumerate((study, np.arange(240))):
                interval = share_interval(outcome, unit)
                covers[i] += interval[0] <= share <= interval[1]
        assert low <= covers[0] / 400 <= 0.99
        assert bool(covers[1] / 400 < 0.85) is clustered


def test_where_all_are_right_the_studies_are_counted():
    """Ten studies of nine right sentences each are Wilson's ten of ten, not ninety of ninety."""
    study = np.repeat(np.arange(10), 9)
    low, high = share_interval(np.ones(90), study)
    wilson = binomtest(10, 10).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=1e-6)


def test_the_interval_of_the_brier_score_is_of_studies():
    rng = np.random.default_rng(0)
    study = np.repeat(np.arange(50), 5)
    stated, right = rng.random(50)[study], (rng.random(50) < 0.5)[study]
    once, each = calibration_scores(stated, right, study), calibration_scores(stated, right)
    assert once.brier == each.brier
    assert once.brier_low < each.brier_low < each.brier < each.brier_high < once.brier_high


def test_the_interval_of_the_brier_score_covers_it():
    """Of 300 studies two in a hundred wrong, mean ± 1.96 errors covers .92 to .93."""
    rng, hits = np.random.default_rng(0), []
    for _ in range(1000):
        stated = rng.beta(49, 1, 300)
        right = rng.random(300) < stated
        low, high = brier_interval(stated, right, np.arange(300))
        true = 49 / (50 * 51)
        hits += [low <= true <= high] if low is not None else []
    assert len(hits) > 600
    assert abs(np.mean(hits) - 0.95) < 0.02


@pytest.mark.parametrize("wrong", [0, 4, 196])
def test_few_outcomes_of_a_kind_give_the_brier_score_no_interval(wrong):
    """Without a wrong sentence the score has next to no variance, whatever is wrong elsewhere."""
    found = calibration_scores(np.full(200, 0.98), np.arange(200) >= wrong)
    assert (found.brier_low, found.brier_high) == (None, None)


def test_the_base_rate_has_no_skill():
    """A small Brier score is no merit where almost all sentences are right."""
    right = np.arange(1000) >= 20
    base = calibration_scores(np.full(1000, 0.98), right)
    assert base.brier == pytest.approx(0.98 * 0.02)
    assert base.skill == pytest.approx(0)
    assert base.skill_low == pytest.approx(base.skill_high, abs=1e-9)
    assert calibration_scores(right, right).skill == 1
    assert calibration_scores(np.full(1000, 0.8), right).skill < 0
    assert calibration_scores([0.9, 0.8], [True, True]).skill is None


def test_the_interval_of_the_skill_covers_it():
    """True probabilities of a beta (49, 1) have a skill of 1 / 51."""
    rng, hits = np.random.default_rng(0), []
    study = np.repeat(np.arange(300), 2)
    for _ in range(400):
        stated = rng.beta(49, 1, 300)[study]
        low, high = skill_interval(stated, (rng.random(600) < stated).astype(float), study)
        hits += [low <= 1 / 51 <= high] if low is not None else []
    assert len(hits) > 350
    assert 0.92 < np.mean(hits) < 0.98


def test_true_probabilities_have_the_calibration_error_that_chance_gives():
    """It is not 0, and not small beside what a calibration is praised for."""
    rng = np.random.default_rng(0)
    found = [calibration_scores(stated, rng.random(2900) < stated) for stated in rng.beta(49, 1, (200, 2900))]
    mean = np.mean([scores.calibration_error for scores in found])
    assert np.mean([scores.error_by_chance for scores in found]) == pytest.approx(mean, rel=0.05)
    assert mean > 0.004


def test_nothing_to_compare():
    with pytest.raises(DataError, match="0 confidences"):
        calibration_scores([], [])
    with pytest.raises(DataError, match="2 confidences and 1 outcomes"):
        calibration_scores([0.5, 0.5], [True])


def test_the_plot_shows_every_curve(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    stated = rng.uniform(0.5, 1, 300)
    curves = {
        "one": calibration_scores(stated, rng.random(300) < stated),
        "two": calibration_scores(stated**3, rng.random(300) < stated),
    }
    save(reliability_diagram({n: c.bins for n, c in curves.items()}), tmp_path / "plot.png")
    image = cv2.imread(str(tmp_path / "plot.png"))
    colours = {tuple(colour) for colour in image.reshape(-1, 3)[:, ::-1].tolist()}
    assert {(0x99, 0x99, 0x99), (0x00, 0x72, 0xB2)} <= colours


def test_selective_risk_by_hand():
    # The most confident is right, then a wrong one, then two right ones: risks 0, 1/2, 1/3, 1/4.
    found = selective_risk([0.9, 0.8, 0.7, 0.6], [True, False, True, True], [0, 1, 2, 3])
    assert found.area == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert (found.chance, found.best) == (0.25, pytest.approx(1 / 4 / 4))
    half, *_, everything = found.shown
    assert (half.coverage, half.threshold, half.risk) == (0.5, 0.8, 0.5)
    assert (everything.coverage, everything.risk) == (1.0, 0.25)
    assert half.low < 0.5 < half.high


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_the_area_is_that_of_ties_in_any_order(rows):
    """The mean over random orders of what is equally confident; and never better than the best."""
    stated, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    rng, areas = np.random.default_rng(0), []
    for _ in range(300):
        order = np.lexsort((rng.random(len(rows)), -stated))
        areas.append((wrong[order].cumsum() / np.arange(1, len(rows) + 1)).mean())
    assert mean_risk(stated, wrong) == pytest.approx(np.mean(areas), abs=0.1)
    found = selective_risk(stated, ~wrong, np.arange(len(rows)))
    assert found.best <= found.area + 1e-9
    assert all(row.coverage >= level - 1e-9 for row, level in zip(found.shown, module.COVERAGES))
