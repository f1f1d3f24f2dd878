"""The evaluate command: formats of captions, R2Gen's protocol, the alarm and the report."""

import csv
import json
from pathlib import Path

import pytest

from xray_captioning.cli import main
from xray_captioning.data.splits import Split

pytestmark = pytest.mark.usefixtures("eagerly")

# A training report of the published split, in the words of R2Gen's cleaning.
CONSTANT = (
    "the heart is normal in size . the mediastinum is unremarkable . the lungs are clear . there "
    "is no pleural effusion or pneumothorax . old rightsided rib deformities are noted ."
)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def rows_of(out: Path, key: str = "rows") -> dict[str, dict]:
    return {row["system"]: row for row in json.loads((out / "metrics.json").read_text())[key]}


@pytest.fixture(scope="module")
def annotation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small annotation.json of phantom findings, a third of each part."""
    import numpy as np

    from xray_captioning.phantom.studies import sample_study
    from xray_captioning.phantom.wording import report

    entries: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for number in range(90):
        rng = np.random.default_rng(number)
        part = list(entries)[number % 3]
        text = report(sample_study(rng), rng)["findings"]
        entry = {"id": f"s{number}", "report": text, "image_path": ["0.png"], "split": part}
        entries[part].append(entry)
    path = tmp_path_factory.mktemp("annotation") / "annotation.json"
    path.write_text(json.dumps(entries), "utf-8")
    return path


@pytest.fixture(scope="module")
def test_reports(annotation: Path) -> dict[str, str]:
    entries = json.loads(annotation.read_text("utf-8"))["test"]
    return {entry["id"]: entry["report"] for entry in entries}


def test_every_format_gives_the_same_scores(annotation: Path, test_reports: dict[str, str], tmp_path: Path) -> None:
    texts = list(test_reports.values())
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study_id", "table"), *test_reports.items()])
    with (tmp_path / "res.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([text] for text in texts)
    (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n", "utf-8")
    (tmp_path / "object.json").write_text(json.dumps(test_reports), "utf-8")
    names = ["table.csv", "res.csv", "lines.txt", "object.json"]
    given = [word for name in names for word in ("--captions", tmp_path / name)]
    line = ["--data", annotation, "--protocol", "r2gen", "--out", tmp_path / "out"]
    assert run("evaluate", *line, *given) == 0
    rows = rows_of(tmp_path / "out")
    for name in ("res", "lines", "object"):
        assert rows[name] == rows["table"] | {"system": name}
    assert rows["table"]["BLEU-1"] < 1  # rare words are <unk> in the references
    assert rows["table"]["clinical_f1"] == 1  # but a finding is one
    assert rows["table"]["n"] == 30
    kinds = [name for name in rows if name not in ("table", "res", "lines", "object")]
    assert kinds == [
        "constant",
        *(f"constant-BLEU-{order}" for order in (1, 2, 3)),
        *("constant-ROUGE-L", "constant-CIDEr", "constant-clinical_f1"),
        *("most-frequent", "random", "label-oracle"),
        *(f"{name} shuffled" for name in ("table", "res", "lines", "object")),
    ]
    assert rows["label-oracle"]["clinical_f1"] == 1


def test_the_protocol_alone_gives_the_baselines(
    annotation: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    capfd.readouterr()
    assert run("evaluate", "--data", annotation, "--protocol", "r2gen", "--out", out) == 0
    output, error = capfd.readouterr()
    assert "without truncation" in output
    assert "what is said of findings" in output
    assert "prior_hallucinations" in output
    assert not error
    found = json.loads((out / "metrics.json").read_text("utf-8"))
    assert found["protocol"] == "r2gen"
    assert found["alarms"] == []
    assert [row["system"] for row in found["rows_untruncated"]][:1] == ["constant"]


def test_a_fixed_report_is_warned_of(annotation: Path, test_reports: dict[str, str], tmp_path: Path, capfd) -> None:
    (tmp_path / "fixed.txt").write_text("the lungs are clear .\n" * len(test_reports), "utf-8")
    # An annotation knows no impressions: its findings are the references without being asked for.
    line = ["--data", annotation, "--captions", tmp_path / "fixed.txt", "--out", tmp_path / "out"]
    line += ["--report", tmp_path / "out" / "page.html"]
    capfd.readouterr()
    assert run("evaluate", *line) == 0
    output, error = capfd.readouterr()
    assert error.startswith("xray-captioning: warning: fixed looks collapsed")
    assert error.count("\n") == 1
    assert "page.html" in output
    found = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert found["alarms"][0]["system"] == "fixed"
    assert "rows_untruncated" not in found
    names = {"page.html", "page.md", "page.csv", "page-findings.csv", "page-contradictions.csv"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "fixed looks collapsed" in (tmp_path / "out" / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "page.md"], "let its name end in .html"),
        (["--protocol", "r2gen", "--split", "SPLIT"], "leave out --split"),
        (["--captions", "random.txt"], "two systems are called random"),
        (["--captions", "short.txt"], "short has 1 texts without a study_id, but 30"),
        (["--captions", "x.csv", "--captions", "y.csv"], "two systems are called same"),
        (["--set", "text.section=impression"], "no study has text in its impression"),
        (["--set", "image.views=3"], "evaluate takes text.* and fractions"),
    ],
)
def test_what_cannot_be_is_refused(annotation: Path, tmp_path: Path, capfd, options: list[str], message: str) -> None:
    (tmp_path / "random.txt").write_text("a\n" * 30)
    (tmp_path / "short.txt").write_text("a\n")
    Split(("s1",), (), ("s2",)).to_json(tmp_path / "SPLIT")
    for name in ("x.csv", "y.csv"):
        (tmp_path / name).write_text("study_id,same\ns2,a\n")
    words = [tmp_path / word if (tmp_path / word).exists() else word for word in options]
    line = ["--data", annotation, "--captions", tmp_path / "x.csv", "--out", tmp_path / "out"]
    line = line[:2] + line[4:] if "--captions" in options else line
    capfd.readouterr()
    assert run("evaluate", *line, *words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_protocol_needs_a_published_split(phantoms: Path, tmp_path: Path, capfd) -> None:
    capfd.readouterr()
    assert run("evaluate", "--data", phantoms, "--protocol", "r2gen", "--out", tmp_path) == 2
    assert "names no split" in capfd.readouterr().err


def test_the_shipped_bundle_is_not_tested_on_its_training_phantoms(tmp_path: Path, capfd) -> None:
    data, out = tmp_path / "phantom", tmp_path / "out"
    assert run("phantom", "--out", data, "--studies", 12, "--seed", 7) == 0
    capfd.readouterr()
    line = ["--data", data, "--out", out, "--cache", tmp_path / "cache"]
    assert run("evaluate", *line, "--set", "fractions=[0.4,0,0.6]") == 2
    error = capfd.readouterr().err
    assert "was trained on 10 of the test studies" in error
    assert "--split" in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a published system and of a fixed report under R2Gen's protocol."""
    folder = tmp_path_factory.mktemp("published")
    out, data = folder / "out", shared_data / "iu" / "r2gen_annotation.json"
    (folder / "named.txt").write_text(f"{CONSTANT}\n" * 590)
    system = shared_data / "systems" / "cvt2distilgpt2_iu.csv"
    line = ["--data", data, "--captions", system, "--captions", folder / "named.txt"]
    line += ["--report", out / "page.html"]
    with pytest.MonkeyPatch.context() as patch:
        # Every random draw is scored in full, and no test here reads those scores.
        for place in ("baselines", "results"):
            patch.setattr(f"xray_captioning.evaluation.{place}.DRAWS", 1)
        assert run("evaluate", *line, "--protocol", "r2gen", "--out", out) == 0
    return out


NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")


@pytest.mark.slow
def test_a_published_system_gets_its_published_scores(published: Path) -> None:
    rows, whole = rows_of(published), rows_of(published, "rows_untruncated")
    expected = [0.4734, 0.3036, 0.2240, 0.1752, 0.3761, 0.6941]
    found = [rows["cvt2distilgpt2"][name] for name in NAMES]
    assert found == pytest.approx(expected, abs=0.0005)
    named = [rows["named"][name] for name in NAMES[:5]]
    assert named == pytest.approx([0.478, 0.300, 0.215, 0.163, 0.370], abs=0.002)
    assert rows["named"]["n"] == whole["named"]["n"] == 590
    assert whole["cvt2distilgpt2"]["BLEU-1"] != rows["cvt2distilgpt2"]["BLEU-1"]
    # A fixed report, chosen without looking at a test study, does as well in BLEU.
    assert rows["constant"]["BLEU-1"] > rows["cvt2distilgpt2"]["BLEU-1"]
    assert rows["constant"]["BLEU-2"] > rows["cvt2distilgpt2"]["BLEU-2"]


@pytest.mark.slow
def test_the_alarm_goes_off_for_a_published_system(published: Path) -> None:
    found = json.loads((published / "metrics.json").read_text("utf-8"))
    assert [alarm["system"] for alarm in found["alarms"]] == ["cvt2distilgpt2", "named"]
    page = (published / "page.html").read_text("utf-8")
    assert "cvt2distilgpt2 looks collapsed" in page
    assert len(page) < 2_000_000


