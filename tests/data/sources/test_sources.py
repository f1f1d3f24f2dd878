"""Five kinds of source, one table; what is missing is said, what is wrong is named."""

import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xray_captioning.data.sources.lookup import image_key
from xray_captioning.data.sources.published import render_captions
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.studies import COLUMNS, format_summary, summarise, with_images
from xray_captioning.errors import ConfigError, DataError, XrayCaptioningError

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None</AbstractText>
<AbstractText Label="INDICATION"/>
<AbstractText Label="FINDINGS"> Heart &amp; lungs normal. </AbstractText>
<AbstractText Label="FINDINGS">A second one.</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{mesh}</MeSH>{images}</eCitation>"""


def xml(number, mesh=("normal",), images=(), impression="Normal."):
    return XML.format(
        number=number,
        impression=impression,
        mesh="".join(f"<major>{term}</major>" for term in mesh),
        images="".join(f'<parentImage id="{image}"/>' for image in images),
    )


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return str(path)


def write_kaggle(folder, reports=None, projections=None):
    folder.mkdir(exist_ok=True)
    reports = reports or (
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        "7,Opacity/lung;Opacity/base,Opacity;Opacity;normal,PA,Cough,None,,None.\n"
        '8,normal,normal,PA,,," Two\nlines, quoted. ",Clear.\n'
    )
    projections = projections or (
        "uid,filename,projection\n7,7_IM-0001-2001.dcm.png,Lateral\n7,7_IM-0001-1001.dcm.png,Frontal\n"
    )
    (folder / "indiana_reports.csv").write_text(reports)
    (folder / "indiana_projections.csv").write_text(projections)
    return folder


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def only(studies):
    assert len(studies) == 1
    return studies.iloc[0]


# --- Kaggle


def test_kaggle_rows(tmp_path):
    studies = read_studies(write_kaggle(tmp_path / "k"))
    assert tuple(studies.columns) == COLUMNS
    assert studies["study_id"].tolist() == ["7", "8"]
    first, second = studies.iloc[0], studies.iloc[1]
    assert first["views"] == ["frontal", "lateral"]
    assert [os.path.basename(p) for p in first["images"]] == ["7_IM-0001-1001.dcm.png", "7_IM-0001-2001.dcm.png"]
    assert first["images"][0].endswith("images/images_normalized/7_IM-0001-1001.dcm.png")
    assert first["problems"] == ["Opacity"]
    assert first["mesh"] == "Opacity/lung;Opacity/base"
    assert first["comparison"] == "None"  # a word, not a missing value
    assert first["findings"] is None
    assert (second["images"], second["problems"]) == ([], [])
    assert second["findings"] == "Two\nlines, quoted."
    assert (second["patient_id"], second["split"], second["rendered"]) == ("8", None, False)


def test_missing_text_is_none_and_never_nan(tmp_path):
    studies = read_studies(write_kaggle(tmp_path / "k"))
    for name in ("indication", "comparison", "findings", "impression", "mesh", "split"):
        assert studies[name].dtype == object
        assert all(value is None or isinstance(value, str) for value in studies[name])


def test_folder_with_both_tables_is_kaggle_whatever_else_it_holds(tmp_path):
    folder = write_kaggle(tmp_path / "k")
    (folder / "captions.csv").write_text("image,caption\na.png,b\n")
    (folder / "annotation.json").write_text("{}")
    (folder / "1.xml").write_text(xml(1))
    write_archive(folder / "r.tgz", {"1.xml": xml(1).encode()})
    assert len(read_studies(folder)) == 2
    assert len(read_studies(folder / "indiana_reports.csv")) == 2
    assert only(read_studies(folder, source="openi"))["study_id"] == "1"
    assert only(read_studies(folder, source="captions"))["findings"] == "b"


def test_image_without_report_is_kept(tmp_path):
    projections = "uid,filename,projection\n9,9_IM-1-1.dcm.png,Oblique\n"
    studies = read_studies(write_kaggle(tmp_path / "k", projections=projections))
    last = studies.iloc[-1]
    assert (last["study_id"], last["views"], last["findings"]) == ("9", ["unknown"], None)


@pytest.mark.parametrize("found", ["images/images_normalized/{}.dcm.png", "NLMCXR_png/CXR{}.png"])
def test_kaggle_finds_images_under_either_name(tmp_path, found):
    folder = write_kaggle(tmp_path / "k")
    path = touch(folder / found.format("7_IM-0001-1001"))
    assert read_studies(folder)["images"][0][0] == path


def test_exact_name_and_image_dir_come_first(tmp_path):
    folder = write_kaggle(tmp_path / "k")
    touch(folder / "a" / "CXR7_IM-0001-1001.png")
    exact = touch(folder / "b" / "7_IM-0001-1001.dcm.png")
    assert read_studies(folder)["images"][0][0] == exact
    elsewhere = touch(tmp_path / "elsewhere" / "CXR7_IM-0001-1001.png")
    assert read_studies(folder, image_dir=tmp_path / "elsewhere")["images"][0][0] == elsewhere


def test_links_are_followed_and_circles_survived(tmp_path):
    folder = write_kaggle(tmp_path / "k")
    touch(tmp_path / "far" / "7_IM-0001-1001.dcm.png")
    os.symlink(tmp_path / "far", folder / "images")
    os.symlink(folder, tmp_path / "far" / "back")
    assert summarise(read_studies(folder))["images_present"] == 1


@pytest.mark.parametrize(
    "name", ["1000_IM-0003-2001.dcm.png", "CXR1000_IM-0003-2001.png", "CXR1000_1000_IM-0003-2001", "x/C"]
)
def test_image_key(name):
    assert image_key(name) == ("C" if name == "x/C" else "1000_IM-0003-2001")


# --- Open-i


def openi_files():
    images = ["CXR2_2_IM-0001-3001", "CXR2_IM-0001-4001", "CXR2_IM-0001-4001"]
    mesh = ["Lung/base/left", "Lung/apex", "Scoliosis"]
    return {
        "10.xml": xml(10).encode(),
        "2.xml": xml(2, mesh, images, impression="").encode(),
        "._2.xml": b"\x00junk of another system",
    }


@pytest.fixture(params=["flat", "nested", "tgz", "tar.gz", "folder with archive"])
def openi(request, tmp_path):
    files = {f"ecgen-radiology/{name}": content for name, content in openi_files().items()}
    if request.param in ("tgz", "tar.gz"):
        return write_archive(tmp_path / f"reports.{request.param}", files)
    if request.param == "folder with archive":
        write_archive(tmp_path / "reports.tgz", files)
        return tmp_path
    folder = tmp_path / ("ecgen-radiology" if request.param == "nested" else "")
    folder.mkdir(exist_ok=True)
    for name, content in openi_files().items():
        (folder / name).write_bytes(content)
    return tmp_path


def test_openi_rows(openi, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    present = touch(tmp_path / "pictures" / "2_IM-0001-3001.dcm.png")
    studies = read_studies(openi, image_dir=tmp_path / "pictures")
    assert studies["study_id"].tolist() == ["2", "10"]
    two, ten = studies.iloc[0], studies.iloc[1]
    assert two["images"] == [present, str(tmp_path / "pictures" / "CXR2_IM-0001-4001.png")]
    assert two["views"] == ["unknown", "unknown"]
    assert two["problems"] == ["Lung", "Scoliosis"]
    assert two["mesh"] == "Lung/base/left;Lung/apex;Scoliosis"
    assert two["impression"] is None
    assert two["comparison"] == "None"
    assert two["indication"] is None
    assert ten["findings"] == "Heart & lungs normal."
    assert (ten["problems"], ten["mesh"], ten["images"]) == ([], "normal", [])
    after = {p for p in tmp_path.rglob("*") if "pictures" not in p.parts}
    assert after == set(before)  # nothing was extracted


def test_number_comes_from_the_file_or_else_the_report(tmp_path):
    (tmp_path / "report.xml").write_text(xml(55))
    assert only(read_studies(tmp_path))["study_id"] == "55"
    (tmp_path / "report.xml").rename(tmp_path / "56.xml")
    assert only(read_studies(tmp_path / "56.xml"))["study_id"] == "56"


@pytest.mark.parametrize("line", ["a.png\tHeart is large.", '"b.png","Clear."', "c.png | Clear."])
def test_a_table_that_is_called_txt_is_not_the_report_of_all_images(tmp_path, line):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "data.txt").write_text(f"image\treport\n{line}\n", "utf-8")
    with pytest.raises(DataError, match=r"data\.txt: is a table of images, not a report; call it captions\.tsv"):
        read_studies(tmp_path)
    (tmp_path / "data.txt").write_text(
        "FINDINGS: a.png was taken lying, b.png sitting.\nNo effusion; clear.\n", "utf-8"
    )
    assert len(read_studies(tmp_path)) == 1


ENTITIES = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]>
<eCitation><AbstractText Label="FINDINGS">&c;</AbstractText></eCitation>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///nowhere">]>
<eCitation><AbstractText Label="FINDINGS">&b;</AbstractText></eCitation>"""

