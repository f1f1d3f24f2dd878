"""The command that writes captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError, DataError

if TYPE_CHECKING:
    from xray_captioning.config import Config

DEFAULT = "phantom_attention"
BATCH = 64
CHECKED = 16
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

Studies = list[list[str]]
Row = tuple[list[str], dict[str, float]]  # the caption, if any, and the findings
Named = list[tuple[str, list[str]]]  # a study's name and its images
Rows = Callable[[Studies], Iterator[Row]]


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE|DIR ...]")
@click.option("--bundle", default=DEFAULT, show_default=True, metavar="BUNDLE")
@click.option(
    "--data",
    type=options.existing,
    help="Folder or file of studies as train reads them, instead of images: two views of a study "
    "make one caption.",
)
@click.option("--images", "image_dir", type=options.existing, help="Where --data's images are.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a table there: .csv, .parquet or .jsonl. A study that cannot be read has its row "
    "too, with the reason in the column error; the exit status is then 1.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run to --out that was stopped. Of a file that is whole only the studies "
    "are looked at: which bundle wrote it, it does not tell.",
)
@click.option("--beam", type=click.IntRange(1, 100), help="Beam size; 1 is greedy.")
@click.option(
    "--findings",
    is_flag=True,
    help="A table, tab-separated and with a header: the caption, if the bundle writes any, and "
    "the encoder's probability of each finding.",
)
@options.seed
def caption(
    images: tuple[str, ...],
    bundle: str,
    data: Path | None,
    image_dir: Path | None,
    out: Path | None,
    resume: bool,
    beam: int | None,
    findings: bool,
    seed: int | None,
) -> None:
    """Write a caption for each IMAGE; two images of one study are joined by a comma: a.png,b.png.

    Of a DIR, each image is a study of its own. Where DICOM files name their views the frontal one
    is looked at first.
    """
    _check_options(images, data, image_dir, out, resume, findings)
    from xray_captioning.bundles.bundle import find_bundle, read_bundle
    from xray_captioning.config import Config

    folder = find_bundle(bundle)
    values = read_bundle(folder, "encoder" if findings else "captioner")
    if findings and not values["findings"]:
        raise ConfigError(
            f"{folder}: its encoder classifies no findings; leave out --findings, or give a bundle "
            "of train-encoder or CheXNet's"
        )
    config = Config.from_dict(values["config"], f"{folder}/captioner.json")
    named = _source_studies(data, image_dir, config) if data else _named(images, config)
    if out is not None:
        _write_file(folder, values, named, out, beam, resume)
        return
    studies = [paths for _, paths in named if paths]
    if absent := len(named) - len(studies):
        click.echo(f"note: {absent} of {len(named)} studies have no image there", err=True)
    _check_images(studies)
    print_all = _print_table if findings else _print_captions
    print_all(folder, config, values, studies, beam)


def _check_options(
    images: tuple[str, ...],
    data: Path | None,
    image_dir: Path | None,
    out: Path | None,
    resume: bool,
    findings: bool,
) -> None:
    if bool(images) == (data is not None):
        raise ConfigError("give either IMAGE or DIR, or --data; see xray-captioning caption --help")
    if image_dir is not None and data is None:
        raise ConfigError("--images says where the images of --data are; give --data, too")
    if resume and out is None:
        raise ConfigError("--resume goes on with a run to a file; give its --out, too")
    if out is not None and findings:
        raise ConfigError("a file of --out holds the findings anyway; leave out --findings")
    if out is not None:
        from xray_captioning.batch.caption_table import check_out, is_whole

        if not (resume and is_whole(out)):
            check_out(out, resume)


def _write_file(
    folder: Path, values: dict[str, Any], named: Named, out: Path, beam: int | None, resume: bool
) -> None:
    from xray_captioning.batch.caption_table import is_whole
    from xray_captioning.batch.run import Study, caption_to_file, check_whole
    from xray_captioning.bundles.bundle import MANIFEST
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.files import sha256_file

    studies = [Study(*found) for found in named]
    if resume and is_whole(out):
        errors = check_whole(out, studies)
        click.echo(f"{out}: is there already, whole; there is nothing to resume", err=True)
    else:
        _note(values)
        digest = sha256_file(folder / MANIFEST)
        errors = caption_to_file(Captioner.load(folder), digest, studies, out, beam, resume)
    click.echo(f"{out}: {len(studies)} studies, {errors} of them with an error", err=True)
    if errors:
        raise click.exceptions.Exit(1)


def _named(images: tuple[str, ...], config: Config) -> Named:
    found = [study for given in images for study in _studies(given, config.image.views)]
    return [(_names(study), study) for study in found]


def _source_studies(data: Path, image_dir: Path | None, config: Config) -> Named:
    """Return the id of each study and those of its images that are there and looked at."""
    from xray_captioning.data.sources.reading import read_studies, with_images
    from xray_captioning.data.targets import study_images

    studies = read_studies(data, image_dir)
    present = with_images(studies)
    there = dict(zip(present["study_id"], study_images(present, config)))
    # One image that stands in for two views is named once.
    return [(name, list(dict.fromkeys(there.get(name, ())))) for name in studies["study_id"]]


def _print_captions(
    folder: Path, _: Config, values: dict[str, Any], studies: Studies, beam: int | None
) -> None:
    from xray_captioning.captioner.captioner import Captioner

    captioner = Captioner.load(folder)
    _note(values)
    for study, found in zip(studies, captioner.caption_iter(studies, beam)):
        click.echo(f"{_names(study)}\t{found.text}")


def _print_table(
    folder: Path, config: Config, values: dict[str, Any], studies: Studies, beam: int | None
) -> None:
    writes = values["kind"] == "captioner"
    rows = _captioner_rows(folder, beam) if writes else _encoder_rows(folder, config)
    _note(values)
    click.echo("\t".join(["images", *(["caption"] if writes else []), *values["findings"]]))
    for study, (texts, chances) in zip(studies, rows(studies)):
        numbers = [f"{chance:.6f}" for chance in chances.values()]
        click.echo("\t".join([_names(study), *texts, *numbers]))


def _captioner_rows(folder: Path, beam: int | None) -> Rows:
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.encoders.classification import finding_probabilities

    captioner = Captioner.load(folder)

    def rows(studies: Studies) -> Iterator[Row]:
        for start in range(0, len(studies), BATCH):
            features = captioner.features(studies[start : start + BATCH])  # once for both
            captions = captioner.caption_features(features, beam)
            chances = finding_probabilities(captioner.encoder, *features)
            yield from (([found.text], row) for found, row in zip(captions, chances))

    return rows


def _encoder_rows(folder: Path, config: Config) -> Rows:
    from xray_captioning.encoders.classification import classify_studies
    from xray_captioning.encoders.saved import load_encoder

    encoder = load_encoder(folder)
    return lambda studies: (([], row) for row in classify_studies(encoder, config, studies))


def _note(values: dict[str, Any]) -> None:
    if notice := values["about"].get("notice"):
        click.echo(f"note: {notice}", err=True)


def _names(study: list[str]) -> str:
    return ",".join(click.format_filename(path) for path in study)


def _studies(given: str, views: int) -> Studies:
    path = Path(given)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(f"{given}: holds no {', '.join(SUFFIXES)} image; give another folder")
        return [[str(p)] for p in found]
    names = [given] if path.exists() else given.split(",")
    for name in names:
        if not Path(name).is_file():
            raise DataError(f"{name or given}: no such image; check the path")
    if len(names) > views:
        raise DataError(
            f"{given}: {len(names)} images of one study, but this model looks at {views}; "
            "choose among them"
        )
    return [names]


def _check_images(studies: Studies) -> None:
    # Of a few images one that cannot be read is found before the model is loaded and anything is
    # printed; to decode very many twice would cost more than that is worth.
    from xray_captioning.data.images import read_image

    for study in studies[:CHECKED]:
        for path in study:
            read_image(path, size=1, resize="nearest")
