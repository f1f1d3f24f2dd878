"""The API over the shipped bundle."""

import importlib.util

import pytest

from tests.conftest import uncompiled

pytest.importorskip("flask")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="session")
def captioner():
    from xray_captioning.runtime import open_captioner

    # Without Keras the same tests look at the exported graphs.
    return open_captioner("phantom_attention", "keras" if importlib.util.find_spec("keras") else None)


@pytest.fixture(scope="session")
def settings():
    from xray_captioning.serving import Settings

    return Settings(batch=2, megapixels=1, body_megabytes=2, studies=3, beam=3)


@pytest.fixture(scope="session")
def app(captioner, settings):
    from xray_captioning.serving import create_app

    with uncompiled():
        app = create_app(captioner, settings)
        assert app.extensions["captions"].warm.wait(120)
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def study(phantoms):
    """Return the files of a study, frontal first."""
    return [path.read_bytes() for path in sorted(phantoms.rglob("*.png"))[:2]]
