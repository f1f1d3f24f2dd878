"""Commands that measure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xray_captioning.cli import options
from xray_captioning.cli.caption import DEFAULT
from xray_captioning.config import Config, parse_assignment
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.caption_files import read_captions

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.captioner.captioner import Captioner

WHY = (
    "coco pools n-gram counts over the whole corpus; nltk averages sentences and gives about 0 "
    "to one without a common 4-gram; legacy averages sentences too but stops the product at the "
    "first order without a match, so short captions score high: never compare across rows."
)


@click.command()
@options.data
@click.option("--out", required=True, type=options.folder, help="Folder for the results.")
@click.option("--bundle", "bundles", multiple=True, metavar="BUNDLE", help="May be repeated.")
@click.option(
    "--captions",
    "files",
    multiple=True,
    type=options.file,
    help="Other systems' texts: CSV of study_id and a column a system, JSON, plain text with one "
    "text a line in the order of the data, or R2Gen's res.csv. May be repeated.",
)
@click.option(
    "--protocol",
    type=click.Choice(["r2gen"]),
    help="References as R2Gen's evaluation makes them (cleaning, <unk>, 59 words) on the published "
    "split, and beside it the same systems without the truncation.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT.html",
    help="One page with all that was found; its tables as Markdown and CSV are put beside it.",
)
@click.option(
    "--beam",
    "beams",
    multiple=True,
    type=click.IntRange(1, 100),
    help="Beam sizes. [default: 1, 3]",
)
@click.option(
    "--part", default="test", show_default=True, type=click.Choice(["train", "val", "test"])
)
@options.settings
@options.captions_from_labels
@options.images
@options.split
@options.cache
@options.seed
def evaluate(
    data: Path,
    out: Path,
    bundles: tuple[str, ...],
    files: tuple[Path, ...],
    protocol: str | None,
    report: Path | None,
    beams: tuple[int, ...],
    part: str,
    assignments: tuple[str, ...],
    captions_from_labels: bool,
    images: Path | None,
    split_file: Path | None,
    cache: Path,
    seed: int | None,
) -> None:
    """Score bundles, other systems' texts and baselines on the same studies.

    Without --bundle and --captions the shipped bundle is evaluated, under a protocol the baselines
    alone. References are the section that the first bundle writes; without a bundle, that of --set
    text.section, or the findings where there are no impressions. A system that is not clearly
    better than a fixed report is warned of.
    """
    from xray_captioning.bundles.bundle import find_bundle
    from xray_captioning.data.splits import split_studies

    _check_report(report)
    folders = [find_bundle(name) for name in bundles]
    if not (bundles or files or protocol):
        folders = [find_bundle(DEFAULT)]
    studies = options.load_studies(data, images, captions_from_labels)
    config = _configuration(folders, assignments, protocol, studies)
    if protocol:
        _check_published(studies, split_file, data)
    read = [read_captions(file) for file in files]
    names = _system_names(folders, [name for found in read for name in found])
    usable = _with_text(studies, config, images_too=bool(folders))
    split = options.find_split(studies, split_file, [] if protocol else folders) or split_studies(
        usable, config.fractions
    )
    options.check_not_trained_on(studies, split, part, folders)

    from xray_captioning.comparison import compare

    rows = compare(
        usable,
        split,
        config,
        out,
        cache,
        bundles=_load(names, folders),
        texts={name: texts for found in read for name, texts in found.items()},
        beams=tuple(dict.fromkeys(beams)) or (1, 3),
        seed=seed or 0,
        part=part,
        protocol=protocol,
        report=report,
    )
    _show(rows, out, protocol)
    click.echo(f"results in {out}{f', report in {report}' if report else ''}")


@click.command()
@click.option("--references", required=True, type=options.file, help="One text a line.")
@click.option("--hypotheses", required=True, type=options.file, help="One text a line.")
@options.seed
def score(references: Path, hypotheses: Path, seed: int | None) -> None:
    """Score hypotheses against references under three protocols; texts split at whitespace."""
    from xray_captioning.evaluation.caption_files import read_lines
    from xray_captioning.evaluation.table import format_table
    from xray_captioning.metrics.bleu import BLEU_PROTOCOLS
    from xray_captioning.metrics.scores import score as measure

    pairs = read_lines(references), read_lines(hypotheses)
    if len(pairs[0]) != len(pairs[1]):
        raise DataError(
            f"{hypotheses}: {len(pairs[1])} lines, but {references} has {len(pairs[0])}; "
            "give one hypothesis for each reference"
        )
    click.echo(
        format_table([{"protocol": name, **measure(*pairs, name)} for name in BLEU_PROTOCOLS])
    )
    click.echo(WHY)


def _load(names: list[str], folders: list[Path]) -> dict[str, Captioner]:
    if not folders:
        return {}
    from xray_captioning.captioner.captioner import Captioner

    return {name: Captioner.load(folder) for name, folder in zip(names, folders)}


def _configuration(
    folders: list[Path], assignments: tuple[str, ...], protocol: str | None, studies: pd.DataFrame
) -> Config:
    """Return the configuration whose section and cleaning make the references."""
    from xray_captioning.bundles.bundle import read_bundle

    config = Config()
    if folders:
        about = read_bundle(folders[0], "captioner")
        config = Config.from_dict(about["config"], str(folders[0]))
    elif protocol == "r2gen":
        config = config.replace({"text.section": "report"})
    changes = dict(parse_assignment(text) for text in assignments)
    for name in changes:
        if name != "fractions" and not name.startswith("text."):
            raise ConfigError(
                f"--set {name}: a bundle stays as it is; evaluate takes text.* and fractions"
            )
    config = config.replace(changes)
    if protocol == "r2gen":
        config = config.replace({"text.cleaning": "r2gen"})
    chosen = folders or any(text.startswith("text.section") for text in assignments)
    return config if chosen else _section_there_is(config, studies)


def _section_there_is(config: Config, studies: pd.DataFrame) -> Config:
    """Take the findings where the data know no impressions, as R2Gen's annotation."""
    if config.text.section != "impression" or studies["impression"].fillna("").ne("").any():
        return config
    return config.replace({"text.section": "findings"})


