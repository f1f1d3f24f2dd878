"""Captioners and other systems against the same studies and the same baselines."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.bundles.bundle import find_bundle, identity, read_bundle
from xray_captioning.captioner.evidence import MEASURE, how_often
from xray_captioning.comparison.pointing import located, pointing_games
from xray_captioning.comparison.texts import CaptioningSystem, Task, examples, is_texts, runs_of, system_texts
from xray_captioning.config import Config
from xray_captioning.data import feature_files, provenance, targets
from xray_captioning.data.outlines import read_outlines
from xray_captioning.data.splits import Split, group_ids, split_studies
from xray_captioning.data.studies import PARTS
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation import caption_files, claims, matching, result_columns
from xray_captioning.evaluation.baselines import BASELINES, R2GEN, retrieval_name
from xray_captioning.evaluation.matching import ResultsWarning, Studies, common_rows, features_of
from xray_captioning.evaluation.report import write_report
from xray_captioning.evaluation.results import LARGE_NOTE, Row, evaluate_systems
from xray_captioning.files import atomic_write, read_json
from xray_captioning.findings import SHUFFLED
from xray_captioning.metrics import further, labeler, ngrams
from xray_captioning.plots import charts, panels

if TYPE_CHECKING:  # texts alone are compared without loading Keras
    import pandas as pd

    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.comparison.texts import Given


def evaluate(
    studies: pd.DataFrame | str | Path | Callable[[], pd.DataFrame],
    systems: Mapping[str, Given] | Callable[[], Mapping[str, Given]],
    out: str | Path = "results",
    *,
    split: Split | str | Path | None = None,
    part: str = "test",
    protocol: str | None = None,
    convention: str = "chexpert",
    changes: Mapping[str, Any] | None = None,
    beams: Sequence[int] = (1, 3),
    cache: str | Path | None = None,
    seed: int = 0,
    quick: bool = False,
    report: str | Path | None = None,
    figures: Sequence[str] = ("png",),
    prediction: str | Sequence[str] = (),
    only_common: bool = False,
    features: Any = None,
    workers: Any = None,
    regions: str | Path | None = None,
    metrics: str | Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Score captioners, other systems' texts and baselines on one part of the same studies.

    Writes ``metrics.json``, ``captions.csv`` and, where there is a captioner, ``panel.png``. Warns of every system
    whose captions go as well with other studies, or that is not clearly better than a fixed report.

    Parameters
    ----------
    studies : pandas.DataFrame, path or callable
        As :func:`xray_captioning.read_studies` returns it, what it reads, or what returns it. Studies without a
        text and, where there is a captioner, without an image are left out.
    systems : mapping or callable
        By name, or what returns that: a captioner; the folder of a bundle, or the name of a shipped one; or another
        system's texts: a file, a dictionary by study id (``7`` for ``s7``, or an image's name, will do), or a list in
        the order of the evaluated studies. A list of these (not of strings of which none is a folder: texts) is one
        system that was trained several times, with means over the runs and intervals that are of other seeds, too.
    out, cache : path
        The folder for results, and one where features are kept between runs, if not in the usual one.
    split : Split or path, optional
        By default that of a captioner trained on these very studies, or else made of the fractions.
    part : {"train", "val", "test"}
        The part of the split to evaluate on.
    protocol : {"r2gen"}, optional
        References as R2Gen's evaluation makes them on the published split, and beside it whole ones.
    convention : {"chexpert", "mesh"}
        By which findings are read out of texts, see :func:`xray_captioning.label_report`.
    changes : mapping, optional
        Fields ``text.*`` and ``fractions`` of the configuration that makes the references, which is that of the
        first captioner, or else the default, with the findings where there are no impressions.
    beams, seed : sequence of int, int
        Beam sizes, 1 is greedy; the seed of the random baseline and the shuffled systems.
    quick, only_common : bool
        The small table, of fewer baselines and no shuffled systems, with the same tests; only the studies that every
        system has a text for, not to make a missing text an error.
    report : path, optional
        An HTML page of all that was found; tables in Markdown, LaTeX and CSV and a chart are written beside it.
    figures : sequence of {"png", "pdf", "svg"}
        The formats of the panel and of the report's chart.
    prediction : str or sequence of str, optional
        The column of a file that holds the system's texts, where its name does not show it.
    features : path, StudyFeatures, tuple or mapping, optional
        As :func:`xray_captioning.train` takes them, for captioners that were trained on features.
    workers : callable, optional
        What :func:`xray_captioning.batch.workers.ray_workers` yields, to encode the images of bundles.
    regions : path, optional
        The outlines of findings (docs/evaluation.md), by default a ``regions.json`` beside what `studies` were read
        from. With them ``pointing_game`` says whether captioners look at what they name.
    metrics : str or iterable of str
        Further metrics, as RadEval's ``radgraph``, which are loaded before anything is read (docs/evaluation.md).

    Returns
    -------
    list of dict
        A row for each system and search, as in ``metrics.json``.

    Raises
    ------
    ConfigError, DataError
        A captioner was trained on this part, or does not write what the references are; a setting is wrong; the part
        is empty; a system lacks a study; a name is taken.
    """
    from pandas import factorize

    _check_settings(part, protocol, beams, figures, out=out, cache=cache, report=report, regions=regions)
    labeler.convention_of(convention)  # refused before anything is read
    asked_metrics = further.opened(check_names(changes := changes or {}, metrics))
    features = features if features is None else feature_files.open_features(features)
    studies, _, split = provenance.open_studies(studies, split, features is None)
    given = features_of(features, studies)
    models, texts = _by_kind(systems() if callable(systems) else systems, prediction, given, workers)
    every, outlines = [run for runs in models.values() for run in runs], read_outlines(studies, regions)
    config, images = _configuration(every, changes, protocol, studies), any(run.features is None for run in every)
    if given is not None and all(run.features is None for run in every):
        raise ConfigError("features: no system was trained on features; leave them out")
    kinds = sorted({kind for run in every for kind in run.config.text.context})
    usable = targets.usable_studies(studies, config.replace({"text.context": kinds}), given, images)
    if given is not None:
        given.check(usable["study_id"])
    if protocol:
        split = _published(split, studies, usable)
    for run in every:
        run.check_text(config, protocol)
    trained_on = {run.name: run.trained_on for run in every}
    provenance.warn_of_unknown(trained_on)
    split = provenance.choose_split(studies, usable, config, split, trained_on, part, cache)
    train, test = (usable[usable["study_id"].isin(split.parts[name])] for name in ("train", part))
    del usable  # a third table of very many studies
    if test.empty:
        raise DataError(f"the {part} part of the split has no study with text; choose another")
    about: Row = {"part": part, "split": split.digest, "protocol": protocol or "coco", "convention": convention}
    about["bundles"] = {run.name: run.identity._asdict() for run in every}
    if only_common:
        whole, test = len(test), test.iloc[common_rows(texts, Studies.of(test, studies))]
        about["left_out"] = whole - len(test)
    asked, large = Studies.of(test, studies), len(test) > ngrams.LARGE
    task = Task(train, test, config, protocol, cache, seed, quick or large, asked)
    with labeler.read_by(convention):
        found, captions = system_texts(task, models, texts, beams)
        reports, patients = task.texts, factorize(np.array(group_ids(test), dtype=object), sort=True)[0]
        if outlines and models:
            about[MEASURE] = pointing_games(models, task, captions, outlines, patients, beams[0])
        ids, shown = ngrams.kept_texts(asked.ids, len(asked.ids)), dict(zip(asked.ids, test["images"]))
        if large and not images:  # the table takes as much memory as all the rest
            del studies, train, test, task, texts, split, asked, shown
        results = evaluate_systems(ids, found, reports, about, patients, quick, seed, asked_metrics)
        Path(out, f"captions{caption_files.REGIONS}").unlink(missing_ok=True)  # of other captions
        charts.save_as(None, Path(out, "panel"), ())
        results.write(Path(out))
        if report is not None and not large:
            write_report(results, report, shown, figures)
    if large:
        warnings.warn(LARGE_NOTE, ResultsWarning, stacklevel=2)
    if images:
        _draw(Path(out), figures, task, models, found, captions, about)
    for alarm in results.alarms:
        warnings.warn(alarm.message, claims.CollapseWarning, stacklevel=2)
    return results.rows


