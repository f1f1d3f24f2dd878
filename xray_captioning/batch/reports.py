"""Captions as DICOM structured reports and FHIR resources; reports.toml says what they consist of."""

import base64
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from xray_captioning import __version__
from xray_captioning.batch.caption_table import PackedStudies, Row, Study, printable
from xray_captioning.data.dicom.reading import quiet, read_header
from xray_captioning.data.sources.folders import is_dicom_tree
from xray_captioning.errors import DataError, require
from xray_captioning.files import naming, progress, read_toml

TEXTS = read_toml(__file__, "reports.toml")


def report_writer(
    model: dict[str, str], studies: PackedStudies, dicom: Path | None, fhir: Path | None, keep_patient: bool
) -> Callable[[Iterable[tuple[Study, Row]]], int]:
    """Return what writes a report of each captioned study into these folders, and counts where that fails."""
    # Of a model there are `name`, `digest`, `section` (what it writes) and, of its own, a `notice`.
    if dicom is not None:
        require("pydicom", "--out-dicom", "dicom")
        if not any(is_dicom_tree(Path(path)) for study in studies for path in study.images if path is not None):
            raise DataError("--out-dicom: its reports refer to DICOM images, and none of these is one; take --fhir")
    forms = [form for form in ((dicom, "dcm", structured_report), (fhir, "json", diagnostic_report)) if form[0]]

    def write(captioned: Iterable[tuple[Study, Row]]) -> int:
        failed, first = 0, ""
        for study, row in progress(captioned, total=len(studies), desc="report", unit="study"):
            try:
                if row["caption"]:
                    _write(_said(study, row, model, dicom is not None, keep_patient), forms)
            except DataError as error:
                failed, first = failed + 1, first or str(error)
        if failed:
            warnings.warn(f"{first}; {failed} captions have no report", stacklevel=2)
        return failed

    return write


def _said(study: Study, row: Row, model: dict[str, str], dicom: bool, keep_patient: bool) -> dict[str, Any]:
    """Return what stands for names of reports.toml, but for what depends on when a report is written."""
    paths, name = [path for path in study.images if path is not None], printable(study.name)
    names = TEXTS["names"]["image"] + (TEXTS["names"]["patient"] if keep_patient else [])
    found = [header for path in paths if (header := read_header(path, names))]
    headers = [{name: header[name] for name in names} for header in found]
    if dicom and not (len(headers) == len(paths) and all(header[key] for header in headers for key in names[:4])):
        lacks = "not all its images are DICOM files with the UIDs that a report refers to"
        raise DataError(f"{name}: {lacks}; take --fhir")
    if len(studies := {header["StudyInstanceUID"] for header in headers}) > 1:
        raise DataError(f"{name}: its images are of several DICOM studies; caption each study by itself")
    own = model.get("notice")
    notices = TEXTS["notice"], own and f"This model was {own}.", row["unfamiliar"] and TEXTS["unfamiliar"]
    return {
        "name": model["name"][:64],  # of a LO in DICOM
        "digest": model["digest"],
        **TEXTS["section"].get(model["section"], TEXTS["section"]["findings"]),
        "version": __version__,
        # A report may hold no control characters (PS3.3 C.17.3).
        "text": " ".join("".join(c if c.isprintable() else " " for c in row["caption"]).split()),
        "comment": " ".join(filter(None, notices)),
        "headers": headers,
        "study": studies.pop() if studies else name,  # a name may be a path, and that may name a patient
    }


def _write(said: dict[str, Any], forms: Iterable[Any]) -> None:
    key = uuid5(NAMESPACE_OID, json.dumps(said))  # so that a run that is repeated adds no report
    for folder, suffix, make in forms:
        if not (path := folder / f"{key}.{suffix}").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # `atomic_path` would look through a folder of up to millions each time.
            with naming(path):
                with open(aside := path.with_suffix(".part"), "wb", buffering=0) as file:
                    file.write(make(key, said))
                    os.fsync(file.fileno())
                os.replace(aside, path)


def structured_report(key: UUID, said: dict[str, Any]) -> bytes:
    """Return a DICOM Basic Text SR."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    headers, images = said["headers"], [_filled(TEXTS["image"], header) for header in said["headers"]]
    series: dict[str, list[Any]] = {}
    for header, image in zip(headers, images):
        series.setdefault(header["SeriesInstanceUID"], []).extend(image["ReferencedSOPSequence"])
    more = {
        "evidence": [{"SeriesInstanceUID": uid, "ReferencedSOPSequence": listed} for uid, listed in series.items()],
        "images": images,
        **dict(zip(("date", "time"), f"{datetime.now():%Y%m%d %H%M%S}".split())),
    }
    keys = {"uid": key, "series": uuid5(key, "series"), "device": uuid5(NAMESPACE_OID, said["digest"])}
    more |= {name: f"2.25.{each.int}" for name, each in keys.items()}  # PS3.5 B.2
    patient = {name: headers[0].get(name, "") for name in TEXTS["names"]["patient"]}
    with quiet():  # what is kept of a patient is written as the archive has it, valid or not
        dataset = _dataset(patient | _filled(TEXTS["structured_report"], said | more))
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


def diagnostic_report(key: UUID, said: dict[str, Any]) -> bytes:
    """Return a DiagnosticReport of FHIR R4, a line of JSON."""
    system, urn = ("urn:dicom:uid", "urn:oid:") if said["headers"] else (None, "")
    whole = f"{said['text']}\n\n{said['comment']}\n{said['name']}, SHA-256 {said['digest']}\n"
    more = {
        **(said["headers"][0] if said["headers"] else {}),
        "key": str(key),
        "page": f'<div xmlns="http://www.w3.org/1999/xhtml"><pre>{escape(whole)}</pre></div>',
        "data": base64.b64encode(whole.encode()).decode(),
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": system,
        "identifier": urn + said["study"],
    }
    return json.dumps(_filled(TEXTS["diagnostic_report"], said | more), ensure_ascii=False).encode() + b"\n"


def _filled(template: Any, filling: dict[str, Any]) -> Any:
    """Return a template with what each "$name" stands for, without what is empty."""
    if isinstance(template, dict):
        made = {name: _filled(item, filling) for name, item in template.items()}
        return {name: value for name, value in made.items() if value not in (None, "", {})}
    if isinstance(template, list):
        return [_filled(item, filling) for item in template]
    return filling.get(template[1:]) if isinstance(template, str) and template.startswith("$") else template


def _dataset(elements: dict[str, Any]) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, [_dataset(item) for item in value] if isinstance(value, list) else value)
    return made
