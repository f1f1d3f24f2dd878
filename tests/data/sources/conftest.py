"""Archives are unpacked into a folder of the test's own."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("xray_captioning.data.cache_folder.usual_cache", lambda: folder)
    return folder
