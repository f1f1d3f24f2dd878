"""Captions of many studies as a table (CSV, JSON lines or Parquet), and the journal from which a run goes on. JSON
lines, of one process: the first says which run it is, each further one is a study's row.
"""

import csv
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from xray_captioning.data.opening import MANIFEST
from xray_captioning.data.studies import Context
from xray_captioning.data.table import Table
from xray_captioning.errors import ConfigError, DataError, require
from xray_captioning.files import atomic_path, naming

SUFFIXES = (".csv", ".parquet", ".jsonl")
PARQUET = ("Parquet files", "parquet")  # what needs an extra, and its name
ADVICE = "choose another --out, or remove it"
FORMAT = 7  # of the journal
GROUP = 1 << 10  # rows that Parquet is given at a time
PACK = 256  # studies that are packed together
Row = dict[str, Any]
_FOUND = ("caption", "log_probability", "sentences", "regions", "novelty", "unfamiliar", "findings", "error")
COLUMNS = ("study", "images", *_FOUND)


class Study(NamedTuple):
    """A study to be captioned."""

    name: str  # its id, or its images' paths
    # Paths; in the places of the model's views where one is None, which the study then lacks.
    images: Sequence[str | None]
    views: Sequence[str] | None = None  # of each image, where somebody said so
    context: Context | None = None  # what a model reads beside them


Report = Callable[[Iterable[tuple[Study, Row]]], int]  # writes reports, and counts those that it cannot


class PackedStudies:
    """Studies in their order, packed: there may be millions, and objects would take a kilobyte each."""

    def __init__(self, studies: Iterable[Study]) -> None:
        self._count, self._packs, left = 0, list[bytes](), iter(studies)
        while pack := list(islice(left, PACK)):
            self._count += len(pack)
            self._packs.append(zlib.compress(json.dumps(pack).encode(), 1))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Study]:
        return (Study(*row) for pack in self._packs for row in json.loads(zlib.decompress(pack)))

    def in_parts(self, size: int) -> Iterator["PackedStudies"]:
        """Yield so many studies at a time; at least one part, which may be empty."""
        left = iter(self)
        return (PackedStudies(islice(left, size)) for _ in range(0, max(1, len(self)), size))


def printable(text: str) -> str:
    """Return a path or name as text that can be written: its bytes may be no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def check_out(out: Path, resume: bool) -> None:
    """Refuse an output file that cannot be written, or should not be, before anything is done."""
    if not is_folder(out) and out.suffix.lower() not in SUFFIXES:
        advice = f"{', '.join(SUFFIXES[:-1])} or .jsonl, or in nothing for a folder of Parquet partitions"
        raise ConfigError(f"--out {out}: let its name end in {advice}")
    goes_on = resume and (out / MANIFEST).exists()  # with a whole folder, which may have lost a partition
    if (is_whole(out) and not goes_on) or (out.is_file() and not resume) or (out.is_dir() and not is_folder(out)):
        raise ConfigError(f"{out}: is there already; {ADVICE}")
    if is_folder(out) or out.suffix.lower() == ".parquet":
        require("pyarrow.parquet", *PARQUET)


def is_folder(out: Path) -> bool:
    """Whether an output is a folder of partitions."""
    return not out.suffix


def is_whole(out: Path) -> bool:
    """Whether an output is there, which may be no empty folder, and no unfinished run of it."""
    return (any(out.iterdir()) if out.is_dir() else out.exists()) and not part_of(out).exists()


def check_whole(out: Path, studies: PackedStudies) -> int:
    """Count the rows with an error in a finished table, which must be of these studies."""
    try:
        found = [(row["study"], row["error"]) for row in Table(out)]
    except (DataError, KeyError) as error:
        raise ConfigError(f"{out}: is there already and no table of captions; {ADVICE}") from error
    if [name for name, _ in found] != [printable(study.name) for study in studies]:
        raise ConfigError(f"{out}: is there already, of other studies or damaged; {ADVICE}")
    return sum(bool(error) for _, error in found)


def part_of(out: Path) -> Path:
    """Return the path of the rows of an unfinished run, or of the manifest of its partitions."""
    whole = out / MANIFEST if is_folder(out) else out
    return whole.with_name(f"{whole.name}.part")


def write_rows(rows: Iterable[Row], out: Path, findings: Sequence[str] = ()) -> None:
    """Write rows of `batch.run.captioned`; Parquet's schema has the findings that the encoder classifies."""
    with atomic_path(out) as aside:
        if out.suffix.lower() == ".csv":
            _write_csv(rows, aside)
        elif out.suffix.lower() == ".parquet":
            _write_parquet(rows, aside, findings)
        else:
            with open(aside, "wb") as file:
                file.writelines(map(json_line, rows))


