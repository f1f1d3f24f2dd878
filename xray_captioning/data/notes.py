"""What is told of an image that is read all the same: why it may not show what it should."""

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence

Note = Callable[[str, str], object]  # is given an image's name and what there is to tell

# `warnings.catch_warnings` works on the whole process: who holds this lock may use it.
catching = threading.RLock()


class ImageWarning(UserWarning):
    """An image is shown otherwise than its file says, or shows next to nothing: `reason` is the
    same for all `count` images that it is true of.
    """

    def __init__(self, reason: str, names: Sequence[str]) -> None:
        self.reason, self.count = reason, len(names)
        others = f" (and {len(names) - 1} more images)" if len(names) > 1 else ""
        super().__init__(f"{names[0]}{others}: {reason}")


def warn(name: str, reason: str) -> None:
    """Warn of one image."""
    warn_together([(name, reason)])


def warn_together(told: Iterable[tuple[str, str]]) -> None:
    """Warn once for each reason, with the number of images."""
    names: dict[str, list[str]] = {}
    for name, reason in told:
        names.setdefault(reason, []).append(name)
    for reason, of in names.items():
        with catching:
            warnings.warn(ImageWarning(reason, of), stacklevel=1)
