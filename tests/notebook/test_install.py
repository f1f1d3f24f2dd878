"""The cell that installs the package: from a wheel attached on Kaggle, a checkout, PyPI, or GitHub."""

import os
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest

from tests.notebook.test_notebooks import HERE, NAMES

NOWHERE = "http://127.0.0.1:9"  # nothing listens there
ADDRESS = "git+https://github.com/xray-captioning/xray_captioning"
# Runs a cell as a notebook does. The tests' own packages hide neither the package nor what pip put beside it.
DRIVER = """
import importlib.machinery, importlib.util, os, sys
from IPython.core.interactiveshell import InteractiveShell
importlib.util.find_spec = lambda name: importlib.machinery.PathFinder.find_spec(name, [os.environ["PIP_TARGET"]])
shell = InteractiveShell.instance(history_manager=None)
shell.run_cell(open(sys.argv[1]).read()).raise_error()
"""
BACKEND = """
import shutil
def build_wheel(folder, settings=None, metadata=None):
    return shutil.copy({wheel!r}, folder).rpartition("/")[2]
"""


def wheel(folder, name="xray_captioning", version="9.0", says="wheel"):
    """Write a wheel whose package only says where it came from; one for Kaggle asks for what is nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    path, about = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    needs = "Requires-Dist: not-on-kaggle\n" if says == "wheel" else ""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"origin = {says!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def checkout(folder, says):
    """Write a project that is built without asking for anything, and return where its notebooks are."""
    made = wheel(folder.parent / f"{folder.name}-wheel", says=says)
    (folder / "notebooks").mkdir(parents=True)
    (folder / "setup.cfg").write_text("[metadata]\nname = xray-captioning\n")
    (folder / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n')
    (folder / "b.py").write_text(BACKEND.format(wheel=str(made)))
    return folder / "notebooks"


def index(folder, *wheels):
    """Write a package index of files, and return its address."""
    (folder / "xray-captioning").mkdir(parents=True)
    links = "".join(f'<a href="{path.as_uri()}">{path.name}</a>' for path in wheels)
    (folder / "xray-captioning" / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return folder.as_uri()


@pytest.fixture
def install(tmp_path):
    """Return what runs the cell somewhere and returns what the package says, and which others there are."""
    cell = nbformat.read(HERE / f"{NAMES[-1]}.ipynb", as_version=4).cells[1].source
    assert cell.count("/kaggle/input") == cell.count(ADDRESS) == 1
    script, target, kaggle = tmp_path / "cell.py", tmp_path / "site", tmp_path / "kaggle"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_TARGET": str(target), "PIP_RETRIES": "0"}

    def run(folder, packages=NOWHERE, repository="nowhere"):
        script.write_text(cell.replace("/kaggle/input", str(kaggle)).replace(ADDRESS, repository))
        told = {"PIP_INDEX_URL": packages, "IPYTHONDIR": str(tmp_path / "ipython")}
        command = [sys.executable, "-c", DRIVER, str(script)]
        subprocess.run(command, cwd=folder, env=environment | told, check=True, capture_output=True)
        found = sorted(path.name for path in target.iterdir() if (path / "__init__.py").is_file())
        return (target / "xray_captioning" / "__init__.py").read_text().split("'")[1], found

    return run


def test_all_notebooks_have_the_same_cell():
    cells = [nbformat.read(HERE / f"{name}.ipynb", as_version=4).cells[1].source.split("\n") for name in NAMES]
    assert len({tuple(line for line in cell if not line.startswith("extras = ")) for cell in cells}) == 1


@pytest.mark.slow
def test_a_wheel_attached_on_kaggle_needs_no_index_and_none_of_kaggles_packages(install, tmp_path):
    attached = tmp_path / "kaggle" / "datasets" / "somebody" / "wheels"
    wheel(attached, version="8.0", says="an older wheel")
    wheel(attached)
    wheel(attached, "lacking", says="")
    wheel(tmp_path / "kaggle" / "another", "unrelated", says="")
    elsewhere = checkout(tmp_path / "checkout", "checkout")
    assert install(elsewhere) == ("wheel", ["lacking", "xray_captioning"])


@pytest.mark.slow
def test_a_checkout_is_installed_by_its_notebooks(install, tmp_path):
    assert install(checkout(tmp_path / "checkout", "checkout")) == ("checkout", ["xray_captioning"])


@pytest.mark.slow
def test_pypi_comes_before_github_once_the_package_is_there(install, tmp_path):
    there = index(tmp_path / "index", wheel(tmp_path / "released", says="PyPI"))
    assert install(tmp_path, there) == ("PyPI", ["xray_captioning"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_github_where_pypi_has_none(install, tmp_path):
    folder = checkout(tmp_path / "repository", "GitHub").parent
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    found = install(tmp_path, index(tmp_path / "index"), f"git+file://localhost{folder}")
    assert found == ("GitHub", ["xray_captioning"])