def _draw(out: Path, figures: Any, task: Task, models: Any, found: Any, captions: Any, about: Row) -> None:
    """Draw what the first captioner sees, and write where each one of a single run sees what it names."""
    name, (first, *_) = next(iter(models.items()))
    note = how_often(about, name) if MEASURE in about else how_often(first.captioner.about)
    named = {system.name: system.column for system in reversed(found)}  # the first search's is kept
    runs = [(n, run) for n, (run, *more) in models.items() if not more and captions[n][0].regions is not None]
    where = {named[n]: located(run, task.test, captions[n]) for n, run in runs}
    atomic_write(out / f"captions{caption_files.REGIONS}", json.dumps(where, indent=1) + "\n")
    drawn = examples(task, found, captions[name], first.captioner.offset)
    charts.save_as(panels.panel(drawn, f"Attention: {note}."), out / "panel", figures)


def _published(asked: Any, studies: pd.DataFrame, usable: pd.DataFrame) -> Split:
    """Return the split that the data names; no other may be asked for."""
    if asked is not None:
        raise ConfigError("--protocol r2gen uses the published split; leave out --split")
    if studies["split"].isna().any():
        raise ConfigError("the data names no split, which --protocol r2gen needs; give R2Gen's annotation.json")
    return split_studies(usable)


