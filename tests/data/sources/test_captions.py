"""Captions tables under any usual names, and what their columns and cells mean."""

import gzip
import io
import json

import pandas as pd
import pytest

from tests.data.test_table import FORMATS
from xray_captioning.data.sources.openi import match_ids
from xray_captioning.data.sources.reading import read_in_parts, read_studies
from xray_captioning.data.splits import split_studies
from xray_captioning.errors import ConfigError, DataError

CSV = "image,caption\na.png,Clear lungs.\nb.png,Small effusion.\n"
TEXTS = ["Clear lungs.", "Small effusion."]


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(studies):
    return [[image.rsplit("/", 1)[-1] for image in images] for images in studies["images"]]


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.csv", CSV),
        ("data.csv", CSV.replace("image,caption", "File Name,Report Text")),
        ("metadata.csv", CSV.replace("image,caption", "file_name,text")),
        ("metadata.jsonl", lines(*({"file_name": f"{n}.png", "text": t} for n, t in zip("ab", TEXTS)))),
        ("captions.txt", CSV),
        ("captions.txt", "".join(f"{n}.png#0\t{t}\n" for n, t in zip("ab", TEXTS))),
        ("captions.csv", CSV.partition("\n")[2]),  # without a header
        ("captions.json", json.dumps({"a.png": TEXTS[0], "b.png": TEXTS[1]})),
        ("captions.json", json.dumps({"a.png": TEXTS[:1] * 2, "b.png": TEXTS[1:]})),
        ("captions.csv", CSV.replace("Clear lungs.", "\"['Clear lungs.', 'Clear lungs.']\"")),
        ("my data.csv", CSV.replace(",", ";")),
        ("x.tsv", CSV.replace(",", "\t")),
        ("x.csv.gz", gzip.compress(CSV.encode("utf-16"), mtime=0)),
        ("x.csv", pd.read_csv(io.StringIO(CSV)).to_csv()),  # with an index column
        ("captions.json", json.dumps([{"img_path": f"{n}.png", "report": t} for n, t in zip("ab", TEXTS)])),
    ],
)
def test_any_usual_table_alone_in_a_folder(tmp_path, name, content):
    path = write(tmp_path, name, content)
    write(tmp_path, "images/a.png", b"")
    for given in (tmp_path, path):
        studies = read_studies(given, source="captions")
        assert list(studies["study_id"]) == ["a", "b"]
        assert list(studies["findings"]) == TEXTS == list(studies["impression"])
        assert studies["images"][0] == [str(tmp_path / "images" / "a.png")]
    if not name.endswith(".json"):
        assert read_studies(tmp_path).equals(studies)


def test_two_tables_of_a_folder_are_an_error_that_names_both(tmp_path):
    write(tmp_path, "a.csv", CSV)
    write(tmp_path, "b.csv", CSV)
    with pytest.raises(DataError, match=r"a\.csv and b\.csv.*name the file"):
        read_studies(tmp_path)
    write(tmp_path, "captions.csv", CSV)  # the usual name tells which is meant
    assert len(read_studies(tmp_path)) == 2


@pytest.mark.parametrize(
    "files",
    [
        ("train.csv", "valid.csv", "test.csv"),
        ("iu_train_set.csv", "iu_dev_set.csv", "iu_test_set.csv"),
        ("train/metadata.csv", "validation/metadata.csv", "test/metadata.csv"),
    ],
)
def test_tables_of_the_parts(tmp_path, files):
    for number, name in enumerate(files):
        write(tmp_path, name, f"file_name,text,patient_id\n{number}.png,Clear.,p{number}\n")
    if "/" in files[0]:
        write(tmp_path, "validation/1.png", b"")
    studies = read_studies(tmp_path)
    assert list(studies["split"]) == ["train", "val", "test"]
    assert list(studies["patient_id"]) == ["p0", "p1", "p2"]
    assert studies["images"][1][0].endswith("validation/1.png" if "/" in files[0] else "1.png")


