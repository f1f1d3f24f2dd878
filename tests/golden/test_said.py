"""README and docs say what is stored, name the commands of their numbers, and the machines of their times."""

import json

import pytest

from tests.golden import said

RENEW = "if what is stored is right: python -m tests.golden.said --renew; tests/golden/numbers.toml has the rules"
COMMAND = "see CONTRIBUTING.md: name it in the section, or under measured or chosen in tests/golden/numbers.toml"
PAGE = """# Page

| model | F1 | n |
| --- | --- | --- |
| mine | 0.99 (0.98 to 1.00) | 1,234 |

There are {} studies, and
  Nine presets; .5 of them.
"""
STORED = [{"model": "mine", "F1": "0.991 (0.975 to 1.000)", "n": 1234}]


@pytest.fixture
def rules(monkeypatch):
    """Return rules of one page and one stored table."""
    ours = {
        "says": {"page.md": ["There are {stored[0]['n']} studies, and {9} presets; {0.5} of"]},
        "table": [{"page": "page.md", "head": "| model |", "rows": "stored", "by": ["model"]}],
        "chosen": [],
        "measured": {},
    }
    monkeypatch.setattr(said, "RULES", ours)
    monkeypatch.setattr(said, "namespace", lambda: {"stored": STORED})
    return ours


@pytest.mark.parametrize("page", said.pages())
def test_pages_say_what_is_stored(page):
    lines = said.wrong(page, said.page_text(page))
    assert not lines, "\n".join([*lines, RENEW])


@pytest.mark.parametrize("page", said.pages())
def test_numbers_have_a_command_and_times_a_machine(page):
    lines = said.unaccounted(page, said.page_text(page))
    assert not lines, "\n".join([*lines, COMMAND])


def test_rules_are_of_pages_that_are_there():
    titles = {page: [section.title for section in said.sections(said.page_text(page))] for page in said.pages()}
    assert set(said.RULES["says"]) | {one["page"] for one in said.RULES["table"]} <= set(titles)
    for name in [*said.RULES["chosen"], *said.RULES["measured"]]:
        page, _, title = name.partition("#")
        assert not title or title in titles[page], name
    for name, command in said.RULES["measured"].items():
        assert command in said.page_text(name.partition("#")[0]), f"{name} does not name {command}"


def test_results_are_of_commands_that_a_page_names():
    texts = " ".join("".join(map(said.page_text, said.pages())).replace("\\\n", " ").split())
    for name, command in said.RULES["results"].items():
        assert said.namespace()[name]["command"] == command
        program, _, rest = command.partition(" --captions ")
        assert program in texts, name
        assert f"--captions {rest.split()[0]}" in texts if rest else True, name


def test_what_the_labeler_prints_is_read():
    printed = [
        "",
        "odd (3 reports)",
        "finding  coded  F1",
        "Hiatal Hernia  29  0.967  1.000  0.983",
        "macro F1 0.9, 95 % to 1",
    ]
    row, macro = said.labelled({"printed": printed}, "odd")
    assert row == {"finding": "Hiatal Hernia", "coded": "29", "precision": "0.967", "recall": "1.000", "F1": "0.983"}
    assert said.numbers(macro["F1"]) == [0.9, 1.0]


def test_what_a_command_gave_is_kept(rules, tmp_path, monkeypatch):
    monkeypatch.setattr(said, "HERE", tmp_path)
    rules["results"] = {"mine": "a command"}
    (tmp_path / "metrics.json").write_text('{"rows": [{"F1": 0.123456789}], "differences": [], "split": [1]}')
    said.store("mine", tmp_path / "metrics.json")
    kept = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert kept == {"rows": [{"F1": 0.123457}], "differences": [], "command": "a command"}
    (tmp_path / "log").write_text("one\ntwo\n")
    said.store("mine", tmp_path / "log")
    assert json.loads((tmp_path / "results" / "mine.json").read_text())["printed"] == ["one", "two"]


def test_a_number_that_is_another_is_named_with_its_line(rules):
    assert said.wrong("page.md", PAGE.format("1,234")) == []
    assert said.wrong("page.md", PAGE.format("1,235")) == ["page.md:7: says 1,235, stored is 1234"]
    moved = PAGE.format("1,234").replace("0.99", "0.98").replace("Nine", "Eight").replace(".5", ".6")
    assert [line.split(", stored")[0] for line in said.wrong("page.md", moved)] == [
        "page.md:8: says Eight",
        "page.md:8: says .6",
        "page.md:5: says 0.98",
    ]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("studies, and", "cases, and", "no longer says"),
        ("| model |", "| system |", "no table begins"),
        ("| mine |", "| theirs |", "0 stored rows"),
        ("| 1,234 |", "| many |", "says 'many'"),
        ("1.00)", "1.00, 2.00)", "stored is '0.991"),
        ("| 1,234 |", "| |", "says ''"),
        ("0.99 (0.98 to 1.00)", "0.99", "says '0.99'"),
    ],
)
def test_what_is_compared_has_to_be_there(rules, before, after, message):
    page = PAGE.format("1,234")
    lines = said.wrong("page.md", page.replace(before, after))
    assert len(lines) == 1
    assert message in lines[0]


def test_renewed_pages_are_written_as_they_were(rules):
    old = PAGE.format("999").replace("0.99 (0.98 to 1.00)", "0.5 (.1 to 0.200)").replace("Nine", "Eight")
    new = said.renewed("page.md", old)
    assert new == PAGE.format("1,234").replace("0.99 (0.98 to 1.00)", "1.0 (1.0 to 1.000)")
    assert said.wrong("page.md", new) == []
    rules["says"]["page.md"] = ["= There are {stored[0]['n']} studies"]
    assert "There are 999 studies" in said.renewed("page.md", old)
    assert len(said.wrong("page.md", new.replace("1,234 studies", "999 studies"))) == 1


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("It has 0.8.", "by which command"),
        ("It has 0.8 (`python benchmarks/nih.py`).", None),
        ("It takes 3 s (`python benchmarks/nih.py`), and times vary.", "on which machine"),
        ("It takes 3 s on two cores (`python benchmarks/nih.py`).", "how much does it vary"),
        ("It takes 3 s on two cores (`python benchmarks/nih.py`), and times vary by a tenth.", None),
        (
            "| what | s |\n| --- | --- |\n| it | 0.8 |\n\n`python benchmarks/nih.py` on two cores",
            "how much does it vary",
        ),
        ("```\n0.8\n```\nand `0.9`, [link](0.7.md), 95 % and 12 studies", None),
    ],
)
def test_numbers_that_nothing_compares(rules, text, question):
    lines = said.unaccounted("page.md", f"# Page\n\n## Part\n\n{text}\n")
    assert [line.rpartition(": ")[2].rstrip("?") for line in lines] == ([question] if question else [])
    rules["chosen"] = ["page.md#Part"]
    assert said.unaccounted("page.md", f"# Page\n\n## Part\n\n{text}\n") == []


def test_the_demonstration_is_within_its_limits():
    page, head = (
        "docs/getting_started.md",
        "| system | search | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | ROUGE-L | CIDEr | clinical_f1",
    )
    printed = said.rows(page, f"{head} | micro_f1 | false_positives")
    limits = said.rows(page, f"{head} | micro_f1 | sides")
    assert [row["system"] for row in printed] == [row["system"] for row in limits]
    for row, limit in zip(printed, limits):
        for column in set(limit) - {"system", "search"}:
            low, *high = said.numbers(limit[column])
            assert low <= float(row[column]) <= (high or [low])[0], (row["system"], column)