def _by_kind(
    systems: Mapping[str, Given], prediction: Any, features: feature_files.StudyFeatures | None, workers: Any
) -> tuple[dict[str, list[CaptioningSystem]], dict[str, list[caption_files.Texts]]]:
    """Return the runs of models and those of other systems, which are texts, by name."""
    if not isinstance(systems, Mapping):
        raise DataError(f"expected systems by name, got {systems!r:.60}; give {{name: system}}")
    asked = [prediction] if isinstance(prediction, str) else list(prediction)
    models: dict[str, list[CaptioningSystem]] = {}
    texts: dict[str, list[caption_files.Texts]] = {}
    for name, given in systems.items():
        runs = [_opened(name, run, asked) for run in runs_of(name, given)]
        # Messages name a run where there are several.
        names = [f"{name} run {n}" for n in range(1, len(runs) + 1)] if len(runs) > 1 else [name]
        if is_texts(runs[0]):
            texts[name] = runs
        else:
            models[name] = [CaptioningSystem(own, run, features, workers) for own, run in zip(names, runs)]
    _check_names([*systems, *[run.name for several in models.values() if len(several) > 1 for run in several]], models)
    matching.check_asked(asked, chain.from_iterable(texts.values()))
    return models, texts


def _opened(name: str, run: Any, asked: Sequence[str]) -> Any:
    """Return the texts of a run that is given as a file; any other as it is."""
    if not (isinstance(run, (str, os.PathLike)) and os.path.isfile(run)):
        return run
    found = matching.read_systems(Path(run), asked)
    if len(found) > 1:
        several = f"{run} holds {len(found)} systems ({', '.join(found)})"
        raise DataError(f"system {name}: {several}; name the column with prediction=")
    return next(iter(found.values()))


def measure(
    captioner: Captioner,
    studies: pd.DataFrame,
    run: str | Path,
    cache: str | Path | None = None,
    name: str | None = None,
    features: feature_files.StudyFeatures | None = None,
) -> list[dict[str, Any]]:
    """Compare a new captioner, called `name` or as itself, with baselines; write that into its bundle."""
    split, config = captioner.split, captioner.config
    if split is None or not set(targets.usable_studies(studies, config, features)["study_id"]) & set(split.test):
        return []
    systems = {name or captioner.identity.name: captioner}
    given: dict[str, Any] = {"split": split, "cache": cache, "features": features}
    captioner.about["rows"] = rows = evaluate(studies, systems, run, quick=True, seed=config.training.seed, **given)
    found = read_json(Path(run) / "metrics.json", "measure it again").get(MEASURE, {})
    if found.get("rows"):
        captioner.about[MEASURE] = found | {"offset": captioner.offset}
    captioner.save(run)
    return rows


