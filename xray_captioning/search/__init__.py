"""Captions from a step function; nothing here knows a model."""

from xray_captioning.search.beam import beam_search
from xray_captioning.search.greedy import Rules, SearchResult, greedy_search, replay

__all__ = ["Rules", "SearchResult", "beam_search", "greedy_search", "replay"]
