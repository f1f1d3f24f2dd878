"""Commands that make bundles, by training or out of the older Keras projects' weights, and calibrate them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from xray_captioning.bundles import bundle as bundles
from xray_captioning.bundles.bundle import FEATURES, find_bundle, named, read_bundle, read_config
from xray_captioning.cli import options
from xray_captioning.config import Config, presets
from xray_captioning.data import provenance
from xray_captioning.data.provenance import TrainedOn, check_unseen, describe_data
from xray_captioning.data.splits import Split
from xray_captioning.data.studies import Studies
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation import matching, table
from xray_captioning.files import read_toml
from xray_captioning.plots.charts import check_format

NOTICE = read_toml(__file__, "texts.toml")["chexnet"]
RUN = ("out", "name", "resume", "log", "devices", "set", "split", "cache")  # options of a run
UNTESTED = "the test part has no study to score; nothing was measured"
_RECIPES = f"Recipe: {', '.join(presets())}; or a file .json or .yaml of fields by group."
preset = click.option("--preset", default="chexnet_attention", show_default=True, metavar="NAME|FILE", help=_RECIPES)


@click.command("train-encoder")
@options.source(labels=False)
@preset
@options.declared("train-encoder", *RUN)
@options.seed
def train_encoder(source: options.Source, out: Path, preset: str, **run: Any) -> None:
    """Teach an encoder to classify findings; the best epoch becomes a bundle in --out."""
    from xray_captioning.metrics.classification import format_intervals
    from xray_captioning.training.encoder import train_encoder as fit

    weights, (assignments, seed, encoder) = run["weights"], map(run.pop, ("assignments", "seed", "encoder"))
    about = named(run.pop("name")) | describe_data(source.data)
    config = options.make_config(preset, assignments, seed, "encoder_training", encoder, weights)
    _check(out, config, run["resume"], "encoder_training")
    _, rows = fit(source.load, config, out, about=about, **run)
    click.echo(table.format_table(format_intervals(rows)) if rows else UNTESTED)
    click.echo(f"encoder in {out}")


@click.command()
@options.source()
@preset
@options.declared("train", "encoder", "weights", "features", *RUN)
@options.seed
def train(source: options.Source, out: Path, preset: str, start_from: str | None, **run: Any) -> None:
    """Teach a decoder to write captions; the best epoch becomes a bundle in --out."""
    own, config = named(run.pop("name")), _configured(_recipe(preset, start_from), run)
    _check(out, config, run["resume"])
    from xray_captioning.data.feature_files import open_features
    from xray_captioning.data.targets import usable_studies
    from xray_captioning.evaluation.baselines import merged_rows
    from xray_captioning.training.captions import train as fit

    trained = "trained on findings" if run.get("encoder") else "not trained on findings"
    trained = f"with decoder and words from {Path(start_from).resolve().name}" if start_from else trained
    if not (images := run["features"] is None):
        run["features"] = open_features(run["features"])  # once

    def load() -> Studies:
        studies = source._replace(need_images=images).load()
        usable = usable_studies(studies, config, matching.features_of(run["features"], studies))
        click.echo(f"{len(usable)} of {len(studies)} studies have {'images' if images else 'features'} and a text")
        return studies

    about = {**own, **describe_data(source.data), **({"encoder": trained} if images else {})}
    captioner = fit(load, config, out, about=about, start_from=start_from, **run)
    rows = merged_rows(captioner.about.get("rows") or [])
    click.echo(table.format_table(rows) if rows else f"{UNTESTED} (evaluate --part val takes another)")
    asked = "--features FILE" if captioner.config.model.encoder == FEATURES else "IMAGE"
    click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} {asked}")


@click.command()
@options.source()
@preset
@options.declared("sweep", "encoder", "weights", "features", "out", "set", "split", "cache")
@options.seed
def sweep(source: options.Source, out: Path, preset: str, grid: tuple[str, ...], seeds: int, **run: Any) -> None:
    """Train every setting of --grid with several seeds, and compare them on validation studies.

    Whatever was trained already is kept, so the same command goes on after a stop. Test studies
    are not looked at: evaluate the setting you choose on them.
    """
    from xray_captioning.training import sweep as training

    config = _configured(preset, run)
    chosen = training.settings(training.parse_space(grid), run.pop("trials"), config.training.seed)
    load = source._replace(need_images=run["features"] is None).load
    rows = training.sweep(load, config, out, chosen, seeds, about=describe_data(source.data), **run)
    click.echo(table.format_table(training.shown(rows, config.training.watched)))
    click.echo(f"table in {out / training.TABLE}; a run folder for each setting and seed beside it")


def _is_network(encoder: str | None, weights: str | None) -> bool:
    """Whether --encoder names a network, perhaps that of a folder of weights, and no bundle."""
    from xray_captioning.hub.fetch import registered_name, registry

    if encoder is None or find_bundle(encoder).is_dir():
        return False
    return "/" not in encoder or registered_name(encoder) in registry() or bool(weights and Path(weights).is_dir())


def _configured(preset: str | Config, run: dict[str, Any]) -> Config:
    """Return the configuration of a run; what it says, and an --encoder that is a network, leaves the options."""
    named = run.pop("encoder") if _is_network(run["encoder"], run["weights"]) else None
    return options.make_config(preset, run.pop("assignments"), run.pop("seed"), encoder=named, weights=run["weights"])


def _recipe(preset: str, bundle: str | None) -> str | Config:
    """Return the preset, or the settings of a bundle to start from where no preset is named."""
    usual = click.get_current_context().get_parameter_source("preset") is click.core.ParameterSource.DEFAULT
    own = bundle and read_config(find_bundle(bundle), "captioner")  # is checked in any case
    return own if own and usual else preset


def _check(out: Path, config: Config, resume: bool, group: str = "training") -> None:
    """Refuse what is wrong with the command line before any study is read."""
    from xray_captioning.training.run_folder import check_folder

    check_folder(out, config, resume, group)
    if resume and not (out.is_dir() and any(out.iterdir())):
        click.echo(f"note: {out} holds nothing to resume; starting a new run")


@click.command("import-legacy")
@options.declared("import-legacy")
@options.no_seed
def import_legacy(weights: Path, tokenizer: Path | None, out: Path, normalisation: str | None, **words: Any) -> None:
    """Turn the attention captioner, or CheXNet, into a bundle in --out.

    Nothing in the files is executed. Preprocessing is stored in the bundle.
    """
    if tokenizer is not None and normalisation is not None:
        raise ConfigError("--normalisation is for CheXNet only; leave it out, or leave out --tokenizer")
    _check_out(out, "encoder" if tokenizer is None else "captioner")
    from xray_captioning.encoders.saved import save_encoder
    from xray_captioning.legacy import keras2

    if tokenizer is not None:
        keras2.load_attention_captioner(weights, tokenizer, **words).save(out)
        click.echo(f"bundle in {out}; next: xray-captioning caption --bundle {out} IMAGE")
        return
    config = keras2.chexnet_config(normalisation or "unit")
    about = keras2.describe_import(config, weights=weights)
    about |= {"notice": NOTICE} if config.image.normalisation == "unit" else {}
    save_encoder(out, config, keras2.load_chexnet(weights), about)
    click.echo(f"encoder in {out}; next: xray-captioning caption --findings --bundle {out} ...")


def _check_out(out: Path, kind: str) -> None:
    from xray_captioning.legacy import SOURCE

    values = read_bundle(out, "encoder") if (out / "manifest.json").is_file() else {}
    own = values.get("kind") == kind and values["about"].get("source") == SOURCE
    if not own and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty and holds no {kind} that import-legacy wrote; choose another --out")


@click.command()
@options.declared("calibrate", "features", "split")
@options.source()
@options.seed
def calibrate(source: options.Source, bundle: str, part: str, fit: Any, check: Any, plot: Any, **more: Any) -> None:
    """Fit the confidence of a bundle's sentences, and when its images are unfamiliar.

    The studies must not be those that it was trained on. The bundle then gives each sentence a
    confidence and each study a novelty; its weights stay as they are.
    """
    beams, allow_worse, features, split, seed = map(more.pop, ("beams", "allow_worse", "features", "split", "seed"))
    if plot is not None:
        check_format(plot, "--plot")
    read_bundle(folder := find_bundle(bundle), "captioner", images=features is None)
    if not Path(bundle).exists():
        raise ConfigError(f"--bundle {bundle}: is the shipped one or a hub's, which stay; give the folder of a copy")
    if features is not None and (fit or check):
        raise ConfigError("--features are of the studies of --data; leave out --fit and --check")
    source, *others = source.beside(fit, check)
    split, studies = provenance.open_split(split), source._replace(need_images=features is None).load()
    given = matching.features_of(features, studies)
    parts, further, measured = _read(folder, studies, split, part, others, given)

    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.encoders.encoding import check_fits
    from xray_captioning.training import calibration as fitting

    captioner = Captioner.load(folder)
    if given is not None:
        check_fits(given, captioner.config, captioner.encoder, captioner.about)
    fitted = fitting.calibrate(captioner, studies, parts, part, beams, seed or 0, further, allow_worse, given)
    if fit:
        fitted.about["fitted"]["part"] = describe_data(fit)["source"]
    seen = fitting.caption_outcomes(captioner, measured, beams, given=given)
    values, curves = fitting.evaluate_calibration(fitted, seen)
    values = {"source": describe_data(check or source.data)["source"], **values}
    _report(values, curves, fitted.about["fitted"], plot)
    if not allow_worse and "calibrated" in curves:
        fitting.check_better(f"{values['studies']} other studies", curves["uncalibrated"], curves["calibrated"])
    fitted.about["measured"] = values

    def change(aside: Path) -> None:
        fitted.save(aside)
        bundles.write_card(aside, read_bundle(folder, "captioner"))

    bundles.rewrite_bundle(folder, change)
    click.echo(f"calibrated {folder}; sentences of its captions now have a confidence")


def _read(
    folder: Path, studies: Studies, split: Split | None, part: str, others: list[options.Source], given: Any
) -> tuple[Split, Studies | None, Studies]:
    """Return the split, other studies to fit on, if any, and those to measure on: all unseen."""
    from xray_captioning.data.targets import usable_studies
    from xray_captioning.training.calibration import part_studies

    (fit, check), config, further = others, read_config(folder, "captioner"), None
    models = {str(folder): TrainedOn.load(folder)}
    parts = provenance.choose_split(studies, studies, config, split, models, part)
    if fit.data:
        further = _unseen(fit, models)
        models["the calibration"] = provenance.record_training(further, Split(tuple(further["study_id"]), (), ()))
    if check.data:
        return parts, further, usable_studies(_unseen(check, models), config)
    other = "test" if part == "val" else "val"  # it is measured on
    check_unseen(models, studies, parts, other)
    return parts, further, part_studies(usable_studies(studies, config, given), parts, other)


def _unseen(source: options.Source, models: Mapping[str, TrainedOn | None]) -> Studies:
    """Return further studies, none of which a model was trained on."""
    check_unseen(models, studies := source.load(), Split((), (), tuple(studies["study_id"])), "test")
    return studies


def _report(values: Any, curves: Mapping[str, Any], fitted: Any, plot: Path | None) -> None:
    from xray_captioning.plots.charts import reliability_diagram, save
    from xray_captioning.plots.images import environment

    if plot is not None:
        first = {name: curve for name, curve in curves.items() if "," not in name}  # those of the first search
        named = {f"{name}: calibration error {one.calibration_error:.3f}": one.bins for name, one in first.items()}
        save(reliability_diagram(named), plot)
    sentences = [{"": name, **row} for name, row in values["sentences"].items()]
    shown = {"layout": table.format_table, "sentences": sentences, "values": values, "fitted": fitted}
    click.echo(environment().get_template("cli/calibration.jinja").render(shown), nl=False)
