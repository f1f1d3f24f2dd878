"""Commands that make or look at data."""

from __future__ import annotations

import json
import os
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import click

from xray_captioning.cli import options
from xray_captioning.data.sources.lookup import IMAGE_SUFFIXES
from xray_captioning.data.splits import split_studies
from xray_captioning.data.studies import format_summary, summarise, summary_warnings
from xray_captioning.files import atomic_write

EXAMPLES = 2  # images that are named
FOLDERS = 10_000  # that are looked into for them


@click.command()
@options.declared("phantom")
@options.seed
def phantom(out: Path, studies: int, size: int, seed: int | None) -> None:
    """Write synthetic two-view studies with known findings, in the Kaggle layout."""
    from xray_captioning.phantom.dataset import write_phantoms

    write_phantoms(out, studies=studies, seed=seed or 0, size=size)
    click.echo(f"{studies} synthetic studies in {out}")


@click.command()
@options.source(click.argument("data", metavar="PATH", type=options.existing))
@options.declared("prepare")
@options.no_seed
def prepare(source: options.Source, out: Path | None) -> None:
    """List what PATH holds and what is missing, and split its studies.

    The split depends on the data only, so that no seed can carry a test study into training.
    """
    from xray_captioning.data.sources import captions

    studies = source.read()
    summary, split = summarise(studies), split_studies(studies)
    if summary["source"] == captions.SOURCE.name:
        found = captions.columns_of(Path(studies.attrs["path"]), source.columns)
        summary["columns"], summary["columns_not_used"] = found
    click.echo(format_summary(summary))
    sizes = ", ".join(f"{len(ids)} {name}" for name, ids in split.parts.items())
    click.echo(f"split: {sizes}, {_origin(summary)} (SHA-256 {split.digest[:16]})")
    for sentence in summary_warnings(summary, _images_below(source)):
        warnings.warn(sentence, stacklevel=1)
    if out is not None:
        atomic_write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        split.to_json(out / "split.json")
        click.echo(f"wrote {out / 'summary.json'} and {out / 'split.json'}")
        click.echo(f"to train and evaluate on this split: --split {out / 'split.json'}")


def _origin(summary: dict[str, Any]) -> str:
    """Say where the parts of the split come from."""
    if summary["split"]:
        return "as the source names them"
    return f"made here, by {'patient' if summary['patients_named'] else 'study'}"


def _images_below(source: options.Source) -> list[str]:
    """Return a few images below a folder, or beside a file, wherever there are any."""
    place = source.images or source.data
    folder = place if place.is_dir() else place.parent
    names = (
        os.path.join(root, name)
        for root, _, names in islice(os.walk(folder), FOLDERS)
        for name in sorted(names)
        if name.lower().endswith(IMAGE_SUFFIXES)
    )
    return list(islice(names, EXAMPLES))
