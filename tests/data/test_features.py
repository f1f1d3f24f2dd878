"""Features are computed once for each image content and never served stale."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.data import features
from xray_captioning.data.features import BATCH, WORKERS, ArrayCache, map_batches, stack_features, stack_views
from xray_captioning.errors import DataError


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


def test_missing_views_are_masked():
    one, two = np.ones(3), np.full(3, 2.0)
    stacked, mask = stack_views([[one, one], [two], [None, two]], 2)
    assert stacked.tolist() == [[[1] * 3] * 2, [[2] * 3, [0] * 3], [[0] * 3, [2] * 3]]
    assert mask.tolist() == [[True, True], [True, False], [False, True]]


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


@pytest.mark.parametrize("loses", ["rows", "sums"])
def test_rows_that_were_damaged_on_the_disk_are_computed_again(tmp_path, files, loses):
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    (shard,), (index,) = cache.folder.glob("*.npy"), cache.folder.glob("*.hashes.json")
    content = bytearray(shard.read_bytes())
    content[-24:] = bytes(24)  # the last row
    shard.write_bytes(content)
    if loses == "sums":  # a cache of before has none
        index.write_text(re.sub(":[0-9a-f]{8}", "", index.read_text()))
    for number in (4, 0) if loses == "rows" else (0,):
        compute, again = Counting(), ArrayCache(tmp_path / "cache", {})
        again.fill(files, compute)
        assert len(compute.paths) == number
        assert [int(again[f][0, 0]) for f in files[:3]] == [ord(c) for c in "abc"]
        assert int(again[files[3]][0, 0]) == (0 if loses == "sums" else ord("d"))


def test_a_complete_cache_may_be_read_only(tmp_path, files, monkeypatch):
    ArrayCache(tmp_path / "cache", {}).fill(files, Counting())

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("atomic_write", "atomic_path"):
        monkeypatch.setattr(f"xray_captioning.data.features.{name}", refuse)
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    assert cache[files[1]][0, 0] == ord("b")


def damage_index(cache):
    (index,) = cache.folder.glob("*.hashes.json")
    index.write_text(index.read_text()[:20])


def shorten_index(cache):
    (index,) = cache.folder.glob("*.hashes.json")
    index.write_text(index.read_text().replace(", ", ",").split(",")[0] + "]")


def remove_shard(cache):
    (shard,) = cache.folder.glob("*.npy")
    shard.unlink()


def leave_temporary_file(cache):
    (index,) = cache.folder.glob("*.hashes.json")
    index.unlink()  # killed between the shard and its index
    (cache.folder / ".0123.npy").write_bytes(b"half a shard")


@pytest.mark.parametrize("harm", [damage_index, shorten_index, remove_shard, leave_temporary_file])
def test_what_a_killed_run_leaves_is_computed_again(tmp_path, files, harm):
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    harm(cache)
    compute, again = Counting(), ArrayCache(tmp_path / "cache", {})
    again.fill(files, compute)
    assert len(compute.paths) == 4
    assert [int(again[f][0, 0]) for f in files] == [ord(c) for c in "abcda"]


def test_a_file_that_keeps_size_and_date_is_told_apart(tmp_path, files):
    ArrayCache(tmp_path / "cache", {}).fill(files, Counting())
    found = os.stat(files[0])
    with open(files[0], "w") as file:
        file.write("z")
    os.utime(files[0], ns=(found.st_atime_ns, found.st_mtime_ns))
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    assert cache[files[0]][0, 0] == ord("z")


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, files):
    def compute(paths):
        with open(files[1], "a") as file:
            file.write("more")
        return Counting()(paths)

    cache = ArrayCache(tmp_path / "cache", {})
    with pytest.raises(DataError, match=r"1\.png: changed while it was read"):
        cache.fill(files, compute)
    assert not list(cache.folder.glob("*.npy"))


def test_half_precision_is_kept_in_half_the_bytes_and_eleven_bits(tmp_path, files):
    values = np.random.default_rng(0).lognormal(size=(4, 2, 3, 40)).astype("float32")
    caches = {}
    for dtype in ("float32", "float16"):
        caches[dtype] = ArrayCache(tmp_path / "cache", {}, dtype)
        caches[dtype].fill(files, lambda paths: values)
    full, half = (np.stack([c[f] for f in files[:4]]) for c in caches.values())
    np.testing.assert_array_equal(full, values)
    np.testing.assert_allclose(half, values, rtol=2**-11)
    assert half.nbytes * 2 == full.nbytes
    regions, _ = stack_features([[caches["float16"][files[0]]]], 1)
    assert regions.dtype == "float32"  # what a model is given


def test_a_feature_that_half_precision_cannot_hold_is_refused(tmp_path, files):
    cache = ArrayCache(tmp_path / "cache", {}, "float16")
    with pytest.raises(DataError, match=r"7e\+04 does not fit.*training\.cache_dtype"):
        cache.fill(files, lambda paths: np.full((4, 2, 3), 7e4, "float32"))


def test_a_cache_is_mapped_not_read(tmp_path, files):
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    assert isinstance(next(iter(cache.files.values())), np.memmap)


def test_batches_are_worked_on_together_and_come_in_order():
    together = threading.Barrier(WORKERS)

    def work(part):
        together.wait(timeout=30)  # broken unless as many are in work at a time
        return part

    found = list(map_batches(work, list(range(BATCH * WORKERS))))
    assert [len(part) for part in found] == [BATCH] * WORKERS
    assert [number for part in found for number in part] == list(range(BATCH * WORKERS))


def test_the_first_error_in_order_is_raised_and_the_rest_left():
    done, never = [], threading.Event()

    def work(part):
        done.extend(part)
        if part[0] == BATCH:
            raise ValueError(part[0])
        never.wait(0.01)  # work takes time, in which the error is seen

    with pytest.raises(ValueError, match=f"^{BATCH}$"):
        list(map_batches(work, list(range(BATCH * 200))))
    assert len(done) < BATCH * 200


def meanwhile(monkeypatch, other):
    """Let `other` happen after the first look into the folder, as another process works beside this one."""
    look = ArrayCache._look

    def looked(cache):
        look(cache)
        monkeypatch.setattr(ArrayCache, "_look", look)
        other()

    monkeypatch.setattr(ArrayCache, "_look", looked)


def test_what_another_process_has_written_meanwhile_is_not_computed(tmp_path, files, monkeypatch):
    monkeypatch.setattr(features, "SHARD", 2)
    meanwhile(monkeypatch, lambda: ArrayCache(tmp_path / "cache", {}).fill(files[:3], Counting()))
    compute, cache = Counting(), ArrayCache(tmp_path / "cache", {})
    cache.fill(files, compute)
    assert compute.paths == [files[3]]
    assert [int(cache[f][0, 0]) for f in files] == [ord(c) for c in "abcda"]


def test_rows_of_two_processes_that_differ_in_a_digit_are_not_mixed(tmp_path, files):
    def fill(digit):
        cache = ArrayCache(tmp_path / "cache", {})
        cache._hash(files)
        return cache, cache.write(files[:2], lambda paths: Counting()(paths) + digit)

    first, second = fill(0.0)[0], fill(1e-3)[0]
    compute, again = Counting(), ArrayCache(tmp_path / "cache", {})
    again.fill(files[:2], compute)
    assert not compute.paths  # one's shard beside the other's sums would be damage
    assert first[files[0]][0, 0] != second[files[0]][0, 0]


def test_rows_that_another_process_removes_at_once_stay_in_this_one(tmp_path, files, monkeypatch):
    opened = ArrayCache._open

    def removed_before(cache, shard):
        shard.unlink()
        opened(cache, shard)

    monkeypatch.setattr(ArrayCache, "_open", removed_before)
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(files, Counting())
    assert [int(cache[f][0, 0]) for f in files] == [ord(c) for c in "abcda"]


PROCESS = """
import json, sys
import numpy as np
from xray_captioning.data import features

