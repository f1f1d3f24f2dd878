import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.findings import CHEXPERT, FINDINGS
from xray_captioning.metrics.clinical import (
    CHEXPERT_5,
    NOT_MENTIONED,
    clinical_f1_of_constants,
    clinical_scores,
    confusion,
    contradictions,
    counted_findings,
    example_f1,
    finding_table,
    label_matrix,
    scores_from_counts,
    supported_findings,
)
from xray_captioning.metrics.labeler import CONVENTIONS, read_by
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.metrics.scores import score

NORMAL = "The heart is normal in size. The lungs are clear. No effusion or pneumothorax."
SICK = ["Left pleural effusion with atelectasis.", "Cardiomegaly and edema.", "Possible right pneumothorax.", NORMAL]
MATRICES = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([1, 0, -1, NOT_MENTIONED]), min_size=18, max_size=18), min_size=n, max_size=n
    )
)


def column(name):
    return FINDINGS.index(name)


def test_label_matrix_codes():
    row = label_matrix(["Small effusion. No pneumothorax. Possible edema."])[0]
    assert row.dtype == np.int8
    assert row.shape == (18,)
    assert row[column("Pleural Effusion")] == 1
    assert row[column("Pneumothorax")] == 0
    assert row[column("Edema")] == -1
    assert row[column("Fracture")] == row[column("No Finding")] == NOT_MENTIONED


def test_label_matrix_of_nothing_has_no_row():
    assert label_matrix([]).shape == (0, 18)


def test_a_perfect_hypothesis_scores_one():
    scores = clinical_scores(SICK, SICK)
    assert scores["clinical_f1"] == scores["micro_f1"] == scores["example_f1"] == 1


def test_a_constant_normal_report_earns_nothing_but_no_finding():
    scores = clinical_scores(SICK, [NORMAL] * 4)
    assert scores["clinical_f1"] == scores["micro_f1"] == scores["macro_f1_5"] == 0
    assert scores["macro_f1_14"] == pytest.approx(0.4 / 14)
    assert scores["example_f1"] == 0.25


def test_uncertain_counts_as_present_unless_left_out():
    scores = clinical_scores(["possible effusion", "edema"], ["small effusion", "edema"])
    assert scores["clinical_f1"] == 1
    assert scores["clinical_f1_present"] == 0.5  # the effusion is no reference finding then
    assert scores["micro_f1_present"] == pytest.approx(2 / 3)


def test_clinical_f1_averages_over_what_either_text_asserts():
    scores = clinical_scores(["effusion", "edema"], ["effusion", "fracture"])
    assert scores["clinical_f1"] == pytest.approx(1 / 3)
    assert scores["false_positives"] == 0.5


def test_invented_findings_are_no_perfect_captions():
    references = ["left pleural effusion ."] * 3 + ["the lungs are clear ."] * 97
    invented = [f"{text} pneumothorax . rib fracture . edema ." for text in references]
    scores = clinical_scores(references, invented)
    assert scores["clinical_f1"] == 0.25
    assert scores["micro_f1"] == pytest.approx(6 / 306)
    assert scores["false_positives"] == 3
    # Also where only one finding counts, the others are seen beside it.
    few = clinical_scores(references, invented, ["Pleural Effusion"])
    assert few["clinical_f1"] == 1
    assert (few["micro_f1"], few["false_positives"]) == (scores["micro_f1"], 3)


def test_findings_that_count_are_those_of_the_training_reports():
    training = ["effusion ."] * 2 + ["edema ."] + ["possible fracture ."] * 3 + [NORMAL] * 94
    assert counted_findings(training) == ("Pleural Effusion", "Fracture")
    every = tuple(name for name in FINDINGS if name != "No Finding")
    assert counted_findings([NORMAL] * 3) == counted_findings([]) == every
    assert supported_findings(SICK, ("Edema", "Fracture")) == {"Edema": 1, "Fracture": 0}


@pytest.mark.parametrize(("findings", "message"), [(["edema"], "'edema' is no finding"), ([], "no finding to average")])
def test_a_set_of_findings_is_checked(findings, message):
    with pytest.raises(ConfigError, match=message):
        clinical_scores(SICK, SICK, findings)


@pytest.mark.parametrize("system", ["reads", "frequent only", "constant"])
def test_clinical_f1_does_not_depend_on_the_number_of_studies(system):
    """Its expectation at 50 and at 590 studies differs by less than its standard error at 50."""
    prevalence = np.array([0.17, 0.09, 0.085, 0.07, 0.065, 0.03, 0.03, 0.027, 0.027, 0.02])
    names = [name for name in FINDINGS if name != "No Finding"]
    counted, rare = names[: len(prevalence)], names[len(prevalence) :]
    every = [*prevalence, *[0.006] * len(rare)]
    columns, rng = [column(name) for name in [*counted, *rare]], np.random.default_rng(0)

    def mean_and_deviation(studies, findings):
        scores = []
        for _ in range(100):
            there = rng.random((studies, len(every))) < every
            said = np.where(rng.random(there.shape) < 0.5, there, rng.random(there.shape) < every)
            said &= (np.array(every) > 0.05) | (system == "reads")
            said |= (np.arange(len(every)) == 0) if system == "constant" else False
            counts = np.zeros((18, 3))
            counts[columns] = np.stack([there & said, ~there & said, there & ~said], -1).sum(0)
            scores.append(scores_from_counts(counts, findings)["clinical_f1"])
        return np.mean(scores), np.std(scores)

    small, error = mean_and_deviation(50, counted)
    large, _ = mean_and_deviation(590, counted)
    assert abs(small - large) < error


