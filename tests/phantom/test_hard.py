"""Hard phantoms: the dial, what is drawn and what is written."""

import csv
import json
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise

import cv2
import numpy as np
import pytest

from xray_captioning import label_report
from xray_captioning.config import load_preset
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import with_priors
from xray_captioning.errors import ConfigError
from xray_captioning.files import read_toml
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.labeler import find_mentions
from xray_captioning.metrics.mentions import asserted_details
from xray_captioning.phantom import wording
from xray_captioning.phantom.dataset import draw, render, write_phantoms
from xray_captioning.phantom.hard import TABLES, share_of, study_at
from xray_captioning.phantom.studies import Finding, Scene, sample_study
from xray_captioning.phantom.wording import report


@pytest.fixture(scope="module")
def drawn():
    """Three hundred hard studies and their reports."""
    studies = [study_at(3, index, 1.0) for index in range(300)]
    return [(study, report(study, rng)) for study, rng in studies]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("hard") / "forty", 40, seed=5, size=64, difficulty="hard")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_an_easy_study_is_what_it_was():
    for index in range(20):
        study, rng = study_at(2, index)
        was = np.random.default_rng([2, index])
        assert replace(study, number=0, patient=0) == sample_study(was)
        assert rng.random() == was.random()


def test_the_dial_goes_from_easy_to_hard(drawn):
    assert [share_of(value) for value in ("easy", "hard", "0.25", 1)] == [0, 1, 0.25, 1]
    half = [study_at(3, index, 0.5)[0] for index in range(300)]
    for name in ("soft", "veil", "clutter", "quantum"):
        means = [np.mean([getattr(study.scene, name) for study in studies]) for studies in (half, next(zip(*drawn)))]
        assert 0 < means[0] < 0.6 * means[1]
    strengths = [[f.strength for s in studies for f in s.findings] for studies in (half, [s for s, _ in drawn])]
    assert min(strengths[1]) < 0.33 < min(strengths[0])
    assert np.mean(strengths[1]) < np.mean(strengths[0]) - 0.1 < 0.9


@pytest.mark.parametrize("wrong", [-0.1, 1.5, "harder", None, float("nan")])
def test_another_difficulty_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="difficulty"):
        write_phantoms(tmp_path / "out", 1, difficulty=wrong)
    assert not any(tmp_path.iterdir())


def test_all_that_makes_a_study_hard_occurs(drawn):
    studies = [study for study, _ in drawn]
    assert {name for study in studies for name in study.scene.mimics} == set(TABLES["mimics"])
    assert {finding.kind for study in studies for finding in study.findings} >= set(TABLES["devices"])
    assert any(len(list(study.each("Lung Lesion"))) == 2 for study in studies)
    assert {finding.only for study in studies for finding in study.findings} == {"", "frontal", "lateral"}
    assert 0.2 < np.mean([study.scene.portable for study in studies]) < 0.5
    assert not any(study.scene.portable and study.lateral for study in studies)
    assert 0.15 < np.mean([not study.findings for study in studies]) < 0.4


def test_what_has_been_removed_is_not_there():
    study, _ = study_at(0, 231, 1.0)  # a catheter is removed, and a new one would be next to it
    (gone,) = (one.kind for one in study.scene.resolved if one.kind)
    assert gone not in {one.kind for one in study.findings}


@pytest.mark.parametrize("name", TABLES["several"]["names"])
def test_what_may_be_several_is_not_called_the_only_one(name):
    usual, rare = (read_toml(wording.__file__, file) for file in ("sentences.toml", "rare.toml"))
    said = " ".join(chain(*(table[part].get(name, ()) for table in (usual, rare) for part in ("phrases", "sentences"))))
    assert not {"solitary", "single", "only", "sole"} & set(said.split())


