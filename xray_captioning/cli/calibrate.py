"""The command that calibrates a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xray_captioning.cli import options
from xray_captioning.errors import ConfigError

if TYPE_CHECKING:
    from xray_captioning.captioner.calibration import Calibration
    from xray_captioning.metrics.calibration import CalibrationScores


@click.command()
@click.option("--bundle", required=True, metavar="BUNDLE", help="Its folder is written to.")
@options.data
@click.option(
    "--part",
    default="val",
    show_default=True,
    type=click.Choice(["val", "test"]),
    help="What it is fitted on; it is measured on the other one of the two.",
)
@click.option(
    "--check",
    type=options.existing,
    help="Folder or file of further studies, which it is measured on instead.",
)
@click.option(
    "--plot",
    type=options.new_file,
    metavar="OUT.png",
    help="Draw the share of right sentences over what is stated.",
)
@options.captions_from_labels
@options.images
@options.split
@options.seed
def calibrate(
    bundle: str,
    data: Path,
    part: str,
    check: Path | None,
    plot: Path | None,
    captions_from_labels: bool,
    images: Path | None,
    split: Path | None,
    seed: int | None,
) -> None:
    """Fit the confidence of a bundle's sentences, and when its images are unfamiliar.

    The studies must not be those that it was trained on. The bundle then gives each sentence a
    confidence and each study a novelty; its weights stay as they are.
    """
    from xray_captioning.bundles.bundle import read_config
    from xray_captioning.data.provenance import TrainedOn, check_unseen, choose_split
    from xray_captioning.data.splits import Split

    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: is a picture; let its name end in .png")
    folder = _own_bundle(bundle)
    config = read_config(folder, "captioner")
    studies = options.load_studies(data, images, captions_from_labels)
    models = {str(folder): TrainedOn.load(folder)}
    parts = choose_split(studies, studies, config, split, models, part)
    others = options.load_studies(check, None) if check else studies
    if check:
        check_unseen(models, others, Split((), (), tuple(others["study_id"])), "test")

    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.data.targets import usable_studies
    from xray_captioning.training import calibration as fitting

    usable = usable_studies(others, config)
    if check is None:
        usable = fitting.part_studies(usable, parts, "test" if part == "val" else "val")
    captioner = Captioner.load(folder)
    fitted = fitting.calibrate(captioner, studies, parts, part)
    values, curves = fitting.evaluate_calibration(
        fitted, fitting.caption_outcomes(captioner, usable)
    )
    values = {"source": (check or data).resolve().name, **values}
    _keep(folder, replace(fitted, about={**fitted.about, "measured": values}))
    _report(values, curves, plot)
    click.echo(f"calibrated {folder}; every sentence of its captions now has a confidence")


def _own_bundle(name: str) -> Path:
    from xray_captioning.bundles.bundle import find_bundle

    folder = find_bundle(name)
    if not Path(name).exists():
        raise ConfigError(
            f"--bundle {name}: is the shipped one, which stays as it is; give a copy's folder"
        )
    return folder


def _keep(folder: Path, calibration: Calibration) -> None:
    from xray_captioning.bundles.bundle import read_bundle, rewrite_bundle
    from xray_captioning.bundles.card import model_card

    def change(aside: Path) -> None:
        calibration.save(aside)
        card = model_card(read_bundle(folder, "captioner"), calibration.about)
        (aside / "README.md").write_text(card, "utf-8")

    rewrite_bundle(folder, change)


def _report(
    values: dict[str, Any], curves: dict[str, CalibrationScores], plot: Path | None
) -> None:
    from xray_captioning.evaluation.table import format_table
    from xray_captioning.plots.charts import reliability_diagram, save

    if plot is not None:
        named = {
            f"{name}: calibration error {curve.calibration_error:.3f}": curve.bins
            for name, curve in curves.items()
        }
        save(reliability_diagram(named), plot)
    click.echo(format_table([{"": name, **row} for name, row in values["sentences"].items()]))
    click.echo(
        f"{values['flagged']:.1%} of {values['studies']} other studies are flagged as strange"
    )
