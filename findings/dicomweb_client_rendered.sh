#!/usr/bin/env bash
# dicomweb-client 0.61.2, DICOMfileClient.retrieve_instance_rendered of a film with a window, and of a MONOCHROME1 one.
#
# Guess: "rendered" is what the standard calls so (PS3.18, 10.4.1.1.2): windowed, MONOCHROME1 turned round, 8 bits, fit to be shown.
# What happened: the stored numbers come as they are, in a PNG of 16 bits: 12 bits fill a sixteenth of its scale, so the film
# is all but black; the window is not applied and MONOCHROME1 not inverted, which a PNG cannot tell: bone is dark.
# Output seen: both uint16, first and last pixel 0 and 4095
# Date: 2026-11-30.
#
# Why it matters here: this client lets a program that was written for a DICOMweb server run on a folder of files. A model that
# got rendered films from the server gets dark ones, some of them negatives, from the folder. Read the instance,
# and make the picture with pydicom or highdicom.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet dicomweb-client==0.61.2 pydicom==3.0.2 pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import io
import tempfile

import numpy as np
from dicomweb_client import DICOMfileClient
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

print({name: md.version(name) for name in ("dicomweb-client", "pydicom")})
pixels = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (32, 1))


def rendered(photometric):
    film = Dataset()
    film.SOPClassUID, film.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "DX"  # digital X-ray, for presentation
    film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID = (generate_uid() for _ in range(3))
    for name in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
        setattr(film, name, "")
    film.PatientID, film.StudyID, film.StudyDate, film.StudyTime = "1", "1", "20260101", "101010"
    film.SeriesNumber = film.InstanceNumber = film.SamplesPerPixel = 1
    film.Rows, film.Columns = pixels.shape
    film.PhotometricInterpretation, film.PixelRepresentation = photometric, 0
    film.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.WindowCenter, film.WindowWidth, film.PixelData = 2048, 1000, pixels.tobytes()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = film.SOPClassUID, film.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        film.save_as(f"{folder}/1.dcm", enforce_file_format=True)
        client = DICOMfileClient(url=f"file://{folder}", update_db=True, recreate_db=True, in_memory=True)
        names = film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID
        return np.asarray(Image.open(io.BytesIO(client.retrieve_instance_rendered(*names, media_types=("image/png",)))))


for photometric in ("MONOCHROME2", "MONOCHROME1"):
    found = rendered(photometric)
    print(photometric, found.dtype, "first and last pixel", int(found[0, 0]), int(found[0, -1]))
    assert (found == pixels).all(), "it is rendered now"
PY
