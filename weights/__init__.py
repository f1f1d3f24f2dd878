"""Shipped bundles, trained on synthetic phantoms."""
