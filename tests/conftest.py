"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files that are never part of the project; tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the real files (../shared/data) are not on this machine")
    return SHARED
