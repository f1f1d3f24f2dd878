"""The results of a reading study: means, preferences, agreement, intervals, and tables of them.

Studies are the unit: all ratings of a study, of either text by any reader, stand or fall together. The readers are
taken as they are; how others would rate, no interval here says. Sources: ``docs/statistics.md``.
"""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from xray_captioning.errors import DataError
from xray_captioning.evaluation import claims, table
from xray_captioning.plots.images import environment
from xray_captioning.review.study import CRITERIA, HIGHEST, LOWEST, Key, Rating

Array = NDArray[np.float64]
Rows = list[dict[str, Any]]
# None where nothing varies from study to study, or there is one study: nothing tells how sure it is.
Interval = tuple[float, float] | tuple[None, None]


def summarise(key: Key, ratings: Sequence[Rating]) -> dict[str, Any]:
    """Compare the two systems of a reading study; docs/reading_study.md explains the numbers. Intervals, of 95 %, are
    over studies. A number that does not exist is None. A reader's second readings count for ``repeats`` only.
    """
    if not any(value == value for rating in ratings for value in rating.values):
        raise DataError("the answers hold no rating; give sheets that were filled in")
    readers = [s.reader for s in key.sheets if any(r.reader == s.reader for r in ratings)]
    first, again = (_cube(key, readers, ratings, repeat) for repeat in (False, True))
    differences = first[:, :, 0] - first[:, :, 1]
    differences = np.concatenate([differences, differences.sum(axis=-1, keepdims=True)], axis=-1)
    cells = product(enumerate(key.systems), enumerate(CRITERIA))
    means = [{"system": s, "criterion": n, **_mean(first[:, :, i, j], (LOWEST, HIGHEST))} for (i, s), (j, n) in cells]
    pairs = [(one, other, values, others) for (one, values), (other, others) in combinations(zip(readers, first), 2)]
    twice, bounds = list(zip(readers, readers, first, again)), (LOWEST - HIGHEST, HIGHEST - LOWEST)
    return {"systems": list(key.systems), "studies": len(key.studies), "identical": key.identical} | {
        "readers": [_count(key, name, ratings) for name in readers],
        "means": means,
        "differences": [{"criterion": n, **_mean(differences[..., j], bounds)} for j, n in enumerate(CRITERIA)],
        "preferences": _preferences(differences, [*CRITERIA, "total"]),
        "agreement": _agreements(pairs),
        "repeats": _agreements(twice) if np.isfinite(again).any() else [],
        "notes": [{n: getattr(r, n) for n in ("reader", "study", "system", "note")} for r in ratings if r.note],
    }


def _cube(key: Key, readers: list[str], ratings: Sequence[Rating], repeat: bool) -> Array:
    """Return ratings by reader, study, system and criterion; nan where there is none."""
    values = np.full((len(readers), len(key.studies), len(key.systems), len(CRITERIA)), np.nan)
    places = {study: i for i, study in enumerate(key.studies)}
    for r in ratings:
        if r.repeat == repeat:
            values[readers.index(r.reader), places[r.study], key.systems.index(r.system)] = r.values
    return values


def _mean(values: Array, bounds: tuple[float, float]) -> dict[str, Any]:
    """Return the mean of (readers, studies) with its interval."""
    n = int(np.isfinite(values).sum())
    low, high = mean_interval(values, bounds)
    return {"mean": float(np.nansum(values) / n) if n else None, "low": low, "high": high, "n": n}


def _preferences(differences: Array, names: Sequence[str]) -> Rows:
    """Count signs of (readers, studies, names) by reading, and by study, which is independent, for p."""
    rows: Rows = []
    for name, values in zip(names, np.moveaxis(differences, -1, 0), strict=True):
        studies = _signs(np.nansum(values, axis=0)[np.isfinite(values).any(axis=0)])
        p = sign_test(studies["above"], studies["below"])
        rows.append({"criterion": name, **_signs(values), "studies": studies, "p": p})
    corrected = claims.holm([float("nan") if row["p"] is None else row["p"] for row in rows])
    return [row | {"p_holm": table.finite(p)} for row, p in zip(rows, corrected, strict=True)]


def _signs(values: Array) -> dict[str, int]:
    return {name: int((np.sign(values) == sign).sum()) for name, sign in (("above", 1), ("below", -1), ("ties", 0))}


def _agreements(pairs: Sequence[tuple[str, str, Array, Array]]) -> Rows:
    return [
        {"readers": [one, other], "criterion": name, **_agreement(first[..., j], second[..., j])}
        for (one, other, first, second), (j, name) in product(pairs, enumerate(CRITERIA))
    ]