PARAMETER = """<!DOCTYPE a [<!ENTITY % b "c">]><eCitation/>"""
UNPARSED = """<!DOCTYPE a [<!NOTATION n SYSTEM "n"><!ENTITY b SYSTEM "f" NDATA n>]><eCitation/>"""


@pytest.mark.parametrize("content", [ENTITIES, OUTSIDE, PARAMETER, UNPARSED])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_every_kind_are_refused(tmp_path, content, encoding):
    (tmp_path / "3.xml").write_bytes(content.encode(encoding))
    with pytest.raises(DataError, match=r"^\S*3\.xml: defines XML entities"):
        read_studies(tmp_path)


def test_a_document_type_without_entities_is_read(tmp_path):
    (tmp_path / "3.xml").write_text(
        xml(3).replace("<eCitation", "<!DOCTYPE eCitation [<!ELEMENT a ANY>]><eCitation", 1)
    )
    assert only(read_studies(tmp_path))["study_id"] == "3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ENTITIES, "entities"),
        ("<eCitation>", "well-formed"),
        ("", "well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><eCitation/>', "well-formed"),
        ("<html><p/></html>", "no Open-i report"),
    ],
)
def test_bad_xml_names_the_file(tmp_path, content, message):
    (tmp_path / "3.xml").write_text(content)
    with pytest.raises(DataError, match=rf"3\.xml.*{message}"):
        read_studies(tmp_path)
    write_archive(tmp_path / "r.tgz", {"x/3.xml": content.encode()})
    with pytest.raises(DataError, match=rf"r\.tgz, x/3\.xml.*{message}"):
        read_studies(tmp_path / "r.tgz")


