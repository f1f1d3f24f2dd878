"""What is installed is what was written, and nothing that was not meant to leave is tracked."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib import metadata, resources
from pathlib import Path

import pytest

import xray_captioning

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = "xray-captioning"
LARGEST = 5_000_000  # bytes
# Put together from pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = tuple(f"/{name}" for name in ("work" + "/", "root" + "/", "tmp" + "/w", "home" + "/"))
SECRETS = re.compile("-----BEGIN [A-Z ]*PRIVATE" + " KEY|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|hf_[A-Za-z]{34}")


@pytest.fixture(scope="module")
def tracked():
    """Return every file that is in the repository or would be added to it."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"git cannot list the files here: {listed.stderr.strip()}")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def setup_cfg():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


@pytest.fixture(scope="module")
def folders(setup_cfg):
    """Return the folder of each package that setup.cfg installs."""
    places = dict(_pairs(setup_cfg["options"]["package_dir"]))
    names = setup_cfg["options"]["packages"].split()
    return {name: ROOT / places.get(name, name.replace(".", "/")) for name in names}


def _pairs(lines):
    return [tuple(part.strip() for part in line.split("=")) for line in lines.split("\n") if line]


def test_the_version_has_one_source():
    assert metadata.version(DISTRIBUTION) == xray_captioning.__version__


def test_the_console_script_is_the_command_line():
    scripts = metadata.distribution(DISTRIBUTION).entry_points.select(group="console_scripts")
    assert [script.name for script in scripts] == ["xray-captioning"]
    from xray_captioning.cli import main

    assert scripts["xray-captioning"].load() is main


def test_metadata_names_python_license_and_extras():
    about = metadata.metadata(DISTRIBUTION)
    assert about["Requires-Python"] == ">=3.11"
    assert "Apache-2.0" in (about["License-Expression"] or about["License"])
    assert about.get_all("License-File") == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
    assert "test" in about.get_all("Provides-Extra")


def test_lower_bounds_are_the_versions_that_were_tested(setup_cfg):
    wanted = re.findall(r"^([\w-]+)>=(\S+)", setup_cfg["options"]["install_requires"], re.M)
    lowest = (ROOT / "tests" / "lowest.txt").read_text("utf-8")
    tested = dict(re.findall(r"^([\w-]+)==(\S+)", lowest, re.M))
    assert wanted
    for name, bound in wanted:
        assert f"{tested[name]}.".startswith(f"{bound}."), name


def test_some_build_of_opencv_provides_cv2():
    pytest.importorskip("cv2")
    plain = {"opencv-python", "opencv-contrib-python"}
    builds = plain | {f"{name}-headless" for name in plain}
    assert builds & set(metadata.packages_distributions()["cv2"])


def test_without_opencv_the_error_names_both_builds():
    code = """
import sys
sys.modules["cv2"] = None
import numpy as np
from xray_captioning.data.images import augment
from xray_captioning.errors import MissingExtraError
try:
    augment(np.zeros((1, 32, 32, 3), np.float32), np.random.default_rng(0))
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "opencv-python-headless" in done.stdout
    assert re.search(r"opencv-python\b(?!-)", done.stdout)


def test_every_package_is_installed(folders):
    found = {path.parent for path in (ROOT / "xray_captioning").rglob("__init__.py")}
    assert found | {ROOT / "weights"} == set(folders.values())


def test_every_data_file_is_installed(folders, setup_cfg, tracked):
    patterns = {k: v.replace(",", " ").split() for k, v in setup_cfg["options.package_data"].items()}
    installed = {path for package, globs in patterns.items() for glob in globs for path in folders[package].glob(glob)}
    roots = (ROOT / "xray_captioning", ROOT / "weights")
    data = {p for p in tracked if p.suffix != ".py" and any(r in p.parents for r in roots)}
    assert not data - installed
    assert not {path for path in installed - data if path.is_file()}


def test_package_data_can_be_read():
    for package, suffix in (("presets", ".json"), ("metrics.labels", ".txt"), ("weights", ".md")):
        folder = resources.files(f"xray_captioning.{package}")
        texts = [item.read_text("utf-8") for item in folder.iterdir() if item.name.endswith(suffix)]
        assert texts, package
        assert all(text.strip() for text in texts), package
    assert resources.files("xray_captioning").joinpath("py.typed").is_file()


def test_no_large_file_and_no_byte_code_is_tracked(tracked):
    assert not {p.relative_to(ROOT): s for p in tracked if (s := p.stat().st_size) > LARGEST}
    assert not [p for p in tracked if p.suffix == ".pyc" or "__pycache__" in p.parts]


def test_no_machine_path_or_secret_is_tracked(tracked):
    found = []
    for path in tracked:
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue  # an image or weights
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if any(name in line for name in MACHINE_PATHS) or SECRETS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found
