#!/usr/bin/env bash
# statsmodels 0.15.0, aggregate_raters and fleiss_kappa with ratings that are missing.
#
# Guess: a missing rating (nan) is left out, or refused, as fleiss_kappa refuses films with unequal numbers of readers.
# What happened: nan becomes one more grade, so each film has the same number of ratings again and nothing is refused. Two
# readers who both skipped a film agree on it, and one who skipped disagrees with all others. Krippendorff's alpha
# of the package krippendorff leaves missing ones out.
# Output seen: categories [0.0, 1.0, nan]; kappa .584, 1 of what both rated, alpha 1
# Date: 2026-11-30.
#
# Why it matters here: in a reading study readers skip films. Kappa then measures who skipped what: readers who agree
# wherever both rated seem to agree by half. Leave such films out before, or use alpha.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet statsmodels==0.15.0 krippendorff==0.9.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

print({name: md.version(name) for name in ("statsmodels", "krippendorff")})
skipped = np.nan
ratings = np.array([[0, 0], [1, 1], [0, 0], [1, 1], [0, skipped], [skipped, 1], [0, 0], [1, 1]])  # films, readers
counts, categories = aggregate_raters(ratings)
kappa = fleiss_kappa(counts)
given = fleiss_kappa(aggregate_raters(ratings[~np.isnan(ratings).any(axis=1)])[0])
alpha = krippendorff.alpha(ratings.T, level_of_measurement="nominal")
print("categories", categories.tolist(), f"kappa {kappa:.3f}, of what both rated {given:.3f}, alpha {alpha:.3f}")
assert len(categories) == 3 and np.isnan(categories[-1]), "a missing rating is no grade now"
assert kappa < 0.7 and given == 1 and alpha == 1
try:
    fleiss_kappa(np.array([[2, 0], [0, 2], [1, 0]]))
except AssertionError:
    print("unequal numbers of readers: AssertionError without a word")
else:
    raise SystemExit("unequal numbers of readers are accepted now")
PY
