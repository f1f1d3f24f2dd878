#!/usr/bin/env bash
# sacrebleu 2.6.0, SACREBLEU_SEED=0 in a paired significance test.
#
# Guess: any number fixes the draws; the default is 12345.
# What happened: the seed is handed on only if it is true, so 0 means none: p differs from run to run,
# for approximate randomisation and for the paired bootstrap, while the signature that one is to
# publish still says "seed:0". Seed 1 repeats itself. The baseline's own interval does obey seed 0.
# Output seen: seed 0, six runs of 300 trials: p from 0.166 to 0.223 (ar), 0.090 to 0.130 (bs), which
#              differ anew each time, signature seed:0. Seed 1: 0.193 and 0.130, six times each.
# Date: 2026-11-28.
#
# Why it matters here: 0 is the seed most scripts choose. A comparison of two captioners near .05
# then changes sides between runs, with a signature that claims it can be repeated. Use another seed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet sacrebleu==2.6.0 numpy==2.4.6
env/bin/python - <<'PY'
import logging
import os
import sacrebleu
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

logging.disable(logging.WARNING)
print("sacrebleu", sacrebleu.__version__)
truth = [f"no focal consolidation is seen in lung {i}" for i in range(60)]
one = [text if i % 2 else text + " again" for i, text in enumerate(truth)]
other = [text if i % 5 < 3 else text + " again" for i, text in enumerate(truth)]


def runs(seed, how):
    os.environ["SACREBLEU_SEED"] = seed
    found, intervals = set(), set()
    for _ in range(6):
        test = PairedTest([("one", one), ("other", other)], {"": BLEU()}, [truth], how, n_samples=300)
        signatures, scores = test()
        assert f"seed:{seed}|" in str(signatures["BLEU"]), signatures["BLEU"]
        found.add(round(scores["BLEU"][1].p_value, 4))
        intervals.add(scores["BLEU"][0].ci)
    print(how, "seed", seed, "p", sorted(found), "baseline's interval", intervals)
    return len(found), len(intervals)


for how in ("ar", "bs"):
    assert runs("0", how)[0] > 1, "seed 0 is fixed now"
    assert runs("1", how) == (1, 1)
assert runs("0", "bs")[1] == 1
PY
