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

    from xray_captioning.data.splits import Split

existing = click.Path(exists=True, path_type=Path)
folder = click.Path(file_okay=False, path_type=Path)
file = click.Path(exists=True, dir_okay=False, path_type=Path)

seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Random seed.")
data = click.option("--data", required=True, type=existing, help="Folder or file of studies.")
images = click.option("--images", type=existing, help="Folder of images, where it is elsewhere.")
split = click.option("--split", "split_file", type=file, help="A split.json to use.")
cache = click.option(
    "--cache",
    type=folder,
    default=lambda: Path.home() / ".cache" / "xray-captioning",
    show_default="~/.cache/xray-captioning",
    help="Where pixels and features are kept between runs.",
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


def load_studies(
    data: Path, images: Path | None, captions_from_labels: bool = False
) -> pd.DataFrame:
    """Read studies, and say once how many images are missing."""
    from xray_captioning.data.sources.reading import read_studies, render_captions, summarise

    studies = read_studies(data, images)
    if captions_from_labels:
        studies = render_captions(studies)
    summary = summarise(studies)
    if summary["images_missing"]:
        # Not on standard error, where an error shall be the only line.
        click.echo(
            f"note: {summary['images_missing']} of {summary['images_named']} images are not there; "
            f"see xray-captioning prepare {data}"
        )
    return studies


def describe_data(data: Path) -> dict[str, Any]:
    """Return what a model card says of where the studies came from."""
    from xray_captioning.phantom.dataset import NOTICE, is_phantom

    about = {"source": data.resolve().name}
    return {**about, "notice": NOTICE} if is_phantom(data) else about


def find_split(
    studies: pd.DataFrame, split_file: Path | None, bundles: Sequence[Path] = ()
) -> Split | None:
    """Return the split given, or that of a bundle trained on these very studies."""
    from xray_captioning.data.splits import Split, check_split

    if split_file is not None:
        split = Split.from_json(split_file)
        check_split(split, studies)
        return split
    for bundle in bundles:
        if _trained_on(bundle, studies):
            return Split.from_json(bundle / "split.json")
    return None


def check_not_trained_on(
    studies: pd.DataFrame, split: Split, part: str, bundles: Sequence[Path]
) -> None:
    """Refuse to test a bundle on studies it was trained on.

    Raises
    ------
    ConfigError
        A bundle saw studies of this part.
    """
    from xray_captioning.data.splits import Split

    for bundle in bundles:
        if part == "train" or not _trained_on(bundle, studies):
            continue
        seen = set(Split.from_json(bundle / "split.json").train) & set(split.parts[part])
        if seen:
            raise ConfigError(
                f"{bundle}: was trained on {len(seen)} of the {part} studies, such as "
                f"{min(seen)}; use the split it was trained with: --split {bundle}/split.json"
            )


def _trained_on(bundle: Path, studies: pd.DataFrame) -> bool:
    """Whether a bundle was trained on these very studies and knows which of them."""
    from xray_captioning.bundles.bundle import read_bundle
    from xray_captioning.data.splits import data_digest

    trained = read_bundle(bundle, "encoder")["about"].get("data", {}).get("digest")
    return (bundle / "split.json").is_file() and trained == data_digest(studies)
