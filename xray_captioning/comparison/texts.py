"""What every system wrote for the evaluated studies: captioners, other systems, baselines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xray_captioning import files, findings
from xray_captioning.bundles.bundle import FEATURES, find_bundle, identity, read_bundle
from xray_captioning.config import Config
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.features import Array
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.targets import cleaned_texts, contexts, scored_text, section_texts, study_images
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.baselines import R2GEN, ReportTexts, System, baseline_systems
from xray_captioning.evaluation.caption_files import TextColumn, Texts
from xray_captioning.evaluation.cases import example, wordiest
from xray_captioning.evaluation.matching import Studies, in_order, scored_section
from xray_captioning.hub.repositories import is_hub
from xray_captioning.metrics.ngrams import kept_texts
from xray_captioning.plots.panels import Example
from xray_captioning.text.cleaning import clean

if TYPE_CHECKING:  # texts alone are compared without loading Keras
    import pandas as pd

    from xray_captioning.captioner.caption import Caption
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.decoders import Features

    Run: TypeAlias = Captioner | str | Path | Texts
    Given: TypeAlias = Run | Sequence[Run]


BATCH = 64  # studies


class CaptioningSystem:
    """A captioner, or a bundle, loaded on use; may read `features`, or have images encoded by `workers`."""

    def __init__(self, name: str, given: Any, features: StudyFeatures | None = None, workers: Any = None) -> None:
        self.name, self._given, self._workers = name, given, workers
        if isinstance(given, (str, os.PathLike)):
            folder = self._given = find_bundle(os.fspath(given))
            values = read_bundle(folder, "captioner")
            self.config = Config.from_dict(values["config"], f"{folder}/captioner.json")
            about, self.trained_on = values["about"], TrainedOn.load(folder)
            self.identity = identity(folder, values)
        elif hasattr(given, "caption_features"):
            self.config, self.trained_on, about = given.config, given.trained_on, given.about
            self.identity = given.identity._replace(digest="", origin="")  # it may be another by now
        else:
            texts = "a file of texts or texts (a list, or a dictionary of study id to text)"
            what = f"expected a captioner, a bundle's folder, {texts}, got {type(given).__name__}"
            raise DataError(f"system {name}: {what}")
        self.features = features if FEATURES in about else None
        if features is None and self.config.model.encoder == FEATURES:
            raise ConfigError(f"system {name}: was trained on features and sees no images; give them (--features)")

    @cached_property
    def captioner(self) -> Captioner:
        """The captioner itself."""
        from xray_captioning.captioner.captioner import Captioner
        from xray_captioning.encoders.encoding import check_fits

        given = self._given
        found = Captioner.load(given) if isinstance(given, Path) else given
        if self.features is not None:
            check_fits(self.features, found.config, found.encoder, found.about)
        return found

    def batches(self, studies: pd.DataFrame, cache: Any) -> Iterator[Features]:
        """Yield the features of studies, a few studies at a time."""
        from xray_captioning.decoders import Features
        from xray_captioning.encoders.encoding import batch_maps, lost_images, study_regions

        model, spread = self.captioner, None
        if self._workers and isinstance(self._given, Path):
            make = partial(batch_maps, self._given, cache and Path(cache).resolve())
            spread = partial(self._workers, make, lost=lost_images)
        of = study_regions(studies, model.encoder, model.config, cache, self.features, spread)
        for start in files.progress(range(0, len(studies), BATCH), "captions", leave=False):
            yield Features(*of(np.arange(start, min(start + BATCH, len(studies)))))

    def check_text(self, expected: Config, protocol: str | None) -> None:
        """Refuse a model whose section or cleaning is not that of the references."""
        if protocol == R2GEN and self.config.text.section in ("findings", "report"):
            return  # every text is cleaned anew
        asked, own = (f"the {c.text.section} after {c.text.cleaning} cleaning" for c in (expected, self.config))
        if own != asked:
            what = f"bundle {self.name} writes {own}, but the references are {asked}"
            raise ConfigError(f"{what}; evaluate it on its own")


@dataclass
class Task:
    """The studies of a comparison, and how it is done: what `evaluate` is asked for."""

    train: pd.DataFrame
    test: pd.DataFrame  # the studies that are evaluated
    config: Config
    protocol: str | None
    cache: str | Path | None
    seed: int
    quick: bool
    studies: Studies  # the evaluated ones, by what others call them

    @cached_property
    def texts(self) -> ReportTexts:
        """The references and the training texts."""
        references, training = (kept_texts(cleaned_texts(p, self.config), len(p)) for p in (self.test, self.train))
        if self.protocol != R2GEN:
            return ReportTexts.unaltered(references, training)
        # R2Gen's functions clean the section themselves.
        reports, learned = (section_texts(p, self.config) for p in (self.test, self.train))
        return ReportTexts.as_r2gen(references, training, reports, learned)


def is_texts(run: Any) -> bool:
    """Return whether a run is given by its texts, and not by a captioner or its bundle."""
    return isinstance(run, (Mapping, Sequence, TextColumn)) and not isinstance(run, (str, bytes))


def runs_of(name: str, given: Any) -> list[Any]:
    """Return the runs of a system: the items of a list, all bundles or all texts; what is no list is one run."""
    # A list of strings of which none is a folder or file holds the texts of one run.
    entries = given if isinstance(given, list | tuple) else ()
    absent = [one for one in entries if isinstance(one, str) and not (is_hub(one) or os.path.exists(one))]
    if len(absent) == len(entries):
        return [given]
    if absent:
        what = f"system {name}: {absent[0]!r} is no folder, but other runs in its list are"
        raise DataError(f"{what}; give folders of bundles or files of texts, or texts alone")
    if len({is_texts(entry) for entry in given}) > 1:
        raise DataError(f"system {name} mixes texts and bundles; give its runs as one of them")
    return list(given)


def system_texts(
    task: Task, models: Mapping[str, list[CaptioningSystem]], texts: dict[str, list[Texts]], beams: Sequence[int]
) -> tuple[list[System], dict[str, list[Caption]]]:
    """Return what all systems and baselines wrote, and the captions of each model's first run and search."""
    first: dict[str, list[Caption]] = {}
    said: list[tuple[str, str | None, Sequence[Sequence[str]]]] = []
    for name in list(texts):
        said.append((name, None, list(_cleaned(name, texts.pop(name), task))))  # as they were written no more
    for name, captioners in models.items():
        from xray_captioning.captioner.calibration import warn_if_unfamiliar

        written = [_captions(run, task, beams, contexts(task.test, run.config)) for run in captioners]
        warn_if_unfamiliar(caption.novelty for run in written for captions in run for caption in captions)
        first[name] = written[0][0]
        for i, beam in enumerate(beams):
            search = "greedy" if beam == 1 else f"beam-{beam}"
            said.append((name, search, [_scored(w[i], run, task) for w, run in zip(written, captioners)]))
    systems = [System(name, search, runs[0], "system", runs[1:]) for name, search, runs in said]
    ablated = [] if task.quick else [one for n, runs in models.items() for one in _ablated(n, runs, task)]
    return [*systems, *_baselines(task, models), *ablated], first