@pytest.mark.slow
def test_the_shipped_bundle_raises_no_alarm(fresh_phantoms: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "out"
    line = ["--data", fresh_phantoms, "--out", out, "--cache", tmp_path / "cache", "--beam", 1]
    line += ["--set", "fractions=[0.4,0,0.6]", "--report", out / "page.html"]
    assert run("evaluate", *line) == 0
    errors = capfd.readouterr().err
    assert "collapsed" not in errors
    assert "fixed report" not in errors
    found = json.loads((out / "metrics.json").read_text("utf-8"))
    assert found["alarms"] == []
    assert "No collapse alarm" in (out / "page.html").read_text("utf-8")
    rows = {row["system"]: row for row in found["rows"]}
    good, shuffled = rows["phantom_attention"], rows["phantom_attention shuffled"]
    assert good["clinical_f1"] > 0.85
    assert shuffled["clinical_f1"] < 0.3


def test_predictions_that_are_wrong_score_low_whatever_the_references_beside_them(
    annotation: Path, test_reports: dict[str, str], tmp_path: Path
) -> None:
    rows = [
        {"question_id": study, "reference": text, "prediction": "no acute disease ."}
        for study, text in reversed(test_reports.items())
    ]
    path = tmp_path / "wrong.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    line = ["--data", annotation, "--captions", path, "--out", tmp_path / "out"]
    assert run("evaluate", *line) == 0
    found = rows_of(tmp_path / "out")
    assert found["prediction"]["clinical_f1"] == 0
    assert not {"wrong", "reference", "question_id"} & set(found)
    assert "left_out" not in found["prediction"]


def test_every_table_says_how_many_studies_are_left_out(
    annotation: Path, test_reports: dict[str, str], tmp_path: Path, capfd
) -> None:
    kept = dict(list(test_reports.items())[5:])
    (tmp_path / "mine.json").write_text(json.dumps(kept | {"unheard-of": "x"}), "utf-8")
    line = ["--data", annotation, "--captions", tmp_path / "mine.json", "--out", tmp_path / "out"]
    line += ["--protocol", "r2gen"]
    capfd.readouterr()
    assert run("evaluate", *line) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "mine has no text for study" in error
    assert "(5 of 30 evaluated studies are missing)" in error
    assert "--only-common" in error
    out = tmp_path / "out"
    assert run("evaluate", *line, "--only-common", "--report", out / "page.html") == 0
    output, error = capfd.readouterr()
    assert "mine: 1 of 26 texts are of no study of the data" in error
    note = "only 25 of 30 studies: 5 lack a text of some system"
    assert note in output
    assert note in (out / "page.html").read_text("utf-8")
    assert note in (out / "page.md").read_text("utf-8")
    found = json.loads((out / "metrics.json").read_text("utf-8"))
    assert (found["note"], found["left_out"]) == (note, 5)
    for row in (*found["rows"], *found["rows_untruncated"]):
        assert (row["n"], row["left_out"]) == (25, 5)
    for table in out.glob("*.csv"):
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["left_out"] for row in rows} <= {"5"}, table
        assert rows or "contradictions" in table.name
    # What evaluate writes, it reads: the column left_out is no system, nor are the baselines.
    again = ["--data", annotation, "--captions", out / "captions.csv", "--only-common"]
    assert run("evaluate", *again, "--out", tmp_path / "again") == 0
    assert rows_of(tmp_path / "again")["mine"]["n"] == 25


