"""Commands of a reading study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xray_captioning.cli import options

if TYPE_CHECKING:
    from xray_captioning.review.sheet import Views


@click.group(no_args_is_help=False)
@options.seed
@click.pass_context
def review(context: click.Context, seed: int | None) -> None:
    """Let people rate two systems' texts without knowing which system wrote them."""
    if seed is not None:
        context.default_map = {name: {"seed": seed} for name in ("export", "summarise")}


@review.command()
@click.option(
    "--captions",
    required=True,
    type=options.file,
    help="Texts by study, a column a system: what evaluate writes, or any file that it reads.",
)
@click.option(
    "--systems",
    required=True,
    nargs=2,
    metavar="A B",
    help="Two of its columns; reference is one, too.",
)
@click.option("--out", required=True, type=options.folder, help="Folder to write; must be empty.")
@click.option("--data", type=options.existing, help="Studies whose images the sheets show.")
@options.images
@options.columns
@click.option("--studies", default=50, show_default=True, type=click.IntRange(1))
@click.option("--readers", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--repeats",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="How many cases each reader is shown again at the end.",
)
@options.seed
def export(
    captions: Path,
    systems: tuple[str, str],
    out: Path,
    data: Path | None,
    images: Path | None,
    columns: options.Columns,
    studies: int,
    readers: int,
    repeats: int,
    seed: int | None,
) -> None:
    """Write a folder a reader, and the key.

    The key tells which system wrote which text: no reader may see it.
    """
    from xray_captioning.review.sheet import export_study

    options.check_data(data, images, columns)
    views = _views(data, images, columns) if data else None
    key = export_study(captions, systems, out, views, studies, readers, repeats, seed or 0)
    asked = f" ({studies} were asked for)" if len(key.studies) < studies else ""
    click.echo(f"{len(key.studies)} studies{asked}, {key.identical} with the same text twice")
    for sheet in key.sheets:
        click.echo(f"to send: {out / sheet.reader}")
    click.echo(f"to keep from readers: {out / 'key.json'}")


@review.command()
@click.option(
    "--key", "key_file", required=True, type=options.file, help="The key.json that export wrote."
)
@click.argument("answers", nargs=-1, required=True, type=options.file)
@click.option("--out", type=options.folder, help="Where summary.json and summary.md are written.")
@options.seed
def summarise(
    key_file: Path, answers: tuple[Path, ...], out: Path | None, seed: int | None
) -> None:
    """Unblind ANSWERS and summarise them."""
    from xray_captioning.files import atomic_write
    from xray_captioning.review.answers import read_answers
    from xray_captioning.review.design import Key
    from xray_captioning.review.summary import summarise as find
    from xray_captioning.review.tables import format_summary

    del seed  # every command takes one; nothing is drawn here
    key = Key.from_json(key_file)
    summary = find(key, read_answers(key, answers))
    click.echo(format_summary(summary))
    if out is not None:
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        atomic_write(out / "summary.json", text)
        atomic_write(out / "summary.md", format_summary(summary, markdown=True) + "\n")
        click.echo(f"wrote {out / 'summary.json'} and {out / 'summary.md'}")


def _views(data: Path, images: Path | None, columns: options.Columns) -> Views:
    """Return the images on disk, by study."""
    from xray_captioning.data.studies import with_images

    studies = with_images(options.load_studies(data, images, columns))
    lists = (studies[name] for name in ("study_id", "images", "views"))
    return {study: list(zip(found, views)) for study, found, views in zip(*lists)}
