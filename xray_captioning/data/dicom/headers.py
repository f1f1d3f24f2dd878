"""What groups the DICOM files of a folder into studies, read without their pixels.

No patient field is kept: of the patient's id there is a digest, which tells who is the same.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from xray_captioning.data.dicom.reading import (
    LARGEST_LEAD,
    PREAMBLE,
    is_dicom,
    one_error,
    quiet,
    read_elements,
)
from xray_captioning.data.views import named_view
from xray_captioning.errors import DataError

_STUDY, _INSTANCE, _ACCESSION = "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber"
_ELEMENTS = (
    *(_STUDY, _INSTANCE, _ACCESSION, "Modality", "ViewPosition", "Rows"),
    *("PatientID", "IssuerOfPatientID", "SeriesNumber", "InstanceNumber"),
)
_LAST = 0x00280010  # Rows; what comes after it is not looked at


@dataclass(frozen=True)
class Header:
    """One DICOM file: the study and the patient that it belongs to, and its place among them."""

    path: str
    study: str  # StudyInstanceUID
    instance: str  # SOPInstanceUID
    accession: str  # AccessionNumber, or ''
    patient: str  # a digest of PatientID and its issuer, '' where the file names none
    view: str  # 'frontal', 'lateral' or 'unknown'
    modality: str  # CR, DX, CT…, or ''
    order: tuple[float, float]  # numbers of series and instance, infinite where there is none
    is_image: bool


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """Read the header of a DICOM file; None for a file that is none, and for a DICOMDIR.

    Raises
    ------
    DataError
        If the file begins as DICOM and its header cannot be read, or it names no study.
    MissingExtraError
        If it is DICOM and pydicom is not installed.
    """
    with one_error(DataError, str(path)), open(path, "rb") as file:
        if not is_dicom(file.read(PREAMBLE)):
            return None
        with quiet():
            dataset = read_elements(file, _ELEMENTS, LARGEST_LEAD, _LAST)
            return None if _is_directory(dataset) else _header(str(path), dataset)


def _is_directory(dataset: Any) -> bool:
    """Whether it is a list of other files, DICOMDIR (PS3.10)."""
    from pydicom.uid import MediaStorageDirectoryStorage

    return bool(dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


def _header(path: str, dataset: Any) -> Header:
    text = {name: str(dataset.get(name) or "").strip() for name in _ELEMENTS}
    if not text[_STUDY]:
        raise DataError(f"{path}: names no study (StudyInstanceUID); take it out of the folder")
    return Header(
        path=path,
        study=text[_STUDY],
        instance=text[_INSTANCE],
        accession=text[_ACCESSION],
        patient=_digest(text["IssuerOfPatientID"], text["PatientID"]),
        view=named_view(text["ViewPosition"]),
        modality=text["Modality"].upper(),
        order=(_number(text["SeriesNumber"]), _number(text["InstanceNumber"])),
        is_image=bool(text["Rows"]),
    )


def _digest(issuer: str, patient: str) -> str:
    """Return what stands for a patient, the same in every file and on every machine."""
    if not patient:
        return ""
    return hashlib.sha256(f"xray-captioning\n{issuer}\n{patient}".encode()).hexdigest()[:16]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
