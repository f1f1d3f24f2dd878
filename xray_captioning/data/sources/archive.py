"""Zip archives of studies: unpacked once into the folder of caches, never beside the user's file.

Images have to be files for the rest of the package. What an archive may do is bounded: files are
written below its own folder only, no links, and never more than the limit of the folder of caches.
"""

import hashlib
import json
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

from xray_captioning.data import cache_folder
from xray_captioning.data.cache_folder import FILES, GIB, LIMIT_VARIABLE
from xray_captioning.data.opening import TABLE_SUFFIXES, whole_archive
from xray_captioning.data.sources.lookup import is_image
from xray_captioning.errors import DataError
from xray_captioning.files import atomic_write

MAX_MEMBERS = 1_000_000

_LEFT_OUT = ("__MACOSX", ".DS_Store", "Thumbs.db")


def is_zip(path: Path) -> bool:
    """Tell whether a file is a zip archive by its first bytes; Excel's tables are not meant."""
    if path.suffix.lower() in (".xlsx", ".xlsm", ".docx", ".npz", ".keras"):
        return False
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return False


def is_table(path: Path) -> bool:
    """Tell whether an archive holds one table and no image: it is read without unpacking it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError):
        return False
    names = [m.filename for m in members if not set(_parts(m)) & set(_LEFT_OUT)]
    tables = [name for name in names if name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)]
    return len(tables) == 1 and not any(map(is_image, names))


def unpacked(path: Path) -> Path:
    """Return a folder with the content of a zip archive, unpacked at its first use: its name is of
    the members' names, sizes and checksums, so a changed one is unpacked anew.
    """
    with whole_archive(path, "unpack it and give the folder"), zipfile.ZipFile(path) as archive:
        members = _members(archive, path)
        size = sum(member.file_size for member in members)
        listed = sorted((member.filename, member.file_size, member.CRC) for member in members)
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        settings = json.dumps({"archive": digest, "bytes": size})
        home = cache_folder.home_of(settings)
        if not (home / FILES).is_dir():
            if size > (most := cache_folder.size_limit()):
                raise DataError(
                    f"{path}: unpacks to {size / GIB:.1f} GiB, more than the {most / GIB:g} GiB of "
                    f"the cache; unpack it and give the folder, or set {LIMIT_VARIABLE}"
                )
            _unpack(archive, members, home, settings)
    cache_folder.note_use(home / FILES)
    return home / FILES


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, after a look at where each would be written."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{path}: holds {len(members)} files; unpack it and give the folder")
    for member in members:
        parts = _parts(member)
        if not parts or parts[0] in ("/", "") or ".." in parts or ":" in parts[0]:
            raise DataError(
                f"{path}: names a file outside itself ({member.filename[:80]!r}); beware of it"
            )
        if (member.external_attr >> 28) == 0o12:  # S_IFLNK, as Unix programs write it
            raise DataError(f"{path}: holds a link ({member.filename[:80]!r}); unpack it yourself")
    kept = [member for member in members if not set(_parts(member)) & set(_LEFT_OUT)]
    if len({_parts(member) for member in kept}) < len(kept):
        raise DataError(f"{path}: holds two files of one name; unpack it and give the folder")
    return kept


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(member.filename.replace("\\", "/")).parts


def _unpack(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], home: Path, settings: str
) -> None:
    """Unpack into a temporary folder, and rename it: another process sees all of it or nothing."""
    home.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=home))
    try:
        for member in members:
            to = temporary.joinpath(*_parts(member))
            to.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(to, "wb") as target:
                shutil.copyfileobj(source, target)  # at most the size that was checked
        atomic_write(home / cache_folder.SETTINGS, settings)
        if not (home / FILES).exists():
            temporary.rename(home / FILES)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
