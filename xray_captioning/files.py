"""Files that are written whole or not at all, their SHA-256, what others may print, and progress.

How far work is shows a bar where a terminal listens, elsewhere a line a minute.
"""

import ctypes
import errno
import hashlib
import io
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.errors import BundleError, DataError, require

if TYPE_CHECKING:
    from tqdm import tqdm

_HOST = os.uname().nodename if os.name == "posix" else ""
_LEFTOVER = re.compile(rf"\.{re.escape(_HOST[:40])}-([0-9]+)-[a-z0-9_]{{8}}(\.|$)")
# What `zipfile` raises of an archive that is damaged, or packed as it cannot unpack.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, IndexError, UnicodeDecodeError, RuntimeError)
trim_memory = getattr(ctypes.pythonapi, "malloc_trim", lambda _: 0)  # gives freed memory back; only glibc has it
# As people write it.
MISSING = ("", "nan", "nat", "none", "null", "<na>", "na", "n/a", "#n/a", "#na", "n.a.", "-", "--", "[]")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to it when the block has ended well."""
    # It keeps the suffix, by which ``save_weights`` chooses a format. If the block raises, `path` is as before.
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    handle, name = tempfile.mkstemp("".join(target.suffixes[-2:]), _prefix(target.stem), target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(target):
            yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # or the rename could outrun the content
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # as open makes files; mkstemp's are their owner's alone
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path, stem: str) -> Iterator[Path]:
    """Yield a hidden folder below `parent`, which may be moved away, and else is removed."""
    remove_leftovers(parent)
    with tempfile.TemporaryDirectory("", _prefix(stem), parent, ignore_cleanup_errors=True) as temporary:
        (folder := Path(temporary, "whole")).mkdir()
        yield folder


def _prefix(stem: str) -> str:
    return f".{stem[:80]}.{_HOST[:40]}-{os.getpid()}-"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine were writing here when they were killed."""
    for leftover in folder.glob(f".*.{escape(_HOST[:40])}-*") if os.name == "posix" else ():
        found = _LEFTOVER.search(leftover.name)
        try:
            os.kill(int(found[1]) if found else os.getpid(), 0)  # which does nothing to it
        except ProcessLookupError:
            with suppress(OSError):  # a folder that may only be read
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except (OSError, OverflowError):  # somebody else's
            continue


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in an OSError that names none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)) from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is at this in a folder, where the system can tell."""
    with ExitStack() as stack:
        if os.name == "posix":
            import fcntl

            stack.callback(os.close, handle := os.open(folder, os.O_RDONLY))
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data`, text as UTF-8, so that a reader sees the old file or the whole new one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def check_new_folder(out: Path) -> None:
    """Raise a DataError if `out` is a file or a folder that is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder: choose another or remove it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes `out`, new or empty, or disappears after an error."""
    check_new_folder(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out.parent, out.name) as folder:
        with naming(out):
            yield folder
        if out.exists():
            out.rmdir()  # empty; Windows cannot rename onto it
        folder.rename(out)


def is_missing(value: object) -> bool:
    """Whether a value is missing, as Python, JSON and pandas write it: None, nan, empty text."""
    text = str(value).strip()
    return len(text) <= 4 and text.lower() in MISSING  # reports are long, and there may be many


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def shipped_folder() -> Path:
    """Return the folder of the bundles and of the registry that come with the package."""
    from importlib import resources  # slow to import, and few need it

    try:
        return Path(str(resources.files("xray_captioning.weights")))
    except ModuleNotFoundError:  # a checkout that is not installed
        return Path(__file__).resolve().parents[1] / "weights"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, as ``object_pairs_hook``; a key that stands twice, of which the last won, refuse."""
    if len(found := dict(pairs)) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise DataError(f"has the key {twice[:60]!r} twice in one object; keep one of them")
    return found


def read_json(path: Path, advice: str, error_kind: type[Exception] = BundleError, of: Any = dict[str, Any]) -> Any:
    """Read JSON of a type, usually an object of a model's folder; `advice` ends the error where that fails."""
    from msgspec import convert

    try:
        return convert(json.loads(path.read_text("utf-8"), object_pairs_hook=once), of)
    except DataError as error:
        raise error_kind(f"{path}: {error}") from error
    except OSError as error:
        what = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise error_kind(f"{path}: {what}; {advice}") from error
    except (ValueError, RecursionError) as error:
        raise error_kind(f"{path}: damaged or not JSON ({error}); {advice}") from error


