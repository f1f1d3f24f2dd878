"""Sides, zones and severities, earlier images, contradictions and omissions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.metrics.clinical import label_matrix
from xray_captioning.metrics.labeler import find_mentions, label_report
from xray_captioning.metrics.labels.layout import statements
from xray_captioning.metrics.mentions import (
    _HEADED,
    CAPTION_SHARES,
    _earlier,
    asserted_details,
    compare_mentions,
    contradicted_findings,
    facts,
    mention_statistics,
    named_findings,
    sentence_words,
    spoken,
)

NORMAL = "the heart is normal in size . the lungs are clear . no effusion or pneumothorax ."


def prior_reference(text: str) -> str:
    found = next(filter(None, map(_earlier, statements(text))), None) or _HEADED.search(text)
    return found.group() if found else ""


def counts(references: list[str], hypotheses: list[str]) -> dict[str, np.ndarray]:
    return mention_statistics(facts(references), facts(hypotheses))


def details(reference: str, hypothesis: str) -> list[list[int]]:
    return counts([reference], [hypothesis])["details"][0].tolist()


def test_sides():
    references = ["left effusion and right pneumothorax", "bilateral effusions", "left nodule"]
    hypotheses = ["left effusion . left pneumothorax", "right effusion", NORMAL]
    scores = compare_mentions(references, hypotheses)
    assert scores["side_agreement"] == pytest.approx(1 / 3)
    assert scores["side_recall"] == pytest.approx(1 / 4)
    sides = counts(references, hypotheses)["details"][:, 0]
    assert sides.tolist() == [[2, 2, 1], [1, 1, 0], [1, 0, 0]]


def test_sides_of_several_sentences_are_taken_together():
    scores = compare_mentions(["bilateral effusions"], ["Left effusion. Right effusion."])
    assert scores["side_agreement"] == 1


def test_a_denied_side_is_no_side():
    scores = compare_mentions(["left effusion"], ["no left effusion"])
    assert math.isnan(scores["side_agreement"])
    assert scores["side_recall"] == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "zone", "severity"),
    [
        ("small left effusion", "trace left effusion", [0, 0, 0], [1, 1, 0]),
        ("small left effusion", "mild right effusion", [0, 0, 0], [1, 1, 1]),
        ("small to moderate effusion", "moderate effusion", [0, 0, 0], [1, 1, 1]),
        ("effusion", "large effusion", [0, 0, 0], [0, 0, 0]),
        ("apical pneumothorax", "upper pneumothorax", [1, 1, 1], [0, 0, 0]),
        ("lower lobe atelectasis", "atelectasis at the base", [1, 1, 1], [0, 0, 0]),
        ("lower lobe atelectasis", "atelectasis", [1, 1, 0], [0, 0, 0]),
        ("upper lobe nodule", "no nodule", [1, 0, 0], [0, 0, 0]),
        ("mild edema . severe edema", "severe edema", [0, 0, 0], [1, 1, 1]),
    ],
)
def test_zones_and_severities(reference, hypothesis, zone, severity):
    assert details(reference, hypothesis)[1:] == [zone, severity]


SAID_OF_A_PRIOR = """\
stable cardiomegaly
the heart size is unchanged
no interval change
small effusion , increased since the previous examination
as compared with the prior study , lower lung volumes
similar to the prior radiograph
there is a new right lower lobe opacity
the effusion has resolved
interval placement of a catheter
increase in size of the effusion
comparison : chest radiograph of may
this was not present on the prior exam
improved aeration
effusion is slightly more prominent today
the opacity is less dense than previously
effusion is smaller now
effusion is now larger
the mass has become larger
edema cleared since yesterday
the patient remains intubated
lines are stable"""
SAID_OF_NONE = """\
hemodynamically stable patient
clinically stable
the patient is stable
the patient remains hemodynamically stable
vital signs are stable
new york heart association class iii
opacity is more extensive on the right
the left effusion is larger than the right
larger than expected
prior granulomatous disease
postsurgical changes of prior cabg
degenerative changes of the thoracic spine
effusions , right larger than left
left basilar opacity , worse than right
increased interstitial markings
decreased lung volumes
old rib fractures
chronic interstitial changes
no prior studies are available
comparison : none
recommend comparison with the prior exam
follow-up to document resolution of the opacity
ct in a short interval
if symptoms persist , ct may help
asymmetric compared to the left
high resolution of detail"""


@pytest.mark.parametrize("text", SAID_OF_A_PRIOR.splitlines())
def test_words_of_an_earlier_image(text):
    assert prior_reference(f"The lungs are clear. {text.capitalize()}.")


@pytest.mark.parametrize("text", SAID_OF_NONE.splitlines())
def test_words_of_the_past_that_are_not_of_an_earlier_image(text):
    assert prior_reference(f"{text} .") == ""
    assert prior_reference(f"{text} . effusion has increased since may") == "has increased"


def test_an_earlier_image_is_hallucinated_where_the_report_speaks_of_none():
    scores = compare_mentions(
        ["stable effusion", "effusion", "effusion", "effusion"], ["stable effusion", "new effusion", "effusion", ""]
    )
    assert scores["prior_references"] == 0.5
    assert scores["prior_hallucinations"] == 0.25


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("cardiomegaly . the heart is normal in size", {"Cardiomegaly"}),
        ("left effusion . no pleural effusion", {"Pleural Effusion"}),
        ("bilateral effusions . no left effusion", {"Pleural Effusion"}),
        ("left effusion . no right effusion", set()),
        ("effusion . no right effusion", set()),
        ("small effusion . no large effusion", set()),
        ("apical pneumothorax . no basilar pneumothorax", set()),
        ("possible effusion . no effusion", set()),
        ("effusion has resolved . effusion", set()),
        ("rib fracture . no clavicular fracture", set()),
        ("left nodule . no other nodules", set()),
        ("right picc . no endotracheal tube", set()),
        ("left basilar atelectasis . otherwise the lungs are clear", set()),
        ("scarring at the left base . no infiltrate", set()),
        ("right lower lobe pneumonia . the left lung is clear", set()),
    ],
)
def test_a_text_that_contradicts_itself(text, findings):
    assert contradicted_findings(text) == findings
    assert compare_mentions([text], [text])["self_contradictions"] == bool(findings)


def test_contradictions_and_omissions():
    scores = compare_mentions(
        ["effusion . edema . no pneumothorax", NORMAL, "possible edema"],
        ["no effusion . no pneumothorax", "pneumothorax", "no edema"],
    )
    assert scores["contradictions"] == pytest.approx(2 / 3)
    assert scores["omissions"] == pytest.approx(1 / 3)  # edema; the others are denied


def test_without_findings_there_is_no_share():
    scores = compare_mentions(["normal chest", ""], ["normal chest", ""])
    for name in ("side_agreement", "side_recall", "zone_agreement", "omissions"):
        assert math.isnan(scores[name])
    assert all(scores[name] == 0 for name in CAPTION_SHARES)


WORDS = st.sampled_from(
    ["no", "small", "left", "right", "apical", "effusion", "nodule", "edema", ".", ",", "stable", "prior"]
)


@given(st.lists(WORDS, max_size=25).map(" ".join))
@settings(deadline=None, max_examples=50)
def test_a_report_agrees_with_itself(text):
    scores = compare_mentions([text], [text])
    asserts = asserted_details(find_mentions(text)).values()
    for i, kind in enumerate(("side", "zone", "severity")):
        expected = 1 if any(said[i] for said in asserts) else math.nan
        np.testing.assert_equal(scores[f"{kind}_agreement"], expected)
    assert scores["prior_hallucinations"] == scores["contradictions"] == 0
    assert scores["omissions"] != scores["omissions"] or scores["omissions"] == 0


def test_many_mentions_take_no_longer_than_they_are_many():
    text = "left effusion . no right effusion . " * 20_000
    assert contradicted_findings(text) == set()


STATEMENTS = [
    *("no effusion .", "small left pleural effusion .", "large right effusion", "left pleural effusion .", "clear ."),
    *("no left effusion .", "possible left basal atelectasis .", "mild right upper atelectasis , unchanged .", "..."),
    *("scar . no infiltrate .", "picc line in place .", "cardiomegaly has increased since may .", "comparison: 2019 ."),
]


@given(st.lists(st.lists(st.sampled_from(STATEMENTS), max_size=5).map(" ".join), min_size=2, max_size=6))
@settings(deadline=None, max_examples=60)
def test_what_is_counted_is_what_the_texts_say(texts):
    """Statements read once and put together as bits give what each text, read as a whole, says."""
    references, hypotheses = texts, texts[::-1]
    found, known, own = (
        counts(references, hypotheses),
        *([asserted_details(find_mentions(t)) for t in c] for c in (references, hypotheses)),
    )
    for row, (wanted, said) in enumerate(zip(known, own, strict=True)):
        for kind in range(3):
            named = {finding: of[kind] for finding, of in wanted.items() if of[kind]}
            shared = [finding for finding in named if finding in said]
            same = sum(said[finding][kind] == named[finding] for finding in shared)
            assert found["details"][row, kind].tolist() == [len(named), len(shared), same]
        prior = [bool(prior_reference(text)) for text in (hypotheses[row], references[row])]
        expected = [prior[0], prior == [True, False], bool(contradicted_findings(hypotheses[row]))]
        assert found["captions"][row, [0, 1, 3]].tolist() == expected
    for text, labels in zip(texts, label_matrix(texts).tolist(), strict=True):
        assert labels == [-2 if label is None else label for label in label_report(text).values()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "small left pleural effusion . no pneumothorax . mild cardiomegaly with right lower lobe opacity .",
            [
                ("Pleural Effusion", 0, "effusion", "left"),
                ("Cardiomegaly", 2, "cardiomegaly", ""),
                ("Lung Opacity", 2, "opacity", "right"),
            ],
        ),
        (". . the heart is enlarged", [("Cardiomegaly", 0, "heart is enlarged", "")]),
        (
            "ptx on the left and noeffusion , bilateral granulomas .",
            [("Pneumothorax", 0, "ptx", "left"), ("Granuloma", 0, "granulomas", "bilateral")],
        ),
        (
            "left effusion and atelectasis .",
            [("Pleural Effusion", 0, "effusion", "left"), ("Atelectasis", 0, "atelectasis", "")],
        ),
        ("the lungs are clear .", []),
        ("", []),
    ],
)
def test_the_words_of_a_caption_that_name_a_finding_and_its_side(text, expected):
    words = text.split()
    found = [
        (one.finding, one.sentence, *(" ".join(words[i] for i in places) for places in (one.words, one.side_words)))
        for one in named_findings(words)
    ]
    assert found == expected


def test_words_belong_to_the_sentence_they_stand_in():
    words = ["small", "left", "effusion", ".", "clear", "lungs", "."]
    assert sentence_words(words) == [[0, 1, 2, 3], [4, 5, 6]]
    assert sentence_words(words[:5]) == [[0, 1, 2, 3], [4]]
    assert sentence_words([]) == []
    assert sentence_words([".", *words[4:], "."]) == [[1, 2, 3]]  # full stops say nothing
    assert spoken(words, [2, 3, 4]) == [2, 4]
