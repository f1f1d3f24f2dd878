"""References and hypotheses of two files stand side by side by their ids."""

import json
import warnings
from pathlib import Path

import pytest

from xray_captioning.cli import main
from xray_captioning.errors import DataError
from xray_captioning.evaluation.matching import ResultsWarning, read_pairs


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.fixture
def gts(tmp_path: Path) -> Path:
    return write(tmp_path / "gts.csv", "study_id,report\ns1,one a\ns2,two b\ns3,three c\n")


def test_ids_are_matched(gts: Path, tmp_path: Path) -> None:
    res = write(tmp_path / "res.json", {"2": ["B"], "1": ["A"], "3": ["C"]})
    [pairs] = read_pairs(gts, res)
    assert pairs.references == [["one a"], ["two b"], ["three c"]]
    assert pairs.hypotheses == ["A", "B", "C"]
    assert (pairs.system, pairs.counts) == ("res", {"n": 3})


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    lines = [{"question_id": i, "reference": f"r {i}", "prediction": f"p {i}"} for i in "ba"]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines)))
    [pairs] = read_pairs(path, path)
    assert (pairs.references, pairs.hypotheses) == ([["r b"], ["r a"]], ["p b", "p a"])


def test_captions_of_one_image_are_its_references(tmp_path: Path) -> None:
    captions = [(7, "one"), (8, "two"), (7, "uno"), (7, "one")]
    coco = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [
            {"id": 100 + n, "image_id": image, "caption": text} for n, (image, text) in enumerate(captions)
        ],
    }
    results = [{"image_id": 8, "caption": "B"}, {"image_id": 7, "caption": "A"}]
    [pairs] = read_pairs(write(tmp_path / "a.json", coco), write(tmp_path / "b.json", results))
    assert pairs.references == [["one", "uno"], ["two"]]
    assert pairs.hypotheses == ["A", "B"]


def test_what_is_missing_is_left_out_only_where_that_is_asked_for(gts: Path, tmp_path: Path) -> None:
    res = write(tmp_path / "res.json", {"3": "C", "1": "A"})
    with pytest.raises(DataError, match=r"no text for study s2 \(1 of 3.*--only-common"):
        list(read_pairs(gts, res))
    [pairs] = read_pairs(gts, res, only_common=True)
    assert pairs.hypotheses == ["A", "C"]
    assert pairs.counts == {"n": 2, "left_out": 1}
    with pytest.raises(DataError, match="no id"):
        list(read_pairs(gts, write(tmp_path / "res.json", {"x": "A"}), only_common=True))


def test_without_ids_the_order_counts(gts: Path, tmp_path: Path) -> None:
    res = write(tmp_path / "res.txt", "A\nB\nC\n")
    with pytest.warns(ResultsWarning, match=r"res\.txt names no study: .* order of the files"):
        [pairs] = read_pairs(gts, res)
    assert pairs.hypotheses == ["A", "B", "C"]
    with pytest.raises(DataError, match=r"res has 2 texts without a study_id, but 3"):
        list(read_pairs(gts, write(res, "A\nB\n")))


