"""Members of a zip archive, read into memory within a limit and never unpacked to disk."""

from __future__ import annotations

import zipfile
import zlib

from xray_captioning.checkpoints.limits import MAXIMUM_NAMES, Budget, RefusedError

Members = dict[str, zipfile.ZipInfo]
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def entries(archive: zipfile.ZipFile) -> Members:
    """Return the members of an archive by name, or refuse one that no program writes."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()) or len(members) > MAXIMUM_NAMES:
        raise RefusedError("a zip archive with names twice, or with too many; refused")
    return members


def entry(archive: zipfile.ZipFile, members: Members, name: str, budget: Budget) -> bytes:
    """Return a member's bytes, or refuse one that is damaged or larger than the budget."""
    info = members.get(name)
    if info is None:
        raise RefusedError(f"has no {name[:60]!r} inside; truncated, download or copy it again")
    if info.flag_bits & 1 or info.compress_type not in _METHODS:
        raise RefusedError(f"its {name[:60]!r} is encrypted or packed in a rare way; save it again")
    budget.pay(info.file_size, name)
    try:
        data = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise RefusedError(
            f"a damaged zip archive ({str(error)[:80]}); download it again"
        ) from error
    if len(data) != info.file_size:
        raise RefusedError(f"its {name[:60]!r} is cut off; download or copy it again")
    return data
