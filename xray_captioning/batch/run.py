"""Captions of thousands of studies in a file; a run survives a kill and unreadable images."""

import contextlib
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

from msgspec import to_builtins

from xray_captioning import __version__, config, files
from xray_captioning.batch import caption_table as table
from xray_captioning.batch.caption_table import PackedStudies, Row, Study
from xray_captioning.batch.partitions import write_partitions
from xray_captioning.captioner.calibration import is_unfamiliar, stated, warn_if_unfamiliar
from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.captioner import Captioner, predict
from xray_captioning.data import feature_files, stores
from xray_captioning.data.features import Features, one_ahead
from xray_captioning.data.images import Image, arranged, read_image
from xray_captioning.errors import DataError, StoreError, XrayCaptioningError

SIZE, SHARE = 64, 8  # studies in a batch, and how many such batches are enough to share out evenly over workers
DIGITS = 5  # of a float, six places at most: float32 holds seven, of which the last depend on threads and batches
Spread = Callable[[Iterable[list[Study]]], Iterator[list[Row]]]
Seen = tuple[list[Row], Features | None]  # of a batch; the features of those without error


def caption_to_file(
    captioner: Any,
    bundle: str,
    studies: PackedStudies,
    out: Path,
    beam_size: int | None = None,
    resume: bool = False,
    show_unfamiliar: bool = False,
    given: feature_files.StudyFeatures | None = None,
    spread: Spread | None = None,
    report: table.Report | None = None,
    findings: Sequence[str] = (),
) -> int:
    """Write a row for each study, its caption or why it has none, and count those with an error."""
    # A resumed run writes the same bytes. `bundle` is a digest; with `given` features no image is read, with `spread`
    # other processes caption, and of the captioner, None then, its `findings` are enough; in the end `report` has it.
    table.check_out(out, resume)
    if captioner is not None:
        findings = captioner.encoder.findings
    if captioner is not None and given is not None:
        from xray_captioning.encoders.encoding import check_fits  # with Keras

        check_fits(given, captioner.config, captioner.encoder, captioner.about)
        given.check(study.name for study in studies)
    run = {"version": __version__, "bundle": bundle, "beam size": beam_size, "--show-unfamiliar": show_unfamiliar}
    texts = f" {_digest(studies)}" if any(study.context for study in studies) else ""
    run["set of studies or images"] = f"{given.digest()}{texts}" if given else _digest(studies)
    out.parent.mkdir(parents=True, exist_ok=True)
    how: Any = {"beam_size": beam_size, "show_unfamiliar": show_unfamiliar, "given": given, "total": len(studies)}
    size = SIZE if len(studies) >= SHARE * SIZE else max(1, SIZE // 4)
    with files.progress(total=len(studies), desc="caption", unit="study", delay=0.5) as bar:
        write = partial(_write_table, spread or partial(captioned, captioner, **how), run, findings, size, bar)
        if table.is_folder(out):
            counts, failed = write_partitions(write, run, studies, out, resume, bar, report)
        else:
            counts, failed = write(studies, out, resume, report)
            table.part_of(out).unlink()
    warn_of_empty(counts, show_unfamiliar)
    return counts["error"] + failed


def _write_table(
    captions: Spread,
    run: dict[str, Any],
    findings: Sequence[str],
    size: int,
    bar: Any,
    studies: PackedStudies,
    out: Path,
    resume: bool,
    report: table.Report | None = None,
) -> tuple[Counter[str], int]:
    """Write one table, whose journal stays, and count its rows by their kind, and those without a report."""
    with table.open_journal(table.part_of(out), resume) as file:
        done = table.begin(file, run, studies, size)
        bar.update(done)
        left = islice(studies, done, None)
        for batch in captions(iter(lambda: list(islice(left, size)), [])):
            table.append(file, batch)
            bar.update(len(batch))
        table.write_rows(table.read_rows(file), out, findings)
        counts = Counter(map(kind, table.read_rows(file)))
        # While the journal is there, which says what wrote the rows, and after a kill goes on here.
        return counts, report(zip(studies, table.read_rows(file))) if report else 0


def kind(row: Row) -> str:
    """Return what is counted of a row: an error, or whether images are unfamiliar, and nothing is said of them."""
    if row["error"] is not None:
        return "error"
    return ", ".join(["unfamiliar"] * bool(row["unfamiliar"]) + ["empty"] * (row["caption"] == "")) or "captioned"


def warn_of_empty(counts: Counter[str], show_unfamiliar: bool) -> None:
    """Warn of the studies, by their kind, of which nothing is said, and say why; once each."""
    left, shown = "their captions are left empty; --show-unfamiliar writes them", "their sentences have no confidence"
    strange = {name: "unfamiliar" in name for name in counts}
    warn_if_unfamiliar((1 + strange[name] for name in counts.elements()), 4, shown if show_unfamiliar else left)
    if silent := counts["empty"] + show_unfamiliar * counts["unfamiliar, empty"]:
        said = f"the model wrote nothing about {silent} of {counts.total()} studies, so their captions are empty"
        warnings.warn(f"{said}; train it longer, or try another --beam", stacklevel=2)


def captioned(
    captioner: Captioner,
    batches: Iterator[Sequence[Study]],
    beam_size: int | None = None,
    show_unfamiliar: bool = False,
    given: feature_files.StudyFeatures | None = None,
    total: int | None = None,
) -> Iterator[list[Row]]:
    """Yield a row of JSON values a study, batch by batch; ``error`` says why one has no caption."""
    # While a batch is captioned the next one is encoded. Of few studies in `total` no search is compiled by XLA.

    def following() -> tuple[list[Row], Features | None, Any] | None:
        if (batch := next(batches, None)) is None:
            return None
        rows, features = _seen(captioner, batch, given)
        told = [study.context for study, row in zip(batch, rows) if row["error"] is None]
        return rows, features, told if any(told) else None

    for rows, features, told in one_ahead(following):
        readable = [row for row in rows if row["error"] is None]
        found = () if features is None else predict(captioner, features, beam_size, told, total)
        for row, prediction in zip(readable, found, strict=True):
            row.update(_result(*stated(*prediction, show_unfamiliar)))
        yield rows


def _seen(captioner: Captioner, studies: Sequence[Study], given: feature_files.StudyFeatures | None) -> Seen:
    """Return the rows of studies, with what is wrong with each, and the features of those without error."""
    if given is not None:
        places = given.of(study.name for study in studies)
        return [_row(s) for s in studies], Features(*given.read(places, captioner.config.model.pool))
    with contextlib.suppress(XrayCaptioningError, OSError):  # all at once, which is quicker
        features = captioner.features([study.images for study in studies], [study.views for study in studies])
        return [_row(study) for study in studies], features
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        read = list(pool.map(lambda study: _read(study, captioner.config.image), studies))
    rows = [_row(study, error) for study, (_, error) in zip(studies, read)]
    pixels = [pixels for pixels, error in read if error is None]
    return rows, captioner.features(pixels, resized=True) if pixels else None


def _read(study: Study, image: config.ImageConfig) -> tuple[list[Image | None], str | None]:
    """Return a study's pixels in the places of its views, or what is wrong with its images."""
    try:
        if not study.images:
            raise DataError("none of its images is there; check the image folder")
        if (count := len(study.images)) > image.views:
            raise DataError(f"{count} images, but this model looks at {image.views}; choose among them")
        paths = arranged(study.images, image.views, study.views)  # pixels do not say which view they show
        return [None if path is None else read_image(path, image.size, image.resize) for path in paths], None
    except StoreError:  # of all the studies that are left
        raise
    except (XrayCaptioningError, OSError) as error:
        return [], table.printable(" ".join(str(error).split()) or type(error).__name__)


def batch_captioner(
    folder: Path, runtime: str | None, beam_size: int | None, show_unfamiliar: bool, total: int
) -> Callable[[list[Study]], list[Row]]:
    """Return what makes the rows of a batch, with a captioner of its own: for another process."""
    from xray_captioning.runtime import open_captioner

    captioner = open_captioner(folder, runtime)
    return lambda batch: next(captioned(captioner, iter([batch]), beam_size, show_unfamiliar, None, total))


def lost_row(study: Study) -> Row:
    """Return the row of a study that ended every process that read it."""
    return _row(study, "the process that read it ended twice; its images may take more memory than there is")


def _row(study: Study, error: str | None = None) -> Row:
    images = [table.printable(path) for path in study.images if path is not None]
    known = {"study": table.printable(study.name), "images": images, "error": error}
    return {name: known.get(name) for name in table.COLUMNS}


def _result(caption: Caption, findings: dict[str, float] | None) -> Row:
    row = {
        "caption": caption.text,
        "log_probability": caption.log_probability,
        "sentences": [sentence._asdict() for sentence in caption.sentences],
        "novelty": caption.novelty,
        "regions": to_builtins(caption.regions),
        "unfamiliar": None if caption.novelty is None else is_unfamiliar(caption),
        "findings": findings,
    }
    return dict(json.loads(json.dumps(row), parse_float=lambda digits: round(float(f"{float(digits):.{DIGITS}g}"), 6)))


def _digest(studies: PackedStudies) -> str:
    """Return the SHA-256 of names, paths, views, and what tells the files there from others."""
    stored, digest = stores.versions(path for s in studies for path in s.images if path), hashlib.sha256()
    for study in studies:
        told = [[path, *(stored.get(path or "", "").split() or _state(path))] for path in study.images]
        digest.update(json.dumps([study.name, told, study.views, *filter(None, [study.context])]).encode())
    return digest.hexdigest()


def _state(path: str | None) -> tuple[int, ...]:
    """Return size, time and a sum of the middle of a file: one that takes its place may have both."""
    if path and os.path.isfile(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found = os.fstat(file.fileno())
            file.seek(found.st_size // 2)
            return found.st_size, found.st_mtime_ns, crc32(file.read(1 << 12))
    return ()
