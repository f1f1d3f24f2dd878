#!/usr/bin/env bash
# Keras 3.15.1 (JAX backend), keras.metrics.AUC, against scikit-learn 1.9.1 on small probabilities.
#
# Guess: 200 thresholds cost the third decimal at most.
# What happened: the thresholds lie evenly between 0 and 1, so a label whose scores all stay below .005
# is not ranked at all: AUC is exactly .5 where scikit-learn finds .845. A thousand thresholds find
# .772. Four logits in perfect order, -9 to -6, are .5, too, although from_logits=True is given;
# numbers outside 0 to 1 without it are accepted.
# Output seen: 0.5 (200 thresholds), 0.772 (1000), scikit-learn 0.845; logits 0.5, scikit-learn 1.0.
# Date: 2026-11-28.
#
# Why it matters here: a rare finding trained with cross-entropy gets probabilities near its share of
# the studies, often below one in a hundred. Early stopping or a checkpoint chosen by this metric sees
# .5 for it for many epochs. Compute AUROC from ranks at the end of an epoch instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet keras==3.15.1 jax==0.10.2 scikit-learn==1.9.1 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import os

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np
from sklearn.metrics import roc_auc_score

print({name: md.version(name) for name in ("keras", "jax", "scikit-learn", "numpy")})
rng = np.random.default_rng(0)
labels = (rng.random(2000) < 0.02).astype("float32")
scores = (0.0005 + 0.002 * rng.random(2000) + 0.001 * labels).astype("float32")


def auc(labels, scores, **how):
    metric = keras.metrics.AUC(**how)
    metric.update_state(labels, scores)
    answer = round(float(metric.result()), 3)
    print(how, "Keras", answer, "scikit-learn", round(roc_auc_score(labels, scores), 3))
    return answer


assert round(roc_auc_score(labels, scores), 3) == 0.845
assert auc(labels, scores, num_thresholds=200) == 0.5, "small scores are ranked now"
assert auc(labels, scores, num_thresholds=1000) == 0.772
order = np.array([0, 0, 1, 1], "float32")
assert auc(order, np.array([-9, -8, -7, -6], "float32"), from_logits=True) == 0.5
assert auc(order, np.array([-2, 0.5, 1.5, 3], "float32")) == 1
PY
