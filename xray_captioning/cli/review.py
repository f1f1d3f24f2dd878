"""Commands of a reading study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xray_captioning.cli import options
from xray_captioning.data.studies import with_images
from xray_captioning.files import atomic_write

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
@options.declared("export")
@options.source(
    click.option("--data", type=options.existing, help="Studies whose images the sheets show."),
    labels=False,
)
@options.seed
def export(
    source: options.Source,
    captions: Path,
    systems: tuple[str, str],
    out: Path,
    studies: int,
    seed: int | None,
    **drawn: int,
) -> None:
    """Write one folder for each reader, and the key.

    The key tells which system wrote which text: no reader may see it.
    """
    from xray_captioning.review.sheet import export_study

    source.check()
    views: Views | None = None
    if source.data:
        there = with_images(source.load())
        shown = map(list, map(zip, there["images"], there["views"]))
        views = dict(zip(there["study_id"], shown))
    key = export_study(captions, systems, out, views, studies, seed=seed or 0, **drawn)
    asked = f" ({studies} were asked for)" if len(key.studies) < studies else ""
    click.echo(f"{len(key.studies)} studies{asked}, {key.identical} with the same text twice")
    for sheet in key.sheets:
        click.echo(f"to send: {out / sheet.reader}")
    click.echo(f"to keep from readers: {out / 'key.json'}")


@review.command()
@options.declared("summarise")
@click.argument("answers", nargs=-1, required=True, type=options.file)
@options.no_seed
def summarise(key_file: Path, answers: tuple[Path, ...], out: Path | None) -> None:
    """Unblind ANSWERS and summarise them."""
    from xray_captioning.review.design import Key, read_answers
    from xray_captioning.review.summary import format_summary
    from xray_captioning.review.summary import summarise as find

    key = Key.from_json(key_file)
    summary = find(key, read_answers(key, answers))
    click.echo(format_summary(summary))
    if out is not None:
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        atomic_write(out / "summary.json", text)
        atomic_write(out / "summary.md", format_summary(summary, markdown=True) + "\n")
        click.echo(f"wrote {out / 'summary.json'} and {out / 'summary.md'}")
