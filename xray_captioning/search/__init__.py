"""Captions from a step function; nothing here depends on a model."""

from xray_captioning.search.beam import beam_search
from xray_captioning.search.loop import Rules, Sampling, SearchResult, greedy_search, sample_search

__all__ = ["Rules", "Sampling", "SearchResult", "beam_search", "greedy_search", "sample_search"]
