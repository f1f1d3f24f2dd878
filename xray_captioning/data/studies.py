"""The table of studies that every source is read into, and what can be said about it."""

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import chain, compress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xray_captioning.data.stores import those_there
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.text.cleaning import without_common_marks, without_marks

if TYPE_CHECKING:
    import pandas as pd

    Studies = pd.DataFrame  # the table of studies
else:
    Studies = Any  # pandas takes long to import

T = TypeVar("T")
Context = Mapping[str, str | None]  # texts that a model may read beside a study's images, by their kind
FRONTAL, LATERAL, UNKNOWN = VIEWS = ("frontal", "lateral", "unknown")
PARTS = ("train", "val", "test")
_USUAL = ("train training trn tr", "val valid validate validation dev development", "test testing tst")
PART_NAMES = {name: part for part, names in zip(PARTS, _USUAL) for name in names.split()}
SECTIONS = ("indication", "comparison", "findings", "impression")
TEXTS = ("findings", "impression")  # which a model writes
NEEDED = ("study_id", "images", "views", *TEXTS, "problems", "patient_id", "split")  # columns of every table
SEVERAL = 5  # texts that are not alike by chance


@dataclass(slots=True)
class Study:
    """One examination: its images and its report, one row of the table."""

    study_id: str  # the source's own name of the study
    images: list[str]  # paths of every image the source names, present or not
    views: list[str] = field(default_factory=list)  # of each image; without any all are unknown
    indication: str | None = None  # a section of the report that is empty or absent is None
    comparison: str | None = None
    findings: str | None = None
    impression: str | None = None
    problems: list[str] = field(default_factory=list)  # as the source spells them
    mesh: str | None = None  # the source's coding as it stands, its terms joined by ';'
    patient_id: str = ""  # the study's own id where the source names no patient
    split: str | None = None  # 'train', 'val' or 'test', where the source puts it in one
    rendered: bool = False  # whether the text was made from labels, not written by a reader
    uncertain: list[str] = field(default_factory=list)  # problems that the source says may be there
    date: str = ""  # or a number: what came first of a patient's studies, where the source says it
    prior: str | None = None  # the report before it, where the source has it beside

    def __post_init__(self) -> None:
        """Put frontal images first, keeping the order otherwise; leave out what is no report."""
        self.patient_id = patient_or_study(self.patient_id, self.study_id)
        self.views = self.views or [UNKNOWN] * len(self.images)
        if FRONTAL in self.views[1:] or len(self.views) != len(self.images):
            pairs = sorted(zip(self.images, self.views, strict=True), key=lambda p: p[1] != FRONTAL)
            self.images = [image for image, _ in pairs]
            self.views = [view for _, view in pairs]
        self.indication = text_or_none(self.indication)
        self.comparison = text_or_none(self.comparison)  # "None" is what a reader may write there
        self.prior = text_or_none(self.prior)
        same = self.impression is self.findings
        self.findings = _report_or_none(self.findings)
        self.impression = self.findings if same else _report_or_none(self.impression)


def named_part(name: str) -> str | None:
    """Return the part, 'train', 'val' or 'test', that a usual name such as 'validate' means."""
    return PART_NAMES.get(name.strip().casefold())


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Run the garbage collector rarely while very many objects are made that stay: half of the time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000 if before[0] else 0, 1000, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def patient_or_study(patient: Any, study_id: str) -> str:
    """Return a patient's id as text, also of pandas' float; the study's own where it is missing."""
    if isinstance(patient, str) and not patient:
        return str(study_id)  # at once: so it is in most tables
    if isinstance(patient, float) and patient.is_integer():
        patient = int(patient)
    return str(study_id) if is_missing(patient) else str(patient).strip()


COLUMNS = tuple(column.name for column in fields(Study))


def text_or_none(text: str | None) -> str | None:
    """Strip a text, and leave out words that programs add; what is empty then is None."""
    return (without_marks(text) or None) if text else None


def _report_or_none(text: str | None) -> str | None:
    return None if text is None or is_missing(text) else text_or_none(text)


