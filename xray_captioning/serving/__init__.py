"""The API and the app: two front ends over a captioner.

``create_app(captioner, settings)`` is the API as a WSGI application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xray_captioning.serving.settings import Settings

if TYPE_CHECKING:
    from xray_captioning.serving.api import create_app

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":  # imported when it is used: the app does without Flask
        from xray_captioning.serving.api import create_app

        return create_app
    raise AttributeError(f"module 'xray_captioning.serving' has no attribute {name!r}")
