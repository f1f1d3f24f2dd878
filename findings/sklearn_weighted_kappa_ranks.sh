#!/usr/bin/env bash
# scikit-learn 1.9.1, cohen_kappa_score with weights="linear" or "quadratic".
#
# Guess: the distance of two grades is the difference of their numbers, and names without an order are refused.
# What happened: distances are those of the places in the sorted list of the grades that occur. Grades 0, 1 and 3 of four are
# as far apart as 0, 1 and 2, so a disagreement of 1 and 3 costs one step when nobody gave a 2 and two when somebody did;
# with labels=[0, 1, 2, 3] the same two readers agree less. Names are sorted by the alphabet: mild, moderate, none,
# severe, so that none and severe are neighbours. Nothing warns.
# Output seen: quadratic .750 as they are, .565 with all four labels; linear by names .591, by numbers .714
# Date: 2026-11-30.
#
# Why it matters here: readers grade the severity of a finding, and in a small reading study one of the grades is often
# not used. The weighted kappa of two such studies, or of two bootstrap samples of one, is then not of the same scale. Give
# numbers, and always all labels.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet scikit-learn==1.9.1 numpy==2.4.6
env/bin/python - <<'PY'
import sklearn
from sklearn.metrics import cohen_kappa_score

print("scikit-learn", sklearn.__version__)
one, other = [0, 0, 3, 3, 1], [0, 0, 3, 1, 3]
found = cohen_kappa_score(one, other, weights="quadratic")
whole = cohen_kappa_score(one, other, weights="quadratic", labels=[0, 1, 2, 3])
print(f"quadratic {found:.3f}, with all grades {whole:.3f}")
assert abs(found - 0.75) < 1e-9 and abs(whole - 0.5652173913) < 1e-9, "grades that nobody gave count now"
scale = ["none", "mild", "moderate", "severe"]
first, second = [0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 1, 2]
names = cohen_kappa_score([scale[n] for n in first], [scale[n] for n in second], weights="linear")
numbers = cohen_kappa_score(first, second, weights="linear")
print(f"linear by names {names:.3f}, by numbers {numbers:.3f}")
assert abs(names - numbers) > 0.05, "names are not sorted by the alphabet now"
PY
