"""Features of studies as data: read a few rows at a time from wherever they are, and written so.

Nothing here says what made them; an array and the ids of its rows are enough. What is read is not
mapped into memory, where a whole file would seem to stay, but copied batch by batch.
"""

import hashlib
import json
import math
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from msgspec import Struct, convert

from xray_captioning.data.features import Array, narrowed
from xray_captioning.data.studies import Studies
from xray_captioning.data.table import Table, as_text
from xray_captioning.errors import ConfigError, DataError, require
from xray_captioning.files import atomic_path, new_folder

SUFFIXES = (".npz", ".zarr")  # of what is written
ZARR = "features in .zarr", "zarr"
BATCH = 32  # studies that are written, or checked, at a time
SHOWN = 3  # ids in a message
WHOLE = 2**30  # bytes of an array that may be read at once, as compressed ones must
ROWS = 16  # that tell one array from another
_FORMAT = np.lib.format
# What damaged files make their readers raise.
_DAMAGED: tuple[type[Exception], ...] = (OSError, ValueError, TypeError, LookupError, EOFError)
_DAMAGED += (AttributeError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


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
    regions: Any  # (studies, views, rows, columns, channels), or as `grid` takes it; not read yet
    ids: list[str]  # of its studies
    shown: Array  # (studies, views) bool, False where a study has no such image
    about: Made
    places: dict[str, int] = field(default_factory=dict)  # rows by the study ids of a table

    @property
    def grid(self) -> tuple[int, int, int]:
        """Views, rows and columns: regions without them are of one view, a square where they fit.

        Arrays are (studies, views, rows, columns, channels), (studies, rows, columns, channels),
        (studies, regions, channels) or (studies, channels).
        """
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
        """Return regions (studies, views * rows * columns, channels) and their mask of some rows.

        They are float16 or float32, as they were kept. `pool` is the side of squares of regions of
        which the mean is taken, as an encoder's pooling does.
        """
        rows = getattr(self.regions, "oindex", self.regions)  # of a zarr array
        maps = np.asarray(rows[places]).reshape(len(places), *self.grid, self.channels)
        if maps.dtype not in (np.float16, np.float32):
            maps = maps.astype(np.float32)
        if pool > 1:
            maps = _pooled(maps, pool)
        each = maps.shape[2] * maps.shape[3]
        regions = maps.reshape(len(places), -1, self.channels)
        return regions, np.repeat(self.shown[places], each, axis=1)

    def of(self, names: Iterable[str]) -> Array:
        """Return the rows of studies, by their ids in the table; missing ones are a DataError."""
        wanted = list(names)
        if missing := [name for name in wanted if name not in self.places]:
            raise DataError(
                f"{self.source}: has no features of {len(missing)} of {len(wanted)} studies, such "
                f"as {listed(missing)}; add theirs, or leave these studies out of the data"
            )
        return np.array([self.places[name] for name in wanted], int)

    def there(self, studies: Studies) -> Studies:
        """Leave out the studies that had no image when the features were made."""
        blank = {name for name, row in self.places.items() if not self.shown[row].any()}
        blank |= set(self.about.left_out) - self.places.keys()
        return studies[~studies["study_id"].isin(blank)].reset_index(drop=True)

    def check(self, names: Iterable[str]) -> None:
        """Refuse numbers that are none, in any region of these studies."""
        wanted = list(names)
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            whole = np.isfinite(self.read(self.of(some))[0]).all(axis=(1, 2))
            if not whole.all():
                raise DataError(
                    f"{self.source}: the features of study {some[int(whole.argmin())]} hold NaN or "
                    "infinity; compute them again (in float32, if float16 is too small for them)"
                )

    def digest(self) -> str:
        """Return a SHA-256 of shape, ids and some rows, by which a run knows them again."""
        some = np.unique(np.linspace(0, len(self.ids) - 1, ROWS).astype(int))
        about = [list(self.regions.shape), str(self.regions.dtype), self.ids]
        return hashlib.sha256(json.dumps(about).encode() + self.read(some)[0].tobytes()).hexdigest()


def listed(names: Sequence[str]) -> str:
    """Return the first of many names, for a message."""
    return ", ".join(names[:SHOWN])


def _pooled(maps: Array, pool: int) -> Array:
    studies, views, rows, columns, channels = maps.shape
    rows, columns = rows // pool, columns // pool
    cut = maps[:, :, : rows * pool, : columns * pool]
    parts = cut.reshape(studies, views, rows, pool, columns, pool, channels)
    mean: Array = parts.mean(axis=(3, 5), dtype=np.float32)
    return mean


def open_features(given: Any) -> StudyFeatures:
    """Open features that are a file, a pair of ids and array, or arrays or rows by name.

    A file is ``.npz``, ``.zarr`` or ``.npy``. The ids are its array ``ids``, or stand beside it,
    one a line, in a ``.txt`` or ``.csv`` of its name. Of a dictionary they are ``ids``, the array
    being ``regions``, or the keys. What is no array of numbers, or lacks ids, is a DataError.
    """
    if isinstance(given, StudyFeatures):
        return given
    if isinstance(given, str | Path):
        source = str(given)
        arrays = _read(Path(given))
    elif isinstance(given, Mapping):
        source, arrays = "features", dict(given)
        if "ids" not in arrays:
            arrays = {"ids": list(arrays), "regions": np.stack(list(arrays.values()))}
    elif isinstance(given, tuple) and len(given) == 2:
        source, arrays = "features", dict(zip(("ids", "regions"), sorted(given, key=np.ndim)))
    else:
        kind = type(given).__name__
        raise DataError(f"expected features, got {kind}; give their path, or (ids, array)")
    return _checked(source, arrays)


def _checked(source: str, arrays: Mapping[str, Any]) -> StudyFeatures:
    if "regions" not in arrays or "ids" not in arrays:
        lacks = "regions" if "regions" not in arrays else "ids"
        raise DataError(
            f"{source}: lacks {lacks}; write arrays `regions` and `ids`, or the ids beside it, one "
            f"a line, into {Path(source).stem}.txt"
        )
    regions, ids = arrays["regions"], [as_text(_plain(name)) for name in arrays["ids"]]
    shape, kind = tuple(regions.shape), np.dtype(regions.dtype).kind
    if kind not in "fiu" or not 2 <= len(shape) <= 5 or not all(shape):
        raise DataError(
            f"{source}: is {regions.dtype} {shape}; features are numbers (studies, regions, "
            "channels) or (studies, views, rows, columns, channels)"
        )
    if len(ids) != shape[0]:
        raise DataError(f"{source}: has {shape[0]} rows and {len(ids)} ids; give each its own")
    views = StudyFeatures(source, regions, ids, np.empty(0), Made()).grid[0]
    shown = np.asarray(arrays.get("views", np.ones((len(ids), views), bool)), bool)
    if shown.shape != (len(ids), views):
        raise DataError(f"{source}: views are {shown.shape}, and not {(len(ids), views)}")
    return StudyFeatures(source, regions, ids, shown, _made(arrays.get("about")))


def _made(about: Any) -> Made:
    with suppress(ValueError):  # another program's
        return convert(json.loads(about.item()) if isinstance(about, np.ndarray) else about, Made)
    return Made()


def _plain(name: Any) -> Any:
    name = name.item() if isinstance(name, np.generic) else name
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _read(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name, the large one not read yet, and what made it."""
    try:
        if path.is_dir():
            zarr = require("zarr", *ZARR)
            group = zarr.open_group(path, mode="r")
            arrays = {
                name: array if name == "regions" else array[:] for name, array in group.arrays()
            }
            return _beside(path, arrays | dict(group.attrs))
        if zipfile.is_zipfile(path):
            return _beside(path, _read_npz(path))
        return _beside(path, {"regions": _stored(path)})
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:150]
        raise DataError(
            f"{path}: cannot be read as features, .npz, .npy or .zarr ({reason}); write it again"
        ) from error


def _read_npz(path: Path) -> dict[str, Any]:
    """Return arrays of which the features are called `regions`: the only one of three axes is."""
    with zipfile.ZipFile(path) as archive:
        arrays = {
            i.filename.removesuffix(".npy"): _member(path, archive, i) for i in archive.infolist()
        }
    large = [name for name, array in arrays.items() if len(getattr(array, "shape", ())) > 2]
    if "regions" not in arrays and len(large) == 1:
        arrays["regions"] = arrays.pop(large[0])
    return arrays


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    with archive.open(info) as member:
        shape, _, kind = _header(member)
        if math.prod(shape) * kind.itemsize + member.tell() != info.file_size:
            raise ValueError(f"{info.filename} is not as long as its header says")
    if info.compress_type == zipfile.ZIP_STORED and (len(shape) > 2 or info.file_size > WHOLE):
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)  # the lengths of its name and of what follows that
            return _stored(path, info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4))))
    if info.file_size > WHOLE:
        raise ValueError(f"{info.filename} is large and compressed; np.savez writes it as it is")
    with archive.open(info) as member:
        return _FORMAT.read_array(member, allow_pickle=False)


def _beside(path: Path, arrays: dict[str, Any]) -> dict[str, Any]:
    """Add the ids that stand in a file of the same name, unless there are any."""
    for file in (path.with_suffix(".txt"), path.with_suffix(".csv")):
        if "ids" not in arrays and file.is_file():
            table = Table(file, ["study_id"] if file.suffix == ".txt" else None)
            column = table.named("study_id", "id") or table.columns
            arrays["ids"] = [row.text(column[0]) for row in table]
    return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    old = _FORMAT.read_magic(file) == (1, 0)
    read = _FORMAT.read_array_header_1_0 if old else _FORMAT.read_array_header_2_0
    return read(file)


def _stored(path: Path, start: int = 0) -> "_FileArray":
    with path.open("rb") as file:
        file.seek(start)
        shape, columns_first, kind = _header(file)
        whole = file.tell() + math.prod(shape) * kind.itemsize <= path.stat().st_size
        if (columns_first and len(shape) > 1) or kind.hasobject or not whole:
            raise ValueError("truncated, of objects or in Fortran's order")
        return _FileArray(path, file.tell(), shape, kind)


@dataclass(frozen=True)
class _FileArray:
    """Numbers of a file, of which rows are read; unlike those of a memory map they do not stay."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, places: Array) -> Array:
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        with self.path.open("rb", buffering=0) as file:
            for place, row in zip(places.tolist(), found.reshape(len(places), -1)):
                file.seek(self.offset + place * size)
                row[:] = np.frombuffer(file.read(size), self.dtype)
        return found


def check_suffix(out: Path) -> None:
    """Refuse a name that says no format, or a package that is missing, before anything is done."""
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: features are written as .npz or .zarr; call it so")
    if out.suffix == ".zarr":
        require("zarr", *ZARR)


def write_features(
    out: Path,
    ids: Sequence[str],
    batches: Iterable[Mapping[str, Array]],
    about: dict[str, Any],
    dtype: str = "float32",
) -> tuple[int, ...]:
    """Write features, of which a batch at a time is in memory, whole or not at all.

    Batches are of arrays by name, a row a study: the ``regions``, which are written as they come,
    and smaller ones. Their shape is returned.
    """
    smaller: dict[str, list[Array]] = defaultdict(list)

    def regions() -> Iterator[Array]:
        for batch in batches:
            for name in batch.keys() - {"regions"}:
                smaller[name].append(batch[name])
            yield narrowed(batch["regions"], dtype, "write them as float32")

    parts = regions()
    first = next(parts)
    write = _write_zarr if out.suffix == ".zarr" else _write_npz
    shape = (len(ids), *first.shape[1:])
    write(out, shape, chain([first], parts), smaller, {"ids": list(ids), "about": about})
    return shape


Smaller = Mapping[str, list[Array]]


def _write_npz(
    out: Path, shape: tuple[int, ...], parts: Iterator[Array], smaller: Smaller, more: Any
) -> None:
    def write(name: str, array: Any) -> None:
        with archive.open(f"{name}.npy", "w") as file:
            _FORMAT.write_array(file, np.asarray(array), allow_pickle=False)

    with atomic_path(out) as aside, zipfile.ZipFile(aside, "w") as archive:
        with archive.open("regions.npy", "w", force_zip64=True) as file:
            for number, part in enumerate(parts):
                if not number:
                    header = {"descr": part.dtype.str, "fortran_order": False, "shape": shape}
                    _FORMAT.write_array_header_2_0(file, header)
                file.write(np.ascontiguousarray(part).data)
        for name, arrays in smaller.items():
            write(name, np.concatenate(arrays))
        write("ids", more["ids"])
        write("about", json.dumps(more["about"]))


def _write_zarr(
    out: Path, shape: tuple[int, ...], parts: Iterator[Array], smaller: Smaller, more: Any
) -> None:
    zarr, start = require("zarr", *ZARR), 0
    with new_folder(out) as folder:
        group = zarr.open_group(folder, mode="w", attributes=more)
        for part in parts:
            if not start:
                sizes = {"chunks": (1, *shape[1:]), "shards": (BATCH, *shape[1:])}
                array = group.create_array("regions", shape=shape, dtype=part.dtype, **sizes)
            array[start : start + len(part)] = part
            start += len(part)
        for name, arrays in smaller.items():
            group.create_array(name, data=np.concatenate(arrays))
