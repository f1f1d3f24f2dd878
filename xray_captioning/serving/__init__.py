"""The API and the app: two front ends over a captioner.

``create_app(captioner, settings)`` is the API as a WSGI application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xray_captioning.serving.settings import Settings as Settings

if TYPE_CHECKING:
    from xray_captioning.serving.api import create_app as create_app


def __getattr__(name: str) -> Any:
    if name != "create_app":
        raise AttributeError(f"module 'xray_captioning.serving' has no attribute {name!r}")
    from xray_captioning.serving import api  # when it is used: the app does without Flask

    return api.create_app
