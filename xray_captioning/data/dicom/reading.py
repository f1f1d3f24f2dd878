"""The elements of a DICOM file that are asked for, and what groups files into studies. No patient field is kept
unless it is asked for: of the patient's id there is a digest, which tells who is the same. Nothing that pydicom says
comes out, because any text of a file may hold a name.
"""

import hashlib
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from xray_captioning.data.levels import catching
from xray_captioning.errors import DataError, one_error, require
from xray_captioning.files import read_toml

DAMAGED = ": is truncated or damaged DICOM; get it again"  # and no cause, whose message may quote the file
PREAMBLE = 132  # bytes: 128 of anything and 'DICM'
LARGEST_LEAD = 1 << 24  # bytes that may precede the pixels in a deflated file
_META, _IDENTIFYING = 0x0002, 0x0008  # the groups that files without a preamble begin with
ELEMENTS = read_toml(__file__, "elements.toml")
_LAST = 0x00280010  # Rows; what comes after it is not looked at
_DIRECTORY = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR, which lists files (PS3.4)
_LONGEST_FIRST = 256  # bytes; the first element is a number, a date, a character set or a UID


def is_dicom(data: bytes) -> bool:
    """Tell whether bytes, at least the first 132 of a file, are DICOM, without a preamble, too."""
    return _beginning(data) is not None


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back pydicom's warnings and log, which may quote the file, for one thread at a time."""
    require("pydicom.pixels", "DICOM files", "dicom")
    log = logging.getLogger("pydicom")
    with catching, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        before = log.level
        log.setLevel(logging.CRITICAL + 1)  # its children's as well
        try:
            yield
        finally:
            log.setLevel(before)


def read_elements(file: BinaryIO, names: Sequence[str | int], last: int | None = None, most: int = LARGEST_LEAD) -> Any:
    """Return a dataset with the named elements, up to the tag `last`; a deflated file may inflate to `most` bytes."""
    from pydicom import uid
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    meta = _read_meta(file)
    syntax = meta.TransferSyntaxUID
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        file = io.BytesIO(inflater.decompress(file.read(), most))
        if last is None and not inflater.eof:
            raise ValueError("the deflated data are cut or inflate to too much")
    stop = None if last is None else (lambda tag, *_: tag > last)
    encoding = syntax.is_implicit_VR, syntax.is_little_endian
    dataset = read_dataset(file, *encoding, stop_when=stop, specific_tags=[Tag(name) for name in names])
    raw = (one for one in dataset.values() if isinstance(one, RawDataElement))
    if any(len(one.value or b"") < one.length < 2**32 - 1 for one in raw):  # pydicom takes what there is
        raise ValueError("an element is cut")
    dataset.set_original_encoding(*encoding)
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def _read_meta(file: BinaryIO) -> Any:
    """Read what says how a dataset is encoded; where nothing does its first element tells."""
    from pydicom import uid
    from pydicom.filereader import read_dataset

    file.seek(0)
    file.seek(_beginning(file.read(PREAMBLE)) or 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != _META)
    if "TransferSyntaxUID" not in meta:
        at, explicit = file.tell(), _has_vr(file.read(8))
        file.seek(at)
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian
    return meta


def _beginning(start: bytes) -> int | None:
    """Return where the elements begin, None where no DICOM file begins so."""
    if start[128:PREAMBLE] == b"DICM":
        return PREAMBLE
    if start[:4] == b"DICM":
        return 4
    if len(start) < 12:
        return None
    group, _, length = struct.unpack_from("<HHI", start)
    if group == _META:
        return 0 if _has_vr(start) else None
    return 0 if group == _IDENTIFYING and ((length <= _LONGEST_FIRST and length % 2 == 0) or _has_vr(start)) else None


def _has_vr(element: bytes) -> bool:
    """Tell whether two capitals, the kind of its value, follow an element's tag."""
    return element[4:6].isalpha() and element[4:6].isupper()


def read_header(path: str | os.PathLike[str], more: Sequence[str] = ()) -> dict[str, str] | None:
    """Read the header of a DICOM file: texts by keyword, '' where one is missing; None for others and a DICOMDIR."""
    # Of the patient's id there is a digest, of `more` what the file has.
    with one_error(DataError, f"{path}{DAMAGED}", quoted=False), open(path, "rb") as file:
        if not is_dicom(file.read(PREAMBLE)):
            return None
        with quiet():
            names = (*ELEMENTS["header"], *more)
            dataset = read_elements(file, names, _LAST)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
                return None
            text = {name: str(dataset.get(name) or "").strip() for name in names}
            asked = {name: text[name] for name in more}
    if not text["StudyInstanceUID"]:
        raise DataError(f"{path}: names no study (StudyInstanceUID); take it out of the folder")
    # Of a patient the same in every file and on every machine.
    patient = f"xray-captioning\n{text.pop('IssuerOfPatientID')}\n{text['PatientID']}"
    digest = hashlib.sha256(patient.encode()).hexdigest()[:16]
    return {**text, "PatientID": text["PatientID"] and digest, "path": str(path), **asked}
