#!/usr/bin/env bash
# pycocoevalcap 1.2, CIDEr (its CIDEr-D) of texts that equal their references word for word.
#
# Guess: 10, the top of its scale, for every one of them.
# What happened: a text of one word scores 2.5, of two words 5, of three 7.5; only from four words on
# is 10 reached, since the four n-gram orders are averaged and an order with no n-gram counts as 0.
# Where every reference is the same, or there is one study, all scores are 0: every word's weight is
# the logarithm of (studies / studies with the word), and that is 0.
# Output seen: 2.5 ("normal"), 5 ("clear lungs"), 7.5 ("no acute disease"), 10 (longer);
#              five equal references 0; one study 0.
# Date: 2026-11-28.
#
# Why it matters here: the ceiling of CIDEr depends on the share of short impressions in the split, so
# .4 on one split and .4 on another are different feats, and a run on a subset of normals prints 0 for
# perfect captions. Print the score of the references themselves beside it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet pycocoevalcap==1.2 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import numpy as np
from pycocoevalcap.cider.cider import Cider

print({name: md.version(name) for name in ("pycocoevalcap", "numpy")})


def perfect(*texts):
    pairs = {i: [text] for i, text in enumerate(texts)}
    mean, each = Cider().compute_score(pairs, pairs)
    print(round(float(mean), 3), [(t, round(float(s), 3)) for t, s in zip(texts, each)])
    return np.round(each, 6).tolist()


mixed = perfect(
    "normal",
    "clear lungs",
    "no acute disease",
    "mild cardiomegaly without edema",
    "small left pleural effusion with atelectasis at its base",
)
assert mixed == [2.5, 5, 7.5, 10, 10], "short texts have another ceiling"
assert perfect(*["no acute disease in the chest"] * 5) == [0] * 5
assert perfect("small left pleural effusion") == [0]
PY
