"""Captioners, other systems and baselines, compared on the same studies."""
