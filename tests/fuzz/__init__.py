"""Readers meet files that are nearly right."""