def test_patients_and_the_given_split_are_used(tmp_path):
    """Before, both columns were ignored: every patient of the test part was in train."""
    parts = ["Training", "validate", "TEST"]
    rows = "".join(f"{n}.png,x,P{n % 30}.0,{parts[n % 3]}\n" for n in range(120))
    write(tmp_path, "captions.csv", f"image,caption,PatientID,Split\n{rows}")
    studies = read_studies(tmp_path)
    split = split_studies(studies)
    assert (len(split.train), len(split.val), len(split.test)) == (40, 40, 40)
    assert studies["patient_id"].nunique() == 30
    by_hash = split_studies(studies, published=False)
    part_of = {i: part for part, ids in by_hash.parts.items() for i in ids}
    parts_of = studies.groupby("patient_id")["study_id"].agg(lambda ids: {part_of[i] for i in ids})
    assert all(len(found) == 1 for found in parts_of)


@pytest.mark.parametrize(
    ("column", "cells", "found"),
    [
        ("split", ["train", "tarin"], "line 3: split is 'tarin'; it must be train, val, test"),
        ("set", ["train", "3"], "line 3: set is '3'"),
        ("fold", ["0", "1"], [None, None]),  # of a cross-validation: no part
        ("part", ["chest", "chest"], [None, None]),
        ("set", ["dev", "test"], ["val", "test"]),
    ],
)
def test_words_of_a_split(tmp_path, column, cells, found):
    rows = "".join(f"{n}.png,x,{cell}\n" for n, cell in enumerate(cells))
    write(tmp_path, "captions.csv", f"image,caption,{column}\n{rows}")
    if isinstance(found, list):
        assert list(read_studies(tmp_path)["split"]) == found
    else:
        with pytest.raises(DataError, match=found):
            read_studies(tmp_path)


@pytest.mark.parametrize(
    "cell",
    [
        "['a b.png', 's/c.png']",
        '["a b.png", "s/c.png"]',
        "['a b.png' 's/c.png']",  # as NumPy writes it
        "('a b.png', 's/c.png')",
        "[a b.png, s/c.png]",
        "a b.png;s/c.png",
        "a b.png | s/c.png",
        "a b.png, s/c.png",
    ],
)
def test_two_images_in_a_cell(tmp_path, cell):
    """Before, this was one image called so, and counted as missing."""
    quoted = cell.replace('"', '""')
    write(tmp_path, "captions.csv", f'image,caption\n"{quoted}",Clear.\nd 1.png,Clear.\n')
    assert names(read_studies(tmp_path)) == [["a b.png", "c.png"], ["d 1.png"]]


@pytest.mark.parametrize("cell", ["['a.png', 3]", "[{}]", "[]", "['a.png', b.png"])
def test_images_that_cannot_be_read_as_a_list(tmp_path, cell):
    write(tmp_path, "captions.csv", f'image,caption\na.png,x\n"{cell}",Clear.\n')
    if cell.endswith("png"):  # a strange name of one image
        assert names(read_studies(tmp_path))[1] == [cell]
    else:
        with pytest.raises(DataError, match="line 3: image"):
            read_studies(tmp_path)


@pytest.mark.parametrize(
    "cell", ["lateral;frontal", "LL | PA", "['LATERAL', 'Postero-anterior']", "profile, P.A.", "lat+ap"]
)
def test_views_of_several_images_in_a_cell(tmp_path, cell):
    write(tmp_path, "captions.csv", f'image,caption,view\n"a.png;b.png",Clear.,"{cell}"\n"c.png;d.png",Clear.,PA\n')
    first, second = read_studies(tmp_path).itertuples()
    assert (first.views, names(read_studies(tmp_path))[0]) == (["frontal", "lateral"], ["b.png", "a.png"])
    assert second.views == ["unknown", "unknown"]  # one for two does not tell them apart
    for words, views in (("AP, supine", ["unknown", "unknown"]), ("lateral;supine", ["lateral", "unknown"])):
        write(tmp_path, "captions.csv", f'image,caption,view\n"a.png;b.png",Clear.,"{words}"\n')
        assert [*read_studies(tmp_path)["views"]] == [views]


