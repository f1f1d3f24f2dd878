"""The populations on which `benchmarks/statistics.py` tries estimators are what they say."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.clinical import asserted

PATIENTS = 400
FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def population() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import population

        yield population


@pytest.fixture(scope="module")
def pool(population: Any) -> Any:
    quality = {"reader": 0.5, "collapsed": 0.0}
    studies = population.SEVERAL_STUDIES
    return population.draw_pool(population.HOSPITAL, PATIENTS, quality, studies, seed=3)


def test_reports_assert_what_is_there(pool: Any) -> None:
    """Otherwise the scores of the pool were not those of what systems read."""
    assert np.array_equal(asserted(list(pool.references)), pool.present)
    assert np.array_equal(asserted(list(pool.texts["reader"])), pool.said["reader"])


def test_findings_are_as_frequent_as_asked(population: Any, pool: Any) -> None:
    asked = np.array([population.HOSPITAL.get(name, 0.0) for name in FINDINGS[1:]])
    found = pool.present[:, 1:].mean(axis=0)
    # Studies of a patient are alike: the deviation is that of patients, not of studies.
    assert np.all(np.abs(found - asked) < 4 * np.sqrt(asked * (1 - asked) / PATIENTS) + 1e-9)


def test_a_systems_quality_is_its_kappa(pool: Any) -> None:
    for system, quality in (("reader", 0.5), ("collapsed", 0.0)):
        said, true = pool.said[system][:, 1:].ravel(), pool.present[:, 1:].ravel()
        each = pool.present[:, 1:].mean(axis=0)
        chance = np.mean(each**2 + (1 - each) ** 2)
        assert (np.mean(said == true) - chance) / (1 - chance) == pytest.approx(quality, abs=0.06)


def test_test_sets_hold_whole_patients(pool: Any) -> None:
    rows = pool.draw(300, np.random.default_rng(0))
    groups = pool.draw_groups(rows)
    for group in np.unique(groups):
        [patient] = np.unique(pool.patients[rows[groups == group]])
        assert (groups == group).sum() == (pool.patients == patient).sum()


def test_python_keeps_its_own_statistics() -> None:
    """The script has the name of a module that sacrebleu imports, in the folder searched first."""
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import statistics; "
    code += "print(statistics.median([1, 2, 9]), statistics.NormalDist().cdf(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "0.5"]
