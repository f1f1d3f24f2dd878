"""Commands that write captions, and an encoder's features."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click

from xray_captioning.batch.caption_table import PackedStudies, Study, check_out, check_whole, is_folder, is_whole
from xray_captioning.bundles.bundle import find_bundle, identity, read_bundle
from xray_captioning.cli import options
from xray_captioning.config import Config, parse_assignment
from xray_captioning.data.feature_files import check_suffix, open_features, write_features
from xray_captioning.data.opening import IMAGE_SUFFIXES
from xray_captioning.data.stores import put, staged, those_there
from xray_captioning.data.studies import LATERAL, UNKNOWN, VIEWS, with_images
from xray_captioning.errors import ConfigError, DataError

CHECKED = 16

# A study's caption, if any, and its findings, None where nothing can be said of them.
Printed = tuple[list[str], dict[str, float] | None]


class Bundle(NamedTuple):
    """A bundle's folder, what its captioner.json says, and the configuration in there."""

    folder: Path
    values: dict[str, Any]
    config: Config


@click.command()
@click.argument("named", nargs=-1, metavar="[IMAGE|DIR ...]")
@options.declared("caption", "features", "runtime")
@options.source("Folder or file of studies as train reads them, instead of images: one caption a study.", labels=False)
@options.engine
@options.no_seed
def caption(named: tuple[str, ...], source: options.Source, bundle: str, out: Any, resume: bool, **asked: Any) -> None:
    """Write a caption for each IMAGE; two images of one study are joined by a comma: a.png,b.png.

    Each image in a DIR is a study of its own. Where DICOM files name their views the frontal one
    is looked at first.
    """
    views, findings, features, engine = map(asked.pop, ("views", "findings", "features", "engine"))
    told = {kind: text for kind in ("indication", "prior") if (text := asked.pop(kind)) is not None}
    out_dicom, fhir, keep_patient = map(asked.pop, ("out_dicom", "fhir", "keep_patient"))
    reported = (out_dicom, fhir, keep_patient) if out_dicom or fhir else None
    if keep_patient and not reported:
        raise ConfigError("--keep-patient is for reports; give --out-dicom or --fhir, too")
    if engine.engine != "local" and (not (out or reported) or features is not None):
        raise ConfigError("--engine ray captions images into a file: give --out, and no --features")
    file = staged(out, resume)
    sent = resume and bool(file) and is_whole(file)
    if features is not None:
        more = bool(named or reported or told or views)
        count, errors = _caption_features(features, source, bundle, file, resume, more, **asked)
    else:
        _check_options(named, source, file, resume, findings, bool(reported))
        shown, model = _named_views(views, source), read_named_bundle(bundle, findings)
        count = model.config.image.views
        studies = PackedStudies(named_studies(named, count, shown)) if named else source_studies(source, model.config)
        studies = _told(studies, told, model, source) if told else studies
        if not (file or reported):
            _print(model, studies, findings, **asked)
            return
        with TemporaryDirectory() as aside:
            table = file or Path(aside, "captions.jsonl")
            count, errors = _write_file(model, studies, table, resume, engine, reported=reported, **asked)
    put(file, out, sent)
    click.echo(f"{out_dicom or fhir or out}: {count} studies, {errors} of them with an error", err=True)
    if errors:
        raise click.exceptions.Exit(1)


def _caption_features(
    path: Any, source: options.Source, bundle: str, out: Path | None, resume: bool, more: bool, **asked: Any
) -> tuple[int, int]:
    source.check()
    if out is None or more:
        advice = "give --out, and no images, views or reports; texts come with --data"
        raise ConfigError(f"--features are captioned into a file: {advice}")
    import pandas as pd

    from xray_captioning.data.targets import contexts, with_priors
    from xray_captioning.evaluation.matching import features_of

    if is_folder(out) or not (resume and is_whole(out)):
        check_out(out, resume)
    model, opened = read_named_bundle(bundle, False, images=False), open_features(path)
    table: Any = pd.DataFrame({"study_id": opened.ids, "images": [[]] * len(opened.ids)})
    if source.data:
        table = with_priors(source._replace(need_images=False).read(), model.config)
    given: Any = features_of(opened, table)
    table = given.there(table) if source.data else table
    told = contexts(table, model.config) or [{}] * len(table)
    studies = PackedStudies(Study(name, [], None, own) for name, own in zip(table["study_id"], told))
    return _write_file(model, studies, out, resume, options.Engine("local", None, None), given=given, **asked)


