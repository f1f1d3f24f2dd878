#!/usr/bin/env bash
# torchmetrics 1.9.0, macro AUROC with a label that no study has, against scikit-learn 1.9.1.
#
# Guess: a label without positives has no AUROC and is left out of the mean, or makes it nan.
# What happened: torchmetrics gives that label 0, the worst score there is, and counts it in the macro
# mean: a perfect ranking of the other label reads .5. Both packages warn, but scikit-learn answers
# nan. A label that every study has is 0 as well in AUROC; average precision is 0 for the absent label.
# Output seen: torchmetrics macro 0.5, each 1.0 and 0.0, weighted 1.0; scikit-learn macro nan.
# Date: 2026-11-28.
#
# Why it matters here: fourteen finding labels on a few hundred studies leave one or two without a
# positive in many a split or fold. The mean AUROC then says how many labels were absent rather
# than how well the model reads, and folds cannot be compared. Drop such labels, and say which.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet torch==2.13.0 torchmetrics==1.9.0 scikit-learn==1.9.1 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import warnings
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import MultilabelAUROC, MultilabelAveragePrecision

warnings.simplefilter("ignore")
print({name: md.version(name) for name in ("torch", "torchmetrics", "scikit-learn")})
scores = torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.8, 0.2], [0.1, 0.3]])
labels = torch.tensor([[1, 0], [0, 0], [1, 0], [0, 0]])
full = torch.tensor([[1, 1], [0, 1], [1, 1], [0, 1]])


def torch_mean(metric, average, labels=labels):
    answer = metric(2, average=average)(scores, labels)
    print(metric.__name__, average, answer.tolist())
    return answer.tolist()


theirs = roc_auc_score(labels.numpy(), scores.numpy(), average="macro")
print("scikit-learn macro", theirs)
assert np.isnan(theirs)
assert torch_mean(MultilabelAUROC, "macro") == 0.5, "the absent label no longer counts as 0"
assert torch_mean(MultilabelAUROC, "none") == [1, 0]
assert torch_mean(MultilabelAUROC, "none", full) == [1, 0]
assert torch_mean(MultilabelAUROC, "weighted") == 1
assert torch_mean(MultilabelAveragePrecision, "macro") == 0.5
PY
