#!/usr/bin/env bash
# NLTK 3.10.4, corpus_bleu, against sacrebleu 2.6.0 and pycocoevalcap 1.2 when some texts are short.
#
# Guess: texts that equal their references score 1 in all three, however short they are.
# What happened: NLTK counts at least one n-gram for every text in the denominator, also where it has
# none, so each text of under four words costs as if it had a wrong four-gram. Ten reports, all word
# for word right, one long and nine of three words, score .828. An empty text costs more, too.
# Output seen: NLTK 0.8282, sacrebleu 100.00, pycocoevalcap 1.0000 (ten right reports);
#              long + empty: NLTK 0.3324, sacrebleu 36.79, pycocoevalcap 0.3679.
# Date: 2026-11-28.
#
# Why it matters here: impressions such as "normal chest ." are this short. BLEU of one set of captions then
# depends on who counts, and a model that learns to be brief is punished in one table only; two or
# three hundredths are what published systems differ by.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet nltk==3.10.4 sacrebleu==2.6.0 pycocoevalcap==1.2
env/bin/python - <<'PY'
import importlib.metadata as md
import sacrebleu
from nltk.translate.bleu_score import corpus_bleu
from pycocoevalcap.bleu.bleu import Bleu

print({name: md.version(name) for name in ("nltk", "sacrebleu", "pycocoevalcap")})


def scores(written, right):
    answer = (
        corpus_bleu([[text.split()] for text in right], [text.split() for text in written]),
        sacrebleu.corpus_bleu(written, [right], tokenize="none", force=True).score,
        Bleu(4).compute_score(
            {i: [text] for i, text in enumerate(right)},
            {i: [text] for i, text in enumerate(written)},
            verbose=0,
        )[0][3],
    )
    print(len(right), "texts: NLTK {:.4f}, sacrebleu {:.2f}, pycocoevalcap {:.4f}".format(*answer))
    return [round(float(x), 4) for x in answer]


long = "the heart size is normal and the lungs are clear ."
short = "normal chest ."
assert scores([long] * 2, [long] * 2) == [1, 100, 1]
assert scores([long] + [short] * 9, [long] + [short] * 9) == [0.8282, 100, 1]
assert scores([long, ""], [long, long]) == [0.3324, 36.7879, 0.3679]
# The number by hand: one n-gram of every order is added for each text that has none.
words, three = 11, 3
hand = 1.0
for n in range(1, 5):
    matched = (words - n + 1) + 9 * (three - n + 1)
    hand *= matched / ((words - n + 1) + 9 * max(1, three - n + 1))
assert round(hand**0.25, 4) == 0.8282
PY
