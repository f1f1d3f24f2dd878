"""The table of impressions that the older Keras project trained and tested on, a function each step of its notebook."""

import os
import re
from itertools import pairwise
from pathlib import Path, PurePath

from xray_captioning.data.sources import openi
from xray_captioning.data.studies import Studies
from xray_captioning.errors import DataError
from xray_captioning.text.cleaning import clean_legacy

SECTIONS = ("comparison", "indication", "findings", "impression")
COLUMNS = ("xml", "image_1", "image_2", *SECTIONS)
Row = dict[str, str | None]


def impression_table(reports_dir: str | os.PathLike[str]) -> Studies:
    """Rebuild the older project's table: one row for each pair of images that has an impression, 4,033 of the whole.

    Parameters
    ----------
    reports_dir : str or os.PathLike
        A folder of the Open-i XML reports, or one that holds that folder, or the ``.tgz``.

    Returns
    -------
    pandas.DataFrame
        Columns xml, image_1, image_2, comparison, indication, findings, impression (all str; an absent text is
        missing), in the order of the reports' numbers; the older table has that of a folder on some file system.

    Raises
    ------
    DataError
        If there is no report, or a file is damaged or no report.
    """
    return drop_incomplete(pair_table(reports_dir))


def pair_table(reports_dir: str | os.PathLike[str]) -> Studies:
    """Return `impression_table` before rows are dropped: 4,169 of the whole collection."""
    import pandas as pd

    if not (path := Path(reports_dir)).exists():
        raise DataError(f"{path}: does not exist; give a folder of Open-i XML reports or a .tgz")
    if not (reports := [read_report(content, name) for name, content in openi.read_contents(path)]):
        raise DataError(f"{path}: holds no XML report; give the folder with 1.xml or the .tgz")
    numbers = (PurePath(str(rows[0]["xml"])).stem for rows in reports)
    # 2.xml comes before 10.xml, and names without a number last.
    order = sorted((not number.isdigit(), number.zfill(12), i) for i, number in enumerate(numbers))
    return pd.DataFrame([row for *_, i in order for row in reports[i]], columns=list(COLUMNS))


def read_report(content: bytes, name: str) -> list[Row]:
    """Read one report as the older project did, as a row for each pair of images."""
    # A text counts only where its element is on one line, the first with a label; ``&amp;`` leaves the word "amp".
    root = openi.parse_report(content, name)  # refuses damaged files and declared entities
    if root.tag != "eCitation":
        raise DataError(f"{name}: is XML but no Open-i report; take it out of the folder")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 (byte {error.start}); download it again") from error
    ids = [element.get("id", "").strip() for element in root.iter("parentImage")]
    sections = {section: _section(text, section.upper()) for section in SECTIONS}
    pairs = pair_images([f"{image}.png" for image in ids if image])
    return [{"xml": PurePath(name).name, "image_1": one, "image_2": two, **sections} for one, two in pairs]


def pair_images(images: list[str]) -> list[tuple[str | None, str | None]]:
    """Pair a report's images, each with the next: one alone is used for both, none gives (None, None)."""
    alone = images[0] if images else None
    return list(pairwise(images)) or [(alone, alone)]


def drop_incomplete(table: Studies) -> Studies:
    """Drop rows without an image to look at or an impression to learn; number the rest from 0."""
    return table.dropna(subset=["image_1", "impression"], ignore_index=True)


def _section(text: str, label: str) -> str | None:
    """Return the cleaned text of the first element with a label, if it ends on its line."""
    line = re.search(rf'"{label}"[^\r\n]*', text)
    raw = re.search(r">([^<]*)<", line[0]) if line else None
    return (clean_legacy(raw[1]) or None) if raw else None