def unique_problems(names: Iterable[str]) -> list[str]:
    """Strip and deduplicate names of problems in order; 'normal' is the absence of one."""
    return [name for name in dict.fromkeys(name.strip() for name in names) if name and name.lower() != "normal"]


def study_frame(studies: Iterable[Study], origin: Path) -> Studies:
    """Return the table of studies that a reader found; none, or two with one id, are a DataError."""
    # Words that a program put around every text are left out; a missing text is None, never NaN.
    import pandas as pd

    # By columns, with one empty list and one of each kind of views: objects of very many studies would take more than
    # all that is in them.
    columns, none, kinds = {name: list[Any]() for name in COLUMNS}, list[Any](), dict[tuple[str, ...], list[str]]()
    getters = [(attrgetter(name), values.append) for name, values in columns.items()]
    for study in studies:
        for get, add in getters:
            value = get(study)
            add(none if value == [] else value)
    if not columns["study_id"]:
        raise DataError(f"{origin}: holds no studies; check that this is the right file or folder")
    check_unique(columns["study_id"], origin)
    columns["views"] = [kinds.setdefault(tuple(views), views) for views in columns["views"]]
    columns |= {section: without_common_marks(columns[section]) for section in SECTIONS}
    frame = pd.DataFrame(columns, dtype=object)
    frame["rendered"] = frame["rendered"].astype(bool)
    return frame


def check_unique(ids: Iterable[str], origin: str | Path = "studies") -> None:
    """Raise a DataError where an id occurs twice."""
    for study_id, count in Counter(ids).most_common(1):
        if count > 1:
            raise DataError(f"{origin}: study {study_id!r} occurs {count} times; keep one of them")


def checked_table(studies: Any, columns: Sequence[str] = NEEDED) -> Studies:
    """Return studies; what is no table of them, or lacks a column, is a DataError."""
    if lacking := [name for name in columns if name not in getattr(studies, "columns", ())]:
        what = f"expected studies, got {type(studies).__name__} without {', '.join(lacking)}"
        raise DataError(f"{what}; give the table that read_studies returns, or its path")
    return studies


def with_images(studies: Studies) -> Studies:
    """Keep the images that are on disk, and the studies that have one; rows are numbered anew."""
    there = those_there(chain.from_iterable(studies["images"]))
    present, kept = [[image in there for image in images] for images in studies["images"]], studies.copy()
    for column in ("images", "views"):
        kept[column] = [list(compress(*row)) for row in zip(studies[column], present)]
    return kept.loc[list(map(any, present))].reset_index(drop=True)


def summarise(studies: Studies) -> dict[str, Any]:
    """Count what studies hold and lack, for JSON."""
    # Numbers of studies are by their images; torn patients are in two parts; alike maps a section to the text of all.
    texts = {name: [text for text in studies[name] if text is not None] for name in SECTIONS}
    named = list(chain.from_iterable(studies["images"]))
    missing = set(named) - those_there(named)
    present = [sum(image not in missing for image in images) for images in studies["images"]]
    findings, impression = (studies[name].isna() for name in TEXTS)
    words = {name: sum(len(text.split()) for text in of) / len(of) if of else None for name, of in texts.items()}
    parts = Counter(part for part in studies["split"] if part is not None)
    patients = list(map(patient_or_study, studies["patient_id"], studies["study_id"]))
    return {
        "source": studies.attrs.get("source"),
        "other_sources": studies.attrs.get("other_sources", []),
        "studies": len(studies),
        "patients": len(set(patients)),
        "patients_named": sum(map(str.__ne__, patients, studies["study_id"])),
        "images_named": len(named),
        "images_present": sum(present),
        "images_missing": len(named) - sum(present),
        "missing_examples": [image for image in named if image in missing][:3],
        "studies_naming_no_image": sum(not images for images in studies["images"]),
        "studies_without_image_present": present.count(0),
        "images_a_study": {str(n): times for n, times in sorted(Counter(map(len, studies["images"])).items())},
        "images_present_a_study": {str(n): times for n, times in sorted(Counter(present).items())},
        "views": dict(Counter(chain.from_iterable(studies["views"])).most_common()),
        "without_findings": int(findings.sum()),
        "without_impression": int(impression.sum()),
        "without_both": int((findings & impression).sum()),
        "alike": {name: texts[name][0] for name in TEXTS if len(texts[name]) >= SEVERAL and len({*texts[name]}) == 1},
        "rendered": int(studies["rendered"].sum()),
        "with_problems": sum(map(bool, studies["problems"])),
        "words_a_section": {name: mean and round(mean, 1) for name, mean in words.items()},
        "problems": dict(Counter(chain.from_iterable(studies["problems"])).most_common()),
        "split": {part: parts[part] for part in PARTS} if parts else None,
        "torn_patients": len(torn(patients, studies["split"])),
    }


