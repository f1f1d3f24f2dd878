"""Regions of captions in the page are Python's, and what it takes for a named finding Python does, too."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import TINY
from tests.web.node import node
from xray_captioning.captioner import evidence
from xray_captioning.captioner.caption import Caption, Sentence
from xray_captioning.data.features import Features
from xray_captioning.metrics.labels import rules
from xray_captioning.metrics.mentions import named_findings, sentence_words
from xray_captioning.phantom.studies import sample_study
from xray_captioning.phantom.wording import report
from xray_captioning.text.cleaning import clean
from xray_captioning.web import page

FIND = """
const { finder } = await load("findings.js");
const find = finder(given);
return given.sentences.map((words) => find(words).map(({ finding, words }) => [finding, words]));
"""
# What changes the meaning of other words, what is only like a finding, and what is one by several words.
WORDS = """no not without or possible probable resolved which , ; small large left right of the is are has been new with
clear normal heart size lungs enlarged effusion effusions pneumothorax opacity opacities nodule fracture fractures rib
calcified granuloma hernia hiatal edema free air fluid level silhouette cardiac consolidation atelectasis may represent
either exclude excluded cannot be history prior evidence any pleural thickening fluidd pacemaker scoliosis . improved
stable unchanged hyperexpanded emphysema zone mid 2 cm"""


def found(tmp_path, sentences):
    """What the page and Python find in sentences, each a list of words."""
    spelling = rules.rules("chexpert").spelling
    spelled = {word: list(spelling[word]) for words in sentences for word in words}
    given = {"sentences": sentences, "spelled": spelled, "automaton": rules.text_of("automaton.txt")}
    said = [[[one.finding, list(one.words)] for one in named_findings(words)] for words in sentences]
    return node(tmp_path, FIND, given), said


def test_findings_of_phantom_reports_are_pythons(tmp_path):
    texts = []
    for number in range(60):
        rng = np.random.default_rng([5, number])
        texts.append(clean(report(sample_study(rng), rng)["impression"], "plain").split())
    sentences = [[words[place] for place in own] for words in texts for own in sentence_words(words)]
    here, said = found(tmp_path, sentences)
    assert here == said
    assert sum(map(bool, said)) > 40


def test_of_any_words_the_page_finds_nothing_that_python_does_not(tmp_path):
    rng = np.random.default_rng(0)
    plain = [word for word in WORDS.split() if word != "."]
    sentences = [[*rng.choice(plain, rng.integers(1, 8)).tolist(), "."] for _ in range(1500)]
    here, said = found(tmp_path, sentences)
    more = [(words, own) for words, own, both in zip(sentences, here, said) if any(one not in both for one in own)]
    assert not more
    assert sum(map(bool, here)) > 300
    assert found(tmp_path, [["no", "effusion", "."], ["effusion", "not", "excluded", "."]])[0] == [[], []]


@pytest.mark.slow
def test_of_real_reports_the_page_finds_most_and_nothing_else(tmp_path, shared_data):
    with open(shared_data / "iu" / "indiana_reports.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = [clean(row[section], "plain") for section in ("impression", "findings") for row in rows if row[section]]
    sentences = dict.fromkeys(part.strip() for text in texts for part in text.split(" ."))
    here, said = found(tmp_path, [[*words.split(), "."] for words in sentences if words])
    assert all(one in both for own, both in zip(here, said) for one in own)
    named = [own == both for own, both in zip(here, said) if both]
    assert (len(here), len(named), sum(named)) == (8127, 3403, 2013)


def test_a_word_that_the_page_does_not_know_leaves_the_sentence_out(tmp_path):
    given = {"spelled": {"effusion": ["effusion"]}, "automaton": rules.text_of("automaton.txt")}
    code = FIND.replace(
        "given.sentences", '[["effusion", "."], ["strange", "effusion", "."], ["constructor", "effusion", "."]]'
    )
    assert node(tmp_path, code, given) == [[["Pleural Effusion", [0]]], [], []]


TEXT = ["small", "left", "effusion", ".", "normal", "bones", ".", "the", "heart", "is", "enlarged", ".", "edema", "."]
FINDINGS = ("Edema", "Pleural Effusion")


@pytest.fixture
def measured():
    """A bundle's measure: no method is clearly better than chance for a heart that is enlarged."""
    known = {"words": "finding", "n": 50, "chance": 0.2, "mass": 0.3}
    rows = [("attention", "Cardiomegaly", 0.3, 0.1), ("attention", "Edema", 0.6, 0.5)]
    rows += [("class activation", "Pleural Effusion", 0.9, 0.8), ("attention", "Pleural Effusion", 0.7, 0.6)]
    return {
        "rows": [{**dict(zip(("method", "finding", "hits", "low"), row)), **known} for row in rows],
        "offset": [0.1, -0.05],
    }


