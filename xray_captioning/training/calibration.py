"""Fit a captioner's calibration on studies it was not trained on, and evaluate it on others."""

from collections.abc import Iterator, Sequence
from copy import copy
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.captioner import calibration as applied
from xray_captioning.captioner.calibration import Array, Calibration
from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config, DecodingConfig
from xray_captioning.data import provenance, targets
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.splits import Split
from xray_captioning.data.studies import Studies
from xray_captioning.decoders import Features
from xray_captioning.errors import DataError
from xray_captioning.files import progress
from xray_captioning.metrics import calibration as metrics
from xray_captioning.metrics.calibration import CalibrationScores, calibration_scores, selective_risk

FAMILIAR = 2000  # training studies whose features are fitted
BATCH = 64
FOLDS = 5
BEAM_SIZES = (1, 2, 3, 5, 10)  # which the app offers


class Sentences(NamedTuple):
    """Which sentences are right that one search wrote for some studies."""

    log_probabilities: Array  # (sentences,) float64
    right: Array  # (sentences,) bool
    studies: Array  # (sentences,) int: the number of each one's study


class Outcomes(NamedTuple):
    """A captioner's features of studies, and what it wrote for them."""

    pooled: Array  # (studies, views, channels) float32
    present: Array  # (studies, views) bool
    written: dict[DecodingConfig, Sentences]  # of each search


def calibrate(
    captioner: Captioner,
    studies: Studies,
    split: Split,
    part: str = "val",
    beam_sizes: Sequence[int] = (),
    seed: int = 0,
    others: Studies | None = None,
    allow_worse: bool = False,
    given: StudyFeatures | None = None,
) -> Calibration:
    """Fit confidence and novelty, as docs/confidence.md says, for `beam_sizes`, or the bundle's own and `BEAM_SIZES`.

    Up to `FAMILIAR` studies of the training part are familiar. `part`, "val" or "test", or `others` in its place give
    the usual distance from them, and which sentences are right; that the captioner was trained on these is a
    ConfigError. It is a DataError if a part has no usable study, if more probable sentences are not right more often,
    or if, by cross-fitting, the fit makes the probabilities worse, unless that is allowed. Features of `studies` may be
    `given`.
    """
    usable = targets.usable_studies(studies, captioner.config, given)
    familiar = drawn_studies(part_studies(usable, split, "train"), FAMILIAR, seed)
    if others is not None:
        studies, split, part = others, Split((), (), tuple(others["study_id"])), "test"
        usable = targets.usable_studies(others, captioner.config)
    provenance.check_unseen({"the captioner": captioner.trained_on}, studies, split, part)
    train = caption_outcomes(captioner, familiar, captions=False, given=given)
    found = caption_outcomes(captioner, part_studies(usable, split, part), beam_sizes, given=given)
    written = found.written
    lines: applied.Lines = {s: _line(s, rows, allow_worse) for s, rows in written.items()}
    centre, precision = fit_familiar(train.pooled[train.present])
    radius, beyond = usual_radius(applied.distances(found.pooled, found.present, centre, precision))
    first = next(iter(written.values()))
    fitted: dict[str, Any] = {"part": part if others is None else "other data", "studies": len(found.present)}
    fitted |= {"sentences": len(first.right), "right_sentences": int(first.right.sum()), "expected_flagged": beyond}
    sizes = ", ".join(str(search.beam_size) for search in written)
    fitted |= {"training_studies": len(train.present), "beam_sizes": sizes, "seed": seed}
    return Calibration(lines, centre, precision, radius, {"fitted": fitted})


def drawn_studies(studies: Studies, count: int, seed: int) -> Studies:
    """Draw up to `count` studies at random, the same for the same ids and seed in any order."""
    keys = [sha256(f"{seed} {name}".encode()).digest() for name in studies["study_id"]]
    return studies.iloc[sorted(sorted(range(len(keys)), key=keys.__getitem__)[:count])].reset_index(drop=True)


def _line(search: DecodingConfig, written: Sentences, allow_worse: bool) -> tuple[float, float]:
    slope, intercept = fit_confidence(written.log_probabilities, written.right)
    if slope <= 0:
        said = f"of {len(written.right)} sentences the more probable ones are not right more often"
        raise DataError(f"calibration, beam size {search.beam_size}: {said}; give more studies, or train longer")
    if not allow_worse:
        both = np.exp(written.log_probabilities), cross_fitted(written)
        before, after = (calibration_scores(stated, written.right, written.studies) for stated in both)
        check_better(f"beam size {search.beam_size}, left out of the fit", before, after)
    return slope, intercept