def format_summary(summary: dict[str, Any]) -> str:
    """Lay what `summarise` returned, and ``columns``, or ``parts`` and ``digest`` of a split, out as a table."""
    return "\n".join(_rendered("summary.jinja", summary))


def summary_warnings(summary: dict[str, Any], there: Sequence[str] = ()) -> list[str]:
    """Return what is wrong with studies, a sentence each; `there` is what lies among the images."""
    return _rendered("warnings.jinja", {**summary, "there": there})


def _rendered(template: str, values: dict[str, Any]) -> list[str]:
    from jinja2 import Template

    text = Path(__file__).with_name(template).read_text("utf-8")
    return Template(text, trim_blocks=True, keep_trailing_newline=True).render(values).split("\n")[:-1]


def torn(groups: Iterable[str], parts: Iterable[str | None]) -> list[str]:
    """Return the groups, such as patients, with studies in two parts."""
    first: dict[str, str] = {}
    return sorted({group for group, part in zip(groups, parts) if part and first.setdefault(group, part) != part})


# --- the view of a radiograph: what a source or a DICOM file calls it, its place in a model ---

_FRONTAL = frozenset(("AP", "PA", "FRONTAL", "FACE", "POSTEROANTERIOR", "ANTEROPOSTERIOR"))
_LATERAL = frozenset(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "PROFILE", "PROFIL"))
_INSIDE = re.compile(r"(?<=TERO)[- ]|(?<=\b[A-Z])\.(?=[A-Z]\b)")  # of one word: postero-anterior, P.A.
_NEITHER = re.compile(r"DECUB|OBL")  # a lateral decubitus is no lateral view


@lru_cache(maxsize=1000)  # a table says the same few words again and again
def named_view(name: str) -> str:
    """Return the view that 'AP SUPINE' and the like name; oblique, decubitus and both are unknown, 'L' is lateral."""
    if name.strip().upper() == "L":
        return LATERAL
    words = set(re.findall("[A-Z]+", _INSIDE.sub("", name.upper())))
    frontal, lateral = bool(words & _FRONTAL), bool(words & _LATERAL)
    if frontal == lateral or _NEITHER.search(name.upper()):
        return UNKNOWN
    return FRONTAL if frontal else LATERAL


def select_images(images: Sequence[T], views: Sequence[str], count: int, repeat: bool = False) -> list[T | None]:
    """Put a study's images into the ``count`` places of a model: frontal, lateral, None or, to `repeat`, the first."""
    # Empty ones at the end are left out. A known view never takes the other's place, because a model learns what
    # is seen there; of one, a lateral comes last.
    rest = list(range(len(images)))

    def take(*wanted: str) -> int | None:
        for place in (place for view in wanted for place in rest if views[place] == view):
            rest.remove(place)
            return place
        return None

    if count == 1:
        order = [take(FRONTAL, UNKNOWN, LATERAL)]
    else:
        order = [take(FRONTAL, UNKNOWN), take(LATERAL, UNKNOWN), *rest][:count]
    chosen = [None if place is None else images[place] for place in order]
    while chosen and chosen[-1] is None:
        chosen.pop()
    return repeat_first(chosen, count) if repeat else chosen


def repeat_first(chosen: Sequence[T | None], count: int) -> list[T | None]:
    """Return places with the first image of a study in every empty one, up to ``count``."""
    first = next((image for image in chosen if image is not None), None)
    places = [*chosen, *[None] * (count - len(chosen))]
    return [] if first is None else [first if image is None else image for image in places]
