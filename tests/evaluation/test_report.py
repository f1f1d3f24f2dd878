"""The page is whole, small and harmless, and its tables stand beside it."""

import csv
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.evaluation.baselines import ReportTexts, System
from xray_captioning.evaluation.cases import choose_cases
from xray_captioning.evaluation.report import SAID, outstanding, tex, write_report
from xray_captioning.evaluation.results import evaluate_systems
from xray_captioning.metrics.clinical import confusion, label_matrix

HOSTILE = '<script>alert(1)</script> "left effusion" & <img src=x onerror=alert(2)> | \x00\x07 ]]>'
HOSTILE_NAME = '<b>bold</b> "| name'
ABOUT = {"part": "test", "split": "abc", "protocol": "coco"}
NAMES = ["summary", "findings", "length and variety", "cases", "contradictions"]


class Parsed(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.shown.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, phantoms):
    out = tmp_path_factory.mktemp("report")
    references = ["moderate left pleural effusion .", "cardiomegaly .", "no acute disease ."] * 4
    texts = [HOSTILE, "no cardiomegaly .", ""] * 4
    systems = [
        System(HOSTILE_NAME, None, texts),
        System("fixed", None, ["no acute disease ."] * 12),
        System("constant", None, ["no acute disease ."] * 12, "baseline"),
        System("random", None, references[::-1], "baseline"),
    ]
    row = {"system": HOSTILE_NAME, "method": "attention", "words": "finding", "finding": "all", "n": 7, "hits": 0.625}
    about = {"part": "test", "split": "abc", "protocol": "coco", "pointing_game": {"rows": [row], "painted": []}}
    ids = [f"<i>{i}</i>" for i in range(12)]
    results = evaluate_systems(ids, systems, ReportTexts(*[references] * 5), about)
    pictures = sorted(str(path) for path in phantoms.glob("images/*/*.png"))
    (out / "broken.png").write_bytes(b"no image")
    images = dict.fromkeys(ids[:6], pictures[:2]) | {ids[7]: [str(out / "broken.png"), "no"]}
    write_report(results, out / "page.html", images)
    results.write(out)
    return out


@pytest.fixture(scope="module")
def parsed(folder):
    return Parsed((folder / "page.html").read_text("utf-8"))


