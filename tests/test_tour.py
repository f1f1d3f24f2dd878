"""The script of the tour: what it runs, what it leaves out of the page, and what the page is made of."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tour.md"
tour = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("tour", ROOT / "tools/tour.py"))
spec.loader.exec_module(tour)


@pytest.fixture
def walk(tmp_path):
    """Return a tour that has a clone and is in a part of its own."""
    walk = tour.Tour(tmp_path, "")
    walk.clone.mkdir()
    walk.part, walk.log["completion"] = "completion", []
    return walk


def test_the_two_commands_are_those_of_the_readme():
    assert [command.split(" && ")[-1] for command in tour.readme_commands()] == [
        "xray-captioning demo",
        "python -m pytest",
    ]


def test_a_command_is_logged_with_its_last_lines_and_without_this_machine(walk, tmp_path):
    said = walk.run("echo one; echo two; echo $HOME; echo $PWD/three; printf '50 %%\\r100 %%\\n'", 3)
    assert said.splitlines() == ["one", "two", "~", "./three", "100 %"]
    (entry,) = walk.log["completion"]
    assert entry["said"] == ["…", "~", "./three", "100 %"]
    assert entry["seconds"] >= 0
    assert str(tmp_path) not in tour.page(walk.log, "two cores")


def test_the_home_is_empty_and_packages_of_this_environment_are_not_there(walk, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "another")
    assert walk.run('ls -A ~; echo "$PYTHONPATH$VIRTUAL_ENV"') == "\n"


def test_a_command_that_fails_ends_the_tour_with_what_it_said(walk):
    with pytest.raises(SystemExit, match=r"(?s)broken.*status 3"):
        walk.run("echo broken; exit 3")
    assert walk.log["completion"] == []


def test_a_terminal_is_typed_into(walk):
    assert "xray" in tour.typing(walk, "complete -W 'xray yard' thing", "thing xr\t", "xray")


def test_page_names_machine_times_commands_and_pictures(walk):
    walk.keep("first", "a\nb\nc", 1.4, 2)
    walk.keep("typed<Tab>", "seen")
    walk.note("A sentence.")
    walk.log["completion"].append({"picture": "tour_x.png", "about": "X"})
    text = tour.page(walk.log, "two cores of a machine")
    assert "two cores of a machine" in text
    assert "| [Completion in bash](#completion-in-bash) | 1 s |" in text
    assert "```bash\nfirst\n```\n\n```\n…\nb\nc\n```\n\n1 second." in text
    assert "```\ntyped<Tab>\n```" in text
    assert text.index("A sentence.") < text.index("![X](tour_x.png)")


def test_the_page_as_committed_has_all_parts_and_small_pictures():
    text = PAGE.read_text("utf-8")
    assert re.findall(r"(?m)^## (.*)", text) == [title for title, _ in tour.PARTS.values()]
    pictures = re.findall(r"!\[[^\]]+\]\((tour_\w+\.png)\)", text)
    assert len(pictures) >= 4
    assert {path.name for path in PAGE.parent.glob("tour_*.png")} == set(pictures)
    assert sum((PAGE.parent / name).stat().st_size for name in pictures) < 600_000
    assert not re.search(r"/(tmp|root|work|home|Users)/|site-packages", text)
