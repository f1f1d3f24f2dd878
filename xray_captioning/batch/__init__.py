"""Captions of thousands of studies, in a file."""
