#!/usr/bin/env bash
# highdicom 0.28.2, a structured report on an image whose character set is Latin-1.
#
# Guess: the report's own text decides in which character set it is written, or text that does not fit is
# refused.
# What happened: the report inherits the character set of the image that it refers to. What is not in it is
# written as question marks; pydicom warns, nothing is raised, and the file is valid.
# Output seen: "größer" is kept; "Pneumothorax – nein" is read back as "Pneumothorax ? nein", a text in
#              Japanese as "???"; with specific_character_set="ISO_IR 192" both are kept.
# Date: 2026-11-28.
#
# Why it matters here: scanners write ISO_IR 100, models write dashes, quotation marks and other scripts. The
# argument, which is among those that are handed through, is in no example; batch/reports.py always writes UTF-8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
env/bin/python -W ignore - <<'PY'
import importlib.metadata as md

import highdicom as hd
from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, EnhancedSR, TextContentItem
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

print({name: md.version(name) for name in ("highdicom", "pydicom")})
image = Dataset()
image.SpecificCharacterSet = "ISO_IR 100"
image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.1"
for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
    setattr(image, name, "")
image.StudyDate = image.StudyTime = ""


def read_back(text, **more):
    root = ContainerContentItem(name=CodedConcept("43468-8", "LN", "X-Ray Report"))
    item = TextContentItem(name=codes.DCM.Finding, value=text, relationship_type="CONTAINS")
    root.ContentSequence = ContentSequence([item])
    uids = {"series_instance_uid": hd.UID(), "sop_instance_uid": hd.UID()}
    report = EnhancedSR([image], root, series_number=1, instance_number=1, manufacturer="m", **uids, **more)
    report.save_as("report.dcm")
    read = dcmread("report.dcm").ContentSequence[0].TextValue
    print(repr(text), more, "->", repr(read))
    return read


assert read_back("größer") == "größer"
assert read_back("Pneumothorax – nein") == "Pneumothorax ? nein", "text decides about its character set now"
assert read_back("心拡大") == "???"
for text in ("Pneumothorax – nein", "心拡大"):
    assert read_back(text, specific_character_set="ISO_IR 192") == text
PY
