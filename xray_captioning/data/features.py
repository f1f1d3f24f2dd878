"""Arrays that are computed once for each image and kept on disk. The cache is a folder of shards named after what
was computed. Each is a memory-mapped ``.npy`` array with a row for each image, and a ``.json`` list of the images'
content hashes and the rows' CRC-32; of a damaged shard all rows are computed again. When the folder of all caches
exceeds its limit, the least recently used shards are removed; those of the running process stay.

Several processes may fill one cache at a time, without locks (docs/scale.md). Every file is hashed in every run,
because size and date alone do not distinguish a copied file from the one before; that takes a third of a millisecond
for a 1,024 px PNG.
"""

import errno
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.cache_folder import SETTINGS, allow_files, home_of, note_use, size_limit, trim
from xray_captioning.data.stores import versions
from xray_captioning.errors import DataError
from xray_captioning.files import atomic_path, atomic_write, progress, remove_leftovers, sha256_file

FORMAT = 1  # of shards, and of how images are read; another number starts all caches anew
SHARD = 512  # images
# Images in one batch. Two batches of 8 at a time keep two cores busier than one of 32; one is read meanwhile.
BATCH = 8
SPREAD, SHARES = 32, 64  # of what is spread over other processes: least images of a shard, least shards
DECODED = 32  # images in one batch where none has to be read from a file
WORKERS = min(max(os.cpu_count() or 2, 2), 4)
Array = NDArray[Any]
Compute = Callable[[list[str]], Array]  # of the paths of images
Spread = Callable[[Iterable[list[str]]], Iterator[list[int]]]
T = TypeVar("T")
R = TypeVar("R")


class Features(NamedTuple):
    """Encoder features of a batch of studies, as tensors or arrays."""

    regions: Any  # (batch, regions, channels), float, in the order view, row, column
    mask: Any  # (batch, regions), bool; False for the regions of a view that a study does not have


def map_batches(function: Callable[[list[T]], R], items: Sequence[T], size: int = BATCH) -> Iterator[R]:
    """Call a function on batches of items, several at a time in threads; yield results in order."""
    batches = [list(items[start : start + size]) for start in range(0, len(items), size)]
    with ThreadPoolExecutor(WORKERS) as pool:  # which starts threads only when it is asked for work
        yield from (pool.map if len(batches) > 1 else map)(function, batches)


def one_ahead(make: Callable[[], T | None]) -> Iterator[T]:
    """Yield what a function returns until that is None; it makes the next one meanwhile, in a thread."""
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(make)
        while (found := ready.result()) is not None:
            ready = pool.submit(make)
            yield found


def power_of_two(count: int) -> int:
    """Return the least power of two that is not below ``count``, so that few sizes are compiled."""
    return 1 << (count - 1).bit_length()


def pad_rows(array: Array, rows: int) -> Array:
    """Return an array with zeros appended to its first axis, up to so many rows."""
    if len(array) == rows:
        return array
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def narrowed(rows: Array, dtype: str | None, advice: str) -> Array:
    """Return floating-point rows as a narrower type, in which infinity would be a DataError."""
    if dtype is None or rows.dtype == dtype:
        return rows
    with np.errstate(over="ignore"):
        stored = np.asarray(rows, dtype)
    if not np.isfinite(stored).all():
        raise DataError(f"a feature of {np.abs(rows).max():.3g} does not fit into {dtype}; {advice}")
    return stored


