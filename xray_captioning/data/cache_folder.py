"""The folder of caches: what lies in it, and what leaves it when it grows too large. Each cache is a sub-folder of
shards, dated by their last use (`xray_captioning.data.features`), or an unpacked zip archive (`.opening`), which
stays until it is cleared: a run may read it.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from xray_captioning.errors import ConfigError
from xray_captioning.files import temporary_folder

LIMIT_VARIABLE = "XRAY_CAPTIONING_CACHE_GIB"
LIMIT = 20.0  # GiB
GIB = 2**30
SETTINGS = "settings.json"
# By a name that only the settings of this kind have.
KINDS = {"encoder": "features", "pixels": "pixels", "digest": "digests", "archive": "archive"}
FILES = "files"  # what a zip archive was unpacked to, in a cache of its own


class CacheInfo(NamedTuple):
    """One cache: what it holds, and how large it is."""

    folder: Path
    kind: str  # of KINDS
    settings: str  # JSON
    size: int  # bytes
    used: float  # seconds since 1970


def usual_cache() -> Path:
    """Return the folder of caches where no other is asked for."""
    return Path.home() / ".cache" / "xray-captioning"


def home_of(settings: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache of these settings (JSON) in a folder of caches, the usual one by default."""
    return Path(root or usual_cache()) / hashlib.sha256(settings.encode()).hexdigest()[:16]


def size_limit() -> int:
    """Return how many bytes the caches of a folder may take: 20 GiB, or what the variable names."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip() or str(LIMIT)
    with suppress(ValueError):
        if 0 <= (limit := float(text) * GIB) < float("inf"):
            return int(limit)
    raise ConfigError(f"{LIMIT_VARIABLE} is {text!r}; give a number of GiB, 0 or more")


def caches(root: Path) -> list[CacheInfo]:
    """Return the caches in a folder, the largest first; whatever else lies there is left out."""
    found = []
    for folder in _folders(root):
        shards = _shards([folder])
        with suppress(OSError, ValueError):  # it has just been removed, or is damaged
            settings, files = json.loads((folder / SETTINGS).read_text("utf-8")), folder / FILES
            kind = next((kind for name, kind in KINDS.items() if name in settings), "")
            size = settings["bytes"] if files.is_dir() else sum(size for _, size, _ in shards)
            dated = files if files.is_dir() else folder / SETTINGS
            used = max((date for date, _, _ in shards), default=dated.stat().st_mtime_ns) / 1e9
            found.append(CacheInfo(folder, kind, json.dumps(settings), size, used))
    return sorted(found, key=lambda cached: -cached.size)


def trim(root: Path, limit: int, keep: Iterable[Path] = ()) -> int:
    """Remove the least recently used shards, not `keep`, down to `limit` bytes; return how many were freed."""
    shards = _shards(folders := _folders(root))
    excess, kept, freed = sum(size for _, size, _ in shards) - limit, set(keep), 0
    for _, size, shard in sorted(shards):
        if excess - freed > 0 and shard not in kept:
            with suppress(OSError):  # in use by another process, where the system forbids it
                shard.unlink()
                shard.with_suffix(".hashes.json").unlink(missing_ok=True)
                freed += size
    for folder in folders if freed or not limit else ():
        if not any(folder.glob("*.npy")) and not (folder / FILES).is_dir():
            with suppress(OSError):
                (folder / SETTINGS).unlink()
                folder.rmdir()
    return freed


def empty(found: Iterable[CacheInfo]) -> int:
    """Remove what these caches hold; return the number of bytes that were freed."""
    freed = 0
    for cached in found:
        with suppress(OSError), temporary_folder(cached.folder.parent, "removed") as aside:
            cached.folder.rename(aside / "cache")  # so that half of it is not read
            freed += cached.size
    return freed


def note_use(shard: Path) -> None:
    """Set a shard's date to now."""
    with suppress(OSError):  # a folder that may only be read
        os.utime(shard)


def allow_files(count: int) -> None:
    """Let this process hold so many shards open beside its other files, as far as the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 2 * count:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _folders(root: Path) -> list[Path]:
    """Return the folders that are named after their settings: nobody else's folder is."""
    found = []
    for file in root.glob(f"*/{SETTINGS}"):
        with suppress(OSError):
            found += [file.parent] if home_of(file.read_text("utf-8", "replace"), root) == file.parent else []
    return found


def _shards(folders: Iterable[Path]) -> list[tuple[int, int, Path]]:
    """Return date in nanoseconds, size in bytes and path of each shard."""
    found = []
    for path in chain.from_iterable(folder.glob("[!.]*.npy") for folder in folders):  # a dot: it is being written
        with suppress(OSError):
            found.append(((about := path.stat()).st_mtime_ns, about.st_size, path))
    return found