def _cleaned(name: str, runs: list[Texts], task: Task) -> Iterator[Sequence[str]]:
    """Yield a system's texts, as they are scored, run by run, and let go what was written."""
    while runs:
        texts = in_order(name, runs.pop(0), task.studies)
        if not task.protocol:
            texts = scored_section(name, texts, task.config.text.section)
        yield kept_texts((clean(text, task.config.text.cleaning) for text in texts), len(texts))


def _scored(captions: Sequence[Caption], run: CaptioningSystem, task: Task) -> list[str]:
    texts = [scored_text(caption.words, run.config) for caption in captions]
    return [clean(text, R2GEN) for text in texts] if task.protocol == R2GEN else texts


def _captions(
    run: CaptioningSystem, task: Task, beams: Sequence[int], told: Sequence[Any] | None, blank: bool = False
) -> list[list[Caption]]:
    """Return the captions by each beam size, perhaps of `blank` images: the mean of the first batch's features."""
    written: list[list[Caption]] = [[] for _ in beams]
    mean: Any = None
    with ThreadPoolExecutor(len(beams)) as pool:  # one search is compiled while another is
        for features in run.batches(task.test, task.cache):
            there, start = features.mask[..., None], len(written[0])
            if blank:
                mean = (features.regions * there).sum(0) / np.maximum(there.sum(0), 1) if mean is None else mean
                features = features._replace(regions=np.where(there, mean, 0).astype("float32"))
            some = told and told[start : start + len(there)]
            write = partial(run.captioner.write_captions, features, total=len(task.test), context=some)
            for captions, more in zip(written, pool.map(write, beams)):
                captions += more
    return written


def _ablated(name: str, runs: Sequence[CaptioningSystem], task: Task) -> Iterator[System]:
    """Yield what a model that reads a context writes without it, with another study's, and without the image."""
    told = [contexts(task.test, run.config) for run in runs]
    order = np.random.default_rng(task.seed).permutation(len(task.test))
    other = dict(zip(order, np.roll(order, 1)))  # one circle: no study has its own
    others = [own and [own[other[i]] for i in range(len(own))] for own in told]
    ways: dict[str, Any] = {"without context": [None] * len(runs), "context of others": others, "without image": told}
    for what, given in ways.items() if any(told) else ():
        said = [_captions(run, task, [1], own, what == "without image")[0] for run, own in zip(runs, given)]
        first, *more = [_scored(captions, run, task) for captions, run in zip(said, runs)]
        yield System(f"{name} ({what})", "greedy", first, "context", more)


def _baselines(task: Task, models: Mapping[str, Sequence[CaptioningSystem]]) -> list[System]:
    if task.train.empty:
        return []
    parts, texts = (task.train, task.test), task.texts
    pooled = {n: [[_pooled(run, part, task.cache) for part in parts] for run in runs] for n, runs in models.items()}
    return baseline_systems(texts.training, texts.targets, texts.reports, pooled, task.quick, task.seed)


def _pooled(run: CaptioningSystem, studies: pd.DataFrame, cache: Any) -> Array:
    """Return mean and maximum over the regions of each view; a missing view is zeros."""
    pooled = [np.empty((0, 0), np.float32)]
    for regions, mask in run.batches(studies, cache):
        views = regions.reshape(len(mask), run.config.image.views, -1, regions.shape[-1])
        pooled.append(np.stack((views.mean(axis=2, dtype="float32"), views.max(axis=2)), 2).reshape(len(mask), -1))
    return np.concatenate(pooled[1:] or pooled)


def examples(task: Task, systems: Sequence[System], captions: Sequence[Caption], offset: Any) -> list[Example]:
    """Return a few studies with the captions of the first model, of this `offset`, to be drawn."""
    studies, config = task.test.assign(reference=task.texts.references), task.config
    images, size = study_images(studies, config), (config.image.size, config.image.resize)
    first = next(system for system in systems if system.search)
    shown = [first, *(system for system in systems if system.name == findings.CONSTANT)]
    return [
        example(studies.iloc[i], images[i], {s.name: s.texts[i] for s in shown}, captions[i], *size, offset=offset)
        for i in wordiest(studies)
    ]
