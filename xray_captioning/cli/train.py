"""Commands that make bundles: by training, or out of the older Keras projects' weights."""

from pathlib import Path
from typing import Any

import click

from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_bundle, read_config
from xray_captioning.cli import options
from xray_captioning.config import Config, presets
from xray_captioning.data.provenance import describe_data
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.table import format_table

NOTICE = (
    "CheXNet sees these images as the older project showed them, not as in its training; for "
    "findings to rely on, import it with --normalisation imagenet."
)
UNTESTED = "the test part has no study to score; nothing was measured"

preset = click.option(
    "--preset",
    default="chexnet_attention",
    show_default=True,
    metavar="NAME|FILE",
    help=f"Recipe: {', '.join(presets())}; or a file .json or .yaml of fields by group.",
)


@click.command("train-encoder")
@options.source(labels=False)
@preset
@options.declared("train-encoder", "out", "resume", "log", "devices", "set", "split", "cache")
@options.seed
def train_encoder(source: options.Source, out: Path, preset: str, **run: Any) -> None:
    """Teach an encoder to classify findings; the best epoch becomes a bundle in --out."""
    from xray_captioning.encoders.saved import is_network
    from xray_captioning.metrics.classification import format_intervals
    from xray_captioning.training.encoder import train_encoder as fit

    weights, (assignments, seed, encoder) = run["weights"], map(run.pop, ("assignments", "seed", "encoder"))
    config = options.make_config(preset, assignments, seed, "encoder_training", encoder, weights)
    bundle = None if weights is None or is_network(weights) else weights
    _check(out, config, run["resume"], bundle, "encoder_training")
    studies = source.load()
    _, rows = fit(studies, config, out, about=describe_data(source.data), **run)
    click.echo(format_table(format_intervals(rows)) if rows else UNTESTED)
    click.echo(f"encoder in {out}")


@click.command()
@options.source()
@preset
@options.declared("train", "encoder", "weights", "features", "out", "resume", "log", "devices", "set", "split", "cache")
@options.seed
def train(source: options.Source, out: Path, preset: str, start_from: str | None, **run: Any) -> None:
    """Teach a decoder to write captions; the best epoch becomes a bundle in --out."""
    from xray_captioning.data.targets import usable_studies
    from xray_captioning.evaluation.matching import features_of

    config = _configured(_recipe(preset, start_from), run)
    _check(out, config, run["resume"], run.get("encoder"))
    studies = source._replace(need_images=run["features"] is None).load()
    run["features"] = given = features_of(run["features"], studies)
    usable, what = usable_studies(studies, config, given), "features" if given else "images"
    click.echo(f"{len(usable)} of {len(studies)} studies have {what} and a text")

    from xray_captioning.evaluation.baselines import merged_rows
    from xray_captioning.training.captions import train as fit

    trained = "trained on findings" if run.get("encoder") else "not trained on findings"
    trained = f"with decoder and words from {Path(start_from).resolve().name}" if start_from else trained
    about = {**describe_data(source.data), **({} if given else {"encoder": trained})}
    captioner = fit(studies, config, out, about=about, start_from=start_from, **run)
    rows = merged_rows(captioner.about.get("rows") or [])
    click.echo(format_table(rows) if rows else f"{UNTESTED} (evaluate --part val takes another)")
    sees = captioner.config.model.encoder != FEATURES
    asked = "IMAGE" if sees else "--features FILE"
    click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} {asked}")


@click.command()
@options.source()
@preset
@options.declared("sweep", "encoder", "weights", "features", "out", "set", "split", "cache")
@options.seed
def sweep(
    source: options.Source, out: Path, preset: str, grid: tuple[str, ...], seeds: int, trials: int | None, **run: Any
) -> None:
    """Train every setting of --grid with several seeds, and compare them on validation studies.

    Whatever was trained already is kept, so the same command goes on after a stop. Test studies
    are not looked at: evaluate the setting you choose on them.
    """
    from xray_captioning.training import sweep as training

    config = _configured(preset, run)
    chosen = training.settings(training.parse_space(grid), trials, config.training.seed)
    studies = source._replace(need_images=run["features"] is None).load()
    rows = training.sweep(studies, config, out, chosen, seeds, about=describe_data(source.data), **run)
    click.echo(format_table(training.shown(rows, config.training.monitor)))
    click.echo(f"table in {out / training.TABLE}; a run folder for each setting and seed beside it")


