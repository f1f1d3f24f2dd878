"""Command that downloads what others have published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError

if TYPE_CHECKING:
    from xray_captioning.hub.fetch import Entry


@click.command()
@click.argument("name", required=False)
@options.declared("fetch")
@options.no_seed
def fetch(name: str | None, out: Path, only_list: bool, registry: Path | None) -> None:
    """Download published weights, reports or images, and check them.

    NAME is chexnet, attention, iu-reports, iu-images or kaggle. Files that are there already are
    checked and not downloaded again; an interrupted download is continued where it stopped.
    """
    from xray_captioning.hub import fetch as published

    entries = published.read_registry(registry)
    if only_list:
        click.echo("\n\n".join(_describe(name, entry) for name, entry in entries.items()))
        return
    if name not in entries:
        found = f"{name!r} is none" if name else "no name is given"
        raise ConfigError(f"{found} of what can be fetched; choose one of {', '.join(entries)}")
    click.echo(_describe(name, entries[name]))
    for path in published.fetch(entries[name], out):
        click.echo(f"{path} is there")


def _describe(name: str, entry: Entry) -> str:
    """Say what an entry is and on what terms, before anything is downloaded."""
    lines = [f"{name}: {entry.what}", f"  licence: {entry.licence}", f"  used by: {entry.used}"]
    lines.append(f"  from: {entry.page}")
    for file in entry.files:
        size = f"{file.size:,} bytes" if file.size else "size not known"
        known = file.git_blob and f"git blob {file.git_blob}"
        known = known or (file.sha256 and f"SHA-256 {file.sha256}") or "no id known, so not checked"
        lines += [f"  {file.name}: {size}, {known}", *(f"    {url}" for url in file.urls)]
    return "\n".join(lines)
