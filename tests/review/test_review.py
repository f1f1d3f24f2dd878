"""Reading studies: sheets do not reveal which system wrote a text, and the numbers are right."""

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.cli import main
from xray_captioning.data.images import read_image
from xray_captioning.errors import ConfigError, DataError, ImageError
from xray_captioning.plots import data_uri
from xray_captioning.review.study import (
    CRITERIA,
    FORMULA,
    Key,
    export_study,
    guarded,
    read_answers,
    read_boxes,
    unguarded,
)
from xray_captioning.review.summary import format_summary, mean_interval, sign_test, summarise, weighted_kappa

SYSTEMS = ("alphabot greedy", "betabot")
STUDIES = 12
VIEWS = (("front", "frontal"), ("side", "lateral"))
HOSTILE = [
    "</script><script>alert(1)</script>",
    '<!-- <script> & \u2028 it\'s "quoted"',
    "=1+1",
    "@sum , and a comma",
    "",
    "{{sheet}}",
]


def write_captions(path: Path, seed: int = 0, other: str = "x") -> Path:
    rows = [
        (
            f"study{i}",
            f"reference {i}",
            (HOSTILE[i] if i < len(HOSTILE) else f"large effusion {i}"),
            f"no  effusion\n{i}" if i else "=1+1",
            other,
        )
        for i in range(STUDIES)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study_id", "reference", *SYSTEMS, "unused"), *rows])
    return path


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    return write_captions(tmp_path / "captions.csv")


def page_values(path: Path) -> dict[str, Any]:
    found = re.search(r'type="application/json">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert found
    return json.loads(found[1])


def sheet_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def answer(study: Path, out: Path, rate: Callable[[str, str, str], object]) -> list[Path]:
    """Fill in each reader's sheet; `rate` is told reader, study and system."""
    key = Key.from_json(study / "key.json")
    paths = []
    for sheet in key.sheets:
        rows = sheet_rows(study / sheet.reader / "sheet.csv")
        for row in rows:
            case = sheet.cases[int(row["case"]) - 1]
            value = rate(sheet.reader, case.study, case.texts[int(row["text"]) - 1])
            row.update(dict.fromkeys(CRITERIA, str(value)))
        paths.append(write_answers(out / f"{sheet.reader}.csv", rows))
    return paths


def write_answers(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_readers_folder_names_no_system(captions: Path, tmp_path: Path) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out", repeats=3)
    for reader in ("reader-1", "reader-2"):
        files = contents(tmp_path / "out" / reader)
        assert set(files) == {"sheet.html", "sheet.csv"}
        for data in files.values():
            text = data.decode("utf-8")
            assert not re.search("alphabot|betabot|reference [0-9]|captions.csv|unused", text)
        values = page_values(tmp_path / "out" / reader / "sheet.html")
        assert set(values) == {"sheet", "columns", "criteria", "formula", "cases"}
        for case in values["cases"]:
            assert set(case) == {"study", "pictures", "texts"}


def test_a_sheet_depends_on_the_texts_it_shows_only(captions: Path, tmp_path: Path) -> None:
    # The same draw with the systems' roles exchanged: but for the texts, nothing changes.
    export_study(captions, SYSTEMS, tmp_path / "one")
    export_study(captions, SYSTEMS[::-1], tmp_path / "other")
    for reader in ("reader-1", "reader-2"):
        pages = [tmp_path / out / reader / "sheet.html" for out in ("one", "other")]
        cases = [page_values(page)["cases"] for page in pages]
        assert [c["texts"] for c in cases[0]] == [c["texts"][::-1] for c in cases[1]]
        bare = []
        for page in pages:
            text = page.read_text("utf-8").replace(page_values(page)["sheet"], "")
            bare.append(re.sub(r'"texts": \[.*?\]\}', "", text))
        assert bare[0] == bare[1]


def test_the_order_is_drawn_anew_for_each_reader_and_balanced(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out", readers=3)
    for sheet in key.sheets:
        assert sorted(case.study for case in sheet.cases) == key.studies
        assert sum(case.texts == SYSTEMS for case in sheet.cases) == STUDIES / 2
    drawn = [[(case.study, case.texts) for case in sheet.cases] for sheet in key.sheets]
    assert drawn[0] != drawn[1] != drawn[2]


def test_the_same_seed_and_file_give_the_same_bytes(captions: Path, tmp_path: Path) -> None:
    for out, seed in (("one", 0), ("two", 0), ("three", 1)):
        export_study(captions, SYSTEMS, tmp_path / out, seed=seed, studies=5)
    one, two, three = (contents(tmp_path / out) for out in ("one", "two", "three"))
    assert one == two
    assert one.keys() == three.keys()
    assert one["reader-1/sheet.csv"] != three["reader-1/sheet.csv"]


def test_the_order_cannot_be_drawn_without_the_captions(captions: Path, tmp_path: Path) -> None:
    one = export_study(captions, SYSTEMS, tmp_path / "one")
    changed = write_captions(tmp_path / "changed.csv", other="y")  # of a third system
    other = export_study(changed, SYSTEMS, tmp_path / "other")
    assert [sheet.cases for sheet in one.sheets] != [sheet.cases for sheet in other.sheets]


def test_hostile_texts_stay_texts(captions: Path, tmp_path: Path) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out")
    page = tmp_path / "out" / "reader-1" / "sheet.html"
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page.read_text("utf-8"))
    assert tags.count("script") == 2
    shown = {text for case in page_values(page)["cases"] for text in case["texts"]}
    assert {" ".join(text.split()) for text in HOSTILE} <= shown
    assert "\u2028" not in page.read_text("utf-8")


def test_no_cell_is_a_formula(captions: Path, tmp_path: Path) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out")
    rows = sheet_rows(tmp_path / "out" / "reader-1" / "sheet.csv")
    assert len(rows) == 2 * STUDIES
    assert not any(value[:1] in tuple(FORMULA) for row in rows for value in row.values() if value)
    assert "'=1+1" in {row["report"] for row in rows}


@given(st.text())
def test_guarding_can_be_undone(text: str) -> None:
    assert guarded(text)[:1] not in tuple(FORMULA)
    if guarded(text) != text:
        assert unguarded(guarded(text)) == text


def test_the_key_tells_what_was_written(captions: Path, tmp_path: Path) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out", repeats=2)
    key = Key.from_json(tmp_path / "out" / "key.json")
    assert key.identical == 0
    texts = {row["study_id"]: row for row in sheet_rows(captions)}
    for sheet in key.sheets:
        folder = tmp_path / "out" / sheet.reader
        for name, digest in sheet.sha256.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for case, shown in zip(sheet.cases, page_values(folder / "sheet.html")["cases"]):
            assert shown["study"] == case.study  # without images, to look it up
            wrote = [" ".join(texts[case.study][system].split()) for system in case.texts]
            assert shown["texts"] == wrote
        assert [case.repeat for case in sheet.cases] == [False] * STUDIES + [True] * 2
        assert {c.study for c in sheet.cases[-2:]} == {c.study for c in sheet.cases[:2]}


def test_images_are_embedded_in_their_proportions(tmp_path: Path) -> None:
    import cv2

    ramp = np.tile(np.linspace(0, 255, 1000).astype(np.uint8)[:, None], (1, 600))
    cv2.imwrite(str(tmp_path / "tall.png"), ramp)
    cv2.imwrite(str(tmp_path / "small.png"), ramp[:50, :80])
    colours = np.full((20, 20, 3), (200, 100, 0), np.uint8)
    colours[10:] //= 2
    cv2.imwrite(str(tmp_path / "colour.png"), colours)
    tall, small, colour = (
        decode(data_uri(read_image(str(tmp_path / f"{name}.png"), 768, "shrink")))
        for name in ("tall", "small", "colour")
    )
    assert tall.shape == (768, 461)
    assert tall[0].max() < 3
    assert tall[-1].min() > 252
    assert np.array_equal(small, ramp[:50, :80])
    assert np.array_equal(colour[0, 0], (200, 100, 0))


def decode(uri: str) -> Any:
    import cv2

    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_boxes_are_shown_where_both_systems_have_them(captions: Path, tmp_path: Path) -> None:
    """Those of one system alone would tell which texts are its own."""
    for name in ("front", "side"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.arange(100 * 50, dtype=np.uint8).reshape(50, 100))
    views = {f"study{i}": [(str(tmp_path / f"{n}.png"), v) for n, v in VIEWS] for i in range(STUDIES)}
    lung = {"image": "side.png", "finding": "Edema", "box": [0, 0.5, 0.5, 1], "method": "attention"}
    other = {**lung, "image": "elsewhere.png"}
    beside = captions.with_suffix(".regions.json")
    beside.write_text(json.dumps({SYSTEMS[0]: {"study3": [lung, other]}, SYSTEMS[1]: {}}), "utf-8")
    key = export_study(captions, SYSTEMS, tmp_path / "both", views, readers=1)
    cases = page_values(tmp_path / "both" / "reader-1" / "sheet.html")["cases"]
    for case, shown in zip(key.sheets[0].cases, cases, strict=True):
        own = [(SYSTEMS[0], "study3") == (system, case.study) for system in case.texts]
        assert shown["regions"] == [[[1, "Edema", [0, 0.5, 0.5, 1]]] * is_own for is_own in own]
    assert not re.search("side.png|attention|study[0-9]", (tmp_path / "both/reader-1/sheet.html").read_text("utf-8"))
    beside.write_text(json.dumps({SYSTEMS[0]: {"s03": [lung, other]}, SYSTEMS[1]: {}}), "utf-8")  # as captions may be
    views = {name.removeprefix("study"): found for name, found in views.items()}
    boxes = read_boxes(captions, SYSTEMS, views)
    assert {key: found for key, found in boxes.items() if found} == {
        (SYSTEMS[0], "3"): [[1, "Edema", (0, 0.5, 0.5, 1)]]
    }
    beside.write_text(json.dumps({SYSTEMS[0]: {"study3": [lung]}}), "utf-8")
    export_study(captions, SYSTEMS, tmp_path / "one", views, readers=1)
    cases = page_values(tmp_path / "one" / "reader-1" / "sheet.html")["cases"]
    assert not any("regions" in case for case in cases)
    beside.write_text('{"alphabot greedy": [1]}', "utf-8")
    with pytest.raises(DataError, match=r"captions\.regions\.json: .*let evaluate write it again"):
        export_study(captions, SYSTEMS, tmp_path / "bad", views)
    assert not (tmp_path / "bad").exists()


def test_a_sheet_with_images_hides_the_study(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "captions.csv"
    rows = [(f"9000{i:02d}", f"a {i}", f"b {i}") for i in range(1, 6)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study_id", "reference", "b"), *rows, ("elsewhere", "", "")])
    line = ["review", "export", "--captions", path, "--systems", "reference", "b"]
    line += ["--data", phantoms, "--out", tmp_path / "out", "--readers", "1"]
    assert main([str(word) for word in line]) == 0
    assert "5 studies (50 were asked for)" in capsys.readouterr().out
    page = tmp_path / "out" / "reader-1" / "sheet.html"
    assert not re.search("9000[0-9]{2}", page.read_text("utf-8"))
    for case in page_values(page)["cases"]:
        assert case["pictures"][0]["view"] == "frontal"
        assert decode(case["pictures"][0]["uri"]).shape == (96, 96)
    assert not any(row["study"] for row in sheet_rows(page.with_suffix(".csv")))


def test_written_whole_or_not_at_all(captions: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"broken\.png"):
        export_study(captions, SYSTEMS, tmp_path / "a" / "b", {"study1": [(str(broken), "frontal")]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "captions.csv"]
    (tmp_path / "empty").mkdir()
    export_study(captions, SYSTEMS, tmp_path / "empty")
    before = contents(tmp_path)
    with pytest.raises(DataError, match="not an empty folder"):
        export_study(captions, SYSTEMS, tmp_path / "empty")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("systems", "options", "words"),
    [
        (("betabot", "betabot"), {}, "betabot cannot be compared with itself"),
        (("betabot", "gamma"), {}, "captions.csv: has no column gamma; its columns are: study_id, ref"),
        (SYSTEMS, {"repeats": 13}, "13 repeats of 12 studies"),
        (SYSTEMS, {"views": {}}, "captions.csv: no study there has an image"),
    ],
)
def test_what_cannot_be_exported(
    systems: tuple[str, str], options: dict[str, Any], words: str, captions: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        export_study(captions, systems, tmp_path / "out", **options)


def test_files_of_other_systems_are_read(tmp_path: Path, phantoms: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    ids = [f"CXR{900001 + number}" for number in range(3)]
    rows = [{"id": i, "reference": f"r {i}", "prediction": f"p {i}"} for i in ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    image = sorted(str(found) for found in phantoms.glob("images/*/*.png"))[0]
    views = {i.removeprefix("CXR"): [(image, "frontal")] for i in ids[:2]}
    key = export_study(path, ("reference", "prediction"), tmp_path / "out", views, readers=1)
    assert key.studies == sorted(views)
    systems = {"a": {"1": "x y"}, "b": {"2": "x y"}}
    (tmp_path / "t.json").write_text(json.dumps(systems))
    with pytest.raises(DataError, match="2 studies have a text of one system only, such as 1"):
        export_study(tmp_path / "t.json", ("a", "b"), tmp_path / "other")
    (tmp_path / "t.json").write_text(json.dumps({"a": ["x"], "b": ["y"], "pred": ["z"]}))
    with pytest.raises(DataError, match="names no study; give a column study_id"):
        export_study(tmp_path / "t.json", ("a", "b"), tmp_path / "other")


def test_a_study_with_two_rows(captions: Path, tmp_path: Path) -> None:
    captions.write_text("study_id,a,b\n1,x,y\n1,x,y\n", "utf-8")
    with pytest.raises(DataError, match=r"captions\.csv: system a names a study twice, .* as study_id 1"):
        export_study(captions, ("a", "b"), tmp_path / "out")


def test_a_preferred_system_is_found(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")

    def rate(reader: str, study: str, system: str) -> int:
        return 4 if system == SYSTEMS[0] else 2 + (study in ("study1", "study2")) * 2

    found = summarise(key, read_answers(key, answer(tmp_path / "out", tmp_path, rate)))
    means = {(r["system"], r["criterion"]): r for r in found["means"]}
    fluency = means[SYSTEMS[0], "fluency"]
    assert (fluency["mean"], fluency["low"], fluency["high"], fluency["n"]) == (4, None, None, 24)
    other = means[SYSTEMS[1], "correctness"]
    assert other["mean"] == pytest.approx((10 * 2 + 2 * 4) / 12)
    assert other["low"] < other["mean"] < other["high"]
    assert found["differences"][0]["mean"] == pytest.approx(4 - other["mean"])
    total = found["preferences"][-1]
    assert (total["criterion"], total["above"], total["below"], total["ties"]) == ("total", 20, 0, 4)
    assert total["studies"] == {"above": 10, "below": 0, "ties": 2}
    assert total["p"] == pytest.approx(2 / 2**10)  # ten studies, not twenty readings
    assert total["p_holm"] == pytest.approx(4 * 2 / 2**10)  # the smallest of four
    assert [row["kappa"] for row in found["agreement"]] == [1.0, 1.0, 1.0]
    assert found["agreement"][0]["readers"] == ["reader-1", "reader-2"]
    found["agreement"][0]["readers"] = ["R", "r"]  # as somebody called them in the key
    assert "R and r " in format_summary(found)
    assert [row["given"] for row in found["readers"]] == [72, 72]


def test_intervals_are_over_studies(captions: Path, tmp_path: Path) -> None:
    """Two ratings of a study are alike: twelve studies, not twenty-four ratings, say how sure."""
    key = export_study(captions, SYSTEMS, tmp_path / "out")
    values = {f"study{s}": 1 + s % 5 for s in range(STUDIES)}
    paths = answer(tmp_path / "out", tmp_path, lambda _, study, __: values[study])
    found = summarise(key, read_answers(key, paths))["means"][0]
    low, high = mean_interval(np.array([[values[s] for s in key.studies]], float), (1, 5))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))


def test_missing_answers_are_counted_and_left_out(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")

    def rate(reader: str, study: str, system: str) -> object:
        missing = reader == "reader-2" and (study == "study3" or system == SYSTEMS[1])
        return "" if missing else 3

    paths = answer(tmp_path / "out", tmp_path, rate)
    rows = sheet_rows(paths[0])
    write_answers(paths[0], rows[4:])  # some rows are not there at all
    found = summarise(key, read_answers(key, paths))
    assert found["readers"][0]["missing"] == dict.fromkeys(CRITERIA, 4)
    assert found["readers"][1]["missing"] == dict.fromkeys(CRITERIA, 13)
    assert found["preferences"][0]["ties"] == STUDIES - 2
    assert found["preferences"][0]["p"] is None
    assert found["agreement"][0]["kappa"] is None  # all the same number
    assert found["agreement"][0]["same"] == 1
    json.dumps(found, allow_nan=False)


def test_one_reader_has_nobody_to_agree_with(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")
    path = answer(tmp_path / "out", tmp_path, lambda *_: 5)[1]
    found = summarise(key, read_answers(key, [path]))
    assert found["agreement"] == []
    assert "at least two readers" in format_summary(found)
    assert "at least two readers" in format_summary(found, markdown=True)


def test_repeats_tell_how_steady_a_reader_is(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out", readers=1, repeats=5)
    [sheet] = key.sheets
    rows = sheet_rows(tmp_path / "out" / "reader-1" / "sheet.csv")
    for row in rows:
        case = sheet.cases[int(row["case"]) - 1]
        given = 1 + int(case.study.removeprefix("study")) % 5
        second = (given % 5) + 1
        row.update({"correctness": str(given), "fluency": str(second if case.repeat else given)})
    path = write_answers(tmp_path / "answers.csv", rows)
    found = summarise(key, read_answers(key, [path]))
    correctness, completeness, fluency = found["repeats"]
    assert (correctness["same"], correctness["n"]) == (1, 10)
    assert (completeness["kappa"], completeness["n"]) == (None, 0)
    assert fluency["same"] == 0
    assert found["means"][0]["n"] == STUDIES  # second readings change no mean


def _edit(column: str, value: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    def edit(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        rows[2][column] = value
        return rows

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_edit("sheet", "reader-1-0123456789ab"), "row 4: sheet 'reader-1-0123456789ab' is not of"),
        (_edit("case", "13"), "row 4: case '13' is not on sheet"),
        (_edit("case", "0"), "row 4: case '0'"),
        (_edit("case", "x"), "row 4: case 'x'"),
        (_edit("text", "3"), "row 4: text is '3'"),
        (_edit("fluency", "6"), "row 4: fluency is '6'; give a whole number from 1 to 5"),
        (_edit("fluency", "0"), "row 4: fluency is '0'"),
        (_edit("correctness", "3.5"), "row 4: correctness is '3.5'"),
        (_edit("correctness", "good"), "row 4: correctness is 'good'"),
        (_edit("correctness", "nan"), "row 4: correctness is 'nan'"),
        (_edit("correctness", "1e400"), "row 4: correctness is '1e400'"),
        (lambda rows: [*rows, rows[0]], r"row 26: case 1, text 1 of reader-1 was .*csv, row 2"),
        (lambda rows: [{k: v for k, v in r.items() if k != "note"} for r in rows], "lacks .* note"),
    ],
)
def test_answers_that_cannot_be(
    edit: Callable[[list[dict[str, str]]], list[dict[str, str]]],
    words: str,
    captions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out")
    path = answer(tmp_path / "out", tmp_path, lambda *_: 3)[0]
    write_answers(path, edit(sheet_rows(path)))
    line = ["review", "summarise", "--key", tmp_path / "out" / "key.json", path]
    assert main([*map(str, line), "--out", str(tmp_path / "summary")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "reader-1.csv" in error
    assert re.search(words, error)
    assert not (tmp_path / "summary").exists()


def test_numbers_and_rows_as_other_programs_write_them(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")
    path = answer(tmp_path / "out", tmp_path, lambda *_: " 4.0")[0]
    path.write_text("\ufeff" + path.read_text("utf-8") + ",,,,,,,,\n", "utf-8")
    assert {v for rating in read_answers(key, [path]) for v in rating.values} == {4.0}


def test_the_same_answers_twice_are_refused(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")
    path = tmp_path / "out" / "reader-1" / "sheet.csv"
    with pytest.raises(DataError, match="keep one answer"):
        read_answers(key, [path, path])


def test_an_unanswered_study(captions: Path, tmp_path: Path) -> None:
    key = export_study(captions, SYSTEMS, tmp_path / "out")
    with pytest.raises(DataError, match="no rating"):
        summarise(key, read_answers(key, [tmp_path / "out" / "reader-1" / "sheet.csv"]))


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"systems": ["a", "b"]}', "\xff"])
def test_what_is_no_key(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"key\.json: .*; give the key of a reading study"):
        Key.from_json(path)


def test_a_key_that_contradicts_itself(captions: Path, tmp_path: Path) -> None:
    export_study(captions, SYSTEMS, tmp_path / "out")
    path = tmp_path / "out" / "key.json"
    path.write_text(path.read_text("utf-8").replace('"study": "study7"', '"study": "7"'), "utf-8")
    with pytest.raises(DataError, match="does not fit"):
        Key.from_json(path)


ratings = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30)


@given(ratings)
def test_kappa_is_cohens(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, float).T
    observed = ((one - other) ** 2).mean()
    chance = ((one[:, None] - other) ** 2).mean()
    found = weighted_kappa(one, other)
    if found is None:
        assert chance == 0
    else:
        assert found == pytest.approx(1 - observed / chance)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_the_binomial_one(above: int, below: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    found = sign_test(above, below)
    if above + below:
        expected = scipy_stats.binomtest(above, above + below).pvalue
        assert found == pytest.approx(expected)
    else:
        assert found is None


def test_from_export_to_summary(captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The seed may stand before or after the name of the sub-command.
    common = ["--captions", captions, "--systems", *SYSTEMS]
    line = ["review", "--seed", 5, "export", *common, "--out", tmp_path / "out"]
    assert main([str(word) for word in line]) == 0
    line = ["review", "export", *common, "--out", tmp_path / "same", "--seed", 5]
    assert main([str(word) for word in line]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "same")
    paths = answer(tmp_path / "out", tmp_path, lambda reader, _, system: 3 + (system == "betabot"))
    rows = sheet_rows(paths[0])
    rows[0]["note"] = "'=wrong | side <img src=x>\x1b[2J\nsecond"
    write_answers(paths[0], rows)
    capsys.readouterr()
    line = ["review", "summarise", "--key", tmp_path / "out" / "key.json", *paths]
    assert main([str(word) for word in [*line, "--out", tmp_path / "found"]]) == 0
    output = capsys.readouterr().out
    assert "betabot          4.00 (-)" in output
    assert "=wrong | side <img src=x> [2J second" in output
    found = json.loads((tmp_path / "found" / "summary.json").read_text("utf-8"))
    assert found["preferences"][0]["below"] == 2 * STUDIES
    text = (tmp_path / "found" / "summary.md").read_text("utf-8")
    assert "=wrong \\| side &lt;img src=x>" in text
    assert text.startswith("# Reading study: alphabot greedy and betabot, 12 studies\n")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 10


def test_images_need_data(captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["review", "export", "--captions", captions, "--systems", *SYSTEMS]
    line += ["--out", tmp_path / "out", "--images", tmp_path]
    assert main([str(word) for word in line]) == 2
    assert "--data" in capsys.readouterr().err


def test_without_a_sub_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review"]) == 2
    assert capsys.readouterr().err.startswith("xray-captioning: Missing command")
