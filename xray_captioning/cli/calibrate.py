"""The command that calibrates a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xray_captioning.bundles.bundle import find_bundle, model_card, read_bundle, read_config, rewrite_bundle
from xray_captioning.cli import options
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.provenance import TrainedOn, check_unseen, choose_split, record_training
from xray_captioning.data.splits import Split
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.matching import features_of
from xray_captioning.evaluation.table import format_table

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.metrics.calibration import CalibrationScores


@click.command()
@options.declared("calibrate", "features", "split")
@options.source()
@options.seed
def calibrate(
    source: options.Source,
    bundle: str,
    part: str,
    fit: Path | None,
    check: Path | None,
    plot: Path | None,
    beams: tuple[int, ...],
    allow_worse: bool,
    features: Path | None,
    split: Path | None,
    seed: int | None,
) -> None:
    """Fit the confidence of a bundle's sentences, and when its images are unfamiliar.

    The studies must not be those that it was trained on. The bundle then gives each sentence a
    confidence and each study a novelty; its weights stay as they are.
    """
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: is a picture; let its name end in .png")
    folder = find_bundle(bundle)
    if not Path(bundle).exists():
        raise ConfigError(f"--bundle {bundle}: is the shipped one, which stays as it is; give a copy's folder")
    if features is not None and (fit or check):
        raise ConfigError("--features are of the studies of --data; leave out --fit and --check")
    read_bundle(folder, "captioner", images=features is None)
    source, to_fit, to_check = source.beside(fit, check)
    studies = source._replace(need_images=features is None).load()
    given = features_of(features, studies)
    parts, further, measured = _read(folder, studies, split, part, to_fit, to_check, given)

    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.encoders.encoding import check_fits
    from xray_captioning.training import calibration as fitting

    captioner = Captioner.load(folder)
    if given is not None:
        check_fits(given, captioner.config, captioner.encoder, captioner.about)
    fitted = fitting.calibrate(captioner, studies, parts, part, beams, seed or 0, further, allow_worse, given)
    if fit:
        fitted.about["fitted"]["part"] = fit.resolve().name
    seen = fitting.caption_outcomes(captioner, measured, beams, given=given)
    values, curves = fitting.evaluate_calibration(fitted, seen)
    values = {"source": (check or source.data).resolve().name, **values}
    _report(values, curves, fitted.about["fitted"], plot)
    if not allow_worse and "calibrated" in curves:
        fitting.check_better(f"{values['studies']} other studies", curves["uncalibrated"], curves["calibrated"])
    measured_too = replace(fitted, about={**fitted.about, "measured": values})

    def change(aside: Path) -> None:
        measured_too.save(aside)
        card = model_card(read_bundle(folder, "captioner"), measured_too.about)
        (aside / "README.md").write_text(card, "utf-8")

    rewrite_bundle(folder, change)
    click.echo(f"calibrated {folder}; sentences of its captions now have a confidence")


def _read(
    folder: Path,
    studies: pd.DataFrame,
    split: Path | None,
    part: str,
    fit: options.Source,
    check: options.Source,
    given: StudyFeatures | None,
) -> tuple[Split, pd.DataFrame | None, pd.DataFrame]:
    """Return the split, other studies to fit on, if any, and those to measure on: all unseen."""
    from xray_captioning.data.targets import usable_studies
    from xray_captioning.training.calibration import part_studies

    config, further = read_config(folder, "captioner"), None
    models = {str(folder): TrainedOn.load(folder)}
    parts = choose_split(studies, studies, config, split, models, part)
    if fit.data:
        further = _unseen(fit, models)
        models["the calibration"] = record_training(further, Split(tuple(further["study_id"]), (), ()))
    if check.data:
        return parts, further, usable_studies(_unseen(check, models), config)
    other = "test" if part == "val" else "val"  # it is measured on
    check_unseen(models, studies, parts, other)
    return parts, further, part_studies(usable_studies(studies, config, given), parts, other)


def _unseen(source: options.Source, models: Mapping[str, TrainedOn | None]) -> pd.DataFrame:
    """Return further studies, none of which a model was trained on."""
    check_unseen(models, studies := source.load(), Split((), (), tuple(studies["study_id"])), "test")
    return studies


def _report(values: Any, curves: Mapping[str, CalibrationScores], fitted: Any, plot: Path | None) -> None:
    from xray_captioning.plots.charts import reliability_diagram, save

    if plot is not None:
        named = {
            f"{name}: calibration error {curve.calibration_error:.3f}": curve.bins
            for name, curve in curves.items()
            if "," not in name  # those of the first search
        }
        save(reliability_diagram(named), plot)
    click.echo(format_table([{"": name, **row} for name, row in values["sentences"].items()]))
    click.echo(
        f"{values['flagged']:.1%} of {values['studies']} other studies are flagged as strange; "
        f"{fitted['expected_flagged']:.1%} of studies like those it was fitted on are expected"
    )
