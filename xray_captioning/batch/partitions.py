"""Captions as a folder of Parquet partitions, with a manifest of those that are finished, from which a run goes on. Its
lines are JSON: what run this is, and of each partition its name, SHA-256, and how many rows of each kind it has.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from xray_captioning.batch import caption_table as table
from xray_captioning.data.records import MANIFEST, PARTITION
from xray_captioning.errors import ConfigError
from xray_captioning.files import sha256_file

STUDIES = table.GROUP  # of a partition: whole batches, so that their rows are those of one table


def write_partitions(
    write: Callable[[table.PackedStudies, Path, bool], Counter[str]],
    run: dict[str, Any],
    studies: table.PackedStudies,
    out: Path,
    resume: bool,
) -> Counter[str]:
    """Write with `write` each partition that is not finished, and count the rows of all by their kind."""
    out.mkdir(exist_ok=True)
    counts = Counter[str]()
    with table.open_journal(table.part_of(out), resume) as manifest:
        finished = _finished(manifest, {**run, "studies of a partition": STUDIES})
        for number, part in enumerate(studies.in_parts(STUDIES)):
            path = out / f"part-{number:05}{PARTITION}"
            if path.name not in finished or not path.exists():
                finished[path.name] = {"rows": write(part, path, True), "sha256": sha256_file(path)}
                table.append(manifest, [{"partition": path.name, **finished[path.name]}])
            elif finished[path.name]["sha256"] != sha256_file(path):
                raise ConfigError(f"{path}: is not what its manifest says; remove it, and --resume writes it again")
            table.part_of(path).unlink(missing_ok=True)
            counts += Counter(finished[path.name]["rows"])
    table.part_of(out).replace(out / MANIFEST)
    return counts


def _finished(manifest: BinaryIO, run: dict[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of each partition, without what a kill left half-written."""
    end, found = table.begin_run(manifest, run), {}
    for line in table.read_rows(manifest):
        if not isinstance(line, dict) or line.keys() != {"partition", "rows", "sha256"}:
            raise ConfigError(f"{manifest.name}: is damaged; remove its folder to start anew")
        end, found[line["partition"]] = manifest.tell(), line
    manifest.truncate(end)
    return found
