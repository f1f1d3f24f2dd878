"""Strings in, numbers out; nothing here imports a model."""
