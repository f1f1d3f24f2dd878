"""The texts of MIMIC-CXR: sections from a table, or else whole reports from files or an archive."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from xray_captioning.data.sources.layout import whole_report
from xray_captioning.data.sources.mimic_tree import Tree, number
from xray_captioning.data.sources.source import read_text
from xray_captioning.data.studies import text_or_none
from xray_captioning.data.table import Table
from xray_captioning.errors import DataError

_MEMBER = re.compile(r"(?:^|/)p(\d{8})/s(\d{8})\.txt$")
_LARGEST = 1_000_000  # bytes; a real report has about 1 kB
Texts = dict[str, Any]


class Reports:
    """Gives the sections of a study's report; to be closed, because it keeps archives open."""

    def __init__(self, tree: Tree, tables: list[Path], archives: list[Path]) -> None:
        self._tree = tree
        self._sections = _sections(tables[0]) if tables else {}
        self._archives = [_opened(archive) for archive in archives]
        self._members = {
            found[2]: (archive, found.string, found[1])
            for archive in self._archives
            for found in filter(None, map(_MEMBER.search, archive.namelist()))
        }

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives:
            archive.close()

    def patients(self) -> dict[str, str]:
        """Return the studies of which there is a text, and the patient of each, '' if unknown."""
        packed = {study: patient for study, (_, _, patient) in self._members.items()}
        files = {study: self._tree.patients[study] for study in self._tree.reports}
        return dict.fromkeys(self._sections, "") | packed | files

    def sections(self, study: str) -> Texts:
        """Return the sections of a study, none where there is no text."""
        found = self._sections.get(study, {})
        if any(found.values()):
            return found
        if study in self._tree.reports:
            return whole_report(read_text(Path(self._tree.reports[study])))
        return whole_report(self._unpacked(study)) if study in self._members else {}

    def _unpacked(self, study: str) -> str:
        archive, name, _ = self._members[study]
        where = f"{archive.filename}, {name}"
        if archive.getinfo(name).file_size > _LARGEST:
            raise DataError(f"{where}: is too large for a report; take it out")
        try:
            return archive.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: is not UTF-8 text ({error.reason}); mend it") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise DataError(f"{where}: cannot be unpacked ({error}); get it again") from error


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: is no whole zip archive ({error}); get it again") from error


def _sections(path: Path) -> dict[str, Texts]:
    table = Table(path)
    study = table.need("study", "study|study_id")
    findings, impression = (
        table.need("findings", "findings"),
        table.need("impression", "impression"),
    )
    last, comparison = table.column("text", "last_paragraph"), table.column("text", "comparison")
    found: dict[str, Texts] = {}
    for row in table:
        name = number(row, study)
        if name in found:
            raise DataError(f"{row.place}: has study {name} again; keep one of the rows")
        texts = {"findings": row.text(findings), "impression": row.text(impression)}
        if not any(texts.values()) and last:  # a report without these headings
            texts["findings"] = row.text(last)
        texts["comparison"] = row.text(comparison) if comparison else ""
        found[name] = {section: text_or_none(text) for section, text in texts.items()}
    return found
