"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xray_captioning.config import Config, load_preset, parse_assignment
from xray_captioning.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, str | None] | None
existing = click.Path(exists=True, path_type=Path)
folder = click.Path(file_okay=False, path_type=Path)
file = click.Path(exists=True, dir_okay=False, path_type=Path)
new_file = click.Path(dir_okay=False, path_type=Path)

seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Random seed.")
data = click.option("--data", required=True, type=existing, help="Folder or file of studies.")
images = click.option("--images", type=existing, help="Folder of images, where it is elsewhere.")
columns = click.option(
    "--columns",
    callback=lambda _context, _option, text: None if text is None else parse_columns(text),
    metavar="ROLE=NAME,…",
    help="What a table calls its columns: image=file,caption=note,patient=pid,split=fold.",
)
split = click.option("--split", type=file, help="A split.json to use.")
cache = click.option(
    "--cache",
    type=folder,
    help="Where pixels and features are kept between runs.  [default: ~/.cache/xray-captioning]",
)
settings = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override a field of the preset, such as image.size=224. May be repeated.",
)
captions_from_labels = click.option(
    "--captions-from-labels",
    is_flag=True,
    help="Render texts from finding labels where the source has no reports (ChestX-ray14).",
)

prediction = click.option(
    "--prediction",
    multiple=True,
    metavar="COLUMN",
    help="The column of a system's texts, where its name does not show it. May be repeated.",
)
only_common = click.option(
    "--only-common",
    is_flag=True,
    help="Evaluate only the studies that every system has a text for; tables say how many not.",
)


def make_config(
    preset: str, assignments: Sequence[str], seed: int | None, group: str = "training"
) -> Config:
    """Return a preset with its fields overridden."""
    changes: dict[str, Any] = dict(parse_assignment(text) for text in assignments)
    other = {"training": "encoder_training", "encoder_training": "training"}[group]
    config = load_preset(preset).replace(changes)
    groups = {name.split(".")[0] for name in changes}
    if other in groups and group not in groups:  # both may be set, for both commands alike
        raise ConfigError(
            f"--set {other}.*: changes nothing here; this command reads the fields {group}.*"
        )
    return config if seed is None else config.replace({f"{group}.seed": seed})


def parse_columns(text: str) -> dict[str, str | None]:
    """Return the column of each role; one without a name is played by no column."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if wrong := [role for role, sign, _ in pairs if not role.strip() or not sign]:
        raise ConfigError(
            f"--columns: {wrong[0]!r} is no ROLE=NAME; write it as image=file,caption=note"
        )
    return {role.strip(): name.strip() or None for role, _, name in pairs}


def check_data(data: Path | None, images: Path | None, columns: Columns) -> None:
    """Refuse what says something about --data where that may be left out and is."""
    if data is None and images is not None:
        raise ConfigError("--images says where the images of --data are; give --data, too")
    if data is None and columns is not None:
        raise ConfigError("--columns says how to read the table of --data; give --data, too")


def load_studies(
    data: Path,
    images: Path | None,
    columns: Columns = None,
    captions_from_labels: bool = False,
) -> pd.DataFrame:
    """Read studies, and say once how many images are missing."""
    from xray_captioning.data.sources.nih14 import render_captions
    from xray_captioning.data.sources.reading import read_studies
    from xray_captioning.data.studies import summarise

    studies = read_studies(data, images, columns=columns)
    if captions_from_labels:
        studies = render_captions(studies)
    summary = summarise(studies)
    if summary["images_missing"]:
        # Not on standard error, where only errors are written.
        click.echo(
            f"note: {summary['images_missing']} of {summary['images_named']} images are not there; "
            f"see xray-captioning prepare {data}"
        )
    return studies
