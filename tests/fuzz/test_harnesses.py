"""A little of what ``python -m tests.fuzz.run`` does for hours; see the README beside this."""

import shutil
from itertools import islice

import pytest

from tests.fuzz.harness import refused
from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.inputs import inputs

INPUTS = 300  # of a harness whose inputs cost little


@pytest.mark.parametrize("name", HARNESSES)
def test_what_is_damaged_is_read_or_refused(name):
    if name == "page" and shutil.which("node") is None:
        pytest.skip("Node is not on this machine")
    harness = HARNESSES[name]
    seeds = harness.seeds()
    assert not any(refused(harness.target, data) for data in seeds), "a valid input was refused"
    count = len(seeds) + max(2, int(INPUTS / harness.cost))
    found = [refused(harness.target, data) for data in islice(inputs(seeds, seed=0), count)]
    assert len(found) == count
