"""Caches are bounded, and what is in use stays readable."""

import os
import sys
from datetime import datetime
from types import SimpleNamespace

import click
import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.data import features
from xray_captioning.data.cache_folder import GIB, LIMIT_VARIABLE, caches, size_limit, trim
from xray_captioning.data.features import ArrayCache
from xray_captioning.errors import ConfigError

ROW = 1000  # float32 numbers


def compute(paths):
    return np.stack([np.full(ROW, len(path), "float32") for path in paths])


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{'x' * (i + 1)}.png" for i in range(4)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


def filled(root, name, paths):
    cache = ArrayCache(root, {"name": name})
    cache.fill(paths, compute)
    return cache


def test_the_least_recently_used_leaves_first(tmp_path, files):
    root = tmp_path / "cache"
    for age, name in enumerate("cba", start=1):
        for shard in filled(root, name, files[:1]).files:
            os.utime(shard, ns=(0, 10**18 - age))
    used = filled(root, "a", files[:1])  # the oldest, until it was used again
    size = next(iter(used.files)).stat().st_size
    assert trim(root, 2 * size) == size
    assert sorted('"a"' in c.settings or '"c"' in c.settings for c in caches(root)) == [True, True]


def test_a_cache_that_grows_keeps_to_the_limit_and_its_own_rows(tmp_path, files, monkeypatch):
    root = tmp_path / "cache"
    old = filled(root, "old", files)
    monkeypatch.setenv(LIMIT_VARIABLE, str(4 * ROW * 5 / GIB))
    new = filled(root, "new", files)
    assert [cached.settings.count("new") for cached in caches(root)] == [1]
    assert [old[path][0] for path in files] == [new[path][0] for path in files]  # still readable
    again = ArrayCache(root, {"name": "old"})
    again.fill(files[:1], compute)
    assert again[files[0]][0] == len(files[0])


def test_nothing_but_caches_is_removed(tmp_path, files):
    root = tmp_path / "cache"
    filled(root, "a", files)
    (root / "mine").mkdir()
    (root / "mine" / "array.npy").write_text("mine")
    (root / ("0" * 16)).mkdir()
    (root / ("0" * 16) / "array.npy").write_text("mine")
    (root / ("1" * 16)).mkdir()
    (root / ("1" * 16) / "array.npy").write_text("mine")
    (root / ("1" * 16) / "settings.json").write_text('{"name": "mine"}')
    assert trim(root, 0) > 4 * ROW * 4
    assert sorted(path.name for path in root.iterdir()) == ["0" * 16, "1" * 16, "mine"]
    assert (root / ("1" * 16) / "array.npy").read_text() == "mine"
    assert trim(tmp_path / "absent", 0) == 0


def test_what_is_being_written_stays(tmp_path, files):
    """Clearing does not pull a shard from under the process that writes it."""
    root = tmp_path / "cache"
    folder = filled(root, "a", files).folder
    (folder / ".0123456789abcdef.x.npy").write_text("half")
    assert trim(root, 0) > 0
    assert [path.name for path in folder.glob("*.npy")] == [".0123456789abcdef.x.npy"]


def test_another_format_is_another_cache(tmp_path, files, monkeypatch):
    """Arrays of code that reads images otherwise are never taken for today's."""
    root = tmp_path / "cache"
    filled(root, "a", files)
    monkeypatch.setattr(features, "FORMAT", features.FORMAT + 1)
    filled(root, "a", files)
    assert len(caches(root)) == 2


@pytest.mark.parametrize("text", ["1e305", "many", "-1", "inf", "nan"])
def test_a_limit_is_a_number(monkeypatch, text):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(ConfigError, match="give a number of GiB"):
        size_limit()
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    assert size_limit() == 20 * GIB


@pytest.fixture
def command(tmp_path, capsys):
    def run(*words):
        status = main(["cache", "--cache", str(tmp_path / "cache"), *words])
        out, error = capsys.readouterr()
        return out if status == 0 else f"{status} {error}"

    return run


def test_the_command(tmp_path, files, command):
    filled(tmp_path / "cache", "a", files)
    assert '"name": "a"' in command()
    assert '"name": "a"' in command("--limit", "1")
    assert '"name": "a"' not in command("--limit", "0")
    assert "exclude each other" in command("--empty", "--limit", "1")
    assert "give a number of GiB" in command("--limit", "nan")


def test_kinds_and_last_uses_are_listed_and_emptied_by_name(tmp_path, files, command):
    root = tmp_path / "cache"
    kinds = {"encoder": "features", "pixels": "pixels", "digest": "digests"}
    folders = {}
    for year, (key, kind) in enumerate(kinds.items(), 2001):
        cache = ArrayCache(root, {key: "x"})
        cache.fill(files, compute)
        folders[kind] = cache.folder
        os.utime(next(iter(cache.files)), (0, datetime(year, 5, 6, 7, 8).timestamp()))
    lines = {line.split()[2]: line for line in command().splitlines()[:-1]}
    assert lines.keys() == set(kinds.values())
    for year, kind in enumerate(kinds.values(), 2001):
        assert f"{kind:8}  {year}-05-06 07:08  {folders[kind].name}" in lines[kind]
    assert folders["features"].name not in command("--empty", "features", "--yes")
    assert "nothing is called so; there is " in command("--empty", "features", "--yes")
    assert folders["pixels"].name not in command("--empty", folders["pixels"].name, "--yes")
    assert [found.folder for found in caches(root)] == [folders["digests"]]
    assert command("--empty", "--yes").endswith(f"in {root}\n")
    assert caches(root) == []
    assert command("--empty", "--yes").startswith("removed 0.00 GiB")


def test_emptying_asks_first(tmp_path, files, command, monkeypatch):
    filled(tmp_path / "cache", "a", files)
    assert "asks before; add --yes" in command("--empty")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))

    def abort(question):
        raise click.Abort

    monkeypatch.setattr(click, "confirm", lambda question: False)
    assert '"name": "a"' in command("--empty")
    monkeypatch.setattr(click, "confirm", abort)
    assert command("--empty") == "130 xray-captioning: interrupted\n"
    monkeypatch.setattr(click, "confirm", lambda question: question.startswith("remove 1 of"))
    assert '"name": "a"' not in command("--empty")


def test_a_cache_that_is_cleared_before_its_first_shard_is_listed_and_trimmed(tmp_path, files):
    root = tmp_path / "cache"
    cache = ArrayCache(root, {"name": "a"})
    trim(root, 0)  # as another process does
    assert not cache.folder.exists()
    cache.fill(files, compute)
    assert [found.folder for found in caches(root)] == [cache.folder]
    trim(root, 0)
    assert not cache.folder.exists()
