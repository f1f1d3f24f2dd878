"""What the documentation names exists, and its examples run."""

import doctest
import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from runpy import run_path
from unittest.mock import create_autospec

import click
import pytest

import xray_captioning
from tests.test_architecture import LEVEL, modules, own, room
from xray_captioning.cli import cli

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xray_captioning"
README = ROOT / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    + [ROOT / folder / "README.md" for folder in ("benchmarks", "notebooks", "weights")]
)
# What names a part of the checkout by its path.
PATH = re.compile(r"`((?:\.ci|benchmarks|docs|notebooks|tests|weights|xray_captioning)/[\w./-]+)`")
NAME = re.compile(r"\bxray_captioning(?:\.[A-Za-z_]\w*)+|\bxc(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\(([^)\s#:]*)(#[^)\s]*)?\)")


def _found(pattern: str | re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield where in the pages something stands, and what."""
    for page in PAGES:
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            for match in re.finditer(pattern, line):
                yield f"{page.relative_to(ROOT)}:{number}", match[1 if match.re.groups else 0]


def _resolves(name: str) -> bool:
    """Say whether a dotted name can be imported, or read from what can be."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_dotted_names_exist() -> None:
    names = [(where, re.sub(r"^xc\b", "xray_captioning", name)) for where, name in _found(NAME)]
    assert len(names) > 20
    assert not [found for found in names if not _resolves(found[1])]


def test_paths_exist() -> None:
    paths = list(_found(PATH))
    assert len(paths) > 10
    assert not [found for found in paths if not (ROOT / found[1]).exists()]


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target, anchor in LINK.findall(page.read_text("utf-8")):
            there = page.parent / target if target else page
            if not there.exists() or (anchor and anchor[1:] not in _anchors(there)):
                broken.append(f"{page.relative_to(ROOT)}: {target}{anchor}")
    assert not broken


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_command_lines_have_the_options_they_show() -> None:
    wrong, seen = [], set()
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.split("\n")]
        for line in [*lines, *re.findall(r"`(xray-captioning [^`]+)`", text)]:
            for call in re.findall(r"xray-captioning ([a-z-]+[^|&>$]*)", line):
                seen.add(call.split()[0])
                if unknown := _unknown_options(call):
                    wrong.append(f"{page.relative_to(ROOT)}: {unknown} of {call.strip()}")
    assert len(seen) > 10
    assert not wrong


def _unknown_options(call: str) -> set[str]:
    words = shlex.split(call, comments=True)
    context = click.Context(cli)
    command: click.Command | None = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
    if command is None:
        return {"the command"}
    known = {name for option in command.params for name in option.opts} | {"--help"}
    return {word.split("=")[0] for word in words if word.startswith("--")} - known


def test_the_picture_of_the_rooms_shows_the_imports() -> None:
    picture = re.search(r"```mermaid\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S)
    assert picture
    labels = dict(re.findall(r'(\w+)\["([^"]+)"\]', picture[1]))
    boxes = re.sub(r'\["[^"]+"\]', "", picture[1])
    chains = [line.split("-->") for line in boxes.splitlines() if "-->" in line]
    arrows = {
        (above, below)
        for chain in chains
        for sides in pairwise(chain)
        for above, below in product(*(re.findall(r"\w+", side) for side in sides))
    }
    box = {
        room: name
        for name in {end for arrow in arrows for end in arrow}
        for room in re.findall(r"\w+", labels.get(name, name).replace("<br>", " "))
    }
    assert set(box) == set(LEVEL) - {"__main__"}
    used = {
        (box[room(other)], box[room(module)])
        for module in modules()
        if room(module) in box
        for other in own(module)
        if box[room(other)] != box[room(module)]
    }
    assert arrows <= used, arrows - used
    allowed = set(arrows)
    for _ in box:  # as many steps as a way through the picture may have
        allowed |= {(a, d) for a, b in allowed for c, d in arrows if b == c}
    assert used <= allowed, used - allowed
    assert not {(above, below) for above, below in allowed if (below, above) in allowed}


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "api" / "index.md").read_text("utf-8")
    assert set(re.findall(r"\[`(\w+)`\]\[", page)) == set(xray_captioning.__all__)


REST = """::

    code

==== =========
a    one
     more|less
==== =========

``b``
    term, of source [1]_::
"""
AS_MARKDOWN = """

    code

|  |  |
| --- | --- |
| a | one more\\|less |

- ``b``: term, of source [1]:
"""


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe", reason="the extra 'docs' is not installed")
    assert run_path(str(ROOT / "docs" / "docstrings.py"))["markdown"](REST) == AS_MARKDOWN


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/encoders.md"])
def test_python_of_a_page_runs(page: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(phantoms, tmp_path / "indiana")
    images = sorted((tmp_path / "indiana").rglob("*.png"))
    for name, image in zip(("frontal.png", "lateral.png", "one.png"), images):
        shutil.copy(image, tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")  # without arrays
    monkeypatch.chdir(tmp_path)
    for name, answer in {"train_encoder": (None, []), "train": None, "evaluate": []}.items():
        # Other tests train; here the calls have to fit.
        function = create_autospec(getattr(xray_captioning, name), return_value=answer)
        monkeypatch.setattr(xray_captioning, name, function, raising=False)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_examples_in_docstrings_give_what_they_show() -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    written = found = 0
    for path in PACKAGE.rglob("*.py"):
        if number := len(re.findall(r"^ *>>> ", path.read_text("utf-8"), re.M)):
            name = path.relative_to(PACKAGE.parent).with_suffix("")
            module = importlib.import_module(".".join(name.parts).removesuffix(".__init__"))
            examples = finder.find(module)
            written, found = written + number, found + sum(len(e.examples) for e in examples)
            for example in examples:
                runner.run(example)
    assert found == written  # none stands where doctest does not look
    failed, tried = runner.summarize(verbose=False)
    assert tried > 10
    assert not failed