def test_views_in_a_list_of_json_and_views_that_do_not_fit(tmp_path):
    row = {"image": ["a.png", "b.png"], "caption": "Clear.", "view": ["lateral", "frontal"]}
    write(tmp_path, "captions.jsonl", json.dumps(row))
    assert [*read_studies(tmp_path)["views"]] == [["frontal", "lateral"]]
    write(tmp_path, "captions.jsonl", json.dumps({**row, "view": ["lateral", "frontal", "frontal"]}))
    with pytest.raises(DataError, match="has 3 views of 2 images; write one for each"):
        read_studies(tmp_path)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("Edema, Atelectasis", ["Edema", "Atelectasis"]),
        ("Edema;Pleural Effusion", ["Edema", "Pleural Effusion"]),
        ("Edema|Fracture", ["Edema", "Fracture"]),
        ("['Edema', 'Fracture']", ["Edema", "Fracture"]),
        ('["edema"]', ["edema"]),
        ("Pulmonary Disease, Chronic Obstructive", ["Pulmonary Disease, Chronic Obstructive"]),
        ("Edema; Pulmonary Disease, Chronic Obstructive", ["Edema", "Pulmonary Disease, Chronic Obstructive"]),
        ("", []),
    ],
)
def test_labels_in_a_cell(tmp_path, cell, found):
    quoted = cell.replace('"', '""')
    write(tmp_path, "captions.csv", f'image,caption,findings_list\na.png,Wet.,"{quoted}"\n')
    studies = read_studies(tmp_path, columns={"labels": "findings_list"})
    assert studies["problems"][0] == found


def test_sections_of_their_own_columns_and_views(tmp_path):
    write(
        tmp_path,
        "reports.csv",
        "filename,view,findings,impression,study_id\na.png,L,Clear.,Normal.,7\nb.png,PA,Clear.,,7\n",
    )
    [study] = read_studies(tmp_path).itertuples()
    assert (study.findings, study.impression, study.study_id) == ("Clear.", "Normal.", "7")
    assert (study.views, names(read_studies(tmp_path))) == (["frontal", "lateral"], [["b.png", "a.png"]])


def test_an_id_that_counts_captions_is_no_study(tmp_path):
    """Else the captions of one image are studies that may be in different parts of a split."""
    write(tmp_path, "captions.csv", "id,image,caption\n1,a.png,One.\n2,a.png,Two.\n3,b.png,One.\n")
    studies = read_studies(tmp_path)
    assert list(studies["study_id"]) == ["a", "b"]
    assert list(studies["findings"]) == ["One. Two.", "One."]


def test_rows_of_a_study_must_agree(tmp_path):
    write(tmp_path, "captions.csv", "study,image,caption,split\n1,a,x,train\n1,b,x,test\n")
    with pytest.raises(DataError, match=r"captions\.csv, line 3: study '1' has split 'train'"):
        read_studies(tmp_path)


ODD = "file;note;pid;fold;image\n1.png;Clear.;9;training;x\n2.png;Clear.;9;holdout;x\n"


def test_columns_are_named_by_the_user(tmp_path):
    path = write(tmp_path, "odd.csv", ODD.replace("holdout", "dev"))
    columns = {"image": "file", "caption": "note", "patient": "pid", "split": "fold"}
    studies = read_studies(path, columns=columns)
    assert names(studies) == [["1.png"], ["2.png"]]
    assert list(studies["split"]) == ["train", "val"]
    assert list(studies["patient_id"]) == ["9", "9"]
    assert list(studies["findings"]) == ["Clear.", "Clear."]
    assert list(read_studies(path, columns=columns | {"patient": None})["patient_id"]) == ["1", "2"]


def test_a_record_number_is_the_patient(tmp_path):
    path = write(tmp_path, "odd.csv", "image,caption,MRN\na.png,Clear.,9\nb.png,Clear.,9\n")
    assert list(read_studies(path)["patient_id"]) == ["9", "9"]


