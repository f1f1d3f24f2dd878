#!/usr/bin/env bash
# statsmodels 0.15.0, multipletests with one p value that is not a number.
#
# Guess: a missing p value is left out, as R's p.adjust does, or everything is nan, or an error.
# What happened: each method has its own answer, and none warns. Bonferroni and Holm keep the rest but
# count the missing one as a test. Benjamini-Hochberg and Hochberg (simes-hochberg) answer nan for
# every test and yet mark some rejected. Hommel rejects nothing at all. SciPy 1.17.1 refuses.
# Output seen: [.001, .02, nan, .6]: holm .004 .06 nan 1, one rejected (without the nan .003 .04 .6,
#              two rejected); fdr_bh nan four times, two rejected; hommel nan four times, none
#              (without it two). fdr_bh of [.001, .02, .6]: .003 .03 .6.
# Date: 2026-11-28.
#
# Why it matters here: a finding without a positive study has no AUROC, and its comparison no p value.
# One such finding of fourteen changes which others count as different, or empties the table. Drop
# the missing ones before the correction and put them back after it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import warnings
import numpy as np
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("error")
print({name: md.version(name) for name in ("statsmodels", "scipy", "numpy")})
missing, kept = [0.001, 0.02, np.nan, 0.6], [0.001, 0.02, 0.6]


def correct(p, method):
    rejected, corrected = multipletests(p, alpha=0.05, method=method)[:2]
    print(method, p, "rejected", rejected.tolist(), "p", corrected.round(4).tolist())
    return corrected.round(4), int(rejected.sum())


for method, rest in (("bonferroni", [0.004, 0.08, 1]), ("holm", [0.004, 0.06, 1])):
    corrected, rejected = correct(missing, method)
    assert np.allclose(corrected[[0, 1, 3]], rest), "the missing value is no longer a test"
    assert np.isnan(corrected[2]) and rejected == 1
corrected, rejected = correct(kept, "holm")
assert np.allclose(corrected, [0.003, 0.04, 0.6]) and rejected == 2
for method, with_nan, without in (("fdr_bh", 2, 2), ("simes-hochberg", 1, 2), ("hommel", 0, 2)):
    corrected, rejected = correct(missing, method)
    assert np.isnan(corrected).all(), "the other values are kept"
    assert rejected == with_nan
    assert correct(kept, method)[1] == without
try:
    false_discovery_control(missing)
except ValueError as error:
    print("SciPy:", error)
else:
    raise SystemExit("SciPy accepts nan now")
PY
