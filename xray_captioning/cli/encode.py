"""Commands that list encoders and write their features."""

from pathlib import Path

import click

from xray_captioning.cli import options
from xray_captioning.cli.caption import named_studies, source_studies
from xray_captioning.config import parse_assignment
from xray_captioning.data.feature_files import check_suffix, open_features, write_features
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.plugins import model_names, origin_of


@click.command()
@options.no_seed
def encoders() -> None:
    """List encoders that others have published, with licence, pixels and address, and your own.

    Each is an --encoder of `encode` and a model.encoder of `train`, unless it says otherwise.
    """
    from xray_captioning.hub.fetch import registry

    for name, one in registry().items():
        click.echo("\n  ".join([name, *one.lines()]) + "\n")
    for name in model_names({}, "encoder"):
        click.echo(f"{name}\n  of the package {' '.join(origin_of('encoder', name).values())}\n")


@click.command()
@click.argument("named", nargs=-1, metavar="[IMAGE|DIR ...]")
@options.declared("encode", "set")
@options.source(click.option("--data", type=options.existing, help="Folder or file of studies, instead."), labels=False)
@options.no_seed
def encode(
    named: tuple[str, ...],
    source: options.Source,
    encoder: str,
    out: Path,
    assignments: tuple[str, ...],
    dtype: str,
    **given: str | None,
) -> None:
    """Write an encoder's features of each IMAGE; images of one study are joined by a comma.

    The file holds `regions` (study, view, row, column, channel); `views` (study, view), False where
    a study has no such image; `ids`; and `about`, JSON that says what made them. Pixels become what
    the encoder's weights expect, or for an ONNX file what --set says. `train --features` takes it.
    """
    source.check(named)
    check_suffix(out)
    from xray_captioning.captioner.studies import arranged_studies
    from xray_captioning.encoders.encoding import encode_files, encoder_config

    changes = dict(parse_assignment(text) for text in assignments)
    if wrong := set(changes) - {f"image.{name}" for name in ("size", "resize", "normalisation")}:
        raise ConfigError(f"--set {min(wrong)}: encode has image.size, .resize, .normalisation")
    config = encoder_config(encoder, 2, changes, given["weights"])
    studies = source_studies(source, config) if source.data else named_studies(named, 2, None)
    left_out = [study.name for study in studies if not any(study.images)]
    studies = [study for study in studies if any(study.images)]
    if not studies:
        raise DataError(f"{source.data}: none of its images is there; give --images")
    views = max(len(study.images) for study in studies)
    placed = list(arranged_studies([study.images for study in studies], views))
    encoded = encode_files(placed, encoder, changes=changes, **given)
    about = {**encoded.about, "left_out": left_out}
    write_features(out, [study.name for study in studies], encoded.batches(), about, dtype)
    click.echo(f"{out}: {' x '.join(map(str, open_features(out).regions.shape))}", err=True)