def _show(rows: list[dict[str, Any]], out: Path, protocol: str | None) -> None:
    from xray_captioning.evaluation.table import SHOWN, format_table

    click.echo(format_table(rows, SHOWN))
    if protocol:
        found = json.loads((out / "metrics.json").read_text("utf-8"))
        click.echo("\nthe same systems against references without truncation")
        click.echo(format_table(found["rows_untruncated"], SHOWN))


def _check_report(report: Path | None) -> None:
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--report {report}: is a HTML page; let its name end in .html")


def _check_published(studies: pd.DataFrame, split_file: Path | None, data: Path) -> None:
    if split_file is not None:
        raise ConfigError("--protocol r2gen uses the published split; leave out --split")
    if studies["split"].isna().any():
        raise ConfigError(
            f"{data}: names no split, which --protocol r2gen needs; give R2Gen's annotation.json"
        )


def _with_text(studies: pd.DataFrame, config: Config, images_too: bool) -> pd.DataFrame:
    from xray_captioning.data.studies import with_images
    from xray_captioning.data.targets import reference_texts

    if images_too:
        studies = with_images(studies)
    usable = studies[[bool(text) for text in reference_texts(studies, config)]]
    if usable.empty:
        need = "an image on disk and text" if images_too else "text"
        raise DataError(
            f"no study has {need} in its {config.text.section}; "
            "check the data, or choose another section with --set text.section=..."
        )
    return usable.reset_index(drop=True)


def _system_names(folders: list[Path], texts: Sequence[str]) -> list[str]:
    from xray_captioning.evaluation.baselines import BASELINES

    names = [folder.resolve().name for folder in folders]
    given = [*names, *texts]
    every = [*given, *BASELINES, *(f"{name} shuffled" for name in given)]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise DataError(f"two systems are called {twice[0]}; rename a folder, a file or a column")
    return names