def read_systems(bundles: Iterable[str | Path], files: Iterable[Path], asked: Sequence[str] = ()) -> dict[str, Given]:
    """Return bundles and files of captions as `evaluate` takes them, by the names of bundles, files and columns."""
    # ``NAME=RUN,RUN,...`` are several runs of one system, bundles or files of its captions.
    found = [_read_bundle(str(bundle), asked) for bundle in bundles]
    read = {file: matching.read_systems(file, asked) for file in files}
    twice = Counter(name for systems in read.values() for name in systems)
    for file, systems in read.items():
        for name, texts in systems.items():
            both = twice[name] > 1 and result_columns.role(name) != result_columns.SYSTEM
            found.append((f"{file.stem} {name}" if both else name, texts))
    _check_names([name for name, _ in found], [])
    matching.check_asked(asked, chain.from_iterable(runs if isinstance(runs, list) else [runs] for _, runs in found))
    return dict(found)


def _read_bundle(given: str, asked: Sequence[str]) -> tuple[str, Any]:
    name, equals, runs = given.partition("=")
    if name and equals and not Path(given).exists():
        return name, [_opened(name, r, asked) if os.path.isfile(r) else _read_bundle(r, ())[1] for r in runs.split(",")]
    return identity(bundle := find_bundle(given), read_bundle(bundle, "captioner")).name, bundle


def _check_names(systems: Iterable[str], models: Collection[str]) -> None:
    given = list(systems)
    every = [*given, *BASELINES, *(f"{name} {SHUFFLED}" for name in given)]
    every += [retrieval_name(name) for name in models] if len(models) > 1 else []
    if twice := [name for name in every if every.count(name) > 1]:
        raise DataError(f"two systems are called {min(twice)}; write NAME=BUNDLE, or rename a file or a column")


def _check_settings(part: str, protocol: str | None, beams: Sequence[int], figures: Any, **paths: Any) -> None:
    for name, path in paths.items():
        if not (isinstance(path, (str, os.PathLike)) or (path is None and name != "out")):
            raise ConfigError(f"{name} is {path!r:.60}; give a path")
    report = paths["report"]
    if report is not None and Path(report).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"report {report}: is an HTML page; let its name end in .html")
    for name, given, known in (("protocol", protocol or R2GEN, [R2GEN]), ("part", part, PARTS)):
        if given not in known:
            raise ConfigError(f"{name} {given!r} is unknown; choose one of {', '.join(known)}")
    if isinstance(figures, str) or not set(figures) <= set(charts.FORMATS) or not figures:
        raise ConfigError(f"figures {figures!r}: give a list of {', '.join(charts.FORMATS)}")
    if isinstance(beams, str) or not isinstance(beams, Collection) or not len(beams):
        raise ConfigError(f"beams {beams!r}: no beam size; give one or more, such as beams=[1, 3]")


def check_names(changes: Mapping[str, Any], metrics: str | Iterable[str]) -> list[str]:
    """Refuse fields that `evaluate` does not take, and unknown metrics; return the names of those."""
    Config().replace(changes)
    if other := [name for name in changes if name != "fractions" and not name.startswith("text.")]:
        raise ConfigError(f"{other[0]}: a bundle stays as it is; evaluate takes text.* and fractions")
    return further.named(metrics)


def _configuration(
    models: list[CaptioningSystem], changes: Mapping[str, Any], protocol: str | None, studies: pd.DataFrame
) -> Config:
    """Return the configuration whose section and cleaning make the references."""
    config = models[0].config if models else Config()
    if not models and protocol == R2GEN:
        config = config.replace({"text.section": "report"})
    config = config.replace(changes)
    if protocol == R2GEN:
        config = config.replace({"text.cleaning": R2GEN})
    chosen = models or "text.section" in changes or config.text.section != "impression"
    if chosen or studies["impression"].fillna("").ne("").any():
        return config
    return config.replace({"text.section": "findings"})  # as in R2Gen's annotation
