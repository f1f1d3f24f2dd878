"""Bundles and other systems against the same studies and the same baselines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xray_captioning.config import Config
from xray_captioning.data.features import Array, ArrayCache, stack_features
from xray_captioning.data.images import read_images
from xray_captioning.data.splits import Split
from xray_captioning.data.targets import reference_texts, scored_text, study_images, usable_studies
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.baselines import baseline_captions
from xray_captioning.evaluation.caption_files import Texts, in_order
from xray_captioning.evaluation.collapse import CollapseWarning
from xray_captioning.evaluation.r2gen import r2gen_references, r2gen_vocabulary
from xray_captioning.evaluation.report import write_report
from xray_captioning.evaluation.results import Results, evaluate_systems
from xray_captioning.evaluation.systems import System
from xray_captioning.plots import Example, panel, save
from xray_captioning.text.cleaning import clean

if TYPE_CHECKING:  # texts alone are compared without loading Keras
    import pandas as pd

    from xray_captioning.captioner.captioner import Caption, Captioner
    from xray_captioning.decoders import Features


def compare(
    studies: pd.DataFrame,
    split: Split,
    config: Config,
    out: str | Path,
    cache: str | Path,
    bundles: Mapping[str, Captioner] | None = None,
    texts: Mapping[str, Texts] | None = None,
    beams: Sequence[int] = (1, 3),
    seed: int = 0,
    part: str = "test",
    protocol: str | None = None,
    quick: bool = False,
    report: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Score systems and baselines on one part of a split and write what was found.

    Writes ``metrics.json``, ``captions.csv`` and, where there is a bundle, ``panel.png``. Warns of
    every system that is not clearly better than a fixed report.

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
    texts : mapping of str to texts, optional
        What other systems wrote: by study id, or in the order of the evaluated studies.
    beams : sequence of int
        Beam sizes; 1 is greedy.
    seed : int
        Of the random baseline, the shuffled systems and the resamples.
    part : {"train", "val", "test"}
    protocol : {"r2gen"}, optional
        References as R2Gen's evaluation makes them, and beside it untruncated ones.
    quick : bool, default=False
        The small table: baselines constant, random and retrieval, and no shuffled systems.
    report : path, optional
        A HTML page of all that was found; Markdown and CSV tables are written beside it.

    Returns
    -------
    list of dict
        Rows of :func:`xray_captioning.evaluation.results.evaluate_systems`.

    Raises
    ------
    ConfigError
        A bundle writes another section or cleans otherwise.
    DataError
        The part is empty, or a system lacks a study.
    """
    bundles, texts = bundles or {}, texts or {}
    for name, captioner in bundles.items():
        _check_text(name, captioner.config, config, protocol)
    train, test = (_part(studies, split, name, config) for name in ("train", part))
    if test.empty:
        raise DataError(f"the {part} part of the split has no study with text; choose another")
    ids, said = list(test["study_id"]), _written(train, test, config, protocol)
    systems = [System(n, None, _given(n, found, ids, config)) for n, found in texts.items()]
    captioned = list(_captioned(bundles, test, beams, cache, protocol))
    systems += [system for system, _ in captioned]
    systems += _baselines(train, test, said, bundles, cache, seed, quick)
    results = evaluate_systems(
        ids,
        said.references,
        systems,
        said.training,
        {"part": part, "split": split.digest, "protocol": protocol or "coco"},
        groups=list(test["patient_id"]),
        whole=said.whole,
        reports=said.reports,
        quick=quick,
        seed=seed,
    )
    results.write(Path(out))
    if captioned:
        examples = _examples(test, said.references, captioned[0][1], systems, config)
        save(panel(examples), Path(out) / "panel.png")
    if report is not None:
        write_report(results, report, dict(zip(ids, test["images"])))
    _warn(results)
    return results.rows


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
    rows = compare(
        usable, split, captioner.config, run, cache, {name: captioner}, seed=seed, quick=True
    )
    captioner.about["rows"] = rows
    captioner.save(run)
    return rows


def _check_text(name: str, found: Config, expected: Config, protocol: str | None) -> None:
    if protocol == "r2gen" and found.text.section in ("findings", "report"):
        return  # every text is cleaned anew
    mine, other = ((c.text.section, c.text.cleaning) for c in (expected, found))
    if mine != other:
        raise ConfigError(
            f"bundle {name} writes the {other[0]} after {other[1]} cleaning, but the references "
            f"are the {mine[0]} after {mine[1]} cleaning; evaluate it on its own"
        )