def _is_network(encoder: str | None, weights: str | None) -> bool:
    """Whether --encoder names a network, perhaps that of a folder of weights, and no bundle."""
    from xray_captioning.hub.fetch import registered_name, registry

    if encoder is None or find_bundle(encoder).is_dir():
        return False
    known = "/" not in encoder or registered_name(encoder) in registry()
    return known or bool(weights and Path(weights).is_dir())


def _configured(preset: str | Config, run: dict[str, Any]) -> Config:
    """Return the configuration of a run; what it says, and an --encoder that is a network, leaves the options."""
    named = run.pop("encoder") if _is_network(run["encoder"], run["weights"]) else None
    return options.make_config(preset, run.pop("assignments"), run.pop("seed"), encoder=named, weights=run["weights"])


def _recipe(preset: str, bundle: str | None) -> str | Config:
    """Return the preset, or the settings of a bundle to start from where no preset is named."""
    if bundle is None:
        return preset
    own = read_config(find_bundle(bundle), "captioner")
    usual = click.get_current_context().get_parameter_source("preset") is click.core.ParameterSource.DEFAULT
    return own if usual else preset


def _check(out: Path, config: Config, resume: bool, bundle: str | None, group: str = "training") -> None:
    """Refuse what is wrong with the command line before any study is read."""
    from xray_captioning.training.run_folder import check_folder

    check_folder(out, config, resume, group)
    if resume and not (out.is_dir() and any(out.iterdir())):
        click.echo(f"note: {out} holds nothing to resume; starting a new run")
    if bundle is not None:
        read_bundle(find_bundle(bundle), "encoder")


@click.command("import-legacy")
@options.declared("import-legacy")
@options.no_seed
def import_legacy(
    weights: Path,
    tokenizer: Path | None,
    start_word: str | None,
    end_word: str | None,
    out: Path,
    normalisation: str | None,
) -> None:
    """Turn the attention captioner, or CheXNet, into a bundle in --out.

    Nothing in the files is executed. Preprocessing is stored in the bundle.
    """
    if tokenizer is not None and normalisation is not None:
        why = "the captioner's images are prepared as published"
        raise ConfigError(f"--normalisation is for CheXNet only: {why}; leave it out, or leave out --tokenizer")
    _check_out(out, "encoder" if tokenizer is None else "captioner")
    if tokenizer is None:
        _import_chexnet(weights, out, normalisation or "unit")
        click.echo(f"encoder in {out}; next: xray-captioning caption --findings --bundle {out} ...")
        return
    from xray_captioning.legacy import load_attention_captioner

    load_attention_captioner(weights, tokenizer, start_word, end_word).save(out)
    click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} IMAGE")


def _import_chexnet(weights: Path, out: Path, normalisation: str) -> None:
    from xray_captioning.encoders.saved import save_encoder
    from xray_captioning.legacy import load_chexnet
    from xray_captioning.legacy.keras2 import chexnet_config, describe_import

    encoder = load_chexnet(weights)
    config = chexnet_config(normalisation)
    about = describe_import(config, weights=weights)
    if normalisation == "unit":
        about["notice"] = NOTICE
    save_encoder(out, config, encoder, about)


def _check_out(out: Path, kind: str) -> None:
    from xray_captioning.legacy import SOURCE

    if not out.is_dir() or not any(out.iterdir()):
        return
    values = read_bundle(out, "encoder") if (out / "manifest.json").is_file() else {}
    if values.get("kind") == kind and values["about"].get("source") == SOURCE:
        return
    raise ConfigError(f"{out}: is not empty and holds no {kind} that import-legacy wrote; choose another --out")