def test_all_columns_that_are_missing_are_named_at_once(tmp_path):
    path = write(tmp_path, "captions.csv", "a,b\n1,2\n")
    message = r"for image \(.*\) and one for caption \(.*; found: a, b; .*image=NAME,caption=NAME"
    with pytest.raises(DataError, match=message):
        read_studies(path)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (None, DataError, r"odd\.csv: lacks a column for caption \(looked for caption, .*found: file, note, "),
        ({"pictures": "file"}, ConfigError, "'pictures' is no role; choose among image, study"),
        ({"image": "files"}, DataError, "no column 'files' for image; found: file, note, pid"),
        ({"image": "file", "caption": "note", "split": "fold"}, DataError, "line 3: fold is 'holdout'"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, columns, error, message):
    path = write(tmp_path, "odd.csv", ODD)
    with pytest.raises(error, match=message):
        read_studies(path, columns=columns)
    with pytest.raises(ConfigError, match="source openi has its own"):
        read_studies(path, source="openi", columns={"image": "file"})


def test_two_columns_that_fit_are_an_error_that_names_both(tmp_path):
    write(tmp_path, "captions.csv", "image,caption,report\na.png,x,y\n")
    with pytest.raises(DataError, match=r"'caption' and 'report' .*--columns caption=NAME"):
        read_studies(tmp_path)
    studies = read_studies(tmp_path, columns={"caption": "report"})
    assert list(studies["findings"]) == ["y"]


def test_ids_of_two_tables_are_joined_by_number(tmp_path):
    write(tmp_path, "indiana_reports.csv", "uid,findings,impression\n7,a,b\n08,c,d\n")
    write(tmp_path, "indiana_projections.csv", "uid,filename,projection\n7.0,7.png,PA\n8,8.png,PA\n")
    studies = read_studies(tmp_path)
    assert list(studies["study_id"]) == ["7", "08"]
    assert names(studies) == [["7.png"], ["8.png"]]


def test_ids_that_are_not_clear():
    assert match_ids(["7", "07"], ["7", "07", "x"], "t") == {"7": "7", "07": "07"}
    with pytest.raises(DataError, match=r"t\.csv: id '7.0' may mean '7' or '07'"):
        match_ids(["7", "07"], ["7.0"], "t.csv")


def test_names_that_may_mean_anything_are_a_split_where_they_name_parts(tmp_path):
    write(tmp_path, "captions.csv", "image,caption,fold,part,set\na,x,0,chest,dev\nb,x,1,chest,test\n")
    assert list(read_studies(tmp_path)["split"]) == ["val", "test"]


def test_a_number_of_an_identifier_is_no_suffix(tmp_path):
    write(tmp_path, "captions.csv", "image_id,caption\n1.2.840.7,x\n1.2.840.8,x\nsub\\a.png,x\n")
    assert list(read_studies(tmp_path)["study_id"]) == ["1.2.840.7", "1.2.840.8", "a"]


