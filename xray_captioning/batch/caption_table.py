"""Captions of many studies as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from xray_captioning.errors import ConfigError, MissingExtraError
from xray_captioning.files import atomic_path

SUFFIXES = (".csv", ".parquet", ".jsonl")
Row = dict[str, Any]
COLUMNS = (
    "study",
    "images",
    "caption",
    "log_probability",
    "sentences",
    "novelty",
    "findings",
    "error",
)


def is_whole(out: Path) -> bool:
    """Tell whether an output file is there, and no journal of a run that goes on beside it."""
    return out.exists() and not out.with_name(f"{out.name}.part").exists()


def check_out(out: Path, resume: bool) -> None:
    """Refuse an output file that cannot be written, or should not be, before anything is done.

    Raises
    ------
    ConfigError
        It is of no known kind, or is there already.
    MissingExtraError
        A Parquet file is asked for without pyarrow.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: let its name end in {', '.join(SUFFIXES[:-1])} or .jsonl")
    if out.exists() and (is_whole(out) or not resume):
        raise ConfigError(f"{out}: is there already; choose another --out, or remove it")
    if out.suffix.lower() == ".parquet":
        _pyarrow()


def read_errors(out: Path) -> list[tuple[str, str | None]]:
    """Return each study of a file that `write_rows` wrote, and what is wrong with it.

    Parameters
    ----------
    out : Path

    Returns
    -------
    list of tuples
        Study, and the reason or None.

    Raises
    ------
    ConfigError
        The file is not such a table.
    MissingExtraError
        It is a Parquet file and pyarrow is not installed.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_lines, ".parquet": _read_parquet}
    try:
        rows = readers[out.suffix.lower()](out)
        return [(row["study"], row["error"] or None) for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{out}: is there already and no table of captions; choose another --out, or remove it"
        ) from error


def write_rows(rows: Iterable[Row], out: Path, findings: Sequence[str] = ()) -> None:
    """Write rows to a file, whole or not at all.

    JSON lines and Parquet hold lists and objects as such; CSV holds them as JSON texts.

    Parameters
    ----------
    rows : iterable of dict
        As :func:`caption_rows` returns them.
    out : Path
        Ends in ``.csv``, ``.parquet`` or ``.jsonl``.
    findings : sequence of str
        Names of the findings that the encoder classifies: part of a Parquet file's schema.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_lines}
    with atomic_path(out) as aside:
        if out.suffix.lower() == ".parquet":
            _write_parquet(rows, aside, findings)
        else:
            writers[out.suffix.lower()](rows, aside)


def _write_csv(rows: Iterable[Row], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow([_cell(row[name]) for name in COLUMNS])


def _cell(value: Any) -> Any:
    nested = isinstance(value, (list, dict))
    return json.dumps(value, ensure_ascii=False) if nested else value


def _write_lines(rows: Iterable[Row], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read_csv(path: Path) -> list[Row]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_lines(path: Path) -> list[Row]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _read_parquet(path: Path) -> list[Row]:
    arrow = _pyarrow()
    rows: list[Row] = arrow.parquet.read_table(path, columns=["study", "error"]).to_pylist()
    return rows


def _write_parquet(rows: Iterable[Row], path: Path, findings: Sequence[str]) -> None:
    arrow = _pyarrow()
    text, number = arrow.string(), arrow.float64()
    sentence = arrow.struct([("text", text), ("log_probability", number), ("confidence", number)])
    types = {"images": arrow.list_(text), "sentences": arrow.list_(sentence)}
    types |= {"log_probability": number, "novelty": number}
    types["findings"] = arrow.struct([(name, number) for name in findings])
    if not findings:
        types["findings"] = arrow.null()
    schema = arrow.schema([(name, types.get(name, text)) for name in COLUMNS])
    arrow.parquet.write_table(arrow.Table.from_pylist(list(rows), schema), path)


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")  # which pyarrow itself does not import
    except ImportError as error:
        raise MissingExtraError(
            "Parquet files need pyarrow: pip install 'xray-captioning[parquet]'"
        ) from error
    return import_module("pyarrow")