def read_toml(module: str, name: str) -> dict[str, Any]:
    """Read a TOML file that lies beside a module, whose ``__file__`` is given."""
    return tomllib.loads(Path(module).with_name(name).read_text("utf-8"))


@contextmanager
def unreported() -> Iterator[None]:
    """Forbid packages that look for these variables meanwhile to report their use to their makers."""
    asked = {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
    with unset_environment(asked | {"HF_HUB_DISABLE_TELEMETRY": "1"}):
        yield


@contextmanager
def unset_environment(asked: dict[str, str]) -> Iterator[None]:
    """Set those of some variables that nobody has set, and take them back."""
    added = {name: value for name, value in asked.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def load_onnxruntime(purpose: str, extra: str) -> Any:
    """Import onnxruntime as `require` does."""
    with unreported():  # later it has a file in the temporary folder already
        return require("onnxruntime", purpose, extra)


_quiet = False  # whether notices are held back while Keras is imported


def load_as_program() -> None:
    """Let Keras and OpenCV, not imported yet, give no notices, and TensorFlow use oneDNN: for a process of its own."""
    global _quiet
    _quiet = True
    if platform.machine() in ("x86_64", "AMD64"):  # elsewhere it uses that only with AVX-512, or not well
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of damaged TIFF files


@contextmanager
def while_loading() -> Iterator[bool]:
    """Silence file descriptor 2 where a program asked for it, and tell whether it did."""
    # TensorFlow writes notices to it whatever the environment says.
    if not _quiet:
        yield False
        return
    import logging

    with ExitStack() as stack:
        if sys.stderr is not None:  # it is None where there is no console
            sys.stderr.flush()
        with suppress(OSError):  # it is closed
            stack.callback(os.close, saved := os.dup(2))
            stack.callback(os.dup2, saved, 2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield True
    # A few batch sizes are compiled on purpose; it would warn of that.
    logging.getLogger("tensorflow").setLevel("ERROR")


@contextmanager
def downloading() -> Iterator[None]:
    """Let what Keras prints of a download go to standard error, unless it fails at once."""
    # Its first text names the address, and so does the error of a download that never begins.
    with redirect_stdout(_FromSecondText()):
        yield


class _FromSecondText(io.StringIO):
    """Holds its first text back until there is a second."""

    _passes = False

    def write(self, text: str) -> int:
        if not self._passes and not (self.getvalue() and text.strip()):
            return super().write(text)
        print(text if self._passes else self.getvalue() + text, end="", file=sys.stderr, flush=True)
        self._passes = True
        return len(text)

    def isatty(self) -> bool:
        return sys.stderr.isatty()


MINUTE = 60.0  # seconds; a log has a line at least so often
_spoke = time.monotonic()  # when it got the last one


def begin() -> None:
    """Count minutes from now, as a program does that has just been started."""
    global _spoke
    _spoke = time.monotonic()


def progress(*args: Any, **kwargs: Any) -> "tqdm[Any]":
    """Return tqdm's bar on standard error, or what writes a line there every minute."""
    from tqdm import tqdm

    if sys.stderr is None:  # a process without a console
        kwargs["disable"] = True
    elif not sys.stderr.isatty():
        kwargs |= {"file": _Lines(), "mininterval": 0, "miniters": 1, "bar_format": "{l_bar}{r_bar}"}
    return tqdm(*args, **kwargs)


def say(text: str) -> None:
    """Write a line to standard error, above the bar if there is one."""
    begin()
    if sys.stderr is not None:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


class _Lines(io.StringIO):
    """Of what a bar writes, what comes a minute after the last line of all, and a second after its own first."""

    def write(self, text: str) -> int:
        line, now = text.strip().replace("%|| ", "%, "), time.monotonic()
        self._begun = getattr(self, "_begun", now)  # in a notebook that nobody ran for a minute, every bar would speak
        if line and now - _spoke >= MINUTE and now - self._begun >= 1:
            say(line)
        return len(text)
