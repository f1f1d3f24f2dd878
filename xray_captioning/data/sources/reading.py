"""Read the reports and image names of any known source into one table of studies. A reader returns a list of
`xray_captioning.data.studies.Study`; `READERS` lists them.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.data import opening, outlines, stores, studies
from xray_captioning.data.sources import captions, folders, layout, lookup, mimic, openi, published
from xray_captioning.errors import ConfigError, DataError


@dataclass(frozen=True)
class Source:
    """A kind of collection: how it is recognised, and how ``read(path, finder)`` reads studies in its order."""

    name: str
    patterns: tuple[str, ...]  # globs of the files in a folder of this source
    read: Callable[..., Iterable[studies.Study]]
    suffixes: tuple[str, ...] = ()  # endings, in lower case, of a file that is given by itself
    one_file: bool = False  # whether `read` takes the one file that fits, not the folder
    fits: Callable[[Path], bool] | None = None  # looks at what a folder, or the file, holds
    needs_all: bool = False  # a folder must hold a file of every pattern, not of one alone

    def is_folder(self, folder: Path) -> bool:
        """Tell whether a folder holds this source."""
        if self.fits is not None and not self.one_file:
            return self.fits(folder)
        if self.needs_all:
            return all(any(folder.glob(pattern)) for pattern in self.patterns)
        return bool(self._files(folder))

    def to_open(self, path: Path) -> Path:
        """Return what `read` takes: the path itself, or the one table that the folder must hold."""
        if not self.one_file or path.is_file():
            return path
        if len(found := self._files(path)) != 1:
            named = f" ({', '.join(file.name for file in found[:3])})" if found else ""
            what = f"holds {len(found)} files {self.patterns[0]}{named} where source {self.name} needs one"
            raise DataError(f"{path}: {what}; name the file itself")
        return found[0]

    def _files(self, folder: Path) -> list[Path]:
        """Return the files that fit, of those of the first pattern for which there are some."""
        found = (sorted(filter(Path.is_file, folder.glob(name))) for name in self.patterns)
        return list(filter(self.fits or Path.exists, next(filter(None, found), [])))


_VINDR = ("image_labels_*.csv*", "annotations_*.csv*", "*/image_labels_*.csv*", "*/annotations_*.csv*")
CAPTIONS = Source("captions", captions.USUAL_NAMES, captions.read)
# A folder is read as the first of these that it holds: what is more special comes first.
_ALL = (
    Source("kaggle", openi.TABLES, openi.read_kaggle, needs_all=True),
    Source("mimic_cxr", mimic.TABLES, mimic.read, fits=mimic.is_mimic),
    Source("chexpert_plus", ("df_chexpert_plus_*.csv*",), published.read_plus, one_file=True),
    Source("chexpert", ("train.csv*",), published.read_chexpert, fits=published.is_chexpert),
    Source("padchest", ("PADCHEST_chest_x_ray_images_labels*.csv*",), published.read_padchest, one_file=True),
    Source("vindr", _VINDR, published.read_vindr),
    Source("nih14", ("Data_Entry*.csv*", "sample_labels.csv*"), published.read_nih, one_file=True),
    Source("roco", ("*/radiology/captions.txt", "*_captions.csv"), published.read_roco, fits=published.is_roco),
    Source("coco", ("*.json",), captions.read_coco, (".json",), fits=captions.is_coco),
    Source("r2gen", ("*.json",), captions.read_r2gen, (".json",), True, captions.is_r2gen),
    CAPTIONS,
    Source("openi", ("*.xml", "*/*.xml", "*.tgz", "*.tar.gz"), openi.read, (".xml", *openi.ARCHIVES)),
    Source("texts", ("*.txt",), folders.read_reports, fits=folders.is_folder_of_reports),
    Source("dicom", ("*",), folders.read_dicom, opening.DICOM_SUFFIXES, fits=folders.is_dicom_tree),
)
READERS = {source.name: source for source in _ALL}
_DEPTH = 3  # of folders below the one given, in which an unpacked archive may have put its own
_MOST_FOLDERS = 30  # of one level; more are patients or studies
PART = 4096  # studies


class DetectedSource(NamedTuple):
    """A source, where it lies, and the names of further sources that fit it."""

    source: Source
    path: Path
    others: tuple[str, ...] = ()


def read_studies(
    path: str | os.PathLike[str],
    image_dir: str | os.PathLike[str] | None = None,
    source: str | None = None,
    columns: layout.Columns | None = None,
    need_images: bool = True,
) -> studies.Studies:
    """Read a source of studies.

    Parameters
    ----------
    path : str or os.PathLike
        A folder or one above it, a file, a zip archive, or an address in a store (s3://bucket/folder) or on a hub
        (hf://datasets/USER/NAME, kaggle://USER/NAME): docs/data.md.
    image_dir : str or os.PathLike, optional
        Where the images are, if not beside the tables.
    source : str, optional
        The kind of source, such as ``kaggle`` or ``captions``; by default it is recognised.
    columns : mapping of str to str or None, optional
        What the columns of a captions table are called, by role: ``{"image": "file", "caption": "note"}``. Roles
        are image, study, patient, date, split, view, labels, and for texts caption (or a whole report), findings,
        impression, indication, comparison and prior; None: no column plays that role.
    need_images : bool
        Whether a captions table must have a column of images, as it must not beside features.

    Returns
    -------
    pandas.DataFrame
        One row for each study, with the columns

        - study_id, str: Kaggle uid, XML number, annotation id, or stem;
        - images and views, lists of str: every image named, frontal ones first; 'frontal', 'lateral', 'unknown';
        - indication, comparison, findings, impression, str or None;
        - problems and uncertain, lists of str, empty for a normal study: what is or may be there;
        - mesh, str or None: the source's coding, unchanged;
        - patient_id, str: the study_id where no patient is named;
        - split: 'train', 'val', 'test' or None; rendered, bool: whether labels made the text.

    Raises
    ------
    DataError, ConfigError
        The path is absent, of no known kind, or cannot be used; `source` or `columns` is wrong.
    """
    known: dict[str, str] = {}  # the addresses of folders that were fetched
    origin = stores.local(path, known)
    images = None if image_dir is None else stores.local(image_dir, known, tables=False)
    with stores.naming(known), studies.collected_seldom():
        found, attrs = _read(origin, images, source, columns, need_images)
        frame = studies.study_frame(found, origin)
    frame.attrs.update(attrs)
    outlines.note_outlines(frame, origin)
    if known:
        frame["images"] = [[stores.addressed(image, known) for image in row] for row in frame["images"]]
    return frame


def read_in_parts(path: Any, image_dir: Any = None, columns: layout.Columns | None = None) -> Iterator[studies.Studies]:
    """Yield what `read_studies` returns in parts of 4,096 studies, where the rows of each stand together in a table."""
    if any(map(stores.is_address, (path, image_dir))):
        yield read_studies(path, image_dir, None, columns)
        return
    with studies.collected_seldom():
        found, _ = _read(stores.local(path), image_dir and stores.local(image_dir), None, columns, True)
        left, size, frame, found = iter(found), None if isinstance(found, list) else PART, None, None
        while (part := list(islice(left, size))) or frame is None:
            if any(stores.is_address(image) for study in part for image in study.images):
                part.extend(left)  # because whether they are there is asked folder by folder
            frame = studies.study_frame(part, path)
            part.clear()
            yield frame


def _read(origin: Path, images: Path | None, source: str | None, columns: Any, need_images: bool) -> tuple[Any, Any]:
    """Return the studies, which may be read as they are asked for, and what their table says of itself."""
    if source is not None and source not in READERS:
        raise ConfigError(f"source {source!r} is unknown; choose one of {', '.join(READERS)}")
    if columns is not None and not isinstance(columns, Mapping):
        raise ConfigError(f"columns is {columns!r:.60}; give names by role, such as {{'image': 'file'}}")
    if columns and source not in (None, "captions"):
        raise ConfigError(f"columns are those of a captions table; source {source} has its own")
    if not origin.exists():
        raise DataError(f"{origin}: does not exist; check the path")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: is not a folder of images; check image_dir")
    root, found = _found(origin, READERS.get(source or ("captions" if columns else "")))
    finder = lookup.ImageFinder(root if root.is_dir() else root.parent, images)
    if not need_images and found.source is CAPTIONS:
        columns = {"image": "", **(columns or {})}
    attrs = {"source": found.source.name, "other_sources": list(found.others), "path": str(found.path)}
    return found.source.read(found.source.to_open(found.path), finder, *([columns] if columns else [])), attrs


def _found(path: Path, source: Source | None) -> tuple[Path, DetectedSource]:
    """Return where the data are, unpacked where they are an archive, and what they are."""
    if opening.is_zip(path):
        if opening.is_table(path):
            return path, DetectedSource(source or CAPTIONS, path)
        path = opening.unpacked(path)
    if source is None:
        return path, detect(path)
    inner = below(path, [source]) if path.is_dir() and not holds(source, path) else None
    return path, inner or DetectedSource(source, path)


def detect(path: Path) -> DetectedSource:
    """Return the first source that a path holds, or a folder below it; none is a DataError."""
    alone = path.is_file()
    fitting = _of_file(path) if alone else [s for s in _ALL if s.is_folder(path)]
    if not fitting and (captions.is_table(path) if alone else captions.tables_of(path)):
        fitting = [CAPTIONS]
    if fitting:
        return DetectedSource(fitting[0], path, tuple(source.name for source in fitting[1:]))
    if not alone and (found := below(path, _ALL) or below(path, [CAPTIONS])):
        return found
    raise _unknown(path)


def _of_file(path: Path) -> list[Source]:
    """Return the sources of a file; its content and its usual name tell more than its ending."""
    name = path.name.lower()
    ending = [s for s in _ALL if name.endswith(s.suffixes)]
    content = [s for s in ending if s.fits and s.fits(path)]
    named = [s for s in _ALL if any(fnmatch(name, at.lower()) for at in s.patterns)]
    return list(dict.fromkeys(content + [s for s in named + ending if s.fits is None]))


def below(path: Path, sources: Sequence[Source]) -> DetectedSource | None:
    """Return the first source of the one folder below that holds any, None where none does."""
    is_here = holds if len(sources) == 1 else Source.is_folder
    level = [path]
    for _ in range(_DEPTH):
        inner = ([p for p in sorted(above.iterdir()) if p.is_dir() and p.name[0] != "."] for above in level)
        level = [folder for folders in inner if len(folders) <= _MOST_FOLDERS for folder in folders]
        found = [DetectedSource(s, f) for f in level for s in sources if is_here(s, f)]
        places = list(dict.fromkeys(at.path for at in found))
        if len(places) > 1:
            what = f"holds {found[0].source.name} in {places[0].name} and more in {places[1].name}"
            raise DataError(f"{path}: {what}; name one of the folders")
        if found:
            return found[0]._replace(others=tuple(other.source.name for other in found[1:]))
    return None


def holds(source: Source, folder: Path) -> bool:
    """Tell whether a folder holds a source; of captions, whether it holds any table."""
    return source.is_folder(folder) or (
        source is CAPTIONS and any(captions.is_table(path) and path.suffix != ".txt" for path in folder.iterdir())
    )


def _unknown(path: Path) -> DataError:
    patterns = [" with ".join(s.patterns) if s.needs_all else s.patterns[0] for s in _ALL]
    named = ", ".join(pattern for pattern in dict.fromkeys(patterns) if pattern != "*")  # DICOM has any name
    looked = f"looked for {named}, DICOM files or another table"
    if path.is_file():
        endings = ", ".join(dict.fromkeys(suffix for s in _ALL for suffix in s.suffixes))
        return DataError(f"{path}: no known source there; {looked}; a file must end in {endings}")
    return DataError(f"{path}: no known source there; it holds {_content(path)}; {looked}")


def _content(path: Path) -> str:
    """Say in a few words what a folder holds: its folders, and how many files of each kind."""
    names = sorted(path.iterdir())
    folders = [f"{p.name}/" for p in names if p.is_dir()][:5]
    kinds = Counter(p.suffix.lower() or "no suffix" for p in names if p.is_file()).most_common(5)
    return ", ".join(folders + [f"{count} {kind}" for kind, count in kinds]) or "nothing"
