"""Captions as a folder of Parquet partitions, with a manifest of those that are finished, from which a run goes on. Its
lines are JSON: what run this is, and of each partition its name, SHA-256, and how many rows of each kind it has.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from xray_captioning.batch import caption_table as table
from xray_captioning.data import opening, records
from xray_captioning.errors import ConfigError
from xray_captioning.files import atomic_write, sha256_file

STUDIES = 1 << 14  # of a partition: whole batches, so that their rows are those of one table


class Partition(msgspec.Struct, forbid_unknown_fields=True):
    """What the manifest says of a partition."""

    partition: str
    rows: dict[str, int]
    sha256: str


def write_partitions(
    write: Callable[[table.PackedStudies, Path, bool], tuple[Counter[str], int]],
    run: dict[str, Any],
    studies: table.PackedStudies,
    out: Path,
    resume: bool,
    bar: Any,
    report: table.Report | None,
) -> tuple[Counter[str], int]:
    """Write with `write` each partition that is not finished; count the rows of all by their kind, and reports that
    could not be written.
    """
    out.mkdir(exist_ok=True)
    unfinished, whole, counts = table.part_of(out), out / opening.MANIFEST, Counter[str]()
    if resume and whole.exists():
        unfinished.unlink(missing_ok=True)  # of another run
    with table.open_journal(whole if resume and whole.exists() else unfinished, resume) as manifest:
        finished = _finished(manifest, {**run, "studies of a partition": STUDIES})
        for number, part in enumerate(studies.in_parts(STUDIES)):
            path = out / f"part-{number:05}{opening.PARTITION}"
            if path.name in finished and path.exists():
                if finished[path.name].sha256 != sha256_file(path):
                    raise ConfigError(f"{path}: is not what its manifest says; remove it, and --resume writes it again")
                bar.update(len(part))
            else:
                if whole.exists():  # it lost this one
                    whole.replace(unfinished)
                finished[path.name] = Partition(path.name, write(part, path, True)[0], sha256_file(path))
                table.append(manifest, [msgspec.to_builtins(finished[path.name])])
            table.part_of(path).unlink(missing_ok=True)
            counts += Counter(finished[path.name].rows)
        if strays := {path.name for path in opening.partitions(out)} - finished.keys():
            raise ConfigError(f"{out / min(strays)}: is no partition of this run; move it, then --resume")
        failed = report(zip(studies, _rows(out), strict=True)) if report else 0
    if unfinished.exists():  # it lists a partition twice that was lost
        first, rows = unfinished.read_bytes().splitlines(keepends=True)[0], map(msgspec.to_builtins, finished.values())
        atomic_write(whole, first + b"".join(map(table.json_line, rows)))
        unfinished.unlink()
    return counts, failed


def _finished(manifest: BinaryIO, run: dict[str, Any]) -> dict[str, Partition]:
    """Return what the manifest says of each partition, without what a kill left half-written."""
    end, found = table.begin_run(manifest, run), {}
    for line in table.read_rows(manifest):
        try:
            one = msgspec.convert(line, Partition)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{manifest.name}: is damaged ({error}); remove its folder to start anew") from error
        end, found[one.partition] = manifest.tell(), one
    manifest.truncate(end)
    return found


def _rows(out: Path) -> Iterator[table.Row]:
    for path in opening.partitions(out):
        rows = records.parquet(path)
        _, names = next(rows)
        yield from (dict(zip(names, values)) for _, values in rows)
