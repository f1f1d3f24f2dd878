#!/usr/bin/env bash
# rouge 1.0.1 against rouge-score 0.1.2 on a text that stutters, and on one that is right.
#
# Guess: they differ in the last digits, by stemming and smoothing; repetition costs precision in both.
# What happened: rouge counts sets of different words by default, so saying a word eight times costs
# nothing: a stutter scores F 1.0 in ROUGE-1 and ROUGE-L, like the right text. Its switch
# exclusive=False counts every word, but then ROUGE-L of a text that equals its reference is 2.0,
# because the common subsequence is counted with repeats and the lengths are not, or not alike.
# Output seen: stutter: rouge 1.0 and 1.0, rouge-score .667 and .5; the right text: rouge-score 1 and 1,
#              rouge 1 and 1, with exclusive=False 1 and 2.0.
# Date: 2026-11-28.
#
# Why it matters here: repetition is how a collapsed decoder fails, and this package hides it. A
# published ROUGE-L that does not name its package is no bar to measure against.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet rouge==1.0.1 rouge-score==0.1.2
env/bin/python - <<'PY'
import importlib.metadata as md
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

print({name: md.version(name) for name in ("rouge", "rouge-score")})


def scores(written, right):
    answer = []
    for exclusive in (True, False):
        got = Rouge(exclusive=exclusive).get_scores(written, right)[0]
        answer += [got["rouge-1"]["f"], got["rouge-l"]["f"]]
    got = RougeScorer(["rouge1", "rougeL"]).score(right, written)
    answer += [got["rouge1"].fmeasure, got["rougeL"].fmeasure]
    answer = [round(x, 3) for x in answer]
    print(repr(written), dict(zip(("set 1", "set L", "bag 1", "bag L", "score 1", "score L"), answer)))
    return answer


stutter = "no no no no no effusion effusion pneumothorax ."
assert scores(stutter, "no effusion . no pneumothorax .") == [1, 1, 0.667, 0.667, 0.667, 0.5]
right = "no effusion . no pneumothorax . no consolidation ."
assert scores(right, right) == [1, 1, 1, 2, 1, 1], "ROUGE-L of the right text is no longer 2"
PY
