"""The command that writes captions."""

from __future__ import annotations

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.errors import DataError

DEFAULT = "phantom_attention"
SUFFIXES = (".png", ".jpg", ".jpeg")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|DIR ...")
@click.option("--bundle", default=DEFAULT, show_default=True, metavar="BUNDLE")
@click.option("--beam", type=click.IntRange(1), help="Beam size; 1 is greedy.")
@options.seed
def caption(images: tuple[str, ...], bundle: str, beam: int | None, seed: int | None) -> None:
    """Write a caption for each IMAGE; two images of one study are joined by a comma: a.png,b.png.

    Of a DIR, each image is a study of its own.
    """
    from xray_captioning.bundle import find_bundle, read_bundle

    studies = [study for given in images for study in _studies(given)]
    about = read_bundle(find_bundle(bundle), "captioner")["about"]
    if about.get("notice"):
        click.echo(f"note: {about['notice']}", err=True)

    from xray_captioning.captioner import Captioner

    captioner = Captioner.load(bundle)
    for study, found in zip(studies, captioner.caption_iter(studies, beam)):
        click.echo(f"{','.join(study)}\t{found.text}")


def _studies(given: str) -> list[list[str]]:
    path = Path(given)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{given}: holds no {', '.join(SUFFIXES)} image; give another folder")
        return [[str(p)] for p in found]
    names = [given] if path.exists() else given.split(",")
    for name in names:
        if not Path(name).is_file():
            raise DataError(f"{name or given}: no such image; check the path")
    return [names]
