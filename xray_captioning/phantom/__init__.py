"""Synthetic two-view studies with known findings."""
