"""Cleaning protocols and the word tokenizer."""