def cross_fitted(written: Sentences) -> Array:
    """Return each sentence's confidence by a line fitted to other studies, (sentences,) float64."""
    # A fifth of the studies is left out at a time; where there is one alone, the line is fitted to itself.
    from scipy.special import expit
    from sklearn.model_selection import GroupKFold

    found, right, studies = written
    folds = min(FOLDS, len(np.unique(studies)))
    parts = GroupKFold(folds).split(found, groups=studies) if folds > 1 else [(np.arange(len(right)),) * 2]
    stated = np.empty(len(right))
    for kept, left in parts:
        slope, intercept = fit_confidence(found[kept], right[kept])
        stated[left] = expit(slope * found[left] + intercept)
    return stated


def check_better(name: str, before: CalibrationScores, after: CalibrationScores) -> None:
    """Raise a DataError if calibrated probabilities are worse than those before."""
    if after.worse_than(before):
        error = f"calibration error {after.calibration_error:.3f} instead of {before.calibration_error:.3f}"
        how = f"log loss {after.log_loss:.3f} instead of {before.log_loss:.3f}, {error}"
        said = f"what would be stated of {after.n} sentences is worse than what the model states already ({how})"
        advice = "give more studies (--fit), or take it nevertheless with --allow-worse"
        raise DataError(f"calibration, {name}: {said}; nothing is written: {advice}")


def caption_outcomes(
    captioner: Captioner,
    studies: Studies,
    beams: Sequence[int] = (),
    captions: bool = True,
    given: StudyFeatures | None = None,
) -> Outcomes:
    """Encode studies, or read what is given, and compare their captions' sentences with reports."""
    # Of these beam sizes, or else of the bundle's own and `BEAM_SIZES`; without `captions` of none.
    config, plain = captioner.config, copy(captioner)
    plain.calibration = None  # an older one has no say
    sizes = list(dict.fromkeys(beams or [config.decoding.beam_size, *BEAM_SIZES])) if captions else []
    references, told = targets.reference_texts(studies, config), targets.contexts(studies, config)
    if given is None:
        images = targets.study_images(studies, config)
    else:
        places = given.of(studies["study_id"])
    views: list[tuple[Array, Array]] = []
    found: dict[int, list[tuple[float, bool, int]]] = {size: [] for size in sizes}
    for start in progress(range(0, len(references), BATCH), desc="studies", unit="batch"):
        some = slice(start, start + BATCH)
        if given is None:
            features = plain.features(images[some])
        else:
            features = Features(*given.read(places[some], config.model.pool))
        views.append(applied.pooled_views(*features, config.image.views))
        for size, rows in found.items():
            texts = plain.write_captions(features, size, total=len(references), context=told and told[some])
            for number, row in enumerate(zip(texts, references[start : start + BATCH]), start):
                rows += [(*outcome, number) for outcome in _compared(*row, config)]
    pooled, present = map(np.concatenate, zip(*views))
    kinds = ("float64", "bool", "int64")
    columns = {size: list(zip(*rows)) or [(), (), ()] for size, rows in found.items()}
    sentences = {size: Sentences(*map(np.array, both, kinds)) for size, both in columns.items()}
    written = {applied.search_of(config.decoding, size): one for size, one in sentences.items()}
    return Outcomes(pooled, present, written)


def _compared(caption: Caption, reference: str, config: Config) -> Iterator[tuple[float, bool]]:
    # Some models begin with a sentence that says which views there are; no reference does.
    for sentence in caption.sentences[1 if config.text.view_prefix else 0 :]:
        yield sentence.log_probability, metrics.sentence_is_right(sentence.text, reference)