def test_damaged_archive(tmp_path):
    noise = np.random.default_rng(0).integers(65, 91, 50_000).astype(np.uint8).tobytes()
    files = {"1.xml": xml(1, impression=noise.decode()).encode(), "2.xml": xml(2).encode()}
    path = write_archive(tmp_path / "r.tgz", files)
    whole = path.read_bytes()
    for content in (b"", b"not a tar", whole[: len(whole) // 2], whole[:-2000]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"r\.tgz"):
            read_studies(path)


def test_enormous_member_is_refused(tmp_path, monkeypatch):
    whole = xml(1).encode()
    (tmp_path / "1.xml").write_bytes(whole)
    path = write_archive(tmp_path / "r.tgz", {"1.xml": whole})
    for most in (len(whole), len(whole) - 1):
        monkeypatch.setattr("xray_captioning.data.sources.openi.MAX_REPORT_BYTES", most)
        for source in (path, tmp_path / "1.xml"):
            if most == len(whole):
                assert len(read_studies(source)) == 1
                continue
            with pytest.raises(DataError, match=r"1\.xml: more than .* no report"):
                read_studies(source)


# --- captions.csv


def write_captions(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "captions.csv").write_text(text)
    return folder


@pytest.mark.parametrize("header", ["image,caption", "filename,report", " Image , Caption "])
def test_captions_stand_in_both_sections(tmp_path, header):
    touch(tmp_path / "images" / "a.png")
    folder = write_captions(tmp_path, f"\ufeff{header}\na.png,Clear lungs.\nsub/b.png,\n")
    for path in (folder, folder / "captions.csv"):
        studies = read_studies(path)
        assert studies["study_id"].tolist() == ["a", "b"]
        assert studies["findings"].tolist() == ["Clear lungs.", None]
        assert studies["impression"].tolist() == ["Clear lungs.", None]
        assert studies["views"].tolist() == [["unknown"], ["unknown"]]
        assert summarise(studies)["images_present"] == 1


def test_id_column_groups_images_and_distinct_captions_are_joined(tmp_path):
    folder = write_captions(tmp_path, "study_id,image,caption\ns,1.png,One.\ns,2.png,One.\ns,2.png,Two.\n")
    study = only(read_studies(folder))
    assert [os.path.basename(image) for image in study["images"]] == ["1.png", "2.png"]
    assert study["findings"] == "One. Two."


@pytest.mark.parametrize("column", ["patient_id", "Patient", "subject_id"])
def test_captions_may_name_patients(tmp_path, column):
    """Studies of one patient stay in one part of a split; those of unknown ones are their own."""
    rows = "a.png,clear .,p1\nb.png,clear .,p1\nc.png,clear .,\nd.png,clear .,\n"
    (tmp_path / "captions.csv").write_text(f"image,caption,{column}\n{rows}")
    assert list(read_studies(tmp_path)["patient_id"]) == ["p1", "p1", "c", "d"]
    (tmp_path / "captions.csv").write_text(f"id,image,caption,{column}\n1,a,x,p1\n1,b,x,p2\n")
    with pytest.raises(DataError, match=r"line 3: study '1' has patient 'p1' .* 'p2'"):
        read_studies(tmp_path)


def test_several_captions_of_one_image_are_one_study(tmp_path):
    folder = write_captions(tmp_path, "image,caption\n1.png,One.\n1.png,Two.\n1.png,One.\n")
    assert only(read_studies(folder))["impression"] == "One. Two."


def test_images_of_one_stem_have_their_paths_as_ids(tmp_path):
    folder = write_captions(tmp_path, "image,caption\na/1.png,One.\nb/1.png,Two.\nc.png,Three.\n")
    assert list(read_studies(folder)["study_id"]) == ["a/1", "b/1", "c"]
    write_captions(tmp_path, "image,caption\n1.png,One.\n1.jpg,Two.\n")
    with pytest.raises(DataError, match="study '1' occurs 2 times"):
        read_studies(folder)


def test_caption_image_elsewhere_is_taken_only_if_it_is_the_only_one(tmp_path):
    folder = write_captions(tmp_path, "image,caption\nscan,One.\n")
    one = touch(tmp_path / "p" / "scan.jpg")
    assert only(read_studies(folder))["images"] == [one]
    touch(tmp_path / "q" / "scan.jpg")
    with pytest.raises(DataError, match=r"p/scan\.jpg and .*q/scan\.jpg both fit; name its folder"):
        read_studies(folder)


# --- annotation.json


def annotation(**changes):
    entry = {"id": "CXR2_IM-1", "report": "Clear.", "image_path": ["CXR2_IM-1/0.png", "b/1.png"]}
    return {"train": [entry | changes], "test": []}


def test_r2gen(tmp_path):
    present = touch(tmp_path / "images" / "b" / "1.png")
    (tmp_path / "annotation.json").write_text(json.dumps(annotation()))
    study = only(read_studies(tmp_path))
    assert (study["study_id"], study["split"], study["patient_id"]) == ("CXR2_IM-1", "train", "CXR2_IM-1")
    assert study["images"] == [str(tmp_path / "images" / "CXR2_IM-1" / "0.png"), present]
    assert (study["findings"], study["impression"]) == ("Clear.", None)
    for subject, patient in ((0, "0"), (17, "17"), (None, "CXR2_IM-1"), ("", "CXR2_IM-1")):
        (tmp_path / "annotation.json").write_text(json.dumps(annotation(subject_id=subject)))
        assert only(read_studies(tmp_path))["patient_id"] == patient
    moved = only(read_studies(tmp_path / "annotation.json", image_dir=tmp_path / "images" / "b"))
    assert moved["images"] == [str(tmp_path / "images/b/CXR2_IM-1/0.png"), present]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n\n]", "line 3"),
        ("[]", "lacks the column id"),
        ("[" * 50, "JSON"),
        ('{"train": 3}', "neither an object nor a text"),
        ('{"train": ["x"]}', "lacks the column report"),
        ('{"train": [{"id": 1, "report": "x"}]}', "lacks the column image_path"),
        (json.dumps(annotation(image_path=[3])), "image_path"),
        (json.dumps(annotation(split="holdout")), "split is 'holdout'"),
        (json.dumps(annotation(split="dev")), "'dev' but it stands in 'train'"),
        (json.dumps({"train": annotation()["train"] * 2}), "occurs 2 times"),
        ('{"train": []}', "neither an object nor a text"),
    ],
)
def test_bad_annotation(tmp_path, content, message):
    (tmp_path / "annotation.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_studies(tmp_path)


# --- NIH ChestX-ray14


def write_nih(folder):
    folder.mkdir(exist_ok=True)
    # the official header: a bracketed name that is split by its comma, and a trailing comma
    (folder / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Size[Width,Height],\n"
        "00000001_000.png,Cardiomegaly|Effusion,0,1,10,10,\n"
        "00000001_001.png,No Finding,1,1,10,10,\n"
    )
    return folder


def test_nih(tmp_path):
    folder = write_nih(tmp_path / "n")
    present = touch(folder / "images_001" / "images" / "00000001_001.jpg")
    for path in (folder, folder / "Data_Entry_2017.csv"):
        studies = read_studies(path)
        assert studies["study_id"].tolist() == ["00000001_000", "00000001_001"]
        assert studies["patient_id"].tolist() == ["1", "1"]
        assert studies["problems"].tolist() == [["Cardiomegaly", "Effusion"], []]
        assert studies["images"][1] == [present]
        assert studies["views"][0] == ["frontal"]
        assert studies["findings"].isna().all()


def test_nih_with_its_list_of_test_images(tmp_path):
    folder = write_nih(tmp_path / "n")
    rows = [f"{number:08}_000.png,No Finding,0,{number},10,10,\n" for number in range(2, 202)]
    with (folder / "Data_Entry_2017.csv").open("a") as table:
        table.writelines(rows)
    (folder / "test_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    split = read_studies(folder)["split"].tolist()
    assert split[:2] == ["test", "test"]
    assert set(split[2:]) == {"train", "val"}
    assert 8 <= split.count("val") <= 32


def test_render_captions_marks_what_it_wrote(tmp_path):
    studies = read_studies(write_nih(tmp_path / "n"))
    rendered = render_captions(studies)
    assert studies["findings"].isna().all()
    assert rendered["rendered"].tolist() == [True, True]
    assert rendered["impression"][0] == "Cardiomegaly and pleural effusion."
    assert "No pleural effusion" not in rendered["findings"][0]
    assert "No pleural effusion" in rendered["findings"][1]
    written = render_captions(read_studies(write_kaggle(tmp_path / "k")))
    assert not written["rendered"].any()


# --- errors


@pytest.mark.parametrize("row", [",7_IM.dcm.png,Frontal", "7,,Frontal"])
def test_an_image_without_a_study_or_a_name_is_an_error(tmp_path, row):
    folder = write_kaggle(tmp_path, projections=f"uid,filename,projection\n{row}\n")
    with pytest.raises(DataError, match=r"indiana_projections\.csv, line 2: .*fill it in"):
        read_studies(folder)


@pytest.mark.parametrize(
    ("header", "message"),
    [("uid,findings", "lacks the column impression of .*; found: uid, findings"), ("", "found: none")],
)
def test_missing_columns_are_named_with_those_found(tmp_path, header, message):
    folder = write_kaggle(tmp_path / "k", reports=f"{header}\n")
    with pytest.raises(DataError, match=message):
        read_studies(folder)
    with pytest.raises(DataError, match=r"column for image .*found: where, caption; .*--columns image="):
        read_studies(write_captions(tmp_path / "c", "where,caption\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\na.png,One, two.\n", "line 2.*3 fields"),
        ('image,caption\na.png,"One\n', "not valid CSV"),
        ("image,caption\n,One\n", "line 2: image names no image"),
        ("id,image,caption\n,a.png,One\n", "line 2: the id in id is empty"),
        ("image,caption\n", "no studies"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_studies(write_captions(tmp_path, text))


def test_bad_encoding_and_duplicates(tmp_path):
    folder = write_kaggle(tmp_path / "k", reports="uid,findings,impression\n1,a,b\n1,c,d\n")
    with pytest.raises(DataError, match="study '1' occurs 2 times"):
        read_studies(folder)
    (folder / "indiana_reports.csv").write_bytes("uid,findings,impression\n1,ü,b\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"indiana_reports\.csv, line 2: is not UTF-8"):
        read_studies(folder)


def test_unknown_places(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_studies(tmp_path / "absent")
    with pytest.raises(DataError, match=r"looked for indiana_reports\.csv with .*captions\.csv"):
        read_studies(tmp_path)
    (tmp_path / "notes.doc").write_text("x")
    with pytest.raises(DataError, match="no known source"):
        read_studies(tmp_path / "notes.doc")
    with pytest.raises(ConfigError, match="choose one of"):
        read_studies(tmp_path, source="mimic")
    with pytest.raises(DataError, match="needs one"):
        read_studies(tmp_path, source="r2gen")
    with pytest.raises(DataError, match="image_dir"):
        read_studies(write_kaggle(tmp_path / "k"), image_dir=tmp_path / "absent")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["captions.csv", "annotation.json", "Data_Entry_x.csv", "1.xml", "r.tgz", "k"]),
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8")),
)
def test_any_bytes_give_a_table_or_one_line(tmp_path, name, content):
    if name == "k":
        path = write_kaggle(tmp_path / "k")
        (path / "indiana_reports.csv").write_bytes(b"uid,findings,impression\n" + content)
    else:
        path = tmp_path / name
        path.write_bytes(b"image,caption\n" + content if name == "captions.csv" else content)
    try:
        read_studies(path)
    except XrayCaptioningError as error:
        assert "\n" not in str(error)  # noqa: PT017


# --- summaries


def test_summary_counts_every_study_and_image(tmp_path):
    folder = write_kaggle(tmp_path / "k")
    touch(folder / "7_IM-0001-2001.dcm.png")
    studies = read_studies(folder)
    summary = summarise(studies)
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["studies"], summary["images_named"]) == (2, 2)
    assert (summary["images_present"], summary["images_missing"]) == (1, 1)
    assert summary["studies_without_image_present"] == 1
    assert summary["images_a_study"] == {"0": 1, "2": 1}
    assert (summary["without_findings"], summary["without_both"]) == (1, 0)
    assert summary["words_a_section"]["findings"] == 3.0
    assert summary["split"] is None
    text = format_summary(summary)
    assert "images missing" in text
    assert "7_IM-0001-1001.dcm.png" in text

    kept = only(with_images(studies))
    assert (kept["study_id"], kept["views"], len(kept["images"])) == ("7", ["lateral"], 1)
    assert len(studies["images"][0]) == 2


def test_reading_imports_no_model():
    code = "import sys, xray_captioning.data.sources.reading; print([m for m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("tensorflow", "keras", "pandas", "cv2"):
        assert f"'{heavy}'" not in run.stdout


# --- real files


@pytest.fixture(scope="module")
def real_kaggle(shared_data):
    return read_studies(shared_data / "iu")


def test_real_kaggle_tables(real_kaggle):
    studies = real_kaggle
    summary = summarise(studies)
    assert (summary["studies"], summary["images_named"]) == (3851, 7466)
    assert summary["views"] == {"frontal": 3818, "lateral": 3648}
    kept = with_images(studies)
    assert kept["study_id"].tolist() == ["3", "14", "100", "103", "1000", "1001", "1002", "1003"]
    [hundred] = kept["images"][kept["study_id"] == "100"]
    assert [os.path.basename(path) for path in hundred] == ["CXR100_IM-0002-2001.png"]


def test_real_archive(shared_data, real_kaggle):
    studies = read_studies(shared_data / "iu" / "ecgen-radiology.tgz")
    summary = summarise(studies)
    assert summary["studies"] == 3955
    histogram = {"0": 104, "1": 446, "2": 3208, "3": 181, "4": 15, "5": 1}
    assert summary["images_a_study"] == histogram
    assert len(with_images(studies)) == 8
    # the archive and the Kaggle tables tell the same
    tables = real_kaggle.set_index("study_id")
    both = studies.set_index("study_id").loc[tables.index]
    same = [a == b for a, b in zip(both["findings"], tables["findings"], strict=True)]
    assert np.mean(same) > 0.95


def test_real_published_split(shared_data):
    studies = read_studies(shared_data / "iu" / "r2gen_annotation.json")
    assert studies["split"].value_counts().to_dict() == {"train": 2069, "test": 590, "val": 296}
    assert studies["study_id"].is_unique


def test_real_nih(shared_data):
    studies = read_studies(shared_data / "nih14")
    assert (len(with_images(studies)), studies["patient_id"].nunique()) == (1254, 1006)
    assert (studies["problems"].map(len) == 0).sum() == 452
    assert isinstance(studies, pd.DataFrame)
