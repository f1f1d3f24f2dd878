"""The one small family of errors: a message says what is wrong, where, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


class XrayCaptioningError(Exception):
    """Base of all errors raised on purpose; the command line prints one line, exit status 2."""

    def __init__(self, message: str = "") -> None:
        # A library's words, or a name in somebody's file, may hold line breaks.
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


class ConfigError(XrayCaptioningError, ValueError):
    """A setting, preset or option has a value that cannot work."""


class DataError(XrayCaptioningError, ValueError):
    """A table, report folder or caption file cannot be used as it is."""


class ImageError(DataError):
    """An image file is missing, corrupt, empty, too large or not an image."""


class StoreError(XrayCaptioningError):
    """A store, such as that of s3:// addresses, does not answer, or refuses."""


class BundleError(XrayCaptioningError, ValueError):
    """A saved model is incomplete, altered or does not fit its configuration."""


class MissingExtraError(XrayCaptioningError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


def in_one_line(error: Exception, most: int = 300) -> str:
    """Return the beginning of what an error of another package says, its lines joined."""
    return " ".join(str(error).split())[:most]


@contextmanager
def one_error(kind: type[XrayCaptioningError], message: str, quoted: bool = True) -> Iterator[None]:
    """Raise one error for whatever else goes wrong; unless that may be `quoted`, as {error}, nothing of it is kept."""
    try:
        yield
    except XrayCaptioningError:
        raise
    except Exception as error:  # of any kind, because other packages trust what they read
        raise kind(message.replace("{error}", in_one_line(error))) from (error if quoted else None)


def require(package: str, purpose: str, extra: str) -> ModuleType:
    """Import an optional package such as ``pyarrow.parquet``, or say which extra it belongs to.

    `purpose` is a noun, such as "DICOM files": the message says that the package is needed for it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0].replace("_", "-")
        raise MissingExtraError(f"{name} is needed for {purpose}: pip install 'xray-captioning[{extra}]'") from error
