"""Rows out of Parquet files and Excel workbooks, each read by a package that is an extra."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xray_captioning.data.opening import open_bytes
from xray_captioning.errors import DataError, require

PARQUET = b"PAR1"
BATCH = 10_000  # rows in memory at a time


class Parquet:
    """The rows of a Parquet file."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self.columns = list(file.schema_arrow.names)

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the number, from 1, and the values of each row."""
        with self._opened() as file:
            batches = ([c.to_pylist() for c in b.columns] for b in file.iter_batches(BATCH))
            rows = (list(values) for batch in batches for values in zip(*batch, strict=True))
            yield from enumerate(rows, 1)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        parquet = require("pyarrow.parquet", f"the Parquet file {self.path}", "parquet")
        with open_bytes(self.path) as stream, _whole(self.path, "Parquet file"):
            yield parquet.ParquetFile(stream)


class Workbook:
    """The rows of the only sheet of an Excel workbook that is not empty; the first are names."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        _, names = next(self._rows(), (1, []))
        self.columns = ["" if name is None else str(name).strip() for name in names]

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the number, as the sheet shows it, and the values of each row that has one."""
        rows = self._rows()
        next(rows, None)
        for number, values in rows:
            if any(value not in (None, "") for value in values[len(self.columns) :]):
                raise DataError(
                    f"{self.path}, row {number}: has a value in a column without a name; name the "
                    "column in the first row"
                )
            missing = [None] * (len(self.columns) - len(values))
            yield number, [*values[: len(self.columns)], *missing]

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        openpyxl = require("openpyxl", f"the Excel workbook {self.path}", "excel")
        with open_bytes(self.path) as stream, _whole(self.path, "Excel workbook"):
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            for number, row in enumerate(self._sheet(book).iter_rows(values_only=True), 1):
                if any(value is not None for value in row):
                    yield number, list(row)

    def _sheet(self, book: Any) -> Any:
        filled = [sheet for sheet in book.worksheets if any(map(any, sheet.values))]
        if len(filled) > 1:
            names = ", ".join(sheet.title for sheet in filled)
            raise DataError(
                f"{self.path}: has {len(filled)} sheets ({names}); save the one that is meant as a "
                "file of its own"
            )
        return filled[0] if filled else book.worksheets[0]


@contextmanager
def _whole(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: is not a whole {what} ({error}); copy it again") from error