COLUMNS = ("study_id", "File Name", "view", "findings", "impression", "Patient ID", "split")
STUDIES = [
    ["007", "a/1.png", "PA", "Clear; no effusion.", "Normal.", "7", "train"],
    ["007", "a/2.png", "L", "Clear; no effusion.", "", "7", "train"],
    ["8", "b/1.png", "", 'A "round", opacity | mass.', "Nodule,\nfollow up.", "8", "Validation"],
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_makes_the_same_studies(tmp_path, name):
    path = tmp_path / f"my_{name}"
    path.write_bytes(FORMATS[name]([COLUMNS, *STUDIES]))
    first, second = read_studies(path, source="captions").itertuples()
    assert (first.study_id, first.views, first.patient_id) == ("007", ["frontal", "lateral"], "7")
    assert [image[-7:] for image in first.images] == ["a/1.png", "a/2.png"]
    assert (first.findings, first.impression) == ("Clear; no effusion.", "Normal.")
    assert (second.study_id, second.views, second.split) == ("8", ["unknown"], "val")
    assert second.findings == 'A "round", opacity | mass.'
    assert " ".join(second.impression.split()) == "Nodule, follow up."


@pytest.mark.parametrize(
    "rows",
    [
        'a.png,7,Findings: Clear.\nb.png,7,"Findings: Effusion."\n',
        """a.png,7,"['Findings: Clear.', 'Findings: Effusion.']"\n""",
    ],
)
def test_different_reports_of_one_study_are_not_one_report(tmp_path, rows):
    path = tmp_path / "captions.csv"
    path.write_text("image,study_id,report\n" + rows)
    with pytest.raises(DataError, match=r"captions.csv, line \d: study has 2 different reports"):
        read_studies(path)
    path.write_text("image,study_id,report\n" + rows.replace("Findings: ", ""))
    assert read_studies(path)["findings"].tolist() == ["Clear. Effusion."]


@pytest.mark.parametrize("need_images", [True, False])
def test_rows_of_a_study_are_read_alike_wherever_they_stand(tmp_path, need_images):
    """Where they stand together studies are made one after the other, elsewhere they are gathered first."""
    head = "study,image,findings,patient,split\n"
    rows = ["s1,a.png,start Clear lungs. end,p,train\n", "s2,b.png,,,test\n", "s2,c.png,,,test\n"]
    write(tmp_path, "captions.csv", head + "".join(rows))
    together = read_studies(tmp_path, need_images=need_images)
    assert names(together) == [["a.png"], ["b.png", "c.png"]]
    write(tmp_path, "captions.csv", head + "".join([*rows, rows[0]]))
    pd.testing.assert_frame_equal(together, read_studies(tmp_path, need_images=need_images))


TABLES = {
    "together": "study,image,findings\n1,a.png,Clear.\n2,b.png,x\n2,c.png,x\n3,d.png,y\n4,e.png,\n5,f.png,z\n",
    "apart": "study,image,findings\n1,a.png,Clear.\n2,b.png,x\n3,d.png,y\n2,c.png,x\n5,f.png,z\n",
    "without ids": "image,caption\na.png,Clear.\nb.png,x\nc.png,y\n",
    "with ids of some": "study,image,findings\n0,a.png,Clear.\n00,b.png,x\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_parts_are_the_whole(tmp_path, monkeypatch, table):
    monkeypatch.setattr("xray_captioning.data.sources.reading.PART", 2)
    path = write(tmp_path, "captions.csv", table)
    parts, whole = list(read_in_parts(path)), read_studies(path)
    assert len(parts) == (3 if "4,e" in table else 1)
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs = whole.attrs
    pd.testing.assert_frame_equal(joined, whole)


@pytest.mark.parametrize("need_images", [True, False])
def test_images_instead_of_ids_are_images_whoever_reads(tmp_path, need_images):
    """Else ids, and with them the split, were others where images are not needed."""
    (tmp_path / "captions.csv").write_text("id,caption\nx/a.png,Clear.\ny/b.png,Small effusion.\n")
    found = read_studies(tmp_path, need_images=need_images)
    assert found["study_id"].tolist() == ["a", "b"]
    assert names(found) == [["a.png"], ["b.png"]]


@pytest.mark.parametrize("how", [{"need_images": False}, {"columns": {"image": None}}])
def test_neither_ids_nor_images(tmp_path, how):
    with pytest.raises(DataError, match=r"captions.csv: lacks a column for study .*--columns study=NAME"):
        read_studies(write(tmp_path, "captions.csv", "caption,split\nClear.,test\n"), **how)


def test_parts_of_folders_named_as_text(tmp_path):
    (tmp_path / "images").mkdir()
    path = write(tmp_path, "captions.csv", "study,image,findings\n1,a.png,x\n")
    (part,) = read_in_parts(str(path), str(tmp_path / "images"))
    assert part["images"].tolist() == [[str(tmp_path / "images" / "a.png")]]


def test_parts_of_nothing(tmp_path):
    with pytest.raises(DataError, match="holds no studies"):
        list(read_in_parts(write(tmp_path, "captions.csv", "study,image,findings\n")))


def test_addresses_are_not_looked_for_part_by_part(tmp_path, monkeypatch):
    """A store lists the whole folder each time that it is asked."""
    monkeypatch.setattr("xray_captioning.data.sources.reading.PART", 2)
    rows = "".join(f"{number},memory://bucket/{number}.png,x\n" for number in range(5))
    first, rest = read_in_parts(write(tmp_path, "captions.csv", "study,image,findings\na,a.png,x\nb,b.png,x\n" + rows))
    assert first["study_id"].tolist() == ["a", "b"]
    assert rest["images"].tolist() == [[f"memory://bucket/{number}.png"] for number in range(5)]
