#!/usr/bin/env bash
# sacrebleu 2.6.0, approximate randomisation (test_type="ar") of systems that differ in few texts.
#
# Guess: two identical systems give p = 1; with five differing texts p cannot be below 2/32.
# What happened: only shuffles with a strictly larger difference are counted, ties are not. Identical
# systems get p = 1/(trials + 1), the smallest there is, and so does one that is better in one text
# of sixty, or in five. The paired bootstrap says the same of identical systems. A comment in its
# source calls the strict sign important. One better and one worse text: p = .51.
# Output seen: BLEU and chrF, 999 trials, 0, 1, 2 or 5 better texts: p = 0.001; counting ties the
#              exact values are 1, 1, .5 and .0625. Bootstrap, identical: p = 0.001.
# Date: 2026-11-28.
#
# Why it matters here: collapsed captioners, and decoders that differ in the beam only, write the same
# report for most studies. A table from this test marks just these pairs as different, with the least
# p there can be, and no correction for many tests undoes it. Count ties, or skip such pairs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet sacrebleu==2.6.0 numpy==2.4.6
env/bin/python - <<'PY'
import itertools
import logging
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

logging.disable(logging.WARNING)
print("sacrebleu", sacrebleu.__version__)
truth = [f"no focal consolidation is seen in lung {i}" for i in range(60)]
base = [text if i % 2 else text + " again" for i, text in enumerate(truth)]


def p(metric, other, how="ar"):
    test = PairedTest([("base", base), ("other", other)], {"": metric}, [truth], how, n_samples=999)
    scores = list(test()[1].values())[1]
    print(how, type(metric).__name__, [round(s.score, 2) for s in scores], scores[1].p_value)
    return scores[1].p_value


def exact(metric, other):
    """p over every exchange of the texts that differ, ties counted."""
    spots = [i for i in range(60) if base[i] != other[i]]
    gaps = []
    for swaps in itertools.product((False, True), repeat=len(spots)):
        a, b = list(base), list(other)
        for i, swap in zip(spots, swaps):
            a[i], b[i] = (other[i], base[i]) if swap else (base[i], other[i])
        gaps.append(abs(metric.corpus_score(a, [truth]).score - metric.corpus_score(b, [truth]).score))
    return sum(gap >= gaps[0] - 1e-9 for gap in gaps) / len(gaps)


for metric in (BLEU(), CHRF()):
    for better, expected in ((0, 1), (1, 1), (2, 0.5), (5, 0.0625)):
        other = [truth[i] if i < 2 * better else text for i, text in enumerate(base)]
        assert sum(a != b for a, b in zip(base, other)) == better
        assert exact(metric, other) == expected
        assert p(metric, other) == 0.001, "ties are counted now"
        print(better, "better texts, exact p", expected)
    mixed = [truth[0], truth[1] + " again", *base[2:]]
    assert p(metric, mixed) > 0.4
    assert p(metric, base, "bs") == 0.001
PY
