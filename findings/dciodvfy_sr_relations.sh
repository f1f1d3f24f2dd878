#!/usr/bin/env bash
# dciodvfy (dicom3tools 1.00~20220618093127-2) and dsrdump (dcmtk 3.6.7-9~deb12u4) on structured reports.
#
# Guess: dciodvfy, the usual validator, refuses a Basic Text SR whose relationships its IOD forbids, and so
# does dsrdump; both refuse an image that the content refers to and the evidence does not list.
# What happened: each sees half. dciodvfy finds no fault in "TEXT contains IMAGE" and "CONTAINER has
# properties TEXT" (PS3.3 A.35.1.3.1.2 allows neither) and ends with status 0; dsrdump refuses both. dsrdump
# prints a report without evidence, and one with CompletionFlag DONE, with status 0; dciodvfy refuses both.
# Neither minds a title whose code does not exist, or that template 1500 is named where 2000 is filled in.
# Output seen: status of (dciodvfy, dsrdump): right 0 0, TEXT contains IMAGE 0 1, has properties 0 1,
#              no evidence 1 0, DONE 1 0, title 0-0 0 0, template 1500 0 0.
# Date: 2026-11-28.
#
# Why it matters here: a report that "passes dciodvfy" may be one that a viewer cannot open. Reports are given
# to both, and their codes and their template are compared with the standard's tables by a test of our own.
# Needs Debian 12, whose packages are unpacked in the temporary folder, and the libraries that dcmtk depends on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq -o APT::Sandbox::User=root \
    dicom3tools=1.00~20220618093127-2 dcmtk=3.6.7-9~deb12u4 libdcmtk17=3.6.7-9~deb12u4
for package in *.deb; do dpkg -x "$package" debian; done
python3 -m venv env
env/bin/pip install --quiet pydicom==3.0.2
export LD_LIBRARY_PATH=$(dirname "$(find "$work/debian" -name 'libdcmsr.so.17')") DCMDICTPATH=$work/debian/usr/share/libdcmtk17/dicom.dic
env/bin/python - <<'PY'
import importlib.metadata as md
import subprocess

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

print({"pydicom": md.version("pydicom")}, "dicom3tools 1.00~20220618093127-2, dcmtk 3.6.7-9~deb12u4")


def made(**elements):
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def code(value, scheme, meaning):
    return [made(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


image = made(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.1", ReferencedSOPInstanceUID="1.2.826.0.1.1.1")
source = made(RelationshipType="INFERRED FROM", ValueType="IMAGE", ReferencedSOPSequence=[image])
text = made(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="clear", ContentSequence=[source])
text.ConceptNameCodeSequence = code("121071", "DCM", "Finding")
section = made(RelationshipType="CONTAINS", ValueType="CONTAINER", ContinuityOfContent="SEPARATE")
section.ConceptNameCodeSequence, section.ContentSequence = code("59776-5", "LN", "Findings"), [text]
report = made(
    SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SOPInstanceUID="1.2.826.0.1.2", StudyInstanceUID="1.2.826.0.1",
    SeriesInstanceUID="1.2.826.0.1.3", Modality="SR", SeriesNumber=1, InstanceNumber=1, Manufacturer="m",
    ContentDate="20261128", ContentTime="120000", CompletionFlag="PARTIAL", VerificationFlag="UNVERIFIED",
    ReferencedPerformedProcedureStepSequence=[], PerformedProcedureCodeSequence=[],
    ConceptNameCodeSequence=code("43468-8", "LN", "X-Ray Report"), ValueType="CONTAINER",
    ContinuityOfContent="SEPARATE", ContentSequence=[section],
    ContentTemplateSequence=[made(MappingResource="DCMR", TemplateIdentifier="2000")],
)
series = made(SeriesInstanceUID="1.2.826.0.1.1", ReferencedSOPSequence=[image])
evidence = made(StudyInstanceUID="1.2.826.0.1", ReferencedSeriesSequence=[series])
report.CurrentRequestedProcedureEvidenceSequence = [evidence]
for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
    setattr(report, name, "")
report.AccessionNumber = report.ReferringPhysicianName = ""
report.file_meta = FileMetaDataset()
report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
report.save_as("right.dcm", enforce_file_format=True)


def status(what, change=lambda report, text: None):
    changed = dcmread("right.dcm")
    change(changed, changed.ContentSequence[0].ContentSequence[0])
    changed.save_as("changed.dcm")
    tools = "debian/usr/bin/dciodvfy", "debian/usr/bin/dsrdump"
    answer = [subprocess.run([tool, "changed.dcm"], capture_output=True).returncode for tool in tools]
    print(what, *answer)
    return answer


def relation(name):
    return lambda report, text: setattr(text.ContentSequence[0], "RelationshipType", name)


assert status("right") == [0, 0]
assert status("TEXT contains IMAGE", relation("CONTAINS")) == [0, 1], "dciodvfy checks relationships now"
assert status("CONTAINER has properties TEXT", lambda r, t: setattr(t, "RelationshipType", "HAS PROPERTIES")) == [0, 1]
assert status("no evidence", lambda r, t: delattr(r, "CurrentRequestedProcedureEvidenceSequence")) == [1, 0]
assert status("CompletionFlag DONE", lambda r, t: setattr(r, "CompletionFlag", "DONE")) == [1, 0]
assert status("title 0-0", lambda r, t: setattr(r.ConceptNameCodeSequence[0], "CodeValue", "0-0")) == [0, 0]
assert status("template", lambda r, t: setattr(r.ContentTemplateSequence[0], "TemplateIdentifier", "1500")) == [0, 0]
PY
