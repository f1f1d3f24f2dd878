"""Captions of many studies as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.data.table import Table
from xray_captioning.errors import ConfigError, DataError, require
from xray_captioning.files import atomic_path

SUFFIXES = (".csv", ".parquet", ".jsonl")
PARQUET = ("Parquet files", "parquet")  # what needs an extra, and its name
ADVICE = "choose another --out, or remove it"
Row = dict[str, Any]
COLUMNS = (
    *("study", "images", "caption", "log_probability", "sentences"),
    *("novelty", "unfamiliar", "findings", "error"),
)


class Study(NamedTuple):
    """A study to be captioned."""

    name: str  # its id, or its images' paths
    # Paths; in the places of the model's views where one is None, which the study then lacks.
    images: Sequence[str | None]
    views: Sequence[str] | None = None  # of each image, where somebody said so


def printable(text: str) -> str:
    """Return a path or name as text that can be written: its bytes may be no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def check_out(out: Path, resume: bool) -> None:
    """Refuse an output file that cannot be written, or should not be, before anything is done."""
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: let its name end in {', '.join(SUFFIXES[:-1])} or .jsonl")
    if out.exists() and (is_whole(out) or not resume):
        raise ConfigError(f"{out}: is there already; {ADVICE}")
    if out.suffix.lower() == ".parquet":
        require("pyarrow.parquet", *PARQUET)


def is_whole(out: Path) -> bool:
    """Return whether an output file is there and no unfinished run of it."""
    return out.exists() and not part_of(out).exists()


def check_whole(out: Path, studies: Sequence[Study]) -> int:
    """Count the rows with an error in a finished table, which must be of these studies.

    The table does not say which bundle wrote it, nor with which beam size.
    """
    try:
        found = [(row["study"], row["error"]) for row in Table(out)]
    except (DataError, KeyError) as error:
        raise ConfigError(f"{out}: is there already and no table of captions; {ADVICE}") from error
    if [name for name, _ in found] != [printable(study.name) for study in studies]:
        raise ConfigError(f"{out}: is there already, of other studies or damaged; {ADVICE}")
    return sum(bool(error) for _, error in found)


def part_of(out: Path) -> Path:
    """Return the path of the rows of an unfinished run."""
    return out.with_name(f"{out.name}.part")


def write_rows(rows: Iterable[Row], out: Path, findings: Sequence[str] = ()) -> None:
    """Write rows of :func:`~xray_captioning.batch.run.caption_rows` to a file, whole or not at all.

    The findings that the encoder classifies are part of a Parquet file's schema.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_lines, ".parquet": _write_parquet}
    with atomic_path(out) as aside:
        writers[out.suffix.lower()](rows, aside, findings)


def _write_csv(rows: Iterable[Row], path: Path, _: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    as_json = isinstance(value, (list, dict, bool))
    return json.dumps(value, ensure_ascii=False) if as_json else value


def _write_lines(rows: Iterable[Row], path: Path, _: Sequence[str]) -> None:
    with open(path, "wb") as file:
        file.writelines(map(json_line, rows))


def json_line(value: Any) -> bytes:
    """Return a JSON value as a line."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _write_parquet(rows: Iterable[Row], path: Path, findings: Sequence[str]) -> None:
    arrow, parquet = (require(name, *PARQUET) for name in ("pyarrow", "pyarrow.parquet"))
    text, number = arrow.string(), arrow.float64()
    sentence = arrow.struct([("text", text), ("log_probability", number), ("confidence", number)])
    chances = arrow.struct([(name, number) for name in findings]) if findings else arrow.null()
    types = {"images": arrow.list_(text), "sentences": arrow.list_(sentence), "findings": chances}
    types |= {"log_probability": number, "novelty": number, "unfamiliar": arrow.bool_()}
    schema = arrow.schema([(name, types.get(name, text)) for name in COLUMNS])
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema), path)