def _check_options(
    named: tuple[str, ...], source: options.Source, out: Path | None, resume: bool, findings: bool, reported: bool
) -> None:
    source.check(named)
    if resume and out is None:
        raise ConfigError("--resume goes on with a run to a file; give its --out, too")
    if (out or reported) and findings:
        raise ConfigError("a file of --out holds the findings anyway; leave out --findings")
    if reported and resume and out is not None and is_whole(out) and not is_folder(out):
        raise ConfigError(f"{out}: is there already, whole, and does not say which model wrote it; give another --out")
    if out is not None and (is_folder(out) or not (resume and is_whole(out))):
        check_out(out, resume)


def read_named_bundle(name: str, findings: bool, images: bool = True) -> Bundle:
    """Return what a bundle says of itself, in its folder or shipped, checked for what is asked of it."""
    folder = find_bundle(name)
    values = read_bundle(folder, "encoder" if findings else "captioner", images, exported=True)
    if findings and not values["findings"]:
        raise ConfigError(f"{folder}: its encoder classifies no findings; leave out --findings, or give another bundle")
    return Bundle(folder, values, Config.from_dict(values["config"], f"{folder}/captioner.json"))


def _named_views(given: str | None, source: options.Source) -> list[str] | None:
    """Return the views of --views, one for each image of a study."""
    if given is None:
        return None
    if source.data is not None:
        raise ConfigError("--views says what IMAGE shows; the views of --data stand in its table")
    views = given.lower().split(",")
    if not set(views) <= set(VIEWS):
        raise ConfigError(f"--views {given}: give each image one of {', '.join(VIEWS)}")
    return views


def named_studies(images: Sequence[str], count: int, views: list[str] | None) -> list[Study]:
    """Return the studies that IMAGE and DIR name, for a model of `count` views."""
    found = [paths for given in images for paths in _image_paths(given, count)]
    if views is None and count > 1:
        _note_laterals(found)
    if other := [paths for paths in found if views is not None and len(paths) != len(views)]:
        said = f"{len(views or ())} images of a study, but {_name(other[0])} is {len(other[0])}"
        raise ConfigError(f"--views names {said}; give a view for each")
    return [Study(_name(paths), paths, views) for paths in found]


def _told(studies: PackedStudies, told: dict[str, str], model: Bundle, source: options.Source) -> PackedStudies:
    """Return the one study with what the command line tells of it."""
    kinds = model.config.text.context
    if source.data or len(studies) != 1 or not set(told) <= set(kinds):
        reads = f"{model.folder} reads {' and '.join(kinds) or 'nothing'} beside images"
        raise ConfigError(f"--indication and --prior are of one study, for a bundle that reads them; {reads}")
    return PackedStudies(study._replace(context=told) for study in studies)


def _note_laterals(studies: list[list[str]]) -> None:
    """Say that a first image called lateral is taken for a frontal one: names decide nothing."""
    from xray_captioning.data.images import known_views  # a DICOM file may say it itself
    from xray_captioning.data.studies import named_view

    called = [paths[0] for paths in studies if named_view(Path(paths[0]).stem) == LATERAL]
    if taken := [path for path in called if known_views([path]) == [UNKNOWN]]:
        said = f"is called lateral and taken for a frontal image, as {len(taken)} of {len(studies)} are"
        why = "because names decide nothing; say --views lateral"
        click.echo(f"note: {click.format_filename(taken[0])}: {said}, {why}", err=True)