def test_texts_stay_texts(parsed):
    assert not {"script", "b>", "iframe", "object", "link"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    shown = "".join(parsed.shown)
    assert "<script>alert(1)</script>" in shown
    assert ("title", HOSTILE_NAME) in parsed.attributes
    assert HOSTILE_NAME in shown
    assert "\x00" not in shown


def test_the_page_needs_nothing_from_anywhere(folder, parsed):
    content = (folder / "page.html").read_text("utf-8")
    assert not re.search(r"https?://|url\(|@import", content)
    sources = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert len(content) < 500_000
    assert "prefers-color-scheme: dark" in content
    assert "width=device-width" in content


def test_every_part_is_there(parsed):
    shown = "\n".join(parsed.shown).lower()
    for name in [
        *NAMES,
        "fixed looks collapsed",
        "without truncation",
        "against a fixed report",
        "captions given to other studies",
        "p, holm",
        "more scores",
    ]:
        assert name in shown
    assert parsed.tags.count("svg") == 4
    assert "(nothing)" in shown
    assert "pleural effusion" in shown


def test_every_row_says_what_is_said_of_findings(folder):
    stored = json.loads((folder / "metrics.json").read_text("utf-8"))
    rows = {row["system"]: row for row in stored["rows"]}
    for row in rows.values():
        assert set(SAID) <= set(row)
    assert "What is said of findings" in (folder / "page.md").read_text("utf-8")
    fixed, hostile = rows["constant"], rows[HOSTILE_NAME]
    # It mentions neither finding; the other one has the effusion's side and denies a large heart.
    assert (fixed["omissions"], hostile["omissions"]) == (1, 0)
    assert (hostile["side_agreement"], hostile["side_support"]) == (1, 4)
    assert (hostile["severity_agreement"], hostile["severity_support"]) == (0, 4)
    assert hostile["contradictions"] == pytest.approx(1 / 3)
    assert stored["intervals"][HOSTILE_NAME]["severity_agreement"] is None  # four patients
    assert stored["intervals"][HOSTILE_NAME]["contradictions"] is not None


def test_words_that_decided_say_so_to_mouse_and_keyboard(folder, parsed):
    content = (folder / "page.html").read_text("utf-8")
    assert '<mark tabindex="0" title="Pleural Effusion: present">effusion</mark>' in content
    assert ("title", "Cardiomegaly: denied by “no”") in parsed.attributes


def test_tables_stand_beside_it(folder):
    with open(folder / "page.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert [row["system"] for row in rows] == [row["system"] for row in stored["rows"]]
    assert float(rows[0]["BLEU-1"]) == stored["rows"][0]["BLEU-1"]
    low, high = (float(rows[0][f"BLEU-1_{edge}"]) for edge in ("low", "high"))
    assert [low, high] == stored["intervals"][HOSTILE_NAME]["BLEU-1"]
    # What the training reports have is counted; four cases of each are too few for an interval.
    assert stored["findings"] == {"Cardiomegaly": 4, "Pleural Effusion": 4}
    assert stored["intervals"][HOSTILE_NAME]["clinical_f1"] is None
    assert {"clinical_f1", "micro_f1", "false_positives"} <= set(stored["rows"][0])
    assert [alarm["system"] for alarm in stored["alarms"]] == ["fixed"]
    assert len(stored["rows_untruncated"]) == len(stored["rows"])
    with open(folder / "page-differences.csv", newline="", encoding="utf-8") as file:
        tests = list(csv.DictReader(file))
    assert [(row["system"], row["rival"], row["metric"]) for row in tests[::4]] == [
        (HOSTILE_NAME, "constant", "clinical_f1"),
        ("fixed", "constant", "clinical_f1"),
        (HOSTILE_NAME, "fixed", "clinical_f1"),
    ]
    assert [float(row["p"]) for row in tests] == [row["p"] for row in stored["differences"]]
    with open(folder / "page-untruncated.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    with open(folder / "page-contradictions.csv", newline="", encoding="utf-8") as file:
        opposed = list(csv.DictReader(file))
    assert [(row["finding"], row["hypothesis"]) for row in opposed] == [("Cardiomegaly", "0")] * 4
    with open(folder / "page-findings.csv", newline="", encoding="utf-8") as file:
        assert {row["finding"] for row in csv.DictReader(file)} >= {"Cardiomegaly", "Fracture"}
    markdown = (folder / "page.md").read_text("utf-8")
    assert "<b>" not in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("| &lt;b")]
    assert tables
    assert all('"\\| name' in line for line in tables)


def test_cases_are_the_best_the_median_and_the_worst():
    references = ["cardiomegaly ."] * 5 + ["left effusion ."] * 4
    texts = ["cardiomegaly ."] * 3 + ["heart big ."] * 2 + ["x"] * 4
    counts = confusion(label_matrix(references), label_matrix(texts))
    best, middle, worst = choose_cases(references, texts, counts)
    assert set(best) <= {0, 1, 2}
    assert set(worst) <= set(range(3, 9))
    assert len({*best, *middle, *worst}) == 6
    one = choose_cases(references[:1], texts[:1], counts[:1])
    assert one == [[0], [], []]


def test_baselines_alone_have_a_page(tmp_path):
    texts = ["clear lungs .", "cardiomegaly ."]
    constant = System("constant", None, texts[:1] * 2, "baseline")
    results = evaluate_systems(["1", "2"], [constant], ReportTexts.unaltered(texts, texts), ABOUT)
    write_report(results, tmp_path / "page.html")
    assert "Evaluation of baselines" in (tmp_path / "page.html").read_text("utf-8")


def test_a_study_without_words_can_be_drawn(tmp_path):
    empty = ["", ""]
    systems = [System("x", None, empty), System("constant", None, empty, "baseline")]
    results = evaluate_systems(["1", "2"], systems, ReportTexts.unaltered(empty, empty), ABOUT)
    assert np.isfinite([row["BLEU-1"] for row in results.rows]).all()
    write_report(results, Path(tmp_path / "page.html"))


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Return the page of six systems, of which the last are the best, one with two runs."""
    references = ["left pleural effusion .", "cardiomegaly .", "no acute disease ."] * 4
    systems = [System(f"poor-{n}", None, ["no acute disease ."] * 12) for n in range(4)]
    systems += [
        System("second", None, references, "system", [["edema ."] * 12]),
        System("best", None, references),
        System("constant", None, ["no acute disease ."] * 12, "baseline"),
    ]
    ids = [str(number) for number in range(12)]
    results = evaluate_systems(ids, systems, ReportTexts.unaltered(references, references), ABOUT)
    path = tmp_path_factory.mktemp("six") / "page.html"
    write_report(results, path)
    return path


def test_the_best_systems_are_drawn_and_the_others_named(six):
    content = six.read_text("utf-8")
    for heading in ("Against a fixed report", "Findings", "Length and variety", "Cases"):
        section = content.split(f"<h2>{heading}", 1)[1].split("<h2>", 1)[0]
        assert "best" in section
        assert "Only the 4 systems with the highest clinical F1" in section
        assert "without poor-2, poor-3, which the CSV tables have" in section
        assert "poor-3" not in section.replace("without poor-2, poor-3", "")
    summary = content.split("<h2>Summary", 1)[1].split("<h2>", 1)[0]
    assert "poor-3" in summary
    with open(six.with_name("page-findings.csv"), newline="", encoding="utf-8") as file:
        assert {"poor-3", "best"} <= {row["system"] for row in csv.DictReader(file)}


def test_every_run_is_shown(six):
    content = six.read_text("utf-8")
    for heading in ("Length and variety", "Cases", "Contradictions"):
        section = content.split(f"<h2>{heading}", 1)[1].split("<h2>", 1)[0]
        assert "second run 1" in section
        assert "second run 2" in section
    with open(six.with_name("page-findings.csv"), newline="", encoding="utf-8") as file:
        rows = {(r["system"], r["finding"]): r for r in csv.DictReader(file)}
    assert rows["second run 1", "Pleural Effusion"]["f1"] == "1.0"
    assert rows["second run 2", "Pleural Effusion"]["f1"] == "0.0"
    assert "all of them together" in content
    # Right in one of two runs: recall is a half of the same four reports.
    assert rows["second run 1", "Pleural Effusion"]["support"] == "4"


def test_fixed_reports_of_one_text_are_one_row_for_people_and_rows_of_their_own_in_files(tmp_path):
    texts = ["clear lungs .", "cardiomegaly .", "edema ."] * 2
    names = ["constant", "constant-BLEU-1", "constant-CIDEr", "most-frequent"]
    said = [texts[:1] * 6, texts[:1] * 6, texts[1:2] * 6, texts[1:2] * 6]
    fixed = [System(n, None, t, "baseline") for n, t in zip(names, said, strict=True)]
    about = {"part": "test", "split": "abc", "protocol": "r2gen"}
    ids = [str(number) for number in range(6)]
    results = evaluate_systems(ids, fixed, ReportTexts(*[texts] * 5), about)
    write_report(results, tmp_path / "page.html")
    results.write(tmp_path)
    shown = ["constant (BLEU-4, BLEU-1)", "constant-CIDEr, most-frequent"]
    page, text = ((tmp_path / f"page.{kind}").read_text("utf-8") for kind in ("html", "md"))
    tables = 4  # scores, what is said of findings, more scores, without truncation
    assert re.findall('<tr><th scope="row">(constant[^<]*)</th>\n?<td>[^<]', page) == shown * tables
    assert re.findall(r"^\| (constant[^|]*?) *\|", text, re.MULTILINE) == shown * tables
    for file in ("page.csv", "page-untruncated.csv"):
        with open(tmp_path / file, newline="", encoding="utf-8") as table:
            assert [row["system"] for row in csv.DictReader(table)] == names
    stored = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert [row["system"] for row in stored["rows"]] == names


def test_where_systems_look_is_shown_where_it_was_measured(folder, parsed):
    shown = "".join(parsed.shown)
    assert "Where it looks" in shown
    assert "Painted over" not in shown
    assert "0.625" in shown
    assert "## Where it looks" in (folder / "page.md").read_text("utf-8")


def test_texts_of_cases_are_written_as_in_the_app(six):
    cases = six.read_text("utf-8").split("<h2>Cases", 1)[1]
    shown = re.sub(r"<[^>]+>", "", cases)
    assert "No acute disease." in shown
    assert "Left pleural effusion." in shown
    assert "disease ." not in shown


def balanced(text):
    """Return whether all braces close, those that are escaped aside."""
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\\\|\\[{}]", "", text)):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50% of $5 & #1_a", r"50\% of \$5 \& \#1\_\allowbreak{}a"),
        ("\\input{x}~^", r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}"),
        ('<b>|"', r"\textless{}b\textgreater{}\textbar{}\char34{}"),
        ("a--b ''c'' d---e", "a-{}-b '{}'c'{}' d-{}-{}-e"),
        ("肺 café\n\x07", "[U+80BA] café [U+0007]"),
    ],
)
def test_latex_sees_no_command_in_a_text(text, written):
    assert tex(text) == written
    assert balanced(written)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return the page of systems of long names and several runs, whose scores have as many digits as there can be."""
    references = ["left pleural effusion .", "cardiomegaly .", "no acute disease .", "hiatal hernia and edema ."] * 10
    turned = [*references[7:], *references[:7]]
    half = [*references[:15], *turned[15:]]
    names = ["chexnetattentiontransformer-of-everything", "global_attention_v2", "r2gen", "vit_gpt2", "fifth"]
    systems = [System(name, "beam-3", half, "system", [references, turned]) for name in names]
    systems += [System(name, None, turned, "baseline") for name in ("constant", "retrieval of global_attention_v2")]
    results = evaluate_systems([str(n) for n in range(40)], systems, ReportTexts(*[references] * 5), ABOUT)
    path = tmp_path_factory.mktemp("wide") / "page.html"
    write_report(results, path)
    return path


@pytest.mark.parametrize("page", ["folder", "six", "wide"])
def test_tables_of_a_paper_are_latex_that_fits_an_article(page, request, tmp_path):
    given = request.getfixturevalue(page)
    table = (given / "page.html" if page == "folder" else given).with_suffix(".tex")
    content = table.read_text("utf-8")
    assert balanced(content)
    assert content.count(r"\toprule") == content.count(r"\bottomrule") == 4  # two of scores, differences, findings
    for body in re.findall(r"\\midrule\n(.*?)\n\\(?:bottomrule|midrule)", content, re.DOTALL):
        rows = [row for row in body.split(r"\\\addlinespace[2pt]") if row.strip()]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1  # as many cells in each row
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not there to compile it")
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{page}\end{document}"
    shutil.copy(table, tmp_path)
    (tmp_path / "paper.tex").write_text(document)
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "paper.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall(r"Overfull.*", done.stdout)


def test_latex_tells_names_alarms_and_every_finding_of_the_systems_drawn(folder, wide):
    table = (folder / "page.tex").read_text("utf-8")
    assert tex(HOSTILE_NAME) in table
    assert r"\textbf{Alarm:}" in table
    caption, rows = wide.with_suffix(".tex").read_text("utf-8").rsplit(r"\toprule", 1)
    assert r"D: vit\_\allowbreak{}gpt2 beam-3; K: constant." in caption
    assert "Without fifth beam-3." in caption
    with open(wide.with_name("page-findings.csv"), newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["system"] == "constant" and float(row["support"])]
    assert len(found) >= 5
    for row in found:
        (line,) = [line for line in rows.splitlines() if line.startswith(f"{row['finding']} &")]
        cells = line.split(" & ")
        assert cells[1] == row["support"]
        expected = [f"{float(row[name]):.3f}".removeprefix("0") for name in ("f1", "precision", "recall")]
        assert re.findall(r"[\d.]+", cells[-1].partition(r"\\\addlinespace")[0].replace("[-3pt]", "")) == expected


def of_systems(**texts):
    """Return the results of systems on 40 studies, without a baseline."""
    references = ["left pleural effusion .", "cardiomegaly .", "no acute disease .", "edema ."] * 10
    systems = [System(name, None, said(references)) for name, said in texts.items()]
    ids = [str(number) for number in range(len(references))]
    return evaluate_systems(ids, systems, ReportTexts.unaltered(references, references), ABOUT)


def test_bold_is_what_is_better_than_all_others_and_nothing_that_is_not_clear():
    half = lambda references: [*references[:20], *["scoliosis of the spine ."] * 20]  # noqa: E731
    nearly = lambda references: [*references[:21], *["scoliosis of the spine ."] * 19]  # noqa: E731
    wrong = lambda references: ["scoliosis of the spine ."] * 40  # noqa: E731
    clear = of_systems(half=half, wrong=wrong)
    assert {"BLEU-1", "ROUGE-L", "CIDEr", "micro_f1"} <= set(outstanding(clear, clear.systems[0]))
    assert outstanding(clear, clear.systems[1]) == []
    close = of_systems(half=half, nearly=nearly, wrong=wrong)
    assert [outstanding(close, system) for system in close.systems[:3]] == [[], [], []]
    alone = of_systems(half=half)
    assert outstanding(alone, alone.systems[0]) == []  # there is nothing that it is better than


def test_bold_in_the_table_is_that_and_no_more(tmp_path):
    results = of_systems(
        half=lambda references: [*references[:20], *["scoliosis of the spine ."] * 20],
        wrong=lambda references: ["scoliosis of the spine ."] * 40,
    )
    write_report(results, tmp_path / "page.html")
    bold = Counter()
    for table in (tmp_path / "page.tex").read_text("utf-8").split(r"\end{table*}")[:2]:
        rows = table.split(r"\midrule", 1)[1].split(r"\\\addlinespace[2pt]")
        bold.update({row.split("&")[0].strip(): row.count(r"\textbf") for row in rows})
    assert bold[r"\raggedright wrong"] == 0
    assert sum(bold.values()) == len(outstanding(results, results.systems[0])) > 0


def test_how_far_runs_differ_is_in_every_table(six):
    for kind, said in (("html", "<small>sd "), ("md", ", sd "), ("tex", r"\tiny $\pm$")):
        assert said in six.with_suffix(f".{kind}").read_text("utf-8")
    with open(six.with_name("page.csv"), newline="", encoding="utf-8") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert (rows["second"]["runs"], rows["best"]["runs"]) == ("2", "1")
    assert float(rows["second"]["BLEU-1_sd"]) > 0
    assert rows["best"]["BLEU-1_sd"] == rows["constant"]["BLEU-1_sd"] == ""


def test_the_chart_has_the_formats_that_are_asked_for(tmp_path):
    results = of_systems(right=lambda references: references)
    write_report(results, tmp_path / "page.html", figures=("pdf", "svg"))
    assert (tmp_path / "page-scores.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (tmp_path / "page-scores.svg").read_bytes()
    assert not (tmp_path / "page-scores.png").exists()
