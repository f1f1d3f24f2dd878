"""The Indiana University collection: Open-i's XML reports, and Kaggle's two tables with PNGs. Demner-Fushman et al.,
"Preparing a collection of radiology examinations for distribution and retrieval", JAMIA 2016.
"""

import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.parsers import expat

from xray_captioning.data.opening import whole_archive
from xray_captioning.data.sources.layout import LAYOUTS, make_studies, published, rows
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.studies import SECTIONS, Study, check_unique, text_or_none, unique_problems
from xray_captioning.errors import DataError, one_error

ARCHIVES = (".tgz", ".tar.gz")
MAX_REPORT_BYTES = 10_000_000  # a real one has about 10 kB
_NUMBER = re.compile(r"(?:CXR)?(\d+)$")
_ID = re.compile(r"0*(\d+)(?:\.0+)?")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read Open-i reports in the order of their numbers; the XML names no views."""
    # Nothing is written to disk: the path is an XML file, a folder of these, an archive, or a folder with either.
    studies = [_study(content, name, finder) for name, content in read_contents(path)]
    return sorted(studies, key=lambda s: (not s.study_id.isdigit(), s.study_id.zfill(12)))


def read_contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of every report."""
    if path.is_dir():
        files = _visible(path.glob("*.xml")) or _visible(path.glob("*/*.xml"))
        archives = [p for p in _visible(path.iterdir()) if p.name.lower().endswith(ARCHIVES)]
        archive = archives[0] if not files and len(archives) == 1 else None
    else:
        files, archive = ([path], None) if path.suffix.lower() == ".xml" else ([], path)
    yield from _archived(archive) if archive else ()
    for file in files:
        with whole_archive(file), file.open("rb") as stream:
            content = stream.read(MAX_REPORT_BYTES + 1)
        yield str(file), content


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the reports of an archive; members are read one after the other, as they come."""
    damaged = f"{path}: is not a whole .tgz ({{error}}); download it again"
    with one_error(DataError, damaged), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = PurePath(member.name).name
            if member.isfile() and name.endswith(".xml") and not name.startswith("."):
                file = archive.extractfile(member)
                yield f"{path}, {member.name}", file.read(MAX_REPORT_BYTES + 1) if file else b""


def _study(content: bytes, name: str, finder: ImageFinder) -> Study:
    root, texts = parse_report(content, name), dict[str, Any]()
    for element in root.iter("AbstractText"):  # the first with a label counts
        texts.setdefault(element.get("Label", "").lower(), "".join(element.itertext()))
    if not texts and root.tag != "eCitation":
        raise DataError(f"{name}: is XML but no Open-i report; take it out of the folder")
    images = dict.fromkeys(element.get("id", "") for element in root.iter("parentImage"))
    major = [(element.text or "").strip() for element in root.iter("major")]
    return Study(
        study_id=_study_id(root, name),
        images=[finder.by_key(f"{image}.png", "") for image in images if image],
        problems=unique_problems(term.split("/")[0] for term in major),
        mesh=text_or_none(";".join(major)),
        **{name: texts[name] for name in texts.keys() & {*SECTIONS}},
    )


def parse_report(content: bytes, name: str) -> Element:
    """Return the root of a report's XML; entities are looked for first: a builder that refuses them is slow Python."""

    def refuse(*_: object) -> None:
        raise DataError(f"{name}: defines XML entities, which no report needs; remove the file")

    if len(content) > MAX_REPORT_BYTES:
        raise DataError(f"{name}: more than {MAX_REPORT_BYTES:,} bytes are no report; remove the file")
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse  # of any entity: general, parameter or unparsed
    try:
        parser.Parse(content, True)
        return fromstring(content)
    except DataError:
        raise
    except (expat.ExpatError, ParseError, LookupError, ValueError) as error:
        raise DataError(f"{name}: is not well-formed XML ({error}); copy it again") from error


def _study_id(root: Element, name: str) -> str:
    """Return the number in the file's name, or else in the report's own id, or the name."""
    stem, own = PurePath(name).stem, next((element.get("id", "") for element in root.iter("uId")), "")
    number = _NUMBER.match(stem) or _NUMBER.match(own)
    return number[1] if number else own or stem


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


# --- the edition at Kaggle ---

REPORTS, PROJECTIONS = TABLES = ("indiana_reports.csv", "indiana_projections.csv")
IMAGE_FOLDER = "images/images_normalized"


def read_kaggle(path: Path, finder: ImageFinder) -> list[Study]:
    """Read a folder that holds both of Kaggle's tables; the path may be one of them."""
    # An image without a report is a study without text; ids that pandas rewrote, '7.0' for '7', are found.
    folder = path if path.is_dir() else path.parent
    reports, images = folder / REPORTS, folder / PROJECTIONS
    described = list(rows(published(reports, "uid", "findings", "impression"), LAYOUTS["kaggle_reports"]))
    shown = list(rows(published(images, "uid", "filename", "projection"), LAYOUTS["kaggle_images"]))
    check_unique(known := [row.study for row in described], path)
    same = match_ids(known, dict.fromkeys(row.study for row in shown), str(images))
    for row in shown:
        row.study = same.get(row.study, row.study)
    return make_studies([*described, *shown], lambda name: finder.by_key(name, IMAGE_FOLDER))


def match_ids(known: Collection[str], wanted: Collection[str], where: str) -> dict[str, str]:
    """Return which `known` id each `wanted` one means, if any: '7', '7.0' and '0007' are one; two are a DataError."""
    numbers: dict[str, list[str]] = {}
    for name in (there := dict.fromkeys(known)):
        numbers.setdefault(_plain(name), []).append(name)
    means = {name: [name] if name in there else numbers.get(_plain(name), []) for name in wanted}
    for name, same in means.items():
        if len(same) > 1:
            raise DataError(f"{where}: id {name!r} may mean {same[0]!r} or {same[1]!r}; write ids alike")
    return {name: same[0] for name, same in means.items() if same}


def _plain(name: str) -> str:
    return found[1] if (found := _ID.fullmatch(name.strip())) else name
