"""Captions of thousands of studies, written to one file."""
