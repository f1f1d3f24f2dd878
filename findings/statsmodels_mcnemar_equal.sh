#!/usr/bin/env bash
# statsmodels 0.15.0, mcnemar with exact=False on two systems that never disagree.
#
# Guess: p = 1, or not a number, since no pair of answers differs.
# What happened: the continuity-corrected statistic squares (|0 - 0| - 1), divides by zero, is infinite,
# and the p-value is 0.0: the strongest possible difference between two identical systems. Only
# NumPy warns, of a division. Without the correction both are nan; the exact test (the default)
# says 1. One disagreement already gives 1.
# Output seen: [[80, 0], [0, 20]]: exact 0 and 1.0; corrected inf and 0.0; uncorrected nan and nan.
#              [[80, 1], [0, 19]]: corrected 0.0 and 1.0.
# Date: 2026-11-28.
#
# Why it matters here: collapsed captioners that write one report for every study are equal on a rare
# finding, label by label. A table of such tests would mark exactly those pairs as significant, and
# a multiple-testing correction keeps a zero. Use the exact test, or skip pairs with no disagreement.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet statsmodels==0.15.0 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np
import statsmodels
from statsmodels.stats.contingency_tables import mcnemar

warnings.simplefilter("ignore")
print("statsmodels", statsmodels.__version__, "numpy", np.__version__)


def test(table, **how):
    answer = mcnemar(table, **how)
    print(table, how, "statistic", answer.statistic, "p", answer.pvalue)
    return float(answer.statistic), float(answer.pvalue)


same = [[80, 0], [0, 20]]
assert test(same, exact=True) == (0, 1)
assert test(same, exact=False, correction=True) == (np.inf, 0), "no longer p = 0"
assert np.isnan(test(same, exact=False, correction=False)).all()
assert test([[80, 1], [0, 19]], exact=False, correction=True) == (0, 1)
assert test([[80, 1], [1, 18]], exact=False, correction=True)[1] > 0.4
PY