class ArrayCache:
    """Rows of arrays, one for each image file, found by the file's content; kept in `folder`, or the usual one, as
    `dtype`. `settings` are all that decides a row beside the image's bytes: preprocessing, encoder, weights.
    """

    def __init__(self, folder: str | Path | None, settings: dict[str, Any], dtype: str | None = None) -> None:
        text = json.dumps({**settings, "dtype": dtype, "format": FORMAT}, sort_keys=True)
        self.folder = home_of(text, folder)
        self.settings = text
        if not (self.folder / SETTINGS).is_file():  # one that is complete may be read-only
            atomic_write(self.folder / SETTINGS, text)
        remove_leftovers(self.folder)
        self.dtype = dtype
        self.limit = size_limit()
        self.files: dict[Path, Array] = {}  # shards
        self.rows: dict[str, tuple[Path, int]] = {}
        self.sums: dict[Path, list[str]] = {}  # of the rows of shards that are not compared yet
        self.hashes: dict[str, str] = {}

    def fill(self, paths: Iterable[str], compute: Compute, label: str = "encode", spread: Spread | None = None) -> None:
        """Compute and keep the rows that are not there yet: `compute` in several threads, or `spread`."""
        # This lets other processes write the shards themselves, and yields how many rows were written.
        seen = self._hash(list(dict.fromkeys(paths)))
        wanted = {self.hashes[path]: path for path in seen}
        self._look()
        self._check(wanted)
        missing = [path for found, path in wanted.items() if found not in self.rows]
        size = min(SHARD, max(SPREAD, len(missing) // SHARES // BATCH * BATCH)) if spread else SHARD
        groups = [missing[start : start + size] for start in range(0, len(missing), size)]
        with progress(total=len(missing), desc=label, unit="image") as bar:
            if spread:
                for counts in spread(groups):
                    bar.update(sum(counts))
            else:
                random.SystemRandom().shuffle(groups)  # another process has another order
                for group in groups:
                    self._look()
                    left = [path for path in group if self.hashes[path] not in self.rows]
                    bar.update(len(group) - len(left))
                    self.write(left, compute, seen, bar.update)
                    trim(self.folder.parent, self.limit, keep=self.files)
        self._look()
        if lost := [path for path in missing if self.hashes[path] not in self.rows]:
            what = f"{lost[0]}: has no row in {self.folder}, or changed while it was read"
            raise DataError(f"{what}; start again, with a --cache that all workers share")
        if spread:
            trim(self.folder.parent, self.limit, keep=self.files)

    def write(self, paths: list[str], compute: Compute, seen: Any = None, done: Any = int) -> list[int]:
        """Compute and keep the rows of images, hashed where they are `seen`, as a shard; tell `done` their number."""
        seen, rows = seen or self._hash(paths), []
        for part in map_batches(compute, paths):
            rows.append(narrowed(part, self.dtype, "set training.cache_dtype to float32"))
            done(len(part))
        stored = versions(paths)
        for path in paths:
            if (stored.get(path) or _state(path)) != seen[path]:  # its new row would get the hash of the old
                raise DataError(f"{path}: changed while it was read; start again")
        if paths:
            self._add(paths, np.concatenate(rows))
        return [len(paths)]

    def __getitem__(self, path: str) -> Array:
        """Return the row of an image that :meth:`fill` was given."""
        shard, row = self.rows[self.hashes[path]]
        return np.asarray(self.files[shard][row])

    def _hash(self, paths: list[str]) -> dict[str, Any]:
        """Note the hash of each file; return size and date, which a later change would alter."""
        stored = versions(paths)  # of files of a store it has to do
        here = [path for path in paths if path not in stored]
        states: dict[str, Any] = {**stored, **{path: _state(path) for path in here}}
        with ThreadPoolExecutor() as pool:
            self.hashes.update(zip(here, pool.map(sha256_file, here)))
        self.hashes |= {path: hashlib.sha256(f"{path} {of}".encode()).hexdigest() for path, of in stored.items()}
        return states

    def _add(self, paths: list[str], rows: Array) -> None:
        sums = [f"{self.hashes[path]}:{_sum(row)}" for path, row in zip(paths, rows)]
        text = json.dumps(sums)
        shard = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"
        with atomic_path(shard) as temporary, open(temporary, "wb") as file:
            np.save(file, rows)
        atomic_write(shard.with_suffix(".hashes.json"), text)
        # Another process may have cleared the folder; without its settings it is nobody's cache.
        atomic_write(self.folder / SETTINGS, self.settings)
        self._open(shard)
        if shard not in self.files:  # it has been removed again, by a process with a smaller limit
            self._keep(shard, rows, sums)

    def _look(self) -> None:
        """Open the shards that are new: another process may have written them."""
        there = [index.with_suffix("").with_suffix(".npy") for index in sorted(self.folder.glob("*.hashes.json"))]
        allow_files(len(there))
        for shard in there:
            if shard not in self.files:
                self._open(shard)

    def _open(self, shard: Path) -> None:
        try:
            hashes = json.loads(shard.with_suffix(".hashes.json").read_text("utf-8"))
            rows = np.load(shard, mmap_mode="r")
            if not isinstance(hashes, list) or len(hashes) != len(rows):
                raise ValueError
        except (ValueError, OSError, EOFError) as error:
            if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                advice = "raise its limit (ulimit -n), or keep fewer features"
                raise DataError(f"{self.folder}: this process may map no more shards; {advice}") from error
            return  # damaged: its images are computed again and the shard is replaced
        note_use(shard)
        self._keep(shard, rows, [str(found) for found in hashes])

    def _keep(self, shard: Path, rows: Array, hashes: list[str]) -> None:
        parts = [found.partition(":") for found in hashes]
        self.files[shard] = rows
        self.rows.update({found: (shard, row) for row, (found, _, _) in enumerate(parts)})
        self.sums[shard] = [known for *_, known in parts]

    def _check(self, wanted: Iterable[str]) -> None:
        """Forget shards that were damaged on the disk, of those in which something is wanted."""
        shards = {self.rows[found][0] for found in wanted if found in self.rows} & self.sums.keys()
        with ThreadPoolExecutor(WORKERS) as pool:
            damaged = set(compress(shards, pool.map(self._is_damaged, shards)))
        self.rows = {found: at for found, at in self.rows.items() if at[0] not in damaged}
        for shard in damaged:
            del self.files[shard]
            with suppress(OSError):  # or it would be read again every time
                shard.with_suffix(".hashes.json").unlink()
                shard.unlink()

    def _is_damaged(self, shard: Path) -> bool:
        return any(known not in ("", _sum(row)) for row, known in zip(self.files[shard], self.sums.pop(shard)))


def _sum(row: Array) -> str:
    return f"{crc32(row.tobytes()):08x}"


def _state(path: str) -> tuple[int, int]:
    with suppress(OSError):  # reading it will raise an error that names it
        return (found := os.stat(path)).st_size, found.st_mtime_ns
    return 0, 0


# The rows of each study, one for each view; None where a view is missing.
Rows = Sequence[Sequence[Array | None]]
# Of numbers of studies: regions (studies, regions, channels) and their mask (studies, regions).
Regions = Callable[[Array], tuple[Array, Array]]
Maps = Mapping[str, Array] | ArrayCache  # by the paths of images


def image_regions(cache: Maps, images: Sequence[Sequence[str | None]], views: int) -> Regions:
    """Return what lays cached feature maps of studies out as regions; `images` are of all."""
    return lambda numbers: stack_features([study_rows(cache, images[i]) for i in numbers], views)


def study_rows(cache: Maps, images: Sequence[str | None]) -> list[Array | None]:
    """Return the cached rows of one study's images, None where a view is missing."""
    return [None if path is None else cache[path] for path in images]


def stack_views(rows: Rows, views: int) -> tuple[Array, Array]:
    """Lay rows (...) of studies out as (studies, views, ...), zeros for missing ones, and a mask."""
    there = {(i, j): row for i, study in enumerate(rows) for j, row in enumerate(study) if row is not None}
    first = next(iter(there.values()))
    stacked, mask = np.zeros((len(rows), views, *first.shape), first.dtype), np.zeros((len(rows), views), bool)
    for place, row in there.items():
        stacked[place], mask[place] = row, True
    return stacked, mask


def stack_features(rows: Rows, views: int) -> tuple[Array, Array]:
    """Lay maps (rows, columns, channels) out as regions (studies, regions, channels), float32, and their mask."""
    stacked, mask = stack_views(rows, views)
    regions = stacked.reshape(len(stacked), -1, stacked.shape[-1]).astype("float32", copy=False)
    return regions, np.repeat(mask, regions.shape[1] // views, axis=1)
