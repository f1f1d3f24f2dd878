#!/usr/bin/env bash
# torchmetrics 1.9.0, multilabel and binary metrics fed with logits in batches.
#
# Guess: what is fed decides once whether a sigmoid is applied; batch size never changes a score.
# What happened: each update looks at its own values and applies the sigmoid only where one of them lies
# outside 0 to 1. A batch whose logits happen to lie inside is taken for probabilities. The same eight
# logits score F1 .45 in one batch and .83 in two. Ranking metrics mix both kinds of number, too.
# Output seen: macro F1 one batch 0.4500, two batches 0.8333; AUROC one batch 0.25, two batches 1.0.
# Date: 2026-11-28.
#
# Why it matters here: finding labels are rare and a young model's logits are small, so the last, short
# batch of an epoch falls inside easily, and validation F1 changes with the batch size. Give such
# metrics probabilities, never logits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import torch
from torchmetrics.classification import BinaryAUROC, MultilabelF1Score

print({name: md.version(name) for name in ("torch", "torchmetrics")})
logits = torch.tensor([[0.2, 0.1], [0.4, 0.1], [-0.3, 0.1], [1.5, 2.0]])
labels = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 1]])


def score(metric, logits, labels, batches):
    for x, y in zip(logits.chunk(batches), labels.chunk(batches)):
        metric.update(x, y)
    answer = round(float(metric.compute()), 4)
    print(type(metric).__name__, batches, "batch(es):", answer)
    return answer


assert score(MultilabelF1Score(2), logits, labels, 1) == 0.45
assert score(MultilabelF1Score(2), logits, labels, 2) == 0.8333, "batches no longer matter"
assert score(MultilabelF1Score(2), logits.sigmoid(), labels, 2) == 0.45
ranks = torch.tensor([0.9, 0.8, 0.85, 1.2]), torch.tensor([1, 1, 0, 0])
assert score(BinaryAUROC(), *ranks, 1) == 0.25
assert score(BinaryAUROC(), *ranks, 2) == 1
PY
