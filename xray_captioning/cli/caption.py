"""The command that writes captions."""

from __future__ import annotations

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.errors import DataError

DEFAULT = "phantom_attention"
CHECKED = 16
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|DIR ...")
@click.option("--bundle", default=DEFAULT, show_default=True, metavar="BUNDLE")
@click.option("--beam", type=click.IntRange(1, 100), help="Beam size; 1 is greedy.")
@options.seed
def caption(images: tuple[str, ...], bundle: str, beam: int | None, seed: int | None) -> None:
    """Write a caption for each IMAGE; two images of one study are joined by a comma: a.png,b.png.

    Of a DIR, each image is a study of its own.
    """
    from xray_captioning.bundle import find_bundle, read_bundle
    from xray_captioning.config import Config

    folder = find_bundle(bundle)
    values = read_bundle(folder, "captioner")
    views = Config.from_dict(values["config"], f"{folder}/captioner.json").image.views
    studies = [study for given in images for study in _studies(given, views)]
    _check_images(studies)

    from xray_captioning.captioner import Captioner

    captioner = Captioner.load(folder)
    if notice := values["about"].get("notice"):
        click.echo(f"note: {notice}", err=True)
    for study, found in zip(studies, captioner.caption_iter(studies, beam)):
        names = ",".join(click.format_filename(path) for path in study)
        click.echo(f"{names}\t{found.text}")


def _studies(given: str, views: int) -> list[list[str]]:
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


def _check_images(studies: list[list[str]]) -> None:
    # Of a few images one that cannot be read is found before the model is loaded and anything is
    # printed; to decode very many twice would cost more than that is worth.
    from xray_captioning.data.images import read_image

    for study in studies[:CHECKED]:
        for path in study:
            read_image(path, size=1, resize="nearest")
