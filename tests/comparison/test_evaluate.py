"""Systems and baselines in one table, on the same studies."""

import csv
import json
import shutil
import warnings
from pathlib import PurePath

import numpy as np
import pytest

from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.comparison.evaluate import evaluate, measure, read_systems
from xray_captioning.comparison.texts import runs_of
from xray_captioning.data.provenance import warn_of_unknown
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, SplitWarning
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.evaluation.claims import CollapseWarning
from xray_captioning.evaluation.table import SHOWN
from xray_captioning.findings import FINDINGS

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def studies(phantoms):
    return read_studies(phantoms)


@pytest.fixture(scope="module")
def split(tiny_run):
    return Split.from_json(tiny_run / "split.json")


@pytest.fixture(scope="module")
def results(studies, split, tiny_run, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    captioner = Captioner.load(tiny_run)
    texts = {"parrot": dict.fromkeys(studies["study_id"], "normal chest .")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        rows = evaluate(studies, texts | {"tiny": captioner}, out, cache=tiny_cache)
    return out, rows


def test_every_system_and_baseline_is_a_row(results, split, tiny_run):
    out, rows = results
    assert [(row["system"], row["search"]) for row in rows] == [
        ("parrot", None),
        ("tiny", "greedy"),
        ("tiny", "beam-3"),
        ("constant", None),
        ("constant-BLEU-1", None),
        ("constant-BLEU-2", None),
        ("constant-BLEU-3", None),
        ("constant-ROUGE-L", None),
        ("constant-CIDEr", None),
        ("constant-clinical_f1", None),
        ("most-frequent", None),
        ("random", None),
        ("retrieval", None),
        ("label-oracle", None),
        ("parrot shuffled", None),
        ("tiny shuffled", "greedy"),
        ("tiny shuffled", "beam-3"),
    ]
    assert all(row["n"] == len(split.test) for row in rows)
    names = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "clinical_f1", "distinct"}
    names |= {"sides", "copied", "top_share", "entropy", "abnormal_recall", "micro_f1", "ROUGE-1"}
    assert all(names <= set(row) for row in rows)
    assert next(row for row in rows if row["system"] == "constant")["distinct"] == 1
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["rows"] == rows
    assert stored["bundles"] == {"tiny": {"name": tiny_run.name, "version": "1", "digest": "", "origin": ""}}
    assert set(stored["intervals"]["tiny beam-3"]) >= {"BLEU-4", "clinical_f1", "sides"}


def test_a_system_that_does_not_look_is_warned_of(results, studies, split, tmp_path):
    stored = json.loads((results[0] / "metrics.json").read_text())
    assert "parrot" in [alarm["system"] for alarm in stored["alarms"]]
    texts = {"parrot": dict.fromkeys(studies["study_id"], "normal chest .")}
    with pytest.warns(CollapseWarning, match="parrot looks collapsed"):
        rows = evaluate(studies, texts, tmp_path, split=split, quick=True)
    assert [row["system"] for row in rows] == ["parrot", "constant", "constant-clinical_f1", "random"]
    quick = json.loads((tmp_path / "metrics.json").read_text())
    # The small table has the same rivals and the same tests as the large one.
    assert quick["shuffle_tests"]["parrot"] == stored["shuffle_tests"]["parrot"]
    rivals = [[c["rival"] for alarm in found["alarms"] for c in alarm["comparisons"]][:1] for found in (quick, stored)]
    assert rivals == [["constant-clinical_f1"]] * 2
    assert list(rows[0]) == list(SHOWN)


def test_clinical_figures_are_of_the_convention_asked_for(studies, split, tmp_path):
    texts = {"hedged": dict.fromkeys(studies["study_id"], "possible left effusion .")}
    found = {}
    for name in ("chexpert", "mesh"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            rows = evaluate(studies, texts, tmp_path, split=split, quick=True, convention=name)
        assert json.loads((tmp_path / "metrics.json").read_text())["convention"] == name
        found[name] = rows[0]
    assert found["mesh"]["clinical_f1"] == 0 < found["chexpert"]["clinical_f1"]
    assert found["mesh"]["BLEU-4"] == found["chexpert"]["BLEU-4"]
    with pytest.raises(ConfigError, match="there is no convention 'nih'"):
        evaluate(studies, texts, tmp_path, split=split, convention="nih")


def test_captions_are_written_a_row_a_study(results, split):
    with open(results[0] / "captions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["study_id"] for row in rows) == sorted(split.test)
    assert set(rows[0]) >= {"reference", "parrot", "tiny greedy", "tiny beam-3", "constant"}
    assert (results[0] / "panel.png").read_bytes().startswith(b"\x89PNG")


def test_bundles_of_several_seeds_are_one_system(studies, tiny_run, tiny_cache, tmp_path):
    captioner = Captioner.load(tiny_run)
    systems = {"mine": [captioner, tiny_run, str(tiny_run)], "other": tiny_run}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        rows = evaluate(studies, systems, tmp_path, beams=[1], cache=tiny_cache, quick=True)
    assert [row["system"] for row in rows][:2] == ["mine", "other"]
    assert rows[0] | {"system": ""} == pytest.approx(rows[1] | {"system": ""})
    assert [row["system"] for row in rows][-2:] == ["retrieval mine", "retrieval other"]
    with open(tmp_path / "captions.csv", newline="") as file:
        header = next(csv.reader(file))
    assert header[2:6] == [*(f"mine greedy run {n}" for n in (1, 2, 3)), "other greedy"]


def test_a_system_called_like_another_ones_run_is_refused(studies, tiny_run, tmp_path):
    """What a run was trained on is known by its name; one record would hide the other."""
    systems = {"a": [tiny_run, tiny_run], "a run 1": tiny_run}
    with pytest.raises(DataError, match="two systems are called a run 1"):
        evaluate(studies, systems, tmp_path)


def test_a_list_of_folders_is_runs_and_a_list_of_texts_is_not(tmp_path):
    texts = ["no folder of this name", "x" * 5000, ""]
    assert runs_of("a", texts) == [texts]
    assert runs_of("a", [str(tmp_path), tmp_path]) == [str(tmp_path), tmp_path]
    assert runs_of("a", [texts, texts]) == [texts, texts]
    assert runs_of("a", ["hf://me/one", str(tmp_path)]) == ["hf://me/one", str(tmp_path)]
    assert runs_of("a", {"1": "text"}) == [{"1": "text"}]
    with pytest.raises(DataError, match="gone' is no folder, but other runs in its list are"):
        runs_of("a", [str(tmp_path), "gone"])
    with pytest.raises(DataError, match="mixes texts and bundles"):
        runs_of("a", [tmp_path, texts])


def test_a_name_before_folders_makes_them_one_system(tiny_run, tmp_path):
    given = read_systems([f"mine={tiny_run},{tiny_run}", tiny_run], [])
    assert given == {"mine": [tiny_run, tiny_run], tiny_run.name: tiny_run}
    odd = shutil.copytree(tiny_run, tmp_path / "a=b")
    assert read_systems([odd], []) == {tiny_run.name: odd}  # a copy keeps its name


def test_a_name_before_files_of_captions_makes_them_one_system(studies, split, tmp_path):
    names = []
    for number, said in enumerate(("normal chest .", "edema .")):
        names.append(str(tmp_path / f"run{number}.csv"))
        lines = ["study_id,prediction", *(f"{study},{said}" for study in studies["study_id"])]
        (tmp_path / f"run{number}.csv").write_text("\n".join(lines))
    given = read_systems([f"mine={','.join(names)}"], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        rows = evaluate(studies, given, tmp_path / "out", split=split, quick=True)
    assert rows[0]["system"] == "mine"
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    scores = [run["BLEU-1"] for run in stored["runs"]["mine"]]
    assert rows[0]["BLEU-1"] == pytest.approx(np.mean(scores))
    assert stored["spread"]["mine"]["BLEU-1"] == pytest.approx(np.std(scores, ddof=1))
    with pytest.raises(BundleError, match="nowhere: no such bundle"):
        read_systems([f"mine={names[0]},{tmp_path / 'nowhere'}"], [])


@pytest.mark.parametrize("figures", ["pdf", ["gif"], []])
def test_figures_have_formats_that_there_are(studies, tmp_path, figures):
    with pytest.raises(ConfigError, match=r"figures .*: give a list of png, pdf, svg"):
        evaluate(studies, {}, tmp_path, figures=figures)


def test_other_systems_are_measured_without_images(studies, split, tmp_path):
    (regions := tmp_path / "captions.regions.json").write_text("{}")  # of other captions
    studies = studies.assign(images=[[] for _ in range(len(studies))])
    texts = {"echo": dict(zip(studies["study_id"], studies["impression"]))}
    for name in ("panel.png", "panel.svg", "page-scores.png", "page-untruncated.csv", "mine.png"):
        (tmp_path / name).write_text("of before")
    rows = evaluate(studies, texts, tmp_path, split=split, report=tmp_path / "page.html", figures=["svg"])
    assert {path.name for path in tmp_path.glob("*.png")} == {"mine.png"}
    assert {path.name for path in tmp_path.glob("*.svg")} == {"page-scores.svg"}
    assert not (tmp_path / "page-untruncated.csv").exists()
    assert rows[0]["BLEU-4"] == pytest.approx(1, abs=1e-6)
    assert rows[0]["clinical_f1"] == 1
    assert [row["system"] for row in rows][:2] == ["echo", "constant"]
    assert "retrieval" not in [row["system"] for row in rows]
    assert not regions.exists()  # review export would draw them into its sheets


def test_a_missing_text_and_another_section_are_refused(studies, split, tiny_run, tmp_path):
    with pytest.raises(DataError, match="system echo has no text for study"):
        evaluate(studies, {"echo": {}}, tmp_path, split=split)
    changes = {"text.section": "findings"}
    with pytest.raises(ConfigError, match="writes the impression"):
        evaluate(studies, {"tiny": tiny_run}, tmp_path, changes=changes)


@pytest.mark.parametrize("wrong", [{"protocol": "coco"}, {"part": "all"}, {"beams": []}])
def test_settings_that_do_not_exist_are_refused(studies, tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"'coco' is unknown|'all' is unknown|no beam size"):
        evaluate(studies, {}, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", [{"beams": 3}, {"beams": "13"}, {"cache": 3}, {"out": 3}, {"out": None}, {"report": 3}]
)
def test_wrong_types_are_one_clear_error(studies, tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name} "):
        evaluate(studies, {}, **{"out": tmp_path / "out", **wrong})


def test_testing_on_training_studies_is_refused(phantoms, tiny_run, tmp_path, capsys):
    from xray_captioning.cli import main

    values = json.loads((tiny_run / "split.json").read_text())
    swapped = Split(tuple(values["test"]), tuple(values["val"]), tuple(values["train"]))
    swapped.to_json(tmp_path / "split.json")
    bundle = shutil.copytree(tiny_run, tmp_path / "bundle")
    status = main(
        [
            *("evaluate", "--data", str(phantoms), "--bundle", str(bundle)),
            *("--out", str(tmp_path / "out"), "--split", str(tmp_path / "split.json")),
        ]
    )
    assert status == 2
    assert "was trained on" in capsys.readouterr().err


def test_texts_may_stand_in_the_order_of_the_studies(studies, split, tmp_path):
    chosen = studies[studies["study_id"].isin(split.test)]
    texts = {"named": dict(zip(chosen["study_id"], chosen["impression"]))}
    texts["listed"] = list(chosen["impression"])
    rows = evaluate(studies, texts, tmp_path, split=split, quick=True)
    assert rows[0] | {"system": ""} == rows[1] | {"system": ""}
    with pytest.raises(DataError, match="listed has 1 texts without a study_id"):
        evaluate(studies, {"listed": ["a"]}, tmp_path, split=split)


@pytest.mark.parametrize("given", [3, None, object()])
def test_what_is_no_system_is_named(studies, given, tmp_path):
    with pytest.raises(DataError, match=f"system a: expected .* got {type(given).__name__}"):
        evaluate(studies, {"a": given}, tmp_path)
    with pytest.raises(DataError, match="expected systems by name, got"):
        evaluate(studies, given, tmp_path)


def test_texts_may_be_files(tmp_path, annotated):
    (tmp_path / "a.csv").write_text("id,pred,output\n2,x y,edema .\n3,x y,effusion .\n")
    (tmp_path / "b.json").write_text(json.dumps({"s3": "effusion .", "s2": "edema ."}))
    systems = {"a": tmp_path / "a.csv", "b": [str(tmp_path / "b.json")] * 2}
    with pytest.raises(DataError, match="each of pred, output may be what the system wrote"):
        evaluate(annotated, systems, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = evaluate(annotated, systems, tmp_path / "out", prediction="output")
    assert [row["system"] for row in rows][:2] == ["a", "b"]
    assert rows[0]["BLEU-1"] == rows[1]["BLEU-1"] == pytest.approx(1.0)
    for given in (set("ab"), {"s2": "x"}.values(), 3):
        with pytest.raises(DataError, match="a file of texts or texts"):
            evaluate(annotated, {"x": given}, tmp_path / "out")
    (tmp_path / "c.csv").write_text("id,c,d\n2,x y,x y\n3,x y,x y\n")
    with pytest.raises(DataError, match=r"c\.csv holds 2 systems \(c, d\); name the column"):
        evaluate(annotated, {"c": tmp_path / "c.csv"}, tmp_path / "out")
    with pytest.raises(DataError, match="no text for study s3"):
        evaluate(annotated, {"c": {"s2": "x"}}, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [row, *_] = evaluate(annotated, {"c": {"s2": "x"}}, tmp_path / "out", only_common=True)
    assert (row["n"], row["left_out"]) == (1, 1)


@pytest.fixture
def annotated(tmp_path):
    reports = {"s0": "no acute disease .", "s1": "edema .", "s2": "edema .", "s3": "effusion ."}
    entries = [{"id": i, "report": r, "image_path": [f"{i}/0.png"]} for i, r in reports.items()]
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps({"train": entries[:2], "val": [], "test": entries[2:]}))
    return path


def test_a_captioner_of_unknown_training_is_warned_of(studies, split, tiny_run, tmp_path):
    loaded = Captioner.load(tiny_run)
    config = loaded.model.get_config() | {"trained_on": None}  # a .keras file of before
    network = type(loaded.model).from_config(config)
    encoder = type(loaded.encoder).from_config(loaded.encoder.get_config() | {"trained_on": None})
    unknown = Captioner(loaded.config, encoder, network, loaded.tokenizer)
    few = studies[studies["study_id"].isin([*split.train[:2], *split.test[:2]])]
    parts = Split(split.train[:2], (), split.test[:2])
    with pytest.warns(SplitWarning, match="mine: nothing is known of the studies") as caught:
        evaluate(few, {"mine": unknown}, tmp_path, split=parts, beams=[1], quick=True)
    assert sum(issubclass(one.category, SplitWarning) for one in caught) == 1
    unknown.trained_on = loaded.trained_on
    with warnings.catch_warnings():
        warnings.simplefilter("error", SplitWarning)
        warn_of_unknown({"mine": unknown.trained_on})


def test_where_a_captioner_looks_is_measured_where_outlines_are_known(studies, split, tiny_run, tiny_cache, tmp_path):
    """And kept in its bundle, whose card says it."""
    polygon = [[0, 0], [0.9, 0], [0.9, 0.9], [0, 0.9]]
    rows = [
        {"study": study, "finding": finding, "side": "", "image": PurePath(image).name, "polygon": polygon}
        for study, images in zip(studies["study_id"], studies["images"])
        for image in images
        for finding in FINDINGS
    ]
    (file := tmp_path / "regions.json").write_text(json.dumps(rows))
    captioner = Captioner.load(tiny_run)
    said = ["left", "effusion", "."]
    attention = np.full((3, 2, 4, 4), 1 / 32, "float32")
    caption = Caption("", said, -1.0, [], attention, [])
    captioner.write_captions = lambda features, beam, total=None, context=None: [caption] * len(features.mask)
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        measure(captioner, studies.pipe(_with, str(file)), out, tiny_cache)
    found = json.loads((out / "metrics.json").read_text())["pointing_game"]
    kinds = [(row["system"], row["method"], row["words"], row["finding"]) for row in found["rows"]]
    assert ("captioner", "attention", "finding", "all") in kinds
    attended = next(row for row in found["rows"] if row["method"] == "attention" and row["finding"] == "all")
    assert (attended["n"], attended["hits"], attended["chance"]) == (len(split.test), 1.0, 1.0)
    assert [row["gone"] for row in found["painted"]] == [0.0, 0.0]  # nothing is left to paint elsewhere
    kept = Captioner.load(out)
    assert kept.about["pointing_game"]["rows"] == found["rows"]
    assert kept.offset == captioner.offset
    assert "| attention | finding | all |" in (out / "README.md").read_text()
    assert json.loads((out / "captions.regions.json").read_text()) == {}  # they were not measured before
    file.write_text("[1]")
    with pytest.raises(DataError, match="give rows of study, finding, side"):
        evaluate(studies, {"tiny": tiny_run}, tmp_path, regions=file)


def _with(studies, file):
    """Return studies that were read beside a file of outlines."""
    found = studies.copy()
    found.attrs["regions.json"] = file
    return found


def test_a_column_that_no_file_has_is_refused(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / f"{name}.csv").write_text(f"study_id,{name}\n1,a b\n2,c d\n")
    files = [tmp_path / "mine.csv", tmp_path / "theirs.csv"]
    assert list(read_systems([], files, ["mine", "theirs"])) == ["mine", "theirs"]  # each in one of them
    wrong = r"mine\.csv and .*theirs\.csv: has no column nope; its columns are: study_id, mine, theirs$"
    with pytest.raises(DataError, match=wrong):
        read_systems([], files, ["mine", "nope", "theirs"])
    with pytest.raises(DataError, match=r"mine\.csv: has no column nope"):
        read_systems([f"run={files[0]},{files[0]}"], [], ["mine", "nope"])
