"""The labeler recovers what the phantom generator put into a study, from its report alone."""

import re

import numpy as np
import pytest

from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.clinical import clinical_scores, label_matrix
from xray_captioning.metrics.labeler import find_mentions
from xray_captioning.metrics.mentions import asserted_details
from xray_captioning.phantom.studies import sample_study
from xray_captioning.phantom.wording import report

NUMBER = 500


def bare(text):
    """Lower-case words and full stops set apart, as cleaned captions have them."""
    return " ".join(re.findall(r"[a-z]+|\.", text.lower()))


@pytest.fixture(scope="module")
def phantoms():
    rng = np.random.default_rng(7)
    studies = [sample_study(rng) for _ in range(NUMBER)]
    return studies, [report(study, rng) for study in studies]


@pytest.fixture(
    scope="module",
    params=[
        lambda text: text["findings"],
        lambda text: text["impression"],
        lambda text: f"{text['findings']} {text['impression']}",
        lambda text: bare(f"{text['findings']} {text['impression']}"),
    ],
    ids=["findings", "impression", "both", "cleaned"],
)
def case(request, phantoms):
    studies, reports = phantoms
    return studies, [request.param(text) for text in reports]


def truth(studies):
    """Labels of the generator, coded as `label_matrix` does."""
    names = [{finding.name for finding in study.findings} for study in studies]
    for present in names:
        if not present - {"Support Devices"}:
            present.add("No Finding")
    return np.array([[name in present for name in FINDINGS] for present in names], dtype=np.int8)


def test_findings_are_recovered(case):
    studies, texts = case
    scores = clinical_scores(truth(studies), label_matrix(texts))
    assert scores["clinical_f1_present"] >= 0.99
    assert scores["micro_f1_all_present"] >= 0.99


def test_nothing_present_is_denied(case):
    studies, texts = case
    denied = (truth(studies) == 1) & (label_matrix(texts) == 0)
    assert denied.mean() < 0.001


def test_sides_are_recovered(case):
    studies, texts = case
    pairs = [
        (frozenset(finding.sides), details[finding.name][0])
        for study, details in zip(studies, map(asserted_details, map(find_mentions, texts)), strict=True)
        for finding in study.findings
        if finding.sides and finding.name in details
    ]
    assert len(pairs) > NUMBER / 2
    assert np.mean([true == said for true, said in pairs]) >= 0.99


def test_a_finding_that_only_one_convention_knows_has_sides() -> None:
    """Infection is a finding of one convention; a sentence of nothing else was an error."""
    details = asserted_details(find_mentions("There is an infection of the right lung."))
    assert {name: sides for name, (sides, *_) in details.items()} == {"Pneumonia": {"right"}}
