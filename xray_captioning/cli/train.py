"""Commands that train."""

from __future__ import annotations

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.config import presets
from xray_captioning.errors import ConfigError

preset = click.option(
    "--preset",
    default="chexnet_attention",
    show_default=True,
    metavar="NAME",
    help=f"Recipe: {', '.join(presets())}.",
)
resume = click.option("--resume", is_flag=True, help="Go on with the run in --out.")
out = click.option("--out", required=True, type=options.folder, help="Run folder.")


@click.command("train-encoder")
@options.data
@out
@preset
@options.settings
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|random|BUNDLE",
    help="What the network starts from; imagenet is downloaded.",
)
@options.images
@options.split
@options.cache
@options.seed
@resume
def train_encoder(
    data: Path,
    out: Path,
    preset: str,
    assignments: tuple[str, ...],
    weights: str,
    images: Path | None,
    split_file: Path | None,
    cache: Path,
    seed: int | None,
    resume: bool,
) -> None:
    """Teach an encoder to classify findings; the best epoch becomes a bundle in --out."""
    config = options.make_config(preset, assignments, seed, "encoder_training")
    _check_run(out, resume)
    studies = options.load_studies(data, images)
    split = options.find_split(studies, split_file)
    _check_weights(weights)

    from xray_captioning.encoder_training import train_encoder as fit
    from xray_captioning.evaluation.table import format_table

    _, rows = fit(studies, config, out, cache, weights=weights, split=split, resume=resume)
    if rows:
        click.echo(format_table(rows))
    click.echo(f"encoder in {out}")


@click.command()
@options.data
@out
@preset
@options.settings
@click.option(
    "--encoder",
    "encoder_bundle",
    metavar="BUNDLE",
    help="A trained encoder; without it the preset's, with ImageNet weights or random ones.",
)
@options.captions_from_labels
@options.images
@options.split
@options.cache
@options.seed
@resume
def train(
    data: Path,
    out: Path,
    preset: str,
    assignments: tuple[str, ...],
    encoder_bundle: str | None,
    captions_from_labels: bool,
    images: Path | None,
    split_file: Path | None,
    cache: Path,
    seed: int | None,
    resume: bool,
) -> None:
    """Teach a decoder to write captions; the best epoch becomes a bundle in --out."""
    config = options.make_config(preset, assignments, seed)
    _check_run(out, resume)
    bundles = [_encoder_bundle(encoder_bundle)] if encoder_bundle else []
    studies = options.load_studies(data, images, captions_from_labels)
    split = options.find_split(studies, split_file, bundles)

    from xray_captioning.encoders.saved import starting_encoder
    from xray_captioning.references import usable_studies
    from xray_captioning.training import train as fit

    usable = usable_studies(studies, config)
    click.echo(f"{len(usable)} of {len(studies)} studies have images and a text", err=True)
    encoder = starting_encoder(config, bundles[0] if bundles else None)
    about = {"encoder": encoder_bundle or "not trained on findings"}
    fit(studies, config, out, encoder, cache, split=split, resume=resume, about=about)
    click.echo(f"bundle in {out}; next: xray-captioning evaluate --data {data} --bundle {out}")


def _check_run(out: Path, resume: bool) -> None:
    # Before anything is read: these are mistakes of the command line.
    if out.is_dir() and any(out.iterdir()):
        if not (out / "run.json").is_file():
            raise ConfigError(f"{out}: is not empty and holds no run; choose another --out")
        if not resume:
            raise ConfigError(
                f"{out}: holds a run already; go on with --resume or choose another --out"
            )


def _encoder_bundle(name: str) -> Path:
    from xray_captioning.bundle import find_bundle, read_bundle

    found = find_bundle(name)
    read_bundle(found, "encoder")
    return found


def _check_weights(weights: str) -> None:
    if weights not in ("imagenet", "random"):
        _encoder_bundle(weights)
