"""References and hypotheses of two files stand side by side by their ids."""

import json
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
