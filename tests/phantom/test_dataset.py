import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.phantom.dataset import draw, render, write_phantoms
from xray_captioning.phantom.studies import Finding, PhantomStudy, sample_study
from xray_captioning.phantom.wording import report

WORDS = {
    "Pneumothorax": r"pneumothorax",
    "Edema": r"edema",
    "Consolidation": r"consolidation",
    "Lung Lesion": r"nodule|mass",
    "Pleural Effusion": r"effusions?",
    "Cardiomegaly": r"cardiomegaly|enlarged|enlargement of the heart",
    "Atelectasis": r"atelectasis",
    "Emphysema": r"emphysema",
    "Fracture": r"fractures?",
    "Hiatal Hernia": r"hiatal hernia",
    "Granuloma": r"granuloma",
    "Scoliosis": r"scoliosis",
    "Support Devices": r"catheter|venous line|pacemaker",
}
ONE_SIDED = [
    Finding("Pneumothorax", size="small"),
    Finding("Pneumothorax", size="large"),
    Finding("Pleural Effusion", size="small"),
    Finding("Pleural Effusion", size="large"),
    Finding("Lung Lesion", place="upper", size="small"),
    Finding("Lung Lesion", place="lower", size="large"),
    Finding("Consolidation", place="mid"),
    Finding("Consolidation", place="lower"),
    Finding("Granuloma", place="mid"),
    Finding("Atelectasis"),
    Finding("Fracture"),
    Finding("Support Devices", kind="pacemaker"),
]
MIDLINE = [
    Finding("Cardiomegaly", size="mild"),
    Finding("Edema", size="mild"),
    Finding("Emphysema"),
    Finding("Hiatal Hernia", size="small"),
    Finding("Scoliosis", side="left", size="mild"),
    Finding("Support Devices", kind="central venous catheter", side="right"),
]
ON_LATERAL = ("Cardiomegaly", "Edema", "Emphysema", "Hiatal Hernia", "Support Devices")


def affirmed(text: str) -> list[str]:
    """Sentences that deny nothing and call nothing normal, in lower case."""
    normal = re.compile(r"\b(no|normal|clear|intact|unremarkable|without)\b")
    sentences = re.findall(r"[^.]+\.", text.lower())
    return [sentence for sentence in sentences if not normal.search(sentence)]


def named(text: str) -> set[str]:
    text = " ".join(affirmed(text))
    return {name for name, words in WORDS.items() if re.search(rf"\b({words})\b", text)}


def sentence_of(finding: Finding, text: str) -> str:
    words = finding.kind.split()[-1] + "|venous line" if finding.kind else WORDS[finding.name]
    return next(s for s in affirmed(text) if re.search(rf"\b({words})\b", s))


