"""Members of a zip archive, read within a limit and never unpacked to disk; and ``.npz`` files."""

import io
import zipfile
import zlib

import numpy as np

from xray_captioning.checkpoints import arrays
from xray_captioning.checkpoints.arrays import Array, Budget, RefusedError

Members = dict[str, zipfile.ZipInfo]
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def entries(archive: zipfile.ZipFile) -> Members:
    """Return the members of an archive by name, or refuse one that no program writes."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()) or len(members) > arrays.MAXIMUM_NAMES:
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


def read_npz(archive: zipfile.ZipFile, budget: Budget) -> dict[str, Array]:
    """Read all arrays of an archive that ``np.savez`` or ``np.savez_compressed`` wrote.

    Those of objects, which are pickles, are refused.
    """
    members, stored = entries(archive), Budget(budget.limit)
    return {
        name.removesuffix(".npy"): _array(entry(archive, members, name, stored), name, budget)
        for name in members
    }


def _array(data: bytes, name: str, budget: Budget) -> Array:
    """Return the array of an ``.npy`` file."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        old, new = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        shape, columns_first, kind = (old if version == (1, 0) else new)(file)
        if kind.kind not in "fiubc":
            raise RefusedError(f"{name[:60]!r} holds {str(kind)[:40]}, not numbers; refused")
        flat = np.frombuffer(data, kind, offset=file.tell())
        values = flat.reshape(shape, order="F" if columns_first else "C")
    except ValueError as error:
        raise RefusedError(
            f"{name[:60]!r} is no array, or truncated ({str(error)[:60]}); save the file again"
        ) from error
    code = f"{kind.kind}{kind.itemsize}"
    budget.pay(values.size * arrays.result_size(code), name)
    return arrays.plain(values, code)
