"""Fit an encoder on findings, then a decoder on what it sees."""