class _Written(NamedTuple):
    """What was written: by readers, and as a protocol scores it."""

    references: list[str]  # of the evaluated studies
    reports: list[str]  # the same, whole: what findings are read from
    training: list[str]  # what a system may learn by heart
    targets: list[str]  # the training texts as references
    whole: list[str] | None  # references without truncation


def _written(
    train: pd.DataFrame, test: pd.DataFrame, config: Config, protocol: str | None
) -> _Written:
    references, training = (reference_texts(part, config) for part in (test, train))
    if protocol != "r2gen":
        return _Written(references, references, training, training, None)
    reports, learned = (_reports(part, config) for part in (test, train))
    vocabulary = r2gen_vocabulary(learned)
    return _Written(
        r2gen_references(reports, vocabulary),
        references,
        training,
        r2gen_references(learned, vocabulary),
        r2gen_references(reports, vocabulary, None),
    )


def _reports(studies: pd.DataFrame, config: Config) -> list[str]:
    """Return the section as it stands, which R2Gen's functions clean themselves."""
    columns = ["findings", "impression"]
    if config.text.section != "report":
        columns = [config.text.section]
    return [" ".join(text for text in row if text) for row in zip(*(studies[c] for c in columns))]


def _again(text: str, protocol: str | None) -> str:
    return clean(text, "r2gen") if protocol == "r2gen" else text


def _warn(results: Results) -> None:
    for alarm in results.alarms:
        warnings.warn(alarm.message, CollapseWarning, stacklevel=1)


def _part(studies: pd.DataFrame, split: Split, name: str, config: Config) -> pd.DataFrame:
    chosen = studies[studies["study_id"].isin(split.parts[name])]
    kept = [bool(text) for text in reference_texts(chosen, config)]
    return chosen[kept].reset_index(drop=True)


def _given(name: str, found: Texts, ids: list[str], config: Config) -> list[str]:
    return [clean(text, config.text.cleaning) for text in in_order(name, found, ids)]


def _scored(captions: Sequence[Caption], config: Config) -> list[str]:
    return [scored_text(caption.words, config) for caption in captions]


def _captioned(
    bundles: Mapping[str, Captioner],
    studies: pd.DataFrame,
    beams: Sequence[int],
    cache: str | Path,
    protocol: str | None,
) -> Iterator[tuple[System, list[Caption]]]:
    for name, captioner in bundles.items():
        features = _features(captioner, studies, cache)
        for beam in beams:
            captions = captioner.caption_features(features, beam)
            texts = [_again(text, protocol) for text in _scored(captions, captioner.config)]
            yield System(name, "greedy" if beam == 1 else f"beam-{beam}", texts), captions


def _features(captioner: Captioner, studies: pd.DataFrame, cache: str | Path) -> Features:
    from xray_captioning.decoders import Features

    features, images = _filled(captioner, studies, cache)
    rows = [[features[path] for path in study] for study in images]
    return Features(*stack_features(rows, captioner.config.image.views))


def _filled(
    captioner: Captioner, studies: pd.DataFrame, cache: str | Path
) -> tuple[ArrayCache, list[list[str]]]:
    from xray_captioning.encoders.caches import cached_features

    images = study_images(studies, captioner.config)
    return cached_features(images, captioner.encoder, captioner.config, cache), images


def _baselines(
    train: pd.DataFrame,
    test: pd.DataFrame,
    said: _Written,
    bundles: Mapping[str, Captioner],
    cache: str | Path,
    seed: int,
    quick: bool,
) -> list[System]:
    if train.empty:
        return []
    pooled = None
    for captioner in list(bundles.values())[:1]:
        pooled = _pooled(captioner, train, cache), _pooled(captioner, test, cache)
    found = baseline_captions(said.training, said.targets, said.reports, pooled, quick, seed)
    return [System(name, None, column, "baseline") for name, column in found.items()]


def _pooled(captioner: Captioner, studies: pd.DataFrame, cache: str | Path) -> Array:
    # Mean and maximum over the regions of each view, side by side; a missing view is zeros.
    features, images = _filled(captioner, studies, cache)
    views = captioner.config.image.views
    pooled = np.zeros((len(images), views, 2, captioner.encoder.channels), np.float32)
    for row, study in zip(pooled, images):
        for view, path in enumerate(study):
            row[view] = features[path].mean(axis=(0, 1)), features[path].max(axis=(0, 1))
    return pooled.reshape(len(images), -1)


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
