"""Features are computed once for each image content and never served stale."""

import numpy as np
import pytest

from xray_captioning.data.features import (
    ArrayCache,
    select_images,
    stack_features,
    stack_views,
)


class Counting:
    """Computes a row from a file's bytes and counts how often."""

    def __init__(self):
        self.paths = []

    def __call__(self, paths):
        self.paths += paths
        return np.stack([np.full((2, 3), ord(open(p).read()[0]), "float32") for p in paths])


@pytest.fixture
def files(tmp_path):
    paths = []
    for letter in "abcda":
        path = tmp_path / f"{len(paths)}.png"
        path.write_text(letter)
        paths.append(str(path))
    return paths


def test_each_content_is_computed_once(tmp_path, files):
    compute, cache = Counting(), ArrayCache(tmp_path / "cache", {"a": 1})
    cache.fill(files, compute)
    cache.fill(files, compute)
    assert len(compute.paths) == 4  # two files have the same bytes
    assert [int(cache[f][0, 0]) for f in files] == [ord(c) for c in "abcda"]


def test_another_process_finds_the_rows(tmp_path, files):
    ArrayCache(tmp_path / "cache", {"a": 1}).fill(files[:3], Counting())
    compute, again = Counting(), ArrayCache(tmp_path / "cache", {"a": 1})
    again.fill(files, compute)
    assert compute.paths == [files[3]]
    assert again[files[1]][0, 0] == ord("b")


def test_a_changed_file_or_setting_is_computed_again(tmp_path, files):
    ArrayCache(tmp_path / "cache", {"a": 1}).fill(files, Counting())
    with open(files[0], "w") as file:
        file.write("z")
    compute, cache = Counting(), ArrayCache(tmp_path / "cache", {"a": 1})
    cache.fill(files, compute)
    assert compute.paths == [files[0]]
    assert cache[files[0]][0, 0] == ord("z")
    compute = Counting()
    ArrayCache(tmp_path / "cache", {"a": 2}).fill(files, compute)
    assert len(compute.paths) == 5


def test_an_interrupted_fill_keeps_whole_shards(tmp_path, files, monkeypatch):
    monkeypatch.setattr("xray_captioning.data.features.SHARD", 2)
    compute = Counting()

    def interrupted(paths):
        if len(compute.paths) >= 2:
            raise KeyboardInterrupt
        return compute(paths)

    with pytest.raises(KeyboardInterrupt):
        ArrayCache(tmp_path / "cache", {}).fill(files, interrupted)
    again, cache = Counting(), ArrayCache(tmp_path / "cache", {})
    cache.fill(files, again)
    assert len(again.paths) == 2


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (["lateral", "frontal", "frontal"], ["b", "a"]),
        (["unknown", "unknown", "unknown"], ["a", "b"]),
        (["frontal", "frontal", "lateral"], ["a", "c"]),
        (["frontal", "frontal", "unknown"], ["a", "b"]),
        (["lateral", "unknown", "unknown"], ["a", "b"]),
    ],
)
def test_one_frontal_and_one_lateral_come_first(views, expected):
    assert select_images(["a", "b", "c"], views, 2) == expected


def test_a_lone_image_is_repeated_only_where_asked():
    assert select_images(["a"], ["lateral"], 2) == ["a"]
    assert select_images(["a"], ["lateral"], 2, repeat=True) == ["a", "a"]
    assert select_images(["a", "b", "c"], ["unknown"] * 3, 1) == ["a"]


def test_missing_views_are_masked():
    rows = [[np.ones(3), np.ones(3)], [np.full(3, 2.0)]]
    stacked, mask = stack_views(rows, 2)
    assert stacked.tolist() == [[[1] * 3] * 2, [[2] * 3, [0] * 3]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_regions_are_ordered_by_view_row_and_column():
    maps = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    regions, mask = stack_features([[maps, maps + 100], [maps]], 2)
    assert regions.shape == (2, 12, 4)
    assert regions[0, 6 + 1 * 3 + 2].tolist() == (maps[1, 2] + 100).tolist()
    assert mask.sum(axis=1).tolist() == [12, 6]


def test_a_damaged_shard_is_computed_again(tmp_path, files):
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    (shard,) = cache.folder.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:100])
    compute, again = Counting(), ArrayCache(tmp_path / "cache", {})
    again.fill(files, compute)
    assert len(compute.paths) == 4
    assert again[files[2]][0, 0] == ord("c")