def test_references_without_any_finding_have_no_clinical_f1():
    assert math.isnan(clinical_scores([NORMAL], [NORMAL])["clinical_f1"])
    assert clinical_scores([NORMAL], ["edema"])["clinical_f1"] == 0


def test_empty_texts_assert_nothing():
    scores = clinical_scores(["effusion", ""], ["", ""])
    assert scores["clinical_f1"] == 0
    assert scores["example_f1"] == 0.5


@given(MATRICES, st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None)
def test_scores_equal_those_of_scikit_learn(rows, random):
    reference = np.array(rows, dtype=np.int8)
    hypothesis = reference.copy().reshape(-1)
    random.shuffle(hypothesis)
    hypothesis = hypothesis.reshape(reference.shape)
    scores = clinical_scores(reference, hypothesis)
    for suffix, values in (("", [1, -1]), ("_present", [1])):
        true, guess = np.isin(reference, values), np.isin(hypothesis, values)
        for group, names in (("14", CHEXPERT), ("5", CHEXPERT_5), ("all", FINDINGS)):
            columns = [column(name) for name in names]
            for kind in ("macro", "micro"):
                expected = f1_score(true[:, columns], guess[:, columns], average=kind, zero_division=0)
                assert scores[f"{kind}_f1_{group}{suffix}"] == pytest.approx(expected)
        expected = f1_score(true, guess, average="samples", zero_division=1)
        assert scores["example_f1" + suffix] == pytest.approx(expected)
        proper = [c for c in range(1, 18) if (true | guess)[:, c].any()]
        if proper:
            # A column at a time: one alone would be taken for a problem of two classes.
            each = [f1_score(true[:, c], guess[:, c], zero_division=0) for c in proper]
            assert scores["clinical_f1" + suffix] == pytest.approx(np.mean(each))


@given(MATRICES)
@settings(max_examples=6, deadline=None)
def test_table_equals_that_of_scikit_learn(rows):
    reference = np.array(rows, dtype=np.int8)
    hypothesis = np.roll(reference, 1, axis=0)
    expected = precision_recall_fscore_support(
        np.isin(reference, [1, -1]), np.isin(hypothesis, [1, -1]), zero_division=np.nan
    )
    table = finding_table(reference, hypothesis)
    assert [row.finding for row in table] == list(FINDINGS)
    for got, column_values in zip(list(zip(*table, strict=True))[1:5], expected, strict=True):
        np.testing.assert_allclose(got, column_values)


def test_counts_add_up_to_the_scores_of_a_resample():
    hypotheses = [SICK[1], SICK[1], SICK[2], SICK[0]]
    counts, chosen = confusion(SICK, hypotheses), [0, 0, 1, 3]
    weights = np.bincount(chosen, minlength=4)[None]
    resampled = scores_from_counts(np.tensordot(weights, counts, 1))
    direct = clinical_scores([SICK[i] for i in chosen], [hypotheses[i] for i in chosen])
    for name, value in resampled.items():
        assert value.shape == (1,)
        assert value[0] == pytest.approx(direct[name])
    assert example_f1(counts)[chosen].mean() == pytest.approx(direct["example_f1"])


def test_contradictions():
    references = ["Small effusion. No pneumothorax.", "Possible edema."]
    hypotheses = ["No effusion. Pneumothorax.", "No edema."]
    assert contradictions(references, hypotheses) == [(0, "Pneumothorax", 0, 1), (0, "Pleural Effusion", 1, 0)]


def test_one_text_said_of_every_study():
    expected = [clinical_scores(SICK, [text] * 4)["clinical_f1"] for text in SICK]
    assert clinical_f1_of_constants(SICK, SICK).tolist() == expected
    assert math.isnan(clinical_f1_of_constants([NORMAL], [NORMAL])[0])
    assert clinical_f1_of_constants([NORMAL], SICK)[0] == 0


REFUSED = [
    (["effusion"], ["effusion", "edema"], "1 references and 2 hypotheses"),
    ([], [], "no texts to score"),
    (["effusion"], [None], "is not text but"),
    (["effusion"], [float("nan")], "is not text but"),
    ("effusion", "effusion", "references is one text"),
]


def test_bad_input_is_refused_in_one_line():
    for function in (clinical_scores, finding_table, contradictions, compare_mentions, confusion):
        for references, hypotheses, message in REFUSED:
            with pytest.raises(DataError, match=f"^.*{message}.*$"):
                function(references, hypotheses)
    with pytest.raises(DataError, match="texts is one text"):
        label_matrix("effusion")


DIFFERING = (["no new opacity", "probable effusion"], ["no opacity", "effusion"])


def test_every_figure_can_be_had_under_either_convention():
    chexpert, mesh = (clinical_scores(*DIFFERING, None, name) for name in CONVENTIONS)
    assert (chexpert["clinical_f1"], mesh["clinical_f1"]) == (0.5, 1.0)
    assert clinical_scores(*DIFFERING) == chexpert
    assert score(*DIFFERING, convention="mesh")["clinical_f1"] == 1.0
    opacity = FINDINGS.index("Lung Opacity")
    assert label_matrix(["no new opacity"], "mesh")[0, opacity] == 0
    with read_by("mesh"):
        assert clinical_scores(*DIFFERING) == mesh
        assert label_matrix(["no new opacity"], "chexpert")[0, opacity] == -1
    assert label_matrix(["no new opacity"])[0, opacity] == -1


def test_another_convention_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match="there is no convention 'nih'"):
        clinical_scores(*DIFFERING, None, "nih")
