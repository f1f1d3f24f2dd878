import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from xray_captioning.errors import DataError
from xray_captioning.findings import CHEXPERT, FINDINGS
from xray_captioning.metrics.clinical import (
    CHEXPERT_5,
    NOT_MENTIONED,
    clinical_f1_of_constants,
    clinical_scores,
    confusion,
    contradictions,
    example_f1,
    finding_table,
    label_matrix,
    scores_from_counts,
)
from xray_captioning.metrics.sides import side_agreement, side_counts

NORMAL = "The heart is normal in size. The lungs are clear. No effusion or pneumothorax."
SICK = [
    "Left pleural effusion with atelectasis.",
    "Cardiomegaly and edema.",
    "Possible right pneumothorax.",
    NORMAL,
]
MATRICES = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([1, 0, -1, NOT_MENTIONED]), min_size=18, max_size=18),
        min_size=n,
        max_size=n,
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
    assert scores["clinical_f1_present"] == 1  # the effusion is no reference finding then
    assert scores["micro_f1_present"] == pytest.approx(2 / 3)


def test_clinical_f1_averages_over_what_references_have():
    scores = clinical_scores(["effusion", "edema"], ["effusion", "fracture"])
    assert scores["clinical_f1"] == 0.5


def test_references_without_any_finding_have_no_clinical_f1():
    assert math.isnan(clinical_scores([NORMAL], [NORMAL])["clinical_f1"])


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
                expected = f1_score(
                    true[:, columns], guess[:, columns], average=kind, zero_division=0
                )
                assert scores[f"{kind}_f1_{group}{suffix}"] == pytest.approx(expected)
        expected = f1_score(true, guess, average="samples", zero_division=1)
        assert scores["example_f1" + suffix] == pytest.approx(expected)
        proper = [c for c in range(1, 18) if true[:, c].any()]
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


def test_sides():
    references = ["left effusion and right pneumothorax", "bilateral effusions", "left nodule"]
    hypotheses = ["left effusion . left pneumothorax", "right effusion", NORMAL]
    scores = side_agreement(references, hypotheses)
    assert scores == (pytest.approx(1 / 3), pytest.approx(1 / 4), 3, 4)
    assert side_counts(references, hypotheses).tolist() == [[2, 2, 1], [1, 1, 0], [1, 0, 0]]


def test_sides_of_several_sentences_are_taken_together():
    scores = side_agreement(["bilateral effusions"], ["Left effusion. Right effusion."])
    assert scores.side_agreement == 1


def test_a_denied_side_is_no_side():
    assert side_agreement(["left effusion"], ["no left effusion"])[:2] == (
        pytest.approx(math.nan, nan_ok=True),
        0,
    )


def test_without_sides_there_is_no_share():
    scores = side_agreement(["cardiomegaly"], ["cardiomegaly"])
    assert math.isnan(scores.side_agreement)
    assert math.isnan(scores.side_recall)
    assert (scores.shared, scores.lateralised) == (0, 0)


def test_contradictions():
    references = ["Small effusion. No pneumothorax.", "Possible edema."]
    hypotheses = ["No effusion. Pneumothorax.", "No edema."]
    assert contradictions(references, hypotheses) == [
        (0, "Pneumothorax", 0, 1),
        (0, "Pleural Effusion", 1, 0),
    ]


def test_one_text_said_of_every_study():
    expected = [clinical_scores(SICK, [text] * 4)["clinical_f1"] for text in SICK]
    assert clinical_f1_of_constants(SICK, SICK).tolist() == expected
    assert math.isnan(clinical_f1_of_constants([NORMAL], SICK)[0])


REFUSED = [
    (["effusion"], ["effusion", "edema"], "1 references and 2 hypotheses"),
    ([], [], "no texts to score"),
    (["effusion"], [None], "must be text"),
    (["effusion"], [float("nan")], "must be text"),
    ("effusion", "effusion", "references is one text"),
]


def test_bad_input_is_refused_in_one_line():
    for function in (clinical_scores, finding_table, contradictions, side_agreement, confusion):
        for references, hypotheses, message in REFUSED:
            with pytest.raises(DataError, match=f"^.*{message}.*$"):
                function(references, hypotheses)
    with pytest.raises(DataError, match="got one string"):
        label_matrix("effusion")
