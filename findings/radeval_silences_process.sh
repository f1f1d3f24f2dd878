#!/usr/bin/env bash
# RadEval 2.2.1: what warns after an evaluator has been made.
#
# Guess: nothing changes outside; a package that scores texts silences at most its own parts.
# What happened: the constructor calls warnings.filterwarnings("ignore"), so from then on no warning of any module
# is shown, not even where the program asked for all of them, and where it asked for errors none is raised.
# Output seen: before: 1 warning heard, 1 error raised; after: 0 and 0; a catch_warnings around the constructor: 1 and 1.
# Date: 2026-11-29.
#
# Why it matters here: our alarm (a system that does not look at the images) is a warning. Scored by RadEval in the
# same process, a collapsed system would pass without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
# Of what it depends on only what its ROUGE needs: no torch, no model. Importing it asks for NLTK's punkt_tab; whether
# that is reached does not matter.
env/bin/pip install --quiet --no-deps RadEval==2.2.1
env/bin/pip install --quiet rouge-score==0.1.2 nltk==3.10.4 numpy==2.4.6 rich==15.0.0
cat > seen.py <<'PY'
import importlib.metadata as md
import warnings

from radeval import RadEval

print("RadEval", md.version("RadEval"))


def heard():
    warnings.warn("a system looks collapsed")


def asked(kind, make):
    with warnings.catch_warnings():
        warnings.simplefilter(kind)
        make()
        try:
            with warnings.catch_warnings(record=True) as shown:
                heard()
        except UserWarning:
            return 1
        return len(shown)


def bare():
    scores = RadEval(metrics=["rouge"], per_sample=True, show_progress=False)(refs=["no edema"], hyps=["no edema"])
    assert scores == {"rouge1": [1.0], "rouge2": [1.0], "rougeL": [1.0]}


def kept_apart():
    with warnings.catch_warnings():
        bare()


found = {name: [asked(kind, make) for kind in ("always", "error")] for name, make in
         (("before", lambda: None), ("after", bare), ("kept apart", kept_apart))}
print(found)
assert found["before"] == found["kept apart"] == [1, 1]
assert found["after"] == [0, 0], "warnings are heard again"
PY
env/bin/python seen.py
