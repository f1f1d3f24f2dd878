"""Intervals and agreement of reading studies hold what they promise, by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from xray_captioning.review.summary import kappa_interval, mean_interval, weighted_kappa

Array = NDArray[np.float64]

SIMULATIONS = 1000
ALLOWED = 2.6 * np.sqrt(0.05 * 0.95 / SIMULATIONS)  # of simulation, beside the .93 to .97 wanted


def rated(studies: int, rng: np.random.Generator) -> Array:
    """Ratings of two readers, (readers, studies, systems): alike within a study, mostly 4 and 5."""
    quality = 4 + 0.7 * rng.standard_normal((1, studies, 1))
    quality = quality + 0.5 * rng.standard_normal((1, studies, 2)) + np.array([0.15, -0.15])
    seen = quality + 0.6 * rng.standard_normal((2, studies, 2)) + np.array([[[0.2]], [[-0.2]]])
    return np.clip(np.rint(seen), 1, 5)


@pytest.fixture(scope="module")
def population() -> Array:
    return rated(200_000, np.random.default_rng(0))


@pytest.mark.parametrize("studies", [10, 20, 50])
def test_intervals_of_means_cover_the_mean_of_all_studies(studies: int, population: Array) -> None:
    """The bootstrap's percentiles, as they were here, cover .89 to .91 with ten studies."""
    rng, difference = np.random.default_rng(studies), population[..., 0] - population[..., 1]
    hits = np.zeros(2)
    for _ in range(SIMULATIONS):
        found = rated(studies, rng)
        found[rng.random(found.shape) < 0.05] = np.nan  # ratings are left open
        values = found[..., 0], found[..., 0] - found[..., 1]
        for i, (one, true) in enumerate(zip(values, (population[..., 0], difference))):
            low, high = mean_interval(one, (-4, 5))
            assert low is not None
            assert high is not None
            hits[i] += low <= true.mean() <= high
    assert np.all(np.abs(hits / SIMULATIONS - 0.95) < 0.02 + ALLOWED)


@pytest.mark.parametrize("studies", [10, 50])
def test_intervals_of_kappa_cover_that_of_all_studies(studies: int, population: Array) -> None:
    true = weighted_kappa(population[0].ravel(), population[1].ravel())
    assert true is not None
    rng, hits = np.random.default_rng(studies), 0
    for _ in range(SIMULATIONS):
        low, high = kappa_interval(*rated(studies, rng))
        assert low is not None
        assert high is not None
        hits += low <= true <= high
    assert abs(hits / SIMULATIONS - 0.95) < 0.02 + ALLOWED


def test_the_interval_of_balanced_means_is_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(size=(1, 12))
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values[0]))
    assert mean_interval(values, (-9, 9)) == pytest.approx(expected)


grids = st.lists(st.tuples(*[st.sampled_from([np.nan, 1, 2, 3, 4, 5])] * 4), max_size=12)


@given(grids)
def test_points_lie_in_their_intervals(rows: list[tuple[float, ...]]) -> None:
    values = np.array(rows, float).reshape(-1, 2, 2)
    low, high = mean_interval(values[..., 0].T, (1, 5))
    assert low is None or high is None or low <= np.nanmean(values[..., 0]) <= high
    low, high = kappa_interval(values[..., 0], values[..., 1])
    both = np.isfinite(values).all(axis=-1)
    kappa = weighted_kappa(values[both][:, 0], values[both][:, 1])
    assert low is None or high is None or (kappa is not None and low <= kappa <= high)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    found = weighted_kappa(one.astype(float), other.astype(float))
    if found is not None:
        labels = list(range(1, 6))
        assert found == pytest.approx(cohen_kappa_score(one, other, labels=labels, weights="quadratic"))


def test_nothing_that_varies_has_no_interval() -> None:
    """Ten studies that are all rated 5 do not prove that every study would be."""
    fives = np.full((2, 10), 5.0)
    assert mean_interval(fives, (1, 5)) == (None, None)
    assert kappa_interval(fives, fives) == (None, None)
    assert mean_interval(fives[:, :1], (1, 5)) == (None, None)