def fit_confidence(log_probabilities: Array, right: Array) -> tuple[float, float]:
    """Fit the log-odds that a sentence is right as a line in its mean log-probability: slope and intercept."""
    # One more right and one more wrong sentence soften the outcomes (Platt, 1999, section 2.2).
    from sklearn.linear_model import LogisticRegression

    if not len(right):
        raise DataError("calibration: the captions have no sentence; give more studies")
    yes, no = int(right.sum()), int((~right).sum())
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))
    outcomes, twice = np.repeat([1, 0], len(right)), np.tile(log_probabilities, 2)[:, None]
    line = LogisticRegression(C=1e6).fit(twice, outcomes, np.concatenate([target, 1 - target]))
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def fit_familiar(features: Array) -> tuple[Array, Array]:
    """Fit one Gaussian to features of images (images, channels): mean and inverse covariance, float32."""
    # The covariance of the standardised features is shrunk towards a multiple of the identity, so that it can be
    # inverted, by as much as Ledoit and Wolf's formula says (Journal of Multivariate Analysis 88, 2004).
    from sklearn.covariance import LedoitWolf

    exact = features.astype("float64")
    centre, scale = exact.mean(axis=0), exact.std(axis=0) + 1e-6
    fitted = LedoitWolf(assume_centered=True).fit((exact - centre) / scale)
    return centre.astype("float32"), (fitted.precision_ / np.outer(scale, scale)).astype("float32")


def usual_radius(found: Array) -> tuple[float, float]:
    """Return a distance that one in a hundred further studies exceeds on average, and that share."""
    # A further study of the same kind exceeds the k-th smallest of n distances (n,) in (n + 1 - k) / (n + 1) of cases
    # (split conformal prediction: Lei et al., JASA 113, 2018, section 2); for the choice of k see docs/statistics.md.
    n = len(found)
    k = min(-(-99 * (n + 1) // 100), n)
    return float(np.sort(found)[k - 1]), (n + 1 - k) / (n + 1)


def evaluate_calibration(
    calibration: Calibration, outcomes: Outcomes
) -> tuple[dict[str, Any], dict[str, CalibrationScores]]:
    """Evaluate a calibration on studies it was not fitted on; return values for the model card, and curves."""
    # ``base rate`` is of whoever states the share of right sentences. Curves are ``uncalibrated``, the exponential
    # of the mean log-probability, and ``calibrated``, of the first search; ``calibrated, beam 3`` and so on of others.
    curves: dict[str, CalibrationScores] = {}
    for search, (found, right, studies) in outcomes.written.items():
        stated = [calibration.confidence(value, search) for value in found.tolist()]
        known = np.array([one is not None for one in stated], bool)
        if not curves:
            curves["uncalibrated"] = calibration_scores(np.exp(found), right, studies)
        if known.any():
            sure = np.array(stated, "float64")[known]
            name = f"calibrated, beam {search.beam_size}" if len(curves) > 1 else "calibrated"
            curves[name] = calibration_scores(sure, right[known], studies[known])
    scored = {name: _row(curve) for name, curve in curves.items()}
    share = (first := next(iter(scored.values())))["right"]  # what always stating it scores is the base rate
    always = {"n": first["n"], "right": share, "Brier": share * (1 - share), "skill": 0.0}
    values = {
        "studies": len(outcomes.present),
        "flagged": float(np.mean(calibration.novelty(outcomes.pooled, outcomes.present) > 1)),
        "sentences": {"base rate": dict.fromkeys(first) | always, **scored},
        "selective": _selective(calibration, *next(iter(outcomes.written.items()))),
    }
    return values, curves


def _selective(calibration: Calibration, search: DecodingConfig, written: Sentences) -> dict[str, Any]:
    known = [calibration.confidence(value, search) for value in written.log_probabilities.tolist()]
    order: Any = np.exp(written.log_probabilities) if None in known else known
    found = selective_risk(order, written.right, written.studies)
    return {**found._asdict(), "shown": [row._asdict() for row in found.shown]}


# The scores that a model card names otherwise.
_NAMES = {"brier": "Brier", "brier_low": "Brier, low", "brier_high": "Brier, high"}
_NAMES |= {"skill_low": "skill, low", "skill_high": "skill, high", "log_loss": "log loss"}
_NAMES |= {"calibration_error": "ECE", "error_by_chance": "ECE_by_chance"}


def _row(found: CalibrationScores) -> dict[str, Any]:
    return {_NAMES.get(k, k): value for k, value in found._asdict().items() if k != "bins"}


def part_studies(studies: Studies, split: Split, name: str) -> Studies:
    """Return the studies of one part of a split; a DataError where there are none."""
    chosen = studies[studies["study_id"].isin(split.parts[name])]
    if chosen.empty:
        lacks = f"the {name} part of the split has no study with images and text"
        raise DataError(f"{lacks}; give other data or another split")
    return chosen.reset_index(drop=True)
