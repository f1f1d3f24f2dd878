"""Pixels of DICOM files; no patient field is read."""
