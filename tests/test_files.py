"""Whole files or none."""

import hashlib
import os
import stat
import sys
from typing import Any

import pytest

from xray_captioning.errors import BundleError, DataError
from xray_captioning.files import atomic_path, atomic_write, downloading, new_folder, read_json, sha256_file


def test_atomic_write_makes_folders_and_keeps_line_ends(tmp_path):
    path = tmp_path / "a" / "b" / "text.json"
    atomic_write(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["text.json"]


def test_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "weights.h5"
    atomic_write(path, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights.h5"]


def test_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_temporary_keeps_folder_and_suffix(tmp_path):
    with atomic_path(tmp_path / "model.weights.h5") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".h5"
        # a writer may itself replace the temporary file
        (tmp_path / "other").write_text("new")
        os.replace(tmp_path / "other", temporary)
    assert (tmp_path / "model.weights.h5").read_text() == "new"


def test_what_killed_writers_left_in_a_folder_is_removed(tmp_path):
    with atomic_path(tmp_path / "best.weights.h5") as temporary:
        others = temporary.name.replace(str(os.getpid()), "{}")
        assert "{}" in others
    dead, alive, elsewhere = (others.format(pid) for pid in ("99999999", str(os.getppid()), "x"))
    for name in (dead, alive, elsewhere, ".best.weights.h5", f".other{dead}"):
        (tmp_path / name).write_text("half")
    atomic_write(tmp_path / "best.weights.h5", "whole")
    kept = {"best.weights.h5", alive, elsewhere, ".best.weights.h5"}
    assert set(os.listdir(tmp_path)) == (kept if os.name == "posix" else kept | {dead, f".other{dead}"})


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("No space left on device")])
def test_a_full_disk_names_the_file(tmp_path, error):
    with pytest.raises(OSError, match="No space left") as raised, atomic_path(tmp_path / "weights.h5"):
        raise error
    assert raised.value.filename == str(tmp_path / "weights.h5")
    assert raised.value.strerror == "No space left on device"
    with pytest.raises(OSError, match="No space left") as raised, new_folder(tmp_path / "out"):
        raise error
    assert raised.value.filename == str(tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    atomic_write(tmp_path / "atomic", "x")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1


def test_sha256_file(tmp_path):
    path = tmp_path / "big"
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()
    for wrong in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match=wrong.name):
            sha256_file(wrong)


def test_a_download_is_announced_once_it_has_begun(capsys):
    with downloading():
        sys.stdout.write("Downloading data from here\n")
        assert capsys.readouterr() == ("", "")
        sys.stdout.write("1/2")
        sys.stdout.write("2/2")
        sys.stdout.flush()
    assert capsys.readouterr() == ("", "Downloading data from here\n1/22/2")


def test_json_that_is_too_deep(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("[" * 9)

    def too_deep(text, **_):
        raise RecursionError("maximum recursion depth exceeded")  # as `json` does after some thousands

    monkeypatch.setattr("json.loads", too_deep)
    with pytest.raises(BundleError, match=r"damaged or not JSON .*; get it again"):
        read_json(tmp_path / "config.json", "get it again")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"x": {"a": 1, "b": 2, "a": 3}}]', '{"a": 1, "\\u0061": 2}'])
def test_a_key_that_stands_twice_in_json_is_refused(tmp_path, text):
    (path := tmp_path / "config.json").write_text(text)
    with pytest.raises(BundleError, match=r"config\.json: has the key 'a' twice in one object; keep one of them$"):
        read_json(path, "get it again", of=Any)
