"""The one small family of errors: a message says what is wrong, where, and what to do."""

import importlib
from typing import Any


class XrayCaptioningError(Exception):
    """Base of every error this package raises on purpose.

    The command line prints its message as one line and exits with status 2.
    """


class ConfigError(XrayCaptioningError, ValueError):
    """A setting, preset or option has a value that cannot work."""


class DataError(XrayCaptioningError, ValueError):
    """A table, report folder or caption file cannot be used as it is."""


class ImageError(DataError):
    """An image file is missing, corrupt, empty, too large or not an image."""


class BundleError(XrayCaptioningError, ValueError):
    """A saved model is incomplete, altered or does not fit its configuration."""


class MissingExtraError(XrayCaptioningError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional dependency.

    Raises
    ------
    MissingExtraError
        When it is not installed; the message names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-")
        raise MissingExtraError(
            f"{package} is not installed; pip install 'xray-captioning[{extra}]'"
        ) from error
