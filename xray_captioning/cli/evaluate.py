"""Commands that measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xray_captioning.cli import options
from xray_captioning.cli.caption import DEFAULT
from xray_captioning.config import Config, parse_assignment
from xray_captioning.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PROTOCOLS = ("coco", "nltk", "legacy")
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
    type=options.file,
    help="CSV of other systems' texts: study_id and a column a system.",
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
    captions: Path | None,
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

    Without --bundle and --captions the shipped bundle is evaluated. References are the section
    that the first bundle writes; without a bundle, that of --set text.section.
    """
    from xray_captioning.bundle import find_bundle, read_bundle
    from xray_captioning.data.splits import split_studies

    folders = [find_bundle(name) for name in bundles]
    if not bundles and captions is None:
        folders = [find_bundle(DEFAULT)]
    configs = [Config.from_dict(read_bundle(f, "captioner")["config"], str(f)) for f in folders]
    config = _text_config(configs, assignments)
    studies = options.load_studies(data, images, captions_from_labels)
    texts = read_captions(captions) if captions else {}
    names = _system_names(folders, texts)
    usable = _with_text(studies, config, images_too=bool(folders))
    split = options.find_split(studies, split_file, folders) or split_studies(
        usable, config.fractions
    )
    options.check_not_trained_on(studies, split, part, folders)

    from xray_captioning.captioner import Captioner
    from xray_captioning.comparison import compare
    from xray_captioning.evaluation.table import format_table

    rows = compare(
        usable,
        split,
        config,
        out,
        cache,
        bundles={name: Captioner.load(f) for name, f in zip(names, folders)},
        texts=texts,
        beams=tuple(dict.fromkeys(beams)) or (1, 3),
        seed=seed or 0,
        part=part,
    )
    click.echo(format_table(rows))
    click.echo(f"results in {out}")


@click.command()
@click.option("--references", required=True, type=options.file, help="One text a line.")
@click.option("--hypotheses", required=True, type=options.file, help="One text a line.")
@options.seed
def score(references: Path, hypotheses: Path, seed: int | None) -> None:
    """Score hypotheses against references under three protocols; texts split at whitespace."""
    from xray_captioning.evaluation.scores import score as measure
    from xray_captioning.evaluation.table import format_table

    pairs = _lines(references), _lines(hypotheses)
    if not pairs[0]:
        raise DataError(f"{references}: is empty; give one text a line")
    if len(pairs[0]) != len(pairs[1]):
        raise DataError(
            f"{hypotheses}: {len(pairs[1])} lines, but {references} has {len(pairs[0])}; "
            "give one hypothesis for each reference"
        )
    click.echo(format_table([{"protocol": name, **measure(*pairs, name)} for name in PROTOCOLS]))
    click.echo(WHY)


def read_captions(path: Path) -> dict[str, dict[str, str]]:
    """Read texts by system and study.

    Raises
    ------
    DataError
        A column is missing or a study stands twice.
    """
    from xray_captioning.data.table import read_table

    rows = read_table(path, ("study_id",), lower=False)
    if not rows:
        raise DataError(f"{path}: has no row; give a row a study")
    systems = [name for name in rows[0] if name not in ("study_id", "reference")]
    if not systems:
        raise DataError(f"{path}: has no column beside study_id; give one a system")
    ids = [row["study_id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = next(study for study in ids if ids.count(study) > 1)
        raise DataError(f"{path}: study {twice} stands twice; keep one row")
    return {name: {i: row[name] for i, row in zip(ids, rows)} for name in systems}


def _text_config(configs: list[Config], assignments: tuple[str, ...]) -> Config:
    config = configs[0] if configs else Config()
    return config.replace(dict(parse_assignment(text) for text in assignments))


def _with_text(studies: pd.DataFrame, config: Config, images_too: bool) -> pd.DataFrame:
    from xray_captioning.data.studies import with_images
    from xray_captioning.references import reference_texts

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


def _system_names(folders: list[Path], texts: dict[str, dict[str, str]]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    every = [*names, *texts, "constant", "random", "retrieval"]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise DataError(f"two systems are called {twice[0]}; rename a folder or a column")
    return names


def _lines(path: Path) -> list[str]:
    # Not splitlines(): it would also cut at a form feed and other rare characters.
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