def test_findings_lie_in_each_others_place(drawn):
    from xray_captioning.phantom.studies import compatible

    def overlap(study):
        pairs = [(a, b) for a in study.findings for b in study.findings if a.name < b.name]
        return any(not compatible(*pair) for pair in pairs)

    assert np.mean([overlap(study) for study, _ in drawn]) > 0.1


def test_a_patient_is_followed_up(drawn):
    series = Counter(study.patient for study, _ in drawn)
    assert set(series.values()) == {1, 2, 3, 4}
    changes = Counter()
    for (before, _), (study, text) in pairwise(drawn):
        assert study.scene.prior == (study.patient == before.patient)
        said = any(word in text["findings"] + text["impression"] for word in ("unchanged", "prior", "resolved", "new"))
        assert study.scene.prior or not said
        assert study.scene.prior == ("No" not in text["comparison"])
        if not study.scene.prior:
            assert all(not finding.change for finding in study.findings)
            continue
        changes.update(finding.change for finding in study.findings)
        assert study.seed == before.seed
        assert study.anatomy.half_width == before.anatomy.half_width
        gone = {(f.name, f.kind, f.side) for f in study.scene.resolved}
        kept = {(f.name, f.kind, f.side) for f in study.findings if f.change and f.change != "new"}
        assert gone | kept == {(f.name, f.kind, f.side) for f in before.findings}
    assert set(changes) >= {"new", "larger", "smaller", "unchanged"}


@pytest.mark.parametrize("section", ["findings", "impression"])
def test_the_labeler_finds_what_is_there(drawn, section):
    agree, sides = [], []
    for study, texts in drawn:
        said = {name for name, value in label_report(texts[section]).items() if value in (1, -1)} - {"No Finding"}
        agree.append(said == {finding.name for finding in study.findings})
        details = asserted_details(find_mentions(texts[section]))
        for name in said & details.keys():
            true = {side for finding in study.each(name) for side in finding.sides}
            sides.append(not true or details[name][0] == true)
    assert np.mean(agree) >= 0.99
    assert np.mean(sides) >= 0.99


def test_an_indication_informs_and_sometimes_misleads(drawn):
    asked = [(study, texts["indication"].lower()) for study, texts in drawn]
    there = [study.find("Pneumothorax") is not None for study, text in asked if "pneumothorax" in text]
    assert 0 < sum(there) < len(there)
    normal = [text for study, text in asked if not study.findings and not study.scene.prior]
    assert any(word in text for text in normal for word in ("rule out", "evaluate", "suspected", "concern"))


def test_what_is_new_was_not_known_before(drawn):
    asked = [(study, text["indication"]) for study, text in drawn if text["indication"].startswith(("Known", "Follow"))]
    told = [(study, name) for study, text in asked for name, noun in wording._RARE["nouns"].items() if noun in text]
    assert told
    for study, name in told:
        assert any(one.name == name and one.change != "new" for one in (*study.findings, *study.scene.resolved))


def test_wording_is_rarer(drawn):
    easy = [study_at(3, index) for index in range(300)]
    words = [
        {word for text in texts for word in text["findings"].lower().split()}
        for texts in ([texts for _, texts in drawn], [report(study, rng) for study, rng in easy])
    ]
    assert len(words[0]) > 1.4 * len(words[1])
    assert any("possible" in texts["impression"].lower() for _, texts in drawn)


def test_a_faint_finding_changes_less_and_a_hidden_one_nothing():
    body = replace(sample_study(np.random.default_rng(3)), findings=())
    nodule = Finding("Lung Lesion", side="left", place="mid", size="large")

    def change(finding):
        pairs = zip(render(body, 112), render(replace(body, findings=(finding,)), 112), strict=True)
        return [cv2.absdiff(*pair).sum() for pair in pairs]

    strong, faint, hidden = map(change, (nodule, replace(nodule, strength=0.3), replace(nodule, only="frontal")))
    assert 0 < faint[0] < 0.6 * strong[0]
    assert hidden == [strong[0], 0]
    views = draw(replace(body, findings=(replace(nodule, only="frontal"),)), 112)
    assert [len(regions) for _, regions in views] == [1, 0]