def _image_paths(given: str, views: int) -> list[list[str]]:
    """Return the images of each study that one argument names."""
    path = Path(given)
    if path.is_dir():
        if not (found := sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())):
            raise DataError(f"{given}: holds no {', '.join(IMAGE_SUFFIXES)} image; give another folder")
        return [[str(p)] for p in found]
    names = [given] if path.exists() else given.split(",")
    if absent := sorted(set(names) - those_there(names), key=names.index):
        raise DataError(f"{absent[0] or given}: no such image; check the path")
    if (count := len(names)) > views:
        raise DataError(f"{given}: {count} images of one study, but this model looks at {views}; choose among them")
    return [names]


def _name(paths: Sequence[str | None]) -> str:
    return ",".join(click.format_filename(path) for path in paths if path is not None)


def source_studies(source: options.Source, config: Config) -> PackedStudies:
    """Return each study of a data source with those of its images that the model looks at."""
    from xray_captioning.data.sources.reading import read_in_parts
    from xray_captioning.data.targets import contexts, study_images, with_priors

    def chosen(studies: Any) -> Iterator[Study]:
        present = with_images(studies)
        there = dict(zip(present["study_id"], study_images(present, config)))
        rows = zip(studies["study_id"], contexts(with_priors(studies, config), config) or [{}] * len(studies))
        # One image that stands in for two views is named once.
        return (Study(name, list(dict.fromkeys(there.get(name, ()))), None, own) for name, own in rows)

    # What is told beside images may stand with another study of the patient.
    parts = [source.read()] if config.text.context else read_in_parts(source.data, source.images, source.columns)
    return PackedStudies(chain.from_iterable(map(chosen, parts)))


def _write_file(
    bundle: Bundle, studies: PackedStudies, out: Path, resume: bool, engine: options.Engine, **asked: Any
) -> tuple[int, int]:
    """Write the file, or check the one that is there; count the studies, and those with an error."""
    runtime, reported, given = asked["runtime"], asked.get("reported"), asked.get("given")
    if resume and is_whole(out) and not is_folder(out):
        errors = check_whole(out, studies)
        click.echo(f"{out}: is there already, whole; there is nothing to resume", err=True)
    else:
        from xray_captioning.batch.reports import report_writer
        from xray_captioning.batch.run import batch_captioner, caption_to_file, lost_row
        from xray_captioning.runtime import open_captioner

        _note(bundle)
        own = identity(bundle.folder, bundle.values)
        digest, known = own.digest, {**own._asdict(), "section": bundle.config.text.section}
        report = report_writer({**bundle.values["about"], **known}, studies, *reported) if reported else None
        how = asked["beam"], resume, asked["show_unfamiliar"], given
        make = partial(batch_captioner, bundle.folder, runtime, asked["beam"], asked["show_unfamiliar"], len(studies))
        with engine.spread() as spread:
            captioner = None if spread else open_captioner(bundle.folder, runtime)
            over = spread and partial(spread, make, lost=lost_row)
            errors = caption_to_file(captioner, digest, studies, out, *how, over, report, bundle.values["findings"])
    return len(studies), errors


def _print(bundle: Bundle, studies: PackedStudies, findings: bool, **asked: Any) -> None:
    there = [study for study in studies if study.images]
    if absent := len(studies) - len(there):
        click.echo(f"note: {absent} of {len(studies)} studies have no image there", err=True)
    _check_images(there)
    writes = bundle.values["kind"] == "captioner"
    rows = _captions(bundle, there, **asked) if writes else _finding_rows(bundle, there)
    _note(bundle)
    names = bundle.values["findings"] if findings else []
    if findings:
        click.echo("\t".join(["images", *(["caption"] if writes else []), *names]))
    # Strictly, because rows end with a warning that is given when they are asked for one more.
    for study, (texts, chances) in zip(there, rows, strict=True):
        cells = ["" if chances is None else f"{chances[name]:.6f}" for name in names]
        click.echo("\t".join([_name(study.images), *texts, *cells]))


def _check_images(studies: list[Study]) -> None:
    """Read the first images (all take too long): one that cannot be read is the only line then."""
    from xray_captioning.data.images import read_image
    from xray_captioning.data.levels import ImageWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)  # told when they are used
        for path in (path for study in studies[:CHECKED] for path in study.images if path is not None):
            read_image(path, size=1, resize="nearest")


