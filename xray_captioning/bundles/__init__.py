"""Folders a model is saved as: configuration, weights, manifest and model card."""
