"""A population of chest studies whose true scores are known, to try estimators on.

Nothing here is a patient's: findings are drawn at the prevalences of Open-i or at chosen ones,
reports are put together from sentences, and systems are of known quality. A *pool* of thousands of
studies is scored once and *is* the population: the scores of the whole pool are the true values. A
simulated test set draws patients from it with replacement, so that patients are independent and
thousands of test sets take a minute.

    pool = draw_pool(OPEN_I, patients=20_000, quality={"reader": 0.5, "collapsed": 0.0})
    true = pool.true_scores("reader")
    rows = pool.draw(600, np.random.default_rng(1))       # one test set: positions in the pool
    part = pool.statistics("reader", rows)                # as `study_statistics` counts them
    pool.references[rows], pool.texts["reader"][rows], pool.patients[rows]   # or the texts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from xray_captioning.evaluation.jackknife import Statistics, scores_from_sums, study_statistics
from xray_captioning.findings import FINDINGS, NO_FINDING

Array = NDArray[Any]
Prevalence = Mapping[str, float]

# Share of reports that assert a finding, certain or not, in the 3,337 findings sections of Open-i
# (Kaggle's indiana_reports.csv), by this project's labeler.
OPEN_I: Prevalence = {
    "Enlarged Cardiomediastinum": 0.0039,
    "Cardiomegaly": 0.0842,
    "Lung Opacity": 0.1651,
    "Lung Lesion": 0.0264,
    "Edema": 0.0165,
    "Consolidation": 0.0072,
    "Pneumonia": 0.0099,
    "Atelectasis": 0.0671,
    "Pneumothorax": 0.0048,
    "Pleural Effusion": 0.0306,
    "Pleural Other": 0.0090,
    "Fracture": 0.0252,
    "Support Devices": 0.0701,
    "Emphysema": 0.0213,
    "Granuloma": 0.0791,
    "Scoliosis": 0.0270,
    "Hiatal Hernia": 0.0123,
}

# The same of the 590 test reports of the split published with R2Gen, whose findings are rarer.
R2GEN_TEST: Prevalence = {
    "Cardiomegaly": 0.0492,
    "Lung Opacity": 0.1271,
    "Lung Lesion": 0.0169,
    "Edema": 0.0153,
    "Consolidation": 0.0051,
    "Pneumonia": 0.0017,
    "Atelectasis": 0.0627,
    "Pneumothorax": 0.0068,
    "Pleural Effusion": 0.0271,
    "Pleural Other": 0.0068,
    "Fracture": 0.0085,
    "Support Devices": 0.0407,
    "Emphysema": 0.0136,
    "Granuloma": 0.0458,
    "Scoliosis": 0.0136,
    "Hiatal Hernia": 0.0119,
}

# Illustrative: a hospital's studies, where findings are several times as frequent as in Open-i.
# The shares were chosen, not counted in any collection.
HOSPITAL: Prevalence = {
    "Enlarged Cardiomediastinum": 0.07,
    "Cardiomegaly": 0.20,
    "Lung Opacity": 0.24,
    "Lung Lesion": 0.03,
    "Edema": 0.17,
    "Consolidation": 0.065,
    "Pneumonia": 0.15,
    "Atelectasis": 0.25,
    "Pneumothorax": 0.05,
    "Pleural Effusion": 0.26,
    "Pleural Other": 0.012,
    "Fracture": 0.02,
    "Support Devices": 0.29,
}

ONE_STUDY = (1.0,)
"""Shares of patients with one, two, three ... studies; Open-i has one report a patient."""

SEVERAL_STUDIES = (0.6, 0.2, 0.1, 0.06, 0.04)
"""As a table of follow-ups has them: 1.74 studies a patient."""

_SICK, _PATIENT = 0.25, 0.45  # shares of variance: of all findings of a patient, of one finding


@dataclass(frozen=True)
class Pool:
    """A finite population: what is drawn from it is drawn with replacement."""

    present: Array  # bool, (studies, 18): the truth, columns as FINDINGS
    patients: Array  # int, (studies,), sorted
    references: Array  # object, (studies,): reports
    texts: dict[str, Array]  # by system, (studies,)
    said: dict[str, Array]  # by system, bool, (studies, 18)
    counted: dict[str, Statistics]

    def statistics(self, system: str, rows: Array) -> Statistics:
        """Return the statistics of some studies, as `study_statistics` counts them.

        CIDEr alone is not what `study_statistics` gives for these studies: the rarity of n-grams
        is the whole pool's.
        """
        return {name: values[rows] for name, values in self.counted[system].items()}

    def true_scores(self, system: str, findings: Sequence[str] | None = None) -> dict[str, float]:
        """Return every score of the whole pool."""
        found = self.scores(system, np.ones((1, len(self.patients))), findings)
        return {name: float(values[0]) for name, values in found.items()}

    def scores(self, system: str, weights: Array, findings: Sequence[str] | None = None) -> dict[str, Array]:
        """Return every score of samples that have each study so many times: (samples,) each.

        `weights` has the shape (samples, studies).
        """
        sums = {
            name: (weights @ values.reshape(len(values), -1).astype(np.float64)).reshape(
                len(weights), *values.shape[1:]
            )
            for name, values in self.counted[system].items()
        }
        return scores_from_sums(sums, findings)

    def draw(self, studies: int, rng: np.random.Generator) -> Array:
        """Return the rows of a test set of about that many studies: whole patients, independent."""
        starts = np.flatnonzero(np.diff(self.patients, prepend=-1))
        sizes = np.diff(starts, append=len(self.patients))
        chosen = rng.integers(len(starts), size=round(studies / sizes.mean()))
        return np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in chosen])

    def draw_groups(self, rows: Array) -> Array:
        """Return the patient of each drawn row; a patient who is drawn twice is two patients."""
        first = np.diff(self.patients, prepend=-1)[rows] != 0
        return np.cumsum(first)


def draw_pool(
    prevalence: Prevalence = OPEN_I,
    patients: int = 20_000,
    quality: Mapping[str, float] | None = None,
    studies: Sequence[float] = ONE_STUDY,
    seed: int = 0,
) -> Pool:
    """Draw a population and what systems write of it.

    Parameters
    ----------
    prevalence : mapping of str to float
        Share of the studies that have a finding.
    patients, seed : int
    quality : mapping of str to float
        By system, see `read_images`: 0 does not look at images, 1 finds exactly what is there.
    studies : sequence of float
        Shares of patients with one, two, ... studies.
    """
    rng = np.random.default_rng(seed)
    sizes = 1 + rng.choice(len(studies), size=patients, p=np.asarray(studies))
    codes = np.repeat(np.arange(patients), sizes)
    present = draw_findings(prevalence, codes, rng)
    references = write_reports(present, rng)
    found = {"reader": 0.5} if quality is None else quality
    said = {name: read_images(present, prevalence, codes, q, rng) for name, q in found.items()}
    texts = {name: write_reports(findings, rng) for name, findings in said.items()}
    counted = {name: study_statistics(list(references), list(t)) for name, t in texts.items()}
    return Pool(present, codes, references, texts, said, counted)


def draw_findings(prevalence: Prevalence, patients: Array, rng: np.random.Generator) -> Array:
    """Draw which findings studies have, (studies, 18) of bool, correlated within a patient.

    A finding is there where a normal variable exceeds the quantile of its prevalence. A part of
    the variable is shared by all findings of a patient (the sick have several) and another part by
    the same finding in a patient's studies (it does not vanish from one to the next).
    """
    count, kinds = int(patients[-1]) + 1, len(FINDINGS)
    share = np.array([prevalence.get(name, 0.0) for name in FINDINGS])
    latent = np.sqrt(_SICK) * rng.standard_normal((count, 1))[patients]
    latent = latent + np.sqrt(_PATIENT) * rng.standard_normal((count, kinds))[patients]
    latent += np.sqrt(1 - _SICK - _PATIENT) * rng.standard_normal((len(patients), kinds))
    return _with_no_finding(latent > norm.isf(share))


def read_images(
    present: Array, prevalence: Prevalence, patients: Array, quality: float, rng: np.random.Generator
) -> Array:
    """Return what a system of known quality says is there, (studies, 18) of bool.

    Each finding of each study is read correctly with the probability `quality` and otherwise drawn
    as for another patient, so that every finding is named as often as it occurs and Cohen's kappa
    of each is `quality`. At 0 captions are independent of the study, but those of one patient are
    alike: what makes tests that take studies for independent too bold.
    """
    guessed = draw_findings(prevalence, patients, rng)
    return _with_no_finding(np.where(rng.random(present.shape) < quality, present, guessed))


def draw_scores(present: Array, auroc: float, rng: np.random.Generator) -> Array:
    """Return logits whose AUROC is known: normal with equal variance in both classes."""
    return rng.standard_normal(present.shape) + np.sqrt(2) * norm.ppf(auroc) * present


def write_reports(present: Array, rng: np.random.Generator) -> Array:
    """Write a report of each study: its findings, and three or four things that are normal."""
    choices = _favourites(rng, len(present))
    written = np.empty(len(present), dtype=object)
    for row, findings in enumerate(present):
        said = [_SENTENCES[i][next(choices) % len(_SENTENCES[i])] for i in np.flatnonzero(findings)]
        normal = [texts[next(choices) % len(texts)] for texts in _normal(findings)]
        written[row] = " ".join([*said, *normal])
    return written


def _favourites(rng: np.random.Generator, reports: int) -> Any:
    """Yield which paraphrase to take; earlier ones more often, as people have favourites."""
    return iter((rng.geometric(0.45, size=reports * (len(FINDINGS) + 4)) - 1).tolist())


def _with_no_finding(present: Array) -> Array:
    """Set the column of "No Finding": support devices do not count as a finding there."""
    columns = [i for i, name in enumerate(FINDINGS) if name not in (NO_FINDING, "Support Devices")]
    found = present.copy()
    found[:, FINDINGS.index(NO_FINDING)] = ~present[:, columns].any(axis=1)
    return found


def _normal(findings: Array) -> list[list[str]]:
    """Return the paraphrases of what a report denies, given its findings."""
    there = {FINDINGS[i] for i in np.flatnonzero(findings)}
    return [texts for names, texts in _DENIALS if not there & set(names)]


@cache
def _sided(phrase: str) -> list[str]:
    return [f"{side} {phrase}" for side in ("left", "right", "bilateral")]


def _says(*phrases: str, sided: bool = False) -> list[str]:
    named = [text for phrase in phrases for text in (_sided(phrase) if sided else [phrase])]
    return [f"{start}{text} ." for text in named for start in ("there is ", "", "stable ")]


# Sentences that assert one finding each, by this project's labeler.
_ASSERTED: dict[str, list[str]] = {
    NO_FINDING: ["no acute cardiopulmonary abnormality .", "normal chest ."],
    "Enlarged Cardiomediastinum": _says("widening of the mediastinum"),
    "Cardiomegaly": _says("mild cardiomegaly", "enlargement of the heart"),
    "Lung Opacity": _says("basilar opacity", "airspace opacity", sided=True),
    "Lung Lesion": _says("upper lobe nodule", "lung mass", sided=True),
    "Edema": _says("mild pulmonary edema", "interstitial edema"),
    "Consolidation": _says("lower lobe consolidation", sided=True),
    "Pneumonia": _says("lower lobe pneumonia", sided=True),
    "Atelectasis": _says("basilar atelectasis", "linear atelectasis", sided=True),
    "Pneumothorax": _says("apical pneumothorax", sided=True),
    "Pleural Effusion": _says("pleural effusion", "small pleural effusion", sided=True),
    "Pleural Other": _says("pleural thickening", sided=True),
    "Fracture": _says("rib fracture", sided=True),
    "Support Devices": _says("central venous catheter", "pacemaker", sided=True),
    "Emphysema": _says("emphysema", "hyperinflation with emphysema"),
    "Granuloma": _says("calcified granuloma", "upper lobe calcified granuloma", sided=True),
    "Scoliosis": _says("scoliosis of the thoracic spine", "mild scoliosis"),
    "Hiatal Hernia": _says("small hiatal hernia", "hiatal hernia"),
}
_SENTENCES = [_ASSERTED[name] for name in FINDINGS]

# What is denied, unless one of the findings is there.
_DENIALS: list[tuple[tuple[str, ...], list[str]]] = [
    (
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        [
            "the heart is normal in size .",
            "heart size and mediastinal contours are within normal limits .",
            "the cardiomediastinal silhouette is normal .",
        ],
    ),
    (
        ("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
        [
            "the lungs are clear .",
            "no focal consolidation is seen .",
            "the lungs are clear bilaterally without focal airspace disease .",
        ],
    ),
    (
        ("Pneumothorax", "Pleural Effusion"),
        [
            "no pleural effusion or pneumothorax .",
            "there is no pneumothorax or pleural effusion .",
            "no pneumothorax .",
        ],
    ),
    (
        ("Fracture", "Scoliosis"),
        ["the bones are intact .", "no acute bony abnormality .", "visualized osseous structures are unremarkable ."],
    ),
]
