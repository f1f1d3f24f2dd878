"""Bundles and other systems against the same studies and the same baselines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.caches import cached_features
from xray_captioning.captioner import Caption, Captioner
from xray_captioning.config import Config
from xray_captioning.data.features import Array, ArrayCache, stack_features
from xray_captioning.data.images import read_images
from xray_captioning.data.splits import Split
from xray_captioning.decoders import Features
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.baselines import (
    constant_caption,
    random_captions,
    retrieval_captions,
)
from xray_captioning.evaluation.table import System, system_row
from xray_captioning.files import atomic_write
from xray_captioning.plots import Example, plot_panel
from xray_captioning.references import reference_texts, scored_text, study_images, usable_studies
from xray_captioning.text.cleaning import clean

if TYPE_CHECKING:
    import pandas as pd


def compare(
    studies: pd.DataFrame,
    split: Split,
    config: Config,
    out: str | Path,
    cache: str | Path,
    bundles: Mapping[str, Captioner] | None = None,
    texts: Mapping[str, Mapping[str, str]] | None = None,
    beams: Sequence[int] = (1, 3),
    seed: int = 0,
    part: str = "test",
) -> list[dict[str, Any]]:
    """Score systems and baselines on one part of a split and write what was found.

    Writes ``metrics.json``, ``captions.csv`` and, where there is a bundle, ``panel.png``.

    Parameters
    ----------
    studies : pandas.DataFrame
        With images where there are bundles; those without a text are left out.
    split : Split
    config : Config
        Its section and cleaning make the references; every bundle must agree with them.
    out, cache : path
        Folders for results and for features.
    bundles : mapping of str to Captioner, optional
        Models by system name.
    texts : mapping of str to mapping of study_id to str, optional
        What other systems wrote.
    beams : sequence of int
        Beam sizes; 1 is greedy.
    seed : int
        Of the random baseline.
    part : {"train", "val", "test"}

    Returns
    -------
    list of dict
        Rows of :func:`xray_captioning.evaluation.table.system_row`.

    Raises
    ------
    ConfigError
        A bundle writes another section or cleans otherwise.
    DataError
        The part is empty, or a system lacks a study.
    """
    bundles, texts = bundles or {}, texts or {}
    for name, captioner in bundles.items():
        _check_text(name, captioner.config, config)
    train, test = (_part(studies, split, name, config) for name in ("train", part))
    if test.empty:
        raise DataError(f"the {part} part of the split has no study with text; choose another")
    references = reference_texts(test, config)
    systems = [_given(name, found, test, config) for name, found in texts.items()]
    shown: list[Caption] = []
    for name, captioner in bundles.items():
        features = _features(captioner, test, cache)
        for beam in beams:
            captions = captioner.caption_features(features, beam)
            shown = shown or captions
            search = "greedy" if beam == 1 else f"beam-{beam}"
            systems.append(System(name, search, _scored(captions, captioner.config)))
    systems += _baselines(train, test, config, bundles, cache, seed)
    rows = [system_row(references, system) for system in systems]
    _write(Path(out), rows, systems, references, test, split, part)
    if shown:
        plot_panel(_examples(test, references, shown, systems, config), Path(out) / "panel.png")
    return rows


def measure(
    captioner: Captioner,
    studies: pd.DataFrame,
    split: Split,
    run: str | Path,
    cache: str | Path,
    name: str,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare a freshly trained captioner with the baselines and write that into its bundle.

    Parameters
    ----------
    captioner : Captioner
    studies : pandas.DataFrame
    split : Split
        What it was trained on.
    run : path
        Its run folder, which receives the results, too.
    cache : path
    name : str
        Of the system.
    seed : int
        Of the random baseline.

    Returns
    -------
    list of dict
        Empty where the split has no test studies: the model card then says nothing of scores.
    """
    usable = usable_studies(studies, captioner.config)
    if not set(usable["study_id"]) & set(split.test):
        return []
    rows = compare(usable, split, captioner.config, run, cache, {name: captioner}, seed=seed)
    captioner.about["rows"] = rows
    captioner.save(run)
    return rows


def _check_text(name: str, found: Config, expected: Config) -> None:
    mine, other = ((c.text.section, c.text.cleaning) for c in (expected, found))
    if mine != other:
        raise ConfigError(
            f"bundle {name} writes the {other[0]} after {other[1]} cleaning, but the references "
            f"are the {mine[0]} after {mine[1]} cleaning; evaluate it on its own"
        )