def _captions(
    bundle: Bundle, studies: list[Study], beam: int | None, show_unfamiliar: bool, runtime: str | None
) -> Iterator[Printed]:
    from xray_captioning.batch.run import SIZE, kind, warn_of_empty
    from xray_captioning.captioner.calibration import is_unfamiliar, stated
    from xray_captioning.captioner.captioner import predict
    from xray_captioning.runtime import open_captioner

    captioner, written = open_captioner(bundle.folder, runtime), Counter[str]()
    for start in range(0, len(studies), SIZE):
        batch = studies[start : start + SIZE]
        features = captioner.features([s.images for s in batch], [s.views for s in batch])
        told = [s.context for s in batch] if bundle.config.text.context else None
        for found in predict(captioner, features, beam, told):
            said, known = stated(*found, show_unfamiliar)
            written[kind({"error": None, "caption": said.text, "unfamiliar": is_unfamiliar(said)})] += 1
            yield [said.text], known
    warn_of_empty(written, show_unfamiliar)


def _finding_rows(bundle: Bundle, studies: list[Study]) -> Iterator[Printed]:
    from xray_captioning.captioner.studies import arranged_studies
    from xray_captioning.encoders import Encoder
    from xray_captioning.encoders.encoding import classify_studies

    encoder, count = Encoder.load(bundle.folder), bundle.config.image.views
    placed = list(arranged_studies([study.images for study in studies], count, [study.views for study in studies]))
    return (([], found) for found in classify_studies(encoder, bundle.config, placed))


def _note(bundle: Bundle) -> None:
    if notice := bundle.values["about"].get("notice"):
        click.echo(f"note: {notice}", err=True)


@click.command()
@click.argument("named", nargs=-1, metavar="[IMAGE|DIR ...]")
@options.declared("encode", "set")
@options.source("Folder or file of studies, instead.", labels=False)
@options.engine
@options.no_seed
def encode(named: tuple[str, ...], source: options.Source, encoder: str, out: Any, **given: Any) -> None:
    """Write an encoder's features of each IMAGE; images of one study are joined by a comma.

    The file holds `regions` (study, view, row, column, channel); `views` (study, view), False where
    a study has no such image; `ids`; and `about`, JSON that says what made them. Pixels become what
    the encoder's weights expect, or for an ONNX file what --set says. `train --features` takes it.
    """
    source.check(named)
    assignments, dtype, engine = map(given.pop, ("assignments", "dtype", "engine"))
    file = staged(out, False)
    check_suffix(file)
    if file != out and file.suffix != ".npz":
        raise ConfigError(f"--out {out}: only an .npz is written to a store; let its name end so")
    from xray_captioning.captioner.studies import arranged_studies
    from xray_captioning.encoders.encoding import BATCH as SLICE
    from xray_captioning.encoders.encoding import batch_encoder, encoder_config, lost_images, study_encoder

    changes = dict(parse_assignment(text) for text in assignments)
    if wrong := set(changes) - {f"image.{name}" for name in ("size", "resize", "normalisation")}:
        raise ConfigError(f"--set {min(wrong)}: encode has image.size, .resize, .normalisation")
    config = encoder_config(encoder, 2, changes, given["weights"])
    asked = source_studies(source, config) if source.data else named_studies(named, 2, None)
    if not (studies := [study for study in asked if any(study.images)]):
        raise DataError(f"{source.data}: none of its images is there; give --images")
    views = max(len(study.images) for study in studies)
    placed = list(arranged_studies([study.images for study in studies], views))
    run, about = study_encoder(views, encoder, changes=changes, **given)
    about["left_out"] = [study.name for study in asked if not any(study.images)]
    with engine.spread() as spread:
        make = partial(batch_encoder, views, encoder, given["weights"], changes, given["layer"])
        slices = (placed[start : start + SLICE] for start in range(0, len(placed), SLICE))
        batches = chain.from_iterable(spread(make, slices, lost_images)) if spread else map(run, slices)
        write_features(file, [study.name for study in studies], batches, about, dtype)
    shape = open_features(file).regions.shape
    put(file, out)
    click.echo(f"{out}: {' x '.join(map(str, shape))}", err=True)