def test_noise_is_correlated_and_follows_the_light(monkeypatch):
    study = sample_study(np.random.default_rng(3))
    study = replace(study, findings=(), anatomy=replace(study.anatomy, noise=0.0))

    def shown(quantum):
        return render(replace(study, scene=Scene(1.0, quantum=quantum, borders=(0, 0, 0, 0))), 224)[0].astype(float)

    clean = shown(0.0)
    noise = shown(0.03) - clean
    lung, belly = (clean > 60) & (clean < 110), clean > 190
    assert noise[lung].std() > 1.3 * noise[belly].std() > 0
    assert np.corrcoef(noise[60:120, 60:119].ravel(), noise[60:120, 61:120].ravel())[0, 1] > 0.2


@pytest.mark.parametrize("mimic", list(TABLES["mimics"]))
def test_a_mimic_is_drawn_and_outlined_by_nobody(mimic):
    study = replace(sample_study(np.random.default_rng(3)), findings=())
    plain, shown = (replace(study, scene=Scene(1.0, borders=(0, 0, 0, 0), mimics=mimics)) for mimics in ((), (mimic,)))
    change = cv2.absdiff(render(plain, 112)[0], render(shown, 112)[0])
    assert 0.001 < (change > 5).mean() < 0.3
    assert not any(regions for _, regions in draw(shown, 112))


def test_the_tables_hold_patients_and_dates(folder):
    reports = rows(folder / "indiana_reports.csv")
    assert list(reports[0])[-2:] == ["patient_id", "study_date"]
    assert [row["study_date"] for row in reports] == sorted({row["study_date"] for row in reports})
    assert {row["projection"] for row in rows(folder / "indiana_projections.csv")} == {
        "Frontal PA",
        "Frontal AP portable",
        "Lateral",
    }
    studies = read_studies(folder)
    assert set(studies["patient_id"]) < set(studies["study_id"])
    assert set(studies["views"].explode()) == {"frontal", "lateral"}
    for row in reports:
        details = {detail.split("/")[0] for detail in row["MeSH"].split(";")}
        assert details == set(row["Problems"].split(";"))
        assert len(details) == row["Problems"].count(";") + 1
        assert details <= {*FINDINGS, "normal"}


def test_the_prior_is_found(folder):
    config = load_preset("phantom_attention").replace({"text.context": ["prior"], "text.section": "impression"})
    studies = with_priors(read_studies(folder), config)
    reports = rows(folder / "indiana_reports.csv")
    same = [False, *(a["patient_id"] == b["patient_id"] for a, b in pairwise(reports))]
    assert list(studies["prior"].notna()) == same
    assert 0 < sum(same) < 20
    for number, follows in enumerate(same):
        assert not follows or studies["prior"][number].split() == studies["impression"][number - 1].split()


def test_outlines_are_of_what_is_seen(folder):
    problems = {row["uid"]: row["Problems"].split(";") for row in rows(folder / "indiana_reports.csv")}
    regions = json.loads((folder / "regions.json").read_text("utf-8"))
    assert all(row["finding"] in problems[row["study"]] for row in regions)
    named = {(row["study"], row["finding"]) for row in regions}
    assert len(named) > 0.9 * sum(len(names) for names in problems.values() if names != ["normal"])


def test_a_study_does_not_depend_on_how_many_there_are(folder, tmp_path):
    few = write_phantoms(tmp_path / "few", 6, seed=5, size=64, difficulty=1)
    assert rows(few / "indiana_reports.csv") == rows(folder / "indiana_reports.csv")[:6]
    for path in (few / "images" / "images_normalized").iterdir():
        assert path.read_bytes() == (folder / "images" / "images_normalized" / path.name).read_bytes()