@pytest.mark.parametrize("missing", [False, True])
def test_regions_are_pythons(tmp_path, measured, missing):
    rng = np.random.default_rng(1)
    attention, activation = rng.random((len(TEXT), 2, 4, 3)) ** 4, rng.random((24, 2)) ** 4
    mask = np.arange(24)[None] < (12 if missing else 24)
    encoder = SimpleNamespace(findings=FINDINGS, grid=(4, 3), activation=lambda *_: activation[None])
    config = TINY.replace({"image.size": 64})
    captioner = SimpleNamespace(
        encoder=encoder, config=config, about={evidence.MEASURE: measured}, offset=(0.1, -0.05), compiles=False
    )
    sentences = [(0, 4), (4, 3), (7, 5), (12, 2)]
    caption = Caption("", TEXT, -1.0, [Sentence("", -1.0)] * 4, attention, [])
    (expected,) = evidence.grounded(captioner, Features(np.zeros((1, 24, 2)), mask), [caption], None)
    assert [one.method for one in expected.regions] == ["class activation", "attention"]
    vocabulary = {**dict.fromkeys(TEXT)}
    values = {
        "about": captioner.about,
        "export": {"graphs": {"classifier": {"outputs": ["probabilities", "activation"]}}},
    }
    given = {
        "evidence": page._evidence(values, vocabulary),
        "attention": attention.reshape(len(TEXT), 2, 12).tolist(),
        "activation": activation.ravel().tolist(),
        "mask": mask[0].astype(int).tolist(),
        "words": TEXT,
        "sentences": [{"first": first, "count": count} for first, count in sentences],
        "findings": FINDINGS,
    }
    code = """
    const [{ finder }, { regionsOf }] = [await load("findings.js"), await load("regions.js")];
    const page = { findings: given.findings, grid: [4, 3], offset: [0.1, -0.05] };
    const known = { ...given.evidence, ...page, find: finder(given.evidence) };
    return regionsOf(given, known, given.mask, given.activation);
    """
    here = node(tmp_path, code, given)
    for one, other in zip(here, expected.regions, strict=True):
        assert [one[name] for name in ("sentence", "finding", "view", "method", "hits", "chance")] == [
            getattr(other, name) for name in ("sentence", "finding", "view", "method", "hits", "chance")
        ]
        assert " ".join(TEXT[place] for place in one["words"]) == other.words
        assert one["box"] == pytest.approx(other.box)


def test_attention_is_drawn_where_its_regions_see(tmp_path):
    """A quarter of the image below and right of their places, and boxes where they are."""
    code = """
    globalThis.ImageData = class { constructor(data, width, height) { Object.assign(this, { data, width, height }); } };
    const drawn = [];
    const to = { putImageData: (shown) => drawn.push([...shown.data]), strokeRect: (...place) => drawn.push(place) };
    const still = { data: new Uint8ClampedArray(4 * 64).fill(100) };
    const { paint } = await load("drawing.js");
    const canvas = { still, width: 8, height: 8, getContext: () => to };
    paint(canvas, [1, 0, 0, 0], [2, 2], 1, [[0.25, 0.5, 0.75, 1]], [0.25, 0.25]);
    return drawn;
    """
    pixels, edge, box = node(tmp_path, code, None)
    changed = (np.array(pixels).reshape(8, 8, 4)[..., :3] != 100).any(axis=2)
    assert not changed[:2].any()
    assert not changed[:, :2].any()
    assert changed[2:5, 2:5].all()
    thick = 8 / 180
    assert edge == box == pytest.approx([2 + thick, 4 + thick, 4 - 2 * thick, 4 - 2 * thick])


def test_a_page_of_a_bundle_that_was_not_measured_draws_nothing(measured):
    graphs = {"start": {}, "classifier": {"outputs": ["probabilities"]}}
    assert page._evidence({"about": {}, "export": {"graphs": graphs}}, ["effusion"]) is None
    values = {"about": {evidence.MEASURE: measured}, "export": {"graphs": graphs}}
    methods = {name: one["method"] for name, one in page._evidence(values, ["effusion"])["measured"].items()}
    assert methods == {"Edema": "attention", "Pleural Effusion": "attention"}  # an export of before has no activation
