"""Features of studies as data: written, and read a few rows at a time, whoever computed them. What is read is not
mapped into memory, where a whole file would seem to stay, but copied.
"""

import hashlib
import json
import math
import os
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, convert

from xray_captioning.data.features import Array, narrowed
from xray_captioning.data.records import as_text
from xray_captioning.data.stores import local
from xray_captioning.data.studies import Studies
from xray_captioning.data.table import Table
from xray_captioning.errors import ConfigError, DataError, one_error, require
from xray_captioning.files import atomic_path, new_folder

ZARR = "zarr", "features in .zarr", "zarr"  # a package that is not everywhere
BATCH = 32  # studies that are written, or checked, at a time
WHOLE = 2**30  # bytes of an array that may be read at once, as a compressed one must
SOME = 16  # rows that tell one array from another
_FORMAT = np.lib.format
Write = Callable[[str, int, Iterable[Array]], None]  # an array of a name and so many rows, in parts


class Made(Struct, frozen=True):
    """What `encode` says of features that it wrote; of others nothing need be known."""

    encoder: str = ""
    layer: str | None = None  # of an ONNX file
    weights: str | None = None  # as they were asked for
    weights_sha256: str = ""
    image: dict[str, Any] = {}  # fields of ImageConfig
    left_out: list[str] = []  # studies of which no image was there
    trained_on: dict[str, Any] | None = None  # see TrainedOn.to_dict