def _agreement(first: Array, second: Array) -> dict[str, Any]:
    """Compare two readers' ratings of the same texts, (studies, systems)."""
    both = np.isfinite(first) & np.isfinite(second)
    low, high = kappa_interval(first, second)
    same = float((first == second)[both].mean()) if both.any() else None
    kappa = weighted_kappa(first[both], second[both])
    return {"kappa": kappa, "low": low, "high": high, "same": same, "n": int(both.sum())}


def _count(key: Key, reader: str, ratings: Sequence[Rating]) -> dict[str, Any]:
    asked = 2 * next(len(sheet.cases) for sheet in key.sheets if sheet.reader == reader)
    given = np.isfinite([r.values for r in ratings if r.reader == reader]).sum(axis=0)
    missing = {name: int(asked - count) for name, count in zip(CRITERIA, given)}
    return {"reader": reader, "given": int(given.sum()), "missing": missing}


def mean_interval(values: Array, bounds: tuple[float, float]) -> Interval:
    """Return the 95 % interval within `bounds` of the mean of all ratings of (readers, studies),
    nan for missing: Student's, of a ratio of two sums over studies (Cochran 1977, section 6.4).
    """
    counts, sums = np.isfinite(values).sum(axis=0), np.nansum(values, axis=0)
    studies, total = int((counts > 0).sum()), counts.sum()
    mean = sums.sum() / max(total, 1)
    squares = ((sums - mean * counts) ** 2).sum()
    if studies < 2 or np.isclose(squares, 0):
        return None, None
    half = t.ppf(0.975, studies - 1) * np.sqrt(squares * studies / (studies - 1)) / total
    low, high = np.clip((mean - half, mean + half), *bounds)
    return float(low), float(high)


def weighted_kappa(first: Array, second: Array) -> float | None:
    """Return Cohen's kappa with quadratic weights (Cohen, 1968) of ratings, (n,), or None if there is none."""
    return table.finite(_kappa(_moments(first, second).sum(axis=0)))


def kappa_interval(first: Array, second: Array) -> Interval:
    """Return the 95 % interval of `weighted_kappa` of (studies, texts), nan for missing. Kappa is then a function
    of means alone (Fleiss and Cohen 1973), so it is the jackknife over studies on the scale of the inverse
    hyperbolic tangent (Lin 1989), by Student's quantile.
    """
    sums = _moments(first, second).sum(axis=1)
    sums = sums[sums[:, 0] > 0]
    if (studies := len(sums)) < 2:
        return None, None
    kappa, without = _kappa(sums.sum(axis=0)), _kappa(sums.sum(axis=0) - sums)
    if not (np.isfinite(without).all() and abs(kappa) < 1 and (np.abs(without) < 1).all()):
        return None, None
    spread = np.arctanh(without).std() * np.sqrt(studies - 1)
    if np.isclose(spread, 0):
        return None, None
    half = t.ppf(0.975, studies - 1) * spread
    low, high = np.tanh((np.arctanh(kappa) - half, np.arctanh(kappa) + half))
    return float(low), float(high)


def sign_test(above: int, below: int) -> float | None:
    """Return the two-sided p of the sign test (Dixon and Mood 1946); ties do not count."""
    return float(binomtest(above, above + below).pvalue) if above + below else None


def _moments(first: Array, second: Array) -> Array:
    """Return what kappa is made of, (..., 6); 0 where either rating is missing."""
    parts = np.ones_like(first), first, second, first**2, second**2, first * second
    return np.where((np.isfinite(first) & np.isfinite(second))[..., None], np.stack(parts, axis=-1), 0.0)


def _kappa(sums: Array) -> Any:
    """Return kappa of sums of `_moments`, (..., 6): nan where chance explains everything."""
    total = np.where(sums[..., :1] > 0, sums[..., :1], np.nan)
    one, other, squares, others, product = np.moveaxis(sums / total, -1, 0)[1:]
    observed, chance = squares + others - 2 * product, squares + others - 2 * one * other
    return 1 - np.divide(observed, chance, np.full_like(chance, np.nan), where=chance > 1e-9)


def format_summary(summary: dict[str, Any], markdown: bool = False) -> str:
    """Return what `summarise` found as tables with headings: aligned text, or Markdown."""
    layout: Any = table.format_markdown if markdown else table.format_table
    rows = [*summary["means"], *({"system": None} | row for row in summary["differences"])]
    template = environment().get_template("review/summary.jinja")
    return str(template.render(summary, layout=layout, rows=rows, markdown=markdown)).strip("\n")