def test_the_command_reads_any_format(tmp_path: Path, capsys) -> None:
    table = "id,ground_truth,mine,theirs\n1,no effusion .,no effusion .,x y\n2,edema .,edema .,y z\n"
    path = str(write(tmp_path / "t.csv", table))
    assert main(["score", "--references", path, "--hypotheses", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in ("mine", "theirs")] == ["mine", "theirs"]
    assert lines[3].split()[:2] == ["coco", "1.000"]
    line = ["score", "--references", path, "--hypotheses", path]
    assert main([*line, "--prediction", "theirs", "--reference", "mine", "--only-common"]) == 0
    header, _, coco = capsys.readouterr().out.splitlines()[:3]
    assert header.split()[-2:] == ["n", "left_out"]
    assert coco.split()[1] == "0.000"
    assert main(["score", "--references", path, "--hypotheses", path, "--reference", "x"]) == 2
    assert "has no column x; its columns are: id, ground_truth, mine" in capsys.readouterr().err


def test_headings_that_only_the_system_writes_are_told(gts: Path, tmp_path: Path) -> None:
    texts = {i: [f"FINDINGS: {i}. IMPRESSION: Normal."] for i in "123"}
    with pytest.warns(ResultsWarning, match="res: 3 texts have headings, which count as words"):
        list(read_pairs(gts, write(tmp_path / "res.json", texts)))


IMAGES = [["CXR1/0.png", "CXR1/1.png"], ["CXR2/0.png", "CXR2/1.png"], ["CXR3/0.png"]]
WAYS = (list, str, json.dumps, lambda images: "[" + " ".join(map(repr, images)) + "]", lambda images: images[::-1])


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", [*WAYS, lambda images: images[-1], lambda images: "/data/" + images[0]])
def test_ids_may_be_lists_of_images(tmp_path: Path, first, second) -> None:
    rows = [{"image_path": first(i), "ground_truth": f"r {n}", "generated": f"p {n}"} for n, i in enumerate(IMAGES)]
    one = write(tmp_path / "one.json", rows)
    other = write(tmp_path / "other.json", [{"image_path": second(i), "generated": n} for i, n in zip(IMAGES, "abc")])
    [own] = read_pairs(one, one)
    assert (own.references, own.hypotheses) == ([["r 0"], ["r 1"], ["r 2"]], ["p 0", "p 1", "p 2"])
    [pairs] = read_pairs(one, other)
    assert pairs.hypotheses == ["a", "b", "c"]


@pytest.mark.parametrize("make", [int, float, lambda i: [int(i)], "[{}]".format, "('{}',)".format, "s{}".format])
def test_ids_may_be_numbers_and_lists_of_one(gts: Path, tmp_path: Path, make) -> None:
    res = write(tmp_path / "res.json", [{"study_id": make(i), "generated": text} for i, text in zip("321", "CBA")])
    [pairs] = read_pairs(gts, res)
    assert pairs.hypotheses == ["A", "B", "C"]


def test_studies_without_a_report_are_told(tmp_path: Path) -> None:
    gts = write(tmp_path / "gts.csv", "study_id,report\ns1,one a\ns2,\ns3,three c\n")
    res = write(tmp_path / "res.json", {"1": "A", "2": "B", "3": ""})
    with pytest.warns(ResultsWarning) as told:
        [pairs] = read_pairs(gts, res)
    said = [str(one.message) for one in told]
    assert said[0] == "res: 1 of 3 texts are empty and count as such, the first that of s3"
    assert said[1].startswith("res: 1 of 3 studies have an empty reference, the first s2; nothing can agree with it")
    assert pairs.references == [["one a"], [""], ["three c"]]
    with pytest.warns(ResultsWarning, match="1 of 2 studies have an empty reference, the first text 2;"):
        list(read_pairs(write(tmp_path / "a.txt", "a b\n\n"), write(tmp_path / "b.txt", "a b\nc d\n")))


def test_a_column_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id,gt,mine,theirs\n1,a b,a c,x y\n2,b c,b d,y z\n")
    with pytest.raises(DataError, match=r"t\.csv: has no column nope; its columns are: id, gt, mine, theirs$"):
        list(read_pairs(path, path, prediction=["mine", "theirs", "nope"]))
    with pytest.raises(DataError, match=r"res\.json: has no column nope; its columns are: study_id, res$"):
        list(read_pairs(path, write(tmp_path / "res.json", {"1": "A", "2": "B"}), prediction=["nope"]))


@pytest.mark.parametrize("names", ["prediction_raw,prediction", "finding_pred,impression_pred"])
def test_columns_that_are_not_scored_are_named(tmp_path: Path, names: str) -> None:
    other, taken = names.split(",")
    path = write(tmp_path / "t.csv", f"id,gt,{names}\n1,a b,a c,x y\n2,b c,b d,y z\n")
    with pytest.warns(ResultsWarning, match=f"texts are those of {taken}; {other} not evaluated"):
        list(read_pairs(path, path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one file nothing is left that is the other side
        list(read_pairs(path, path, reference=other, prediction=[taken]))
