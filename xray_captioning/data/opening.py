"""The bytes and the text of a file that may be packed, in UTF-16, or not what its name says."""

import codecs
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, cast

from xray_captioning.data.cache_folder import FILES, GIB, LIMIT_VARIABLE, SETTINGS, home_of, note_use, size_limit
from xray_captioning.errors import DataError
from xray_captioning.files import BROKEN_ZIP, atomic_write, read_toml, temporary_folder

HEAD_BYTES = 1 << 16  # as much of a file as is looked at to tell what it is
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
DICOM_SUFFIXES = (".dcm", ".dicom")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES)
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
_BOMS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig"}
_BOMS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # in this order: one begins as another
_NO_TABLES = read_toml(__file__, "no_tables.toml")
MANIFEST, PARTITION = "_manifest.jsonl", ".parquet"  # of a folder that `caption` writes


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, or a member ``archive.zip/inner.csv``, unpacked if gzip or a zip of one table; errors: DataError."""
    file = next((parent for parent in path.parents if parent.is_file()), path)
    member = None if file == path else path.relative_to(file).as_posix()
    with whole_archive(path), _buffered(io.FileIO(file)) as raw:
        yield _unpacked(raw, path, member)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file: UTF-8, or UTF-16 or UTF-32 with its mark; anything else is a DataError."""
    with open_bytes(path) as stream:
        head = stream.peek(HEAD_BYTES)
        encoding = _encoding(head)
        if found := what_else(head):
            raise DataError(f"{path}: is {found}; save the table as CSV, JSON, Parquet or .xlsx")
        text = io.TextIOWrapper(stream, encoding=encoding, newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise _undecodable(path, encoding, error) from error


def read_text(path: Path, most: int = -1) -> str:
    """Read a text file, or so many of its first characters; see `open_text`."""
    with open_text(path) as file:
        return file.read(most)


def what_else(head: bytes) -> str | None:
    """Name what a file that begins like this is, where it is no text."""
    start = head.lstrip().lower()
    for signature, name in _NO_TABLES.items():
        magic = signature.encode("latin-1")
        if head.startswith(magic) or start.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    return "no text" if b"\0" in head and _encoding(head) in ("utf-8", "utf-8-sig") else None


def _encoding(head: bytes) -> str:
    """Return the encoding of a text by its mark, or by the zeros of plain letters in UTF-16."""
    if marked := [encoding for mark, encoding in _BOMS.items() if head.startswith(mark)]:
        return marked[0]
    odd, even = head[1:400:2], head[:400:2]
    if odd and not any(odd):
        return "utf-16-le"
    return "utf-16-be" if len(even) > 1 and not any(even) and any(odd) else "utf-8"


def _unpacked(stream: io.BufferedReader, path: Path, member: str | None) -> io.BufferedReader:
    if stream.peek(4).startswith(ZIP):
        archive = zipfile.ZipFile(stream)
        workbook = "[Content_Types].xml" in archive.namelist()
        stream.seek(0)
        if workbook and member is None:
            return stream
        stream = _buffered(archive.open(_member(archive, path, member)))
    elif member is not None:
        raise DataError(f"{path}: lies in a file that is no zip archive; unpack it first")
    return _buffered(gzip.GzipFile(fileobj=stream)) if stream.peek(2).startswith(GZIP) else stream


def _buffered(stream: io.FileIO | IO[bytes] | gzip.GzipFile) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", stream), HEAD_BYTES)


def _member(archive: zipfile.ZipFile, path: Path, member: str | None) -> str:
    """Return the member of an archive that is meant: the one named, or the only table."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if member in names:
        return str(member)
    if member is not None:
        raise DataError(f"{path}: is not in the archive; it holds {', '.join(names[:5])}")
    if len(tables := list(filter(_is_table, filter(_is_shown, names)))) != 1:
        found = ", ".join(tables[:5]) or "none"
        raise DataError(f"{path}: holds {len(tables)} tables ({found}); name one: {path}/NAME")
    return tables[0]


def _is_shown(name: str) -> bool:
    return not (name.startswith("__MACOSX/") or name.replace("\\", "/").rpartition("/")[2].startswith("."))


def _is_table(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)


@contextmanager
def whole_archive(path: Path, advice: str = "check the path") -> Iterator[None]:
    """Make a DataError of whatever goes wrong while a packed file is read."""
    try:
        yield
    except (*BROKEN_ZIP, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is not a whole archive ({error}); get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error


def _undecodable(path: Path, encoding: str, error: UnicodeDecodeError) -> DataError:
    """Say in which line the first byte is that is no UTF-8."""
    where, name = str(path), encoding.upper().removesuffix("-SIG")
    if name == "UTF-8":
        with open_bytes(path) as stream:
            bad = (line.decode("utf-8", "ignore").encode() != line for line in stream)
            where = next((f"{path}, line {n}" for n, found in enumerate(bad, 1) if found), where)
    return DataError(f"{where}: is not {name} text ({error.reason}); save it as UTF-8")


def is_image(name: str) -> bool:
    """Tell by its suffix whether a file is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


# --- zip archives of studies: unpacked once into the folder of caches, without links, up to its limit ---

MAX_MEMBERS = 1_000_000


def is_zip(path: Path) -> bool:
    """Tell whether a file is a zip archive by its first bytes; Excel's tables are not meant."""
    if path.suffix.lower() in (".xlsx", ".xlsm", ".docx", ".npz", ".keras"):
        return False
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return False


def is_table(path: Path) -> bool:
    """Tell whether an archive holds one table and no image: it is read without unpacking it."""
    with suppress(*BROKEN_ZIP, OSError), zipfile.ZipFile(path) as archive:
        names = list(filter(_is_shown, archive.namelist()))
        return sum(map(_is_table, names)) == 1 and not any(map(is_image, names))
    return False


def unpacked(path: Path) -> Path:
    """Return the folder of an unpacked zip archive, named by names, sizes, checksums: a changed one is made anew."""
    with whole_archive(path, "unpack it and give the folder"), zipfile.ZipFile(path) as archive:
        members = list(_members(archive))
        size = sum(member.file_size for member in members)
        listed = sorted((member.filename, member.file_size, member.CRC) for member in members)
        return kept_folder(path, listed, size, len(members), lambda folder: archive.extractall(folder, members))


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the files of an archive; `zipfile` writes none outside of the folder, and no links."""
    for member in archive.infolist():
        member.filename = member.filename.replace("\\", "/")  # as some programs on Windows write it
        if not member.is_dir() and _is_shown(member.filename):
            yield member


def kept_folder(origin: object, listed: Any, size: int, count: int, fill: Callable[[Path], Any]) -> Path:
    """Return the folder of caches that `fill` fills once, whole or not at all, for what is `listed` (JSON)."""
    settings = json.dumps({"archive": hashlib.sha256(json.dumps(listed).encode()).hexdigest(), "bytes": size})
    home = home_of(settings)
    if not (home / FILES).is_dir():
        if size > (most := size_limit()) or count > MAX_MEMBERS:
            limits = f"{MAX_MEMBERS:,} or the {most / GIB:g} GiB of the cache"
            what = f"holds {count} files of {size / GIB:.1f} GiB, more than {limits}"
            raise DataError(f"{origin}: {what}; unpack it and give the folder, or set {LIMIT_VARIABLE}")
        home.mkdir(parents=True, exist_ok=True)
        with temporary_folder(home, FILES) as temporary:
            fill(temporary)
            atomic_write(home / SETTINGS, settings)
            if not (home / FILES).exists():
                temporary.rename(home / FILES)
    note_use(home / FILES)
    return home / FILES


def partitions(folder: Path) -> list[Path]:
    """Return the partitions of a folder; other readers, too, take no name with a dot or "_" before it for one."""
    return sorted(path for path in folder.glob(f"*{PARTITION}") if path.name[0] not in "._")
