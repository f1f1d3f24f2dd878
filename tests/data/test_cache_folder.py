"""Caches are bounded, and what is in use stays readable."""

import os

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
    assert trim(root, 2 * used.files[0].stat().st_size) == used.files[0].stat().st_size
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


def test_the_command(tmp_path, files, capsys):
    root = tmp_path / "cache"
    filled(root, "a", files)
    assert main(["cache", "--cache", str(root)]) == 0
    assert '"name": "a"' in capsys.readouterr().out
    assert main(["cache", "--cache", str(root), "--limit", "1"]) == 0
    assert '"name": "a"' in capsys.readouterr().out
    assert main(["cache", "--cache", str(root), "--clear"]) == 0
    assert '"name": "a"' not in capsys.readouterr().out
    assert main(["cache", "--cache", str(root), "--clear", "--limit", "1"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert main(["cache", "--cache", str(root), "--limit", "nan"]) == 2
    assert "give a number of GiB" in capsys.readouterr().err


def test_a_cache_that_is_cleared_before_its_first_shard_is_listed_and_trimmed(tmp_path, files):
    root = tmp_path / "cache"
    cache = ArrayCache(root, {"name": "a"})
    trim(root, 0)  # as another process does
    assert not cache.folder.exists()
    cache.fill(files, compute)
    assert [found.folder for found in caches(root)] == [cache.folder]
    trim(root, 0)
    assert not cache.folder.exists()