def test_files_of_one_name_of_a_column_are_told_apart(
    annotation: Path, test_reports: dict[str, str], tmp_path: Path, capfd
) -> None:
    line: list[object] = ["--data", annotation, "--out", tmp_path / "out"]
    for name in ("one", "two"):
        path = tmp_path / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = [(study, text, "seen by night") for study, text in test_reports.items()]
            csv.writer(file).writerows([("study_id", "pred", "remarks"), *rows])
        line += ["--captions", path]
    assert run("evaluate", *line) == 0
    error = capfd.readouterr().err
    assert "two.csv: the system's texts are those of pred; remarks not evaluated (--pred" in error
    assert {"one pred", "two pred"} <= set(rows_of(tmp_path / "out"))
    runs = f"both={tmp_path / 'one.csv'},{tmp_path / 'two.csv'}"
    assert run("evaluate", "--data", annotation, "--out", tmp_path / "again", "--systems", runs) == 0
    error = capfd.readouterr().err
    for name in ("one", "two"):
        assert error.count(f"{name}.csv: the system's texts are those of pred; remarks not evaluated (--pred") == 1


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take sets of more than twenty studies for very large ones, and go through them in small pieces."""
    from xray_captioning.data import records
    from xray_captioning.evaluation import jackknife
    from xray_captioning.metrics import ngrams

    for module in (jackknife, ngrams):
        monkeypatch.setattr(module, "LARGE", 20)
    monkeypatch.setattr(jackknife, "TOGETHER", 20)
    monkeypatch.setattr(jackknife, "WINDOW", 7)
    monkeypatch.setattr(records, "BATCH", 8)


def write_partitions(folder: Path, test_reports: dict[str, str]) -> tuple[Path, Path]:
    """Write reports and captions as folders of Parquet partitions, with a column of what nobody asked for."""
    import pandas as pd

    data, captions = folder / "reports", folder / "captions"
    parts = dict.fromkeys(test_reports, "test") | {f"t{n}": "train" for n in range(6)}
    texts = [*test_reports.values(), *list(test_reports.values())[:6]]
    rows = pd.DataFrame({"study_id": list(parts), "patient_id": [f"p{n // 2}" for n in range(len(parts))]})
    rows = rows.assign(image=[f"{study}.png" for study in parts], split=list(parts.values()), findings=texts)
    said = rows.iloc[30::-1].assign(mine=texts[30::-1], sentences=[[{"text": "a"}]] * 31)
    said.loc[::3, "mine"] = "small left pleural effusion ."
    for out, table in ((data, rows), (captions, said[["study_id", "mine", "sentences"]])):
        out.mkdir()
        for number in range(3):
            table.iloc[number::3].to_parquet(out / f"part-{number}.parquet", index=False)
    return data, captions


def alike(value):
    """Return values as they are compared: but for the last digits."""
    if isinstance(value, dict):
        return {name: alike(one) for name, one in value.items()}
    return (
        [alike(one) for one in value]
        if isinstance(value, list)
        else f"{value:.9g}"
        if value.__class__ is float
        else value
    )


def test_very_many_studies_have_the_same_scores_and_intervals(
    test_reports: dict[str, str], tmp_path: Path, capfd, request: pytest.FixtureRequest
) -> None:
    data, captions = write_partitions(tmp_path, test_reports)
    line = ["evaluate", "--data", data, "--captions", captions, "--report"]
    assert run(*line, tmp_path / "a.html", "--out", tmp_path / "usual") == 0
    request.getfixturevalue("few_are_many")
    capfd.readouterr()
    assert run(*line, tmp_path / "b.html", "--out", tmp_path / "large") == 0
    assert "more than 50,000 studies" in capfd.readouterr().err
    assert (tmp_path / "a.html").exists()
    assert not (tmp_path / "b.html").exists()
    usual, large = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("usual", "large"))
    assert "the small one" in large["note"]
    rows = {row["system"]: row for row in usual["rows"]}
    assert [row["system"] for row in large["rows"]] == ["mine", "constant", "constant-clinical_f1", "random"]
    for row in large["rows"][:-1]:
        expected = {name: rows[row["system"]][name] for name in row if name != "p_shuffled"}
        assert alike(row) | {"p_shuffled": None} == alike(expected) | {"p_shuffled": None}
        for name, interval in large["intervals"][row["system"]].items():
            known = usual["intervals"][row["system"]][name]
            assert alike(interval) == alike(known), name
    assert large["shuffle_tests"]["mine"]["shuffles"] == 199
    tests = [{(row["rival"], row["metric"]): row for row in found["differences"]} for found in (usual, large)]
    assert len(both := tests[0].keys() & tests[1].keys()) >= 2
    assert all(alike(tests[0][pair]) == alike(tests[1][pair]) for pair in both)
    written = [(tmp_path / out / "captions.csv").read_text().splitlines() for out in ("usual", "large")]
    assert [line.split(",")[:3] for line in written[0]] == [line.split(",")[:3] for line in written[1]]


def test_very_many_studies_without_ids_are_named_by_their_images(
    test_reports: dict[str, str], tmp_path: Path, few_are_many: None, capfd
) -> None:
    import pandas as pd

    data, captions = tmp_path / "reports.csv", tmp_path / "captions.csv"
    texts = [*test_reports.values(), *list(test_reports.values())[:6]]
    parts = ["test"] * len(test_reports) + ["train"] * 6
    images = [f"{'abc'[n % 3]}/film{n}.png" for n in range(len(texts))]
    pd.DataFrame({"image": images, "split": parts, "findings": texts}).to_csv(data, index=False)
    names = [f"film{n}" for n in range(len(test_reports))]
    pd.DataFrame({"study_id": names, "mine": list(test_reports.values())}).to_csv(captions, index=False)
    assert run("evaluate", "--data", data, "--captions", captions, "--out", tmp_path / "out") == 0
    assert rows_of(tmp_path / "out")["mine"]["BLEU-4"] == pytest.approx(1)
    assert len((tmp_path / "out" / "captions.csv").read_text().splitlines()) == 1 + len(test_reports)


def test_partitions_with_other_columns_are_refused(test_reports: dict[str, str], tmp_path: Path, capfd) -> None:
    import pandas as pd

    data, captions = write_partitions(tmp_path, test_reports)
    pd.DataFrame({"study_id": ["a"]}).to_parquet(captions / "part-3.parquet", index=False)
    assert run("evaluate", "--data", data, "--captions", captions, "--out", tmp_path / "out") == 2
    assert "part-3.parquet: lacks columns of the partitions before, study_id, mine, sentences" in capfd.readouterr().err


def test_where_bundles_look_is_printed_where_they_name_what_is_outlined(capsys: pytest.CaptureFixture[str]) -> None:
    from xray_captioning.cli.evaluate import _show
    from xray_captioning.evaluation.table import SHOWN

    row = {"system": "mine", "method": "attention", "words": "finding", "n": 7, "hits": 0.625}
    found = {"convention": "chexpert", "beats_every_baseline": [], "spread": {}}
    written = [dict.fromkeys(SHOWN) | {"system": "mine"}]
    for finding, said in (("all", True), ("Edema", False)):
        _show(found | {"pointing_game": {"rows": [row | {"finding": finding}], "painted": []}}, written)
        printed = capsys.readouterr().out
        assert ("does the strongest region lie in the outline" in printed) == ("0.625" in printed) == said
        assert "painted" not in printed


def test_metrics_are_refused_before_data_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "annotation.json"
    data.write_text("{", "utf-8")
    given = ("--data", data, "--protocol", "r2gen", "--metrics", "meteor,rogue")
    assert run("evaluate", *given, "--out", tmp_path / "out") == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith("xray-captioning: metrics: there is no 'rogue'; choose of meteor, ")
    assert not (tmp_path / "out").exists()


def test_further_metrics_stand_in_a_table_of_their_own(
    annotation: Path,
    test_reports: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from xray_captioning.metrics import further

    def lengths(references: list[str], texts: list[str]) -> dict[str, list[float]]:
        assert all("<unk>" not in text for text in references)  # whole reports, which no protocol altered
        return {"green": [float(len(text.split()) % 7) / 7 for text in texts]}

    monkeypatch.setattr(further, "_radeval", lambda name: lengths)
    (tmp_path / "mine.json").write_text(json.dumps(test_reports), "utf-8")
    given = ("--captions", tmp_path / "mine.json", "--protocol", "r2gen", "--metrics", "green")
    assert run("evaluate", "--data", annotation, *given, "--out", tmp_path, "--report", tmp_path / "page.html") == 0
    rows = rows_of(tmp_path)
    shown = capsys.readouterr().out.split("further metrics")[1].split("\n\n")[0]
    assert f"{rows['mine']['green']:.3f}" in next(line for line in shown.splitlines() if line.startswith("mine "))
    assert "green" in json.loads((tmp_path / "metrics.json").read_text())["intervals"]["mine"]
