"""The one small family of errors: a message says what is wrong, where, and what to do."""


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
