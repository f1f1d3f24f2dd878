"""Commands that train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from xray_captioning.cli import options
from xray_captioning.config import Config, presets
from xray_captioning.errors import ConfigError, XrayCaptioningError

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
    metavar="imagenet|random|FILE|BUNDLE",
    help="What the network starts from: its published weights (downloaded: ImageNet's, or those "
    "of keras-hub), nothing, a Keras .h5 file of the same network without its top, CheXNet's "
    "published file, or the encoder of a bundle.",
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
    _check_run(out, config, resume)
    _check_weights(weights)
    studies = options.load_studies(data, images)
    split = options.find_split(studies, split_file)

    from xray_captioning.evaluation.table import format_table
    from xray_captioning.training.encoder import train_encoder as fit

    about = options.describe_data(data)
    with _nothing_left_if_refused(out):
        _, rows = fit(studies, config, out, cache, weights, split, resume, about)
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
    help="A trained encoder; without it the preset's, with published weights or random ones.",
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
    from xray_captioning.data.targets import usable_studies

    config = options.make_config(preset, assignments, seed)
    _check_run(out, config, resume)
    bundles = [_encoder_bundle(encoder_bundle)] if encoder_bundle else []
    studies = options.load_studies(data, images, captions_from_labels)
    split = options.find_split(studies, split_file, bundles)
    usable = usable_studies(studies, config)
    click.echo(f"{len(usable)} of {len(studies)} studies have images and a text")

    from xray_captioning.comparison import measure
    from xray_captioning.data.splits import split_studies
    from xray_captioning.decoders import check_decoder
    from xray_captioning.encoders.saved import starting_encoder
    from xray_captioning.evaluation.table import format_table
    from xray_captioning.training.captions import train as fit

    check_decoder(config.model)
    encoder = starting_encoder(config, bundles[0] if bundles else None)
    about = options.describe_data(data)
    about["encoder"] = "trained on findings" if bundles else "not trained on findings"
    with _nothing_left_if_refused(out):
        split = split or split_studies(usable, config.fractions)
        options.check_not_trained_on(studies, split, "test", bundles)
        captioner = fit(studies, config, out, encoder, cache, split, resume, about)
        rows = measure(captioner, studies, split, out, cache, out.resolve().name, seed or 0)
    if rows:
        click.echo(format_table(rows))
    click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} IMAGE")


def _check_run(out: Path, config: Config, resume: bool) -> None:
    # Before anything is read: these are mistakes of the command line.
    if not out.is_dir() or not any(out.iterdir()):
        if resume:
            click.echo(f"note: {out} holds nothing to resume; starting a new run")
        return
    if not (out / "run.json").is_file():
        raise ConfigError(f"{out}: is not empty and holds no run; choose another --out")
    if not resume:
        raise ConfigError(
            f"{out}: holds a run already; go on with --resume or choose another --out"
        )
    try:
        saved = Config.from_dict(json.loads((out / "run.json").read_text("utf-8"))["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{out}/run.json: is damaged; choose another --out") from error
    asked, found = (dict(_flat(c.to_dict())) for c in (config, saved))
    for name in asked:
        if asked[name] != found[name]:
            raise ConfigError(
                f"{out}: was started with {name} {found[name]}, not {asked[name]}; "
                f"resume with --set {name}={json.dumps(found[name])}, or choose another --out"
            )


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for group, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{group}.{name}", item) for name, item in value.items())
        else:
            yield group, value


@contextmanager
def _nothing_left_if_refused(out: Path) -> Iterator[None]:
    # Some mistakes in the data show only after the run has claimed its folder; until its first
    # epoch is written there is nothing to resume.
    existed, resumed = out.is_dir(), (out / "run.json").is_file()
    try:
        yield
    except (XrayCaptioningError, OSError):
        if not resumed and not (out / "state.npz").is_file():
            shutil.rmtree(out, ignore_errors=True)
            if existed:
                out.mkdir()
        raise


def _encoder_bundle(name: str) -> Path:
    from xray_captioning.bundles.bundle import find_bundle, read_bundle

    found = find_bundle(name)
    read_bundle(found, "encoder")
    return found


def _check_weights(weights: str) -> None:
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        _encoder_bundle(weights)