@dataclass(frozen=True, eq=False)
class StudyFeatures:
    """Regions of studies, of which rows are read when they are asked for."""

    source: str  # for messages
    regions: Any  # an array, perhaps not in memory, of a shape that `grid` knows
    ids: list[str]
    views: Array  # (studies, views) bool, False where a study has no such image
    about: Made
    places: dict[str, int] = field(default_factory=dict)  # rows by the study ids of a table

    @property
    def grid(self) -> tuple[int, int, int]:
        """Views, rows and columns: regions that can be a square are one, else one row; what names no views has one."""
        sizes = tuple(self.regions.shape[1:-1])
        if len(sizes) == 1 and math.isqrt(sizes[0]) ** 2 == sizes[0]:
            sizes = (math.isqrt(sizes[0]),) * 2
        views, rows, columns = (1, 1, 1, *sizes)[-3:]
        return views, rows, columns

    @property
    def channels(self) -> int:
        """Numbers of a region."""
        return int(self.regions.shape[-1])

    def read(self, places: Array, pool: int = 1) -> tuple[Array, Array]:
        """Return regions (studies, views * rows * columns, channels), float16 or float32 as kept, and their mask."""
        # `pool` is the side of squares of regions of which the mean is taken, as an encoder's pooling does.
        size = len(places) if pool == 1 else 1  # means are taken of one study after the other
        parts = [self._maps(places[i : i + size], pool) for i in range(0, len(places), size)]
        maps = parts[0] if len(parts) == 1 else np.concatenate(parts)
        regions = maps.reshape(len(places), -1, self.channels)
        return regions, np.repeat(self.views[places], regions.shape[1] // maps.shape[1], axis=1)

    def _maps(self, places: Array, pool: int) -> Array:
        rows = getattr(self.regions, "oindex", self.regions)  # of a zarr array
        with one_error(DataError, f"{self.source}: cannot be read ({{error}}); copy it again, or write it again"):
            maps = np.asarray(rows[places]).reshape(len(places), *self.grid, self.channels)
        if maps.dtype not in (np.float16, np.float32):
            maps = maps.astype(np.float32)
        return maps if pool == 1 else _pooled(maps, pool)

    def of(self, names: Iterable[str]) -> Array:
        """Return the rows of studies, by their ids in the table; missing ones are a DataError."""
        wanted = list(names)
        if missing := [name for name in wanted if name not in self.places]:
            some = f"{len(missing)} of {len(wanted)} studies, such as {', '.join(missing[:3])}"
            raise DataError(f"{self.source}: has no features of {some}; add theirs, or leave these out of the data")
        return np.array([self.places[name] for name in wanted], int)

    def there(self, studies: Studies) -> Studies:
        """Leave out the studies that had no image when the features were made."""
        blank = {name for name, row in self.places.items() if not self.views[row].any()}
        blank |= set(self.about.left_out) - self.places.keys()
        return studies[~studies["study_id"].isin(blank)].reset_index(drop=True)

    def check(self, names: Iterable[str]) -> None:
        """Refuse numbers that are none, in any region of these studies."""
        wanted = list(names)
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            whole = np.isfinite(self.read(self.of(some))[0]).all(axis=(1, 2))
            if not whole.all():
                what = f"the features of study {some[int(whole.argmin())]} hold NaN or infinity"
                raise DataError(f"{self.source}: {what}; compute them again (in float32, if float16 is too small)")

    def digest(self) -> str:
        """Return a SHA-256 of shape, ids and some rows, by which a run knows them again."""
        some = np.unique(np.linspace(0, len(self.ids) - 1, SOME).astype(int))
        about = [list(self.regions.shape), str(self.regions.dtype), self.ids]
        return hashlib.sha256(json.dumps(about).encode() + self.read(some)[0].tobytes()).hexdigest()


def _pooled(maps: Array, pool: int) -> Array:
    studies, views, rows, columns, channels = maps.shape
    rows, columns = rows // pool, columns // pool
    parts = maps[:, :, : rows * pool, : columns * pool].reshape(studies, views, rows, pool, columns, pool, channels)
    return np.asarray(parts.mean(axis=(3, 5), dtype=np.float32))


def open_features(given: Any) -> StudyFeatures:
    """Open features that are a file, a pair of ids and an array, or arrays by name or by id; others are a DataError."""
    # A file is ``.npz``, ``.zarr`` or ``.npy``. The ids are its array ``ids``, or stand beside it, one a line, in a
    # ``.txt`` or ``.csv`` of its name. In a dictionary they are ``ids``, the array being ``regions``, or the keys.
    if isinstance(given, StudyFeatures):
        return given
    if isinstance(given, str | Path):
        path = local(given)
        return _checked(str(given), _beside(path, _read(path)))
    if isinstance(given, Mapping) and "ids" not in given:
        given = list(given), np.stack(list(given.values()))
    if isinstance(given, tuple) and len(given) == 2:
        given = dict(zip(("ids", "regions"), sorted(given, key=np.ndim)))
    if not isinstance(given, Mapping):
        raise DataError(f"expected features, got {type(given).__name__}; give their path, or (ids, array)")
    return _checked("features", given)


def _checked(source: str, arrays: Mapping[str, Any]) -> StudyFeatures:
    for name in ("regions", "ids"):
        if name not in arrays:
            advice = f"or the ids beside it, one a line, into {Path(source).stem}.txt"
            raise DataError(f"{source}: lacks {name}; write arrays `regions` and `ids`, {advice}")
    regions, ids = arrays["regions"], arrays["ids"]
    ids = ids[:] if isinstance(ids, _FileArray) else np.asarray(ids)
    if ids.ndim != 1:
        raise DataError(f"{source}: its ids have {ids.ndim} axes; write one text or number a study")
    names = [as_text(one.decode(errors="backslashreplace") if isinstance(one, bytes) else one) for one in ids.tolist()]
    shape, kind = tuple(regions.shape), np.dtype(regions.dtype).kind
    if kind not in "fiu" or not 2 <= len(shape) <= 5 or not all(shape):
        known = "(studies, regions, channels) or (studies, views, rows, columns, channels)"
        raise DataError(f"{source}: is {regions.dtype} {shape}; features are numbers {known}")
    rows = len(ids), shape[1] if len(shape) == 5 else 1
    views = np.asarray(arrays.get("views", np.ones(rows)), bool)
    if shape[0] != len(ids) or views.shape != rows:
        advice = "give each row an id, and each of its views, where there are `views`, a truth value"
        raise DataError(f"{source}: has {shape[0]} rows, {len(ids)} ids and views {views.shape}; {advice}")
    return StudyFeatures(source, regions, names, views, _made(arrays.get("about")))


def _made(about: Any) -> Made:
    with suppress(ValueError, RecursionError):  # another program's
        return convert(json.loads(about.item()) if isinstance(about, np.ndarray) else about, Made)
    return Made()


def _beside(path: Path, arrays: dict[str, Any]) -> dict[str, Any]:
    """Add the ids that stand in a file of the same name, unless there are any."""
    for file in (path.with_suffix(".txt"), path.with_suffix(".csv")):
        if "ids" not in arrays and file.is_file():
            table = Table(file, ["study_id"] if file.suffix == ".txt" else None)
            column = table.named("study_id", "id") or table.columns
            arrays["ids"] = [row.text(column[0]) for row in table]
    return arrays


def _read(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name, the large one not read yet, and what made it."""
    with one_error(DataError, f"{path}: cannot be read as features, .npz, .npy or .zarr ({{error}}); write it again"):
        if path.is_dir():
            group = require(*ZARR).open_group(path, mode="r")
            arrays = dict(group.arrays())
            for name, array in arrays.items() if "about" in group.attrs else ():  # other programs leave zeros out
                shards = (-(-n // size) for n, size in zip(array.shape, array.shards or array.chunks))
                if sum(len(files) for *_, files in os.walk(path / name)) <= math.prod(shards):
                    raise ValueError(f"parts of {name} are missing, which would be read as zeros")
            read = {**{name: x if x.ndim > 2 else x[:] for name, x in arrays.items()}, **group.attrs}
        elif not zipfile.is_zipfile(path):
            return {"regions": _FileArray.at(path, 0)}
        else:
            with zipfile.ZipFile(path) as archive:
                read = {i.filename.removesuffix(".npy"): _member(path, archive, i) for i in archive.infolist()}
                if damaged := archive.testzip():  # its sums, which rows that are read from the file pass by
                    raise ValueError(f"{damaged} is damaged")
    # The only array of three axes or more is `regions`, unless there is one called so.
    large = [name for name, array in read.items() if getattr(array, "ndim", 0) > 2]
    if "regions" not in read and len(large) == 1:
        read["regions"] = read.pop(large[0])
    return read


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """Return an array of an archive, not read yet where it is large."""
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)  # the lengths of its name and of what follows that
            more = sum(struct.unpack("<HH", file.read(4)))
        found = _FileArray.at(path, info.header_offset + 30 + more)
        if found.ndim > 2 or info.file_size > WHOLE:
            return found
    if info.file_size > WHOLE:
        raise ValueError(f"{info.filename} is large and compressed; np.savez writes it as it is")
    with archive.open(info) as member:
        return _FORMAT.read_array(member, allow_pickle=False)


@dataclass(frozen=True)
class _FileArray:
    """Numbers of a file, of which rows are read; unlike those of a memory map they do not stay."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def at(cls, path: Path, start: int) -> "_FileArray":
        """Return the array whose ``.npy`` header stands there in a file."""
        with path.open("rb") as file:
            file.seek(start)
            version = _FORMAT.read_magic(file)[0]
            shape, columns_first, kind = getattr(_FORMAT, f"read_array_header_{min(version, 2)}_0")(file)
            whole = file.tell() + math.prod(shape) * kind.itemsize <= path.stat().st_size
            if (columns_first and len(shape) > 1) or kind.hasobject or not whole:
                raise ValueError("truncated, of objects or in Fortran's order")
            return cls(path, file.tell(), shape, kind)

    ndim = property(lambda self: len(self.shape))

    def __getitem__(self, places: Any) -> Array:
        return np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[places])  # of numbers a copy


def check_suffix(out: Path) -> None:
    """Refuse a name that says no format, or a package that is missing, before anything is done."""
    if out.suffix not in WRITERS:
        raise ConfigError(f"--out {out}: features are written as .npz or .zarr; call it so")
    if out.suffix == ".zarr":
        require(*ZARR)


def write_features(
    out: Path, ids: Sequence[str], batches: Iterable[Mapping[str, Array]], about: dict[str, Any], dtype: str = "float32"
) -> None:
    """Write batches of arrays by name, a row a study, ``regions`` as they come; whole or not at all."""
    small: dict[str, list[Array]] = defaultdict(list)

    def regions() -> Iterator[Array]:
        for batch in batches:
            for name in batch.keys() - {"regions"}:
                small[name].append(batch[name])
            yield narrowed(batch["regions"], dtype, "write them as float32")

    with WRITERS[out.suffix](out, {"ids": list(ids), "about": about}) as write:
        write("regions", len(ids), regions())
        for name, parts in small.items():
            write(name, len(ids), parts)


@contextmanager
def _npz(out: Path, more: dict[str, Any]) -> Iterator[Write]:
    def write(name: str, rows: int, parts: Iterable[Array]) -> None:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            for number, part in enumerate(parts):
                if not number:
                    shape, kind = (rows, *part.shape[1:]), _FORMAT.dtype_to_descr(part.dtype)
                    _FORMAT.write_array_header_2_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
                file.write(np.ascontiguousarray(part).data)

    with atomic_path(out) as aside, zipfile.ZipFile(aside, "w") as archive:
        yield write
        for name, value in {**more, "about": json.dumps(more["about"])}.items():
            with archive.open(f"{name}.npy", "w") as file:
                _FORMAT.write_array(file, np.asarray(value), allow_pickle=False)


@contextmanager
def _zarr(out: Path, more: dict[str, Any]) -> Iterator[Write]:
    def write(name: str, rows: int, parts: Iterable[Array]) -> None:
        start = 0
        for part in parts:
            if not start:
                lengths = {"shape": rows, "chunks": 1 if part.ndim > 2 else BATCH, "shards": BATCH}
                sizes = {key: (length, *part.shape[1:]) for key, length in lengths.items()}
                array = group.create_array(name, dtype=part.dtype, config={"write_empty_chunks": True}, **sizes)
            array[start : start + len(part)] = part
            start += len(part)

    with new_folder(out) as folder:
        group = require(*ZARR).open_group(folder, mode="w", attributes=more)
        yield write


WRITERS = {".npz": _npz, ".zarr": _zarr}