def _part(studies: pd.DataFrame, split: Split, name: str, config: Config) -> pd.DataFrame:
    chosen = studies[studies["study_id"].isin(split.parts[name])]
    kept = [bool(text) for text in reference_texts(chosen, config)]
    return chosen[kept].reset_index(drop=True)


def _given(name: str, found: Mapping[str, str], studies: pd.DataFrame, config: Config) -> System:
    missing = [study for study in studies["study_id"] if study not in found]
    if missing:
        raise DataError(
            f"system {name} has no text for study {missing[0]} ({len(missing)} of {len(studies)} "
            "evaluated studies are missing); give one for each"
        )
    texts = [clean(found[study], config.text.cleaning) for study in studies["study_id"]]
    return System(name, None, texts)


def _scored(captions: Sequence[Caption], config: Config) -> list[str]:
    return [scored_text(caption.words, config) for caption in captions]


def _features(captioner: Captioner, studies: pd.DataFrame, cache: str | Path) -> Features:
    features, images = _filled(captioner, studies, cache)
    rows = [[features[path] for path in study] for study in images]
    return Features(*stack_features(rows, captioner.config.image.views))


def _filled(
    captioner: Captioner, studies: pd.DataFrame, cache: str | Path
) -> tuple[ArrayCache, list[list[str]]]:
    images = study_images(studies, captioner.config)
    return cached_features(images, captioner.encoder, captioner.config, cache), images


def _baselines(
    train: pd.DataFrame,
    test: pd.DataFrame,
    config: Config,
    bundles: Mapping[str, Captioner],
    cache: str | Path,
    seed: int,
) -> list[System]:
    if train.empty:
        return []
    texts = reference_texts(train, config)
    systems = [
        System("constant", None, [constant_caption(texts)] * len(test)),
        System("random", None, random_captions(texts, len(test), seed)),
    ]
    for captioner in list(bundles.values())[:1]:
        keys, queries = (_pooled(captioner, part, cache) for part in (train, test))
        systems.append(System("retrieval", None, retrieval_captions(keys, texts, queries)))
    return systems


def _pooled(captioner: Captioner, studies: pd.DataFrame, cache: str | Path) -> Array:
    # Mean and maximum over the regions of each view, side by side; a missing view is zeros.
    features, images = _filled(captioner, studies, cache)
    views = captioner.config.image.views
    pooled = np.zeros((len(images), views, 2, captioner.encoder.channels), np.float32)
    for row, study in zip(pooled, images):
        for view, path in enumerate(study):
            row[view] = features[path].mean(axis=(0, 1)), features[path].max(axis=(0, 1))
    return pooled.reshape(len(images), -1)


def _write(
    out: Path,
    rows: list[dict[str, Any]],
    systems: list[System],
    references: list[str],
    studies: pd.DataFrame,
    split: Split,
    part: str,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study_id", "reference", *(system.column for system in systems)])
    columns = [system.texts for system in systems]
    writer.writerows(zip(studies["study_id"], references, *columns))
    atomic_write(out / "captions.csv", text.getvalue())
    values = {"part": part, "split": split.digest, "rows": rows}
    atomic_write(out / "metrics.json", json.dumps(values, indent=2) + "\n")


def _examples(
    studies: pd.DataFrame,
    references: list[str],
    captions: list[Caption],
    systems: list[System],
    config: Config,
    count: int = 4,
) -> list[Example]:
    # The longest references of evenly cut shares of the studies: most of them name a finding.
    images = study_images(studies, config)
    views = [dict(zip(*row)) for row in zip(studies["images"], studies["views"])]
    groups = np.array_split(np.arange(len(studies)), min(count, len(studies)))
    chosen = [max(group, key=lambda i: len(references[i])) for group in groups]
    first = next(system for system in systems if system.search)
    constant = next((s for s in systems if s.name == "constant"), None)
    return [
        Example(
            read_images(images[i], config.image.size, config.image.resize),
            references[i],
            {first.name: first.texts[i]} | ({"constant": constant.texts[i]} if constant else {}),
            captions[i].attention,
            captions[i].words,
            [views[i][path] for path in images[i]],
        )
        for i in chosen
    ]
