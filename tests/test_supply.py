"""Pins of the images: hashes, everything that the package asks for, and nothing of the machine that made them."""

import configparser
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
supply = importlib.util.module_from_spec(
    spec := importlib.util.spec_from_file_location("supply", ROOT / "tools/supply.py")
)
spec.loader.exec_module(supply)
NAME = re.compile(r"^([A-Za-z0-9._-]+)")


def asked(name):
    """Return what an image installs, as the project's own files have it."""
    if name == "runtime":
        lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    else:
        setup = configparser.ConfigParser(delimiters="=", comment_prefixes="#")
        setup.read(ROOT / "setup.cfg")
        extras = setup["options.extras_require"]
        lines = f"{setup['options']['install_requires']}\n{extras['dicom']}\n{extras['serve']}".splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", supply.PINS)
def test_every_requirement_is_pinned_within_its_bounds(name):
    requirements = pytest.importorskip("packaging.requirements")
    text = (ROOT / "constraints" / f"{name}.txt").read_text()
    pins = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    for one in [*asked(name), "setuptools>=77"]:
        wanted = requirements.Requirement(one)
        assert wanted.name in pins, one
        assert pins[wanted.name] in wanted.specifier, one


@pytest.mark.parametrize("name", supply.PINS)
def test_every_pin_has_hashes_and_no_address(name):
    text = (ROOT / "constraints" / f"{name}.txt").read_text()
    assert not re.search(r"://|(^|\s)/|^-", text, re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", text.split("\n", 1)[1].strip())
    assert len(blocks) > 15
    for block in blocks:
        assert re.fullmatch(r"\S+==\S+( ; [^\\\n]+)?( \\\n +--hash=sha256:[0-9a-f]{64})+", block), block


def test_licences_are_said_of_every_package():
    table = (ROOT / "docs" / "licences.md").read_text()
    named = set(re.findall(r"^\| ([a-z0-9._-]+) \|", table, re.MULTILINE)) - {"package"}
    assert named == set.union(*map(supply.pinned, supply.PINS))
    assert supply.licence("BSD\n\nwhole text | of it") == "BSD"


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.runtime"])
def test_images_install_nothing_without_a_hash(file):
    text = (ROOT / file).read_text()
    assert re.findall(r"pip install (\S+)", text) == ["--require-hashes", "--no-deps"]
    assert "--no-build-isolation" in text
