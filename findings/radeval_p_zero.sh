#!/usr/bin/env bash
# RadEval 2.2.1, compare_systems: the least p of its approximate randomisation, and what n_samples does to it.
#
# Guess: p is (k + 1) / (n + 1), as Noreen's test and sacrebleu have it, so that of n draws it is at least 1 / (n + 1).
# What happened: p is k / n. Two systems that differ on each of twelve studies get p = 0, with 10 draws already, printed
# as "p=0.0000" with a star. The exact p of these data is 2 / 2**12 = .0005: zero is less than any test of them can
# give. With six studies, exact p .03125, some seeds of 40 draws give 0, too.
# Output seen: 12 studies: 0.0 (10 draws), 0.0 (100); 6 studies, 40 draws, 20 seeds: 0 in some, mean near .03.
# Date: 2026-11-29.
#
# Why it matters here: p = 0 stays 0 under every correction for many systems or metrics (Holm's multiplies it), so the more
# one tests with few draws, the more of such stars there are. Write (k + 1) / (n + 1), which counts the
# observed order among the draws (Phipson and Smyth, doi:10.2202/1544-6115.1585).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
# No metric of its own is asked for: no torch, no model. Importing it asks for NLTK's punkt_tab; whether that is reached
# does not matter.
env/bin/pip install --quiet --no-deps RadEval==2.2.1
env/bin/pip install --quiet nltk==3.10.4 numpy==2.4.6 rich==15.0.0
cat > seen.py <<'PY'
import importlib.metadata as md

from radeval import compare_systems

print("RadEval", md.version("RadEval"))


def p(studies, draws, seed=12345):
    """Of two systems whose scores are 0 and 1 on every study."""
    systems = {"first": ["0"] * studies, "second": ["1"] * studies}
    mean = {"score": lambda texts, references: sum(map(float, texts)) / len(texts)}
    answer = compare_systems(systems, mean, [""] * studies, n_samples=draws, seed=seed, print_results=False)
    return answer[1]["second"]["score_pvalue"]


few, more = p(12, 10), p(12, 100)
print("12 studies, exact p", 2 / 2**12, "theirs with 10 and 100 draws", few, more)
assert few == more == 0, "p is no longer 0"
seeds = [p(6, 40, seed) for seed in range(20)]
print("6 studies, exact p", 2 / 2**6, "theirs with 40 draws", sorted(seeds))
assert 0 < seeds.count(0) < 20, "p is no longer 0 for some seeds"
PY
env/bin/python seen.py