def _write_csv(rows: Iterable[Row], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in rows:
            packed = {name: value for name, value in row.items() if isinstance(value, list | dict | bool)}
            table.writerow(row | {name: json.dumps(value, ensure_ascii=False) for name, value in packed.items()})


def json_line(value: Any) -> bytes:
    """Return a JSON value as a line."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _write_parquet(rows: Iterable[Row], path: Path, findings: Sequence[str]) -> None:
    arrow, parquet = (require(name, *PARQUET) for name in ("pyarrow", "pyarrow.parquet"))
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    sentence = arrow.struct([("text", text), ("log_probability", number), ("confidence", number)])
    chances = arrow.struct([(name, number) for name in findings]) if findings else arrow.null()
    place = [("view", whole), ("box", arrow.list_(number)), ("method", text), ("words", text), ("hits", number)]
    region = arrow.struct([("sentence", whole), ("finding", text), *place, ("chance", number)])
    types = {"images": arrow.list_(text), "sentences": arrow.list_(sentence), "findings": chances}
    types |= {"regions": arrow.list_(region), "log_probability": number, "novelty": number, "unfamiliar": arrow.bool_()}
    schema = arrow.schema([(name, types.get(name, text)) for name in COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:
        left = iter(rows)
        while group := list(islice(left, GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema))


@contextmanager
def open_journal(path: Path, resume: bool) -> Iterator[BinaryIO]:
    """Open the journal of an unfinished run, or of a new one, for this process alone."""
    if path.exists() and not resume:
        advice = f"go on with --resume, or remove {_home(path)} to start anew"
        raise ConfigError(f"{path}: holds an unfinished run; {advice}")
    file = open(path, "a+b")  # noqa: SIM115
    try:
        with suppress(ImportError):  # not every system has it
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                advice = "wait for it, or choose another --out"
                raise ConfigError(f"{path}: another process is writing it; {advice}") from None
        yield file
    finally:
        with naming(path):  # what is left to write does not fit either where the disk is full
            file.close()


def begin(file: BinaryIO, run: dict[str, Any], studies: PackedStudies, batch_size: int) -> int:
    """Return how many of the studies, in their order, are done, and drop what a kill left half-written."""
    # A batch is done as a whole: the last digits of a study's numbers depend on the rest of it.
    ends, names = array("Q", [begin_run(file, run)]), (printable(study.name) for study in studies)
    for row in read_rows(file):
        if not isinstance(row, dict) or tuple(row) != COLUMNS or row["study"] != next(names, ...):
            raise ConfigError(f"{file.name}: is damaged; remove it to start anew")
        ends.append(file.tell())
    done = len(ends) - 1
    done -= done % batch_size if done < len(studies) else 0
    file.truncate(ends[done])
    return done


def begin_run(file: BinaryIO, run: dict[str, Any]) -> int:
    """Return the length of the first line, which says what run this is; it is written, or must say the same."""
    run = {"format": FORMAT, **run}
    file.seek(0)
    first, whole = file.readline(), json_line(run)
    if not first.endswith(b"\n") and whole.startswith(first):  # new, or killed at once
        file.truncate(0)
        append(file, [run])
        return len(whole)
    _check_run(file.name, first, run)
    return len(first)


def append(file: BinaryIO, values: Iterable[Any]) -> None:
    """Add a line for each JSON value: when this returns they are on the disk."""
    with naming(file.name):
        file.write(b"".join(map(json_line, values)))
        file.flush()
        os.fsync(file.fileno())


def read_rows(file: BinaryIO) -> Iterator[Row]:
    """Yield the rows, up to a line that a kill cut short."""
    file.seek(0)
    file.readline()  # it says which run this is
    while (line := file.readline()).endswith(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return
        yield row


def _home(path: str | Path) -> str:
    return "its folder" if Path(path).name.startswith(MANIFEST) else "it"


def _check_run(path: str, first: bytes, run: dict[str, Any]) -> None:
    found = None
    with suppress(ValueError, RecursionError):
        found = json.loads(first)
    if not isinstance(found, dict) or found.keys() != run.keys():
        raise ConfigError(f"{path}: is no journal of a run; move it or choose another --out")
    if other := [name for name, value in run.items() if found[name] != value]:
        advice = f"resume with the same, or remove {_home(path)} to start anew"
        raise ConfigError(f"{path}: was begun with another {other[0]}; {advice}")