def difference(finding: Finding, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """How much a finding changes the frontal and the lateral image of an upright patient."""
    body = sample_study(np.random.default_rng(seed))
    normal = replace(body, findings=(), anatomy=replace(body.anatomy, rotation=0.0, shift=(0, 0)))
    before = render(normal, 112)
    after = render(replace(normal, findings=(finding,)), 112)
    return tuple(cv2.absdiff(a, b).astype(float) for a, b in zip(after, before, strict=True))


def outlined(finding: Finding, seed: int = 3) -> list[np.ndarray]:
    """The area (112, 112) within the outlines of a finding of an upright patient, a view."""
    body = sample_study(np.random.default_rng(seed))
    upright = replace(body, findings=(finding,), anatomy=replace(body.anatomy, rotation=0.0, shift=(0, 0)))
    areas = []
    for image, regions in draw(upright, 112):
        area = np.zeros_like(image)
        for found, outline in regions:
            assert found == finding
            cv2.fillPoly(area, [np.rint(outline * 112 - 0.5).astype(np.int32)], 1)
        areas.append(area)
    return areas


@pytest.fixture(scope="module")
def sampled() -> list[PhantomStudy]:
    return [sample_study(np.random.default_rng([0, index])) for index in range(2000)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "thirty", 30, seed=5, size=64)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_about_a_third_is_normal_and_every_finding_is_common(sampled):
    counts = Counter(finding.name for study in sampled for finding in study.findings)
    sizes = Counter(len(study.findings) for study in sampled)
    assert 0.30 < sizes[0] / 2000 < 0.38
    assert sizes[1] + sizes[2] + sizes[3] > 0.9 * (2000 - sizes[0])
    assert set(counts) == set(WORDS) <= set(FINDINGS)
    assert all(0.04 < count / 2000 < 0.20 for count in counts.values())
    assert 0.03 < sum(not study.lateral for study in sampled) / 2000 < 0.07


def test_findings_of_a_study_do_not_repeat_or_contradict(sampled):
    for study in sampled:
        names = [finding.name for finding in study.findings]
        assert len(names) == len(set(names))
        assert not {"Emphysema", "Cardiomegaly"} <= set(names)


@pytest.mark.parametrize("finding", ONE_SIDED, ids=lambda finding: finding.detail)
def test_a_one_sided_finding_changes_its_half_of_the_frontal_image(finding):
    for side in ("left", "right"):
        frontal, _ = difference(replace(finding, side=side))
        image_left, image_right = frontal[:, :56].sum(), frontal[:, 56:].sum()
        own, other = (image_right, image_left) if side == "left" else (image_left, image_right)
        assert own > 2 * other
        assert frontal.max() > 25


@pytest.mark.parametrize("finding", MIDLINE, ids=lambda finding: finding.detail)
def test_a_midline_finding_is_visible(finding):
    frontal, lateral = difference(finding)
    assert (frontal > 15).mean() > 0.003
    if finding.name in ON_LATERAL:
        assert (lateral > 15).mean() > 0.003


@pytest.mark.parametrize("finding", ONE_SIDED + MIDLINE, ids=lambda finding: finding.detail)
def test_what_a_finding_changes_lies_in_its_outlines(finding):
    for side in ("left", "right") if finding in ONE_SIDED else (finding.side,):
        one = replace(finding, side=side)
        frontal, lateral = outlined(one)
        for view, area, change in zip(("frontal", "lateral"), (frontal, lateral), difference(one)):
            if view == "lateral" and one.name in ("Pneumothorax", "Fracture", "Scoliosis"):
                assert not area.any()  # not seen from the side
            else:
                assert 0.001 < area.mean() < 0.5
                least = 1.2 if one.name == "Emphysema" else 2.5  # which moves ribs and diaphragms, too
                assert change[area > 0].mean() > least * change[area == 0].mean()
        if finding in ONE_SIDED and not finding.kind:
            own = slice(56, None) if side == "left" else slice(None, 56)
            assert frontal[:, own].sum() > 0.95 * frontal.sum()


def test_a_bilateral_effusion_changes_both_halves():
    frontal, _ = difference(Finding("Pleural Effusion", side="bilateral", size="moderate"))
    halves = frontal[:, :56].sum(), frontal[:, 56:].sum()
    assert max(halves) < 2 * min(halves)


def test_zones_lie_one_above_the_other():
    height = {}
    for place in ("upper", "mid", "lower"):
        frontal, _ = difference(Finding("Granuloma", side="right", place=place))
        height[place] = np.average(np.arange(112), weights=frontal.sum(axis=1))
    assert height["upper"] + 8 < height["mid"] < height["lower"] - 8


def test_a_granuloma_is_smaller_and_brighter_than_a_nodule():
    nodule, _ = difference(Finding("Lung Lesion", side="right", place="mid", size="small"))
    granuloma, _ = difference(Finding("Granuloma", side="right", place="mid"))
    assert granuloma.max() > 1.3 * nodule.max()
    assert (granuloma > 12).sum() < (nodule > 12).sum()


def test_size_of_an_effusion_shows():
    areas = [
        (difference(Finding("Pleural Effusion", side="right", size=size))[0] > 15).sum()
        for size in ("small", "moderate", "large")
    ]
    assert areas[0] < 0.7 * areas[1] < 0.5 * areas[2]


def test_images_are_grey_squares_of_any_size():
    study = sample_study(np.random.default_rng(0))
    for size in (32, 112, 225, 512):
        for image in render(study, size):
            assert image.shape == (size, size)
            assert image.dtype == np.uint8
            assert image.std() > 25


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_a_report_says_what_is_there_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    study = sample_study(rng)
    text = report(study, rng)
    truth = {finding.name for finding in study.findings}
    assert named(text["impression"]) == named(text["findings"]) == truth
    assert 3 <= text["findings"].count(".") <= 7
    assert 1 <= text["impression"].count(".") <= 3
    for section in (text["findings"], text["impression"], text["indication"], text["comparison"]):
        assert re.fullmatch(r"[A-Z][A-Za-z, ]+\.( [A-Z][A-Za-z, ]+\.)*", section)
    assert not re.search(r"possible|probable|likely|may ", text["findings"] + text["impression"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_side_place_and_size_are_in_the_text(seed):
    rng = np.random.default_rng(seed)
    study = sample_study(rng)
    text = report(study, rng)
    for finding in study.findings:
        for section in (text["findings"], text["impression"]):
            sentence = sentence_of(finding, section)
            sides = r"\b(bilateral|both)\b" if finding.side == "bilateral" else finding.side
            assert re.search(sides, sentence)
            assert finding.place in sentence
            if finding.name != "Lung Lesion":
                assert finding.size in sentence
    written = set(re.findall(r"\b(left|right)\b(?! atrium)", text["impression"].lower()))
    assert written == {f.side for f in study.findings} & {"left", "right"}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(32, 130))
def test_any_study_can_be_drawn(seed, size):
    for image in render(sample_study(np.random.default_rng(seed)), size):
        assert image.shape == (size, size)
        assert image.min() < 60 < 140 < image.max()


def test_vocabulary_is_modest(sampled):
    rng = np.random.default_rng(0)
    texts = [report(study, rng) for study in sampled]
    for section, most in (("impression", 250), ("findings", 500)):
        text = " ".join(one[section] for one in texts)
        assert 80 < len(set(re.findall(r"[a-z]+", text.lower()))) < most
    assert len({one["impression"] for one in texts}) > 400


def test_the_folder_has_the_kaggle_layout(folder):
    reports = rows(folder / "indiana_reports.csv")
    projections = rows(folder / "indiana_projections.csv")
    columns = "uid MeSH Problems image indication comparison findings impression"
    assert " ".join(reports[0]) == columns
    assert list(projections[0]) == ["uid", "filename", "projection"]
    assert [row["uid"] for row in reports] == [str(900001 + index) for index in range(30)]
    names = {row["filename"] for row in projections}
    assert names == {path.name for path in (folder / "images" / "images_normalized").iterdir()}
    for row in projections:
        ending = {"Frontal": "1001", "Lateral": "2001"}[row["projection"]]
        assert row["filename"] == f"{row['uid']}_IM-0001-{ending}.dcm.png"
    frontal = [row["uid"] for row in projections if row["projection"] == "Frontal"]
    assert frontal == [row["uid"] for row in reports]
    assert "synthetic" in (folder / "README.txt").read_text(encoding="utf-8").lower()


def test_mesh_problems_and_text_agree(folder):
    for row in rows(folder / "indiana_reports.csv"):
        details = [detail.split("/")[0] for detail in row["MeSH"].split(";")]
        assert ";".join(details) == row["Problems"]
        expected = set() if row["Problems"] == "normal" else set(details)
        assert named(row["findings"]) == named(row["impression"]) == expected


def test_outlines_are_of_what_the_tables_name(folder):
    found = {(row["uid"], name) for row in rows(folder / "indiana_reports.csv") for name in row["Problems"].split(";")}
    names = {row["filename"]: row["uid"] for row in rows(folder / "indiana_projections.csv")}
    regions = json.loads((folder / "regions.json").read_text("utf-8"))
    assert {(row["study"], row["finding"]) for row in regions} == {one for one in found if one[1] != "normal"}
    for row in regions:
        assert list(row) == ["study", "finding", "side", "image", "polygon"]
        assert names[row["image"]] == row["study"]
        assert row["side"] in ("", "left", "right", "bilateral")
        assert len(row["polygon"]) >= 3
        assert all(0 <= value <= 1 for point in row["polygon"] for value in point)


def test_images_on_disk_are_those_of_render(folder):
    study = sample_study(np.random.default_rng([5, 2]))
    path = folder / "images" / "images_normalized" / "900003_IM-0001-1001.dcm.png"
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, render(study, 64)[0])


def test_a_study_does_not_depend_on_how_many_there_are(folder, tmp_path):
    few = write_phantoms(tmp_path / "few", 4, seed=5, size=64)
    assert rows(few / "indiana_reports.csv") == rows(folder / "indiana_reports.csv")[:4]
    for path in (few / "images" / "images_normalized").iterdir():
        assert path.read_bytes() == (folder / "images" / "images_normalized" / path.name).read_bytes()


def test_drawing_does_not_depend_on_threads():
    study = sample_study(np.random.default_rng(8))
    threads = cv2.getNumThreads()
    try:
        images = []
        for number in (1, 3):
            cv2.setNumThreads(number)
            images.append(render(study, 224))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(images[0], images[1])


def test_another_seed_gives_other_studies(folder, tmp_path):
    other = write_phantoms(tmp_path / "other", 3, seed=6, size=64)
    first = rows(folder / "indiana_reports.csv")[:3]
    assert rows(other / "indiana_reports.csv") != first


def test_an_empty_folder_is_filled_and_another_one_is_left_alone(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_phantoms(empty, 1, size=32)
    before = sorted(empty.rglob("*"))
    with pytest.raises(DataError, match="not an empty folder"):
        write_phantoms(empty, 1, size=32)
    assert sorted(empty.rglob("*")) == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        write_phantoms(file, 1, size=32)
    assert file.read_text() == "mine"


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("xray_captioning.phantom.dataset._write_images", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantoms(tmp_path / "out", 3, size=32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"studies": 0}, {"seed": -1}, {"size": 8}])
def test_settings_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        write_phantoms(tmp_path / "out", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_several_processes_draw_the_same_pictures(tmp_path, monkeypatch):
    from xray_captioning.phantom import dataset as phantom

    monkeypatch.setattr(phantom, "STUDIES_A_WORKER", 1000)
    alone = phantom.write_phantoms(tmp_path / "alone", 7, seed=4, size=64)
    monkeypatch.setattr(phantom, "STUDIES_A_WORKER", 1)
    together = phantom.write_phantoms(tmp_path / "together", 7, seed=4, size=64)
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(together) for p in together.rglob("*") if p.is_file())
    assert all((alone / f).read_bytes() == (together / f).read_bytes() for f in files)


def test_a_failing_process_leaves_nothing(tmp_path, monkeypatch):
    from xray_captioning.phantom import dataset as phantom

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(phantom, "STUDIES_A_WORKER", 1)
    monkeypatch.setattr(phantom, "write_study", fail)
    with pytest.raises(OSError, match="disk full"):
        phantom.write_phantoms(tmp_path / "out", 7, size=64)
    assert not any(tmp_path.iterdir())


def test_without_opencv_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    from xray_captioning.errors import MissingExtraError
    from xray_captioning.phantom.dataset import write_phantoms

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="opencv-python-headless"):
        write_phantoms(tmp_path / "out", studies=2, size=64)
    assert not any(tmp_path.iterdir())
