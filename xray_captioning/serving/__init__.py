"""The API and the app: two front ends over a captioner."""

from typing import Any

from xray_captioning.serving.settings import Settings as Settings


def create_app(captioner: Any, settings: Settings | None = None) -> Any:
    """Return the API over a captioner as a WSGI application (`serving.api.create_app`)."""
    from xray_captioning.serving import api  # when it is used: the app does without Flask

    return api.create_app(captioner, settings)