features.SHARD = 4
computed, paths = [], json.loads(sys.argv[2])

def compute(some):
    computed.extend(some)
    return np.stack([np.full(3, int(open(path).read()), "float32") for path in some])

print("ready", flush=True)
sys.stdin.read()
cache = features.ArrayCache(sys.argv[1], {})
cache.fill(paths, compute)
assert [int(cache[path][0]) for path in paths] == list(range(len(paths)))
print(len(computed))
"""


def test_two_processes_fill_one_cache_at_the_same_time(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(120)]
    for number, path in enumerate(paths):
        Path(path).write_text(str(number))
    line = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), json.dumps(paths)]
    both = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    for one in both:
        one.stdin.close()
    counts = [int(one.stdout.read()) for one in both]
    assert [one.wait() for one in both] == [0, 0]
    assert 120 <= sum(counts) <= 240
    compute, again = Counting(), ArrayCache(tmp_path / "cache", {})
    again.fill(paths, compute)
    assert not compute.paths


LIMITED = """
import resource, sys
import numpy as np
from xray_captioning.data.features import ArrayCache, image_regions

cache, paths = ArrayCache(sys.argv[1], {}), sys.argv[2:]
cache.fill(paths, lambda some: 1 / 0)
in_use = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (in_use + 2**25,) * 2)
rows = [cache[path] for path in paths]
try:
    np.stack(rows)
except MemoryError:
    print("does not fit")
of, rng = image_regions(cache, [[path] for path in paths], 2), np.random.default_rng(0)
for numbers in np.split(rng.permutation(len(paths)), len(paths) // 2):
    regions, mask = of(numbers)
    assert regions.shape == (2, 2 * 7 * 7, 2**12)
    assert regions[mask].min() == regions[mask].max() == 1
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_batches_come_of_a_set_that_is_larger_than_memory(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(64)]
    for number, path in enumerate(paths):
        Path(path).write_text(str(number))
    cache = ArrayCache(tmp_path / "cache", {})
    cache.fill(paths, lambda some: np.ones((len(some), 7, 7, 2**12), "float32"))
    assert sum(shard.stat().st_size for shard in cache.files) > 2**25
    found = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "cache", *paths], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "does not fit\n"), found.stderr


MANY = """
import resource, sys
import numpy as np
from xray_captioning.data import features

features.SHARD = 1
hard = int(sys.argv[2])
paths = sys.argv[3:]
resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
for _ in range(2):
    cache, computed = features.ArrayCache(sys.argv[1], {}), []
    cache.fill(paths, lambda some: computed.extend(some) or np.ones((len(some), 2)))
print(len(computed))
"""


def test_more_shards_than_files_may_be_open(tmp_path):
    pytest.importorskip("resource")
    paths = [str(tmp_path / f"{number}.png") for number in range(60)]
    for number, path in enumerate(paths):
        Path(path).write_text(str(number))
    line = [sys.executable, "-c", MANY, tmp_path / "cache"]
    found = subprocess.run([*line, "200", *paths], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "0\n"), found.stderr
    found = subprocess.run([*line, "40", *paths], capture_output=True, text=True)
    assert "may map no more shards; raise its limit (ulimit -n)" in found.stderr
