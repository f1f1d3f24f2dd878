"""Recipes as JSON, read by :func:`xray_captioning.config.load_preset`."""
