#!/usr/bin/env bash
# torchmetrics 1.9.0, BootStrapper fed in batches of several sizes.
#
# Guess: the batch size does not change an interval; studies are resampled from all that were seen.
# What happened: each update resamples its own batch. With the multinomial strategy (n of n) the standard
# deviation shrinks by sqrt((b - 1) / b): batches of two lose three tenths, batches of one give 0. If
# batches hold like studies, as after a sort by length, it falls at any batch size. Poisson
# weights, the default, do not suffer from that.
# Output seen: accuracy .8 of 200 studies, expected 0.0283. Multinomial in one batch 0.0285, in twos
#              0.0193, in ones 0.0; sorted, in twenties 0.0. Poisson in ones 0.0284, sorted 0.028.
# Date: 2026-11-28.
#
# Why it matters here: captions are generated study by study or in batches of like length, the metric
# updated after each. The interval is then too short, or empty, and looks like certainty. Give it
# all studies in one update, or whole patients drawn by hand.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import torch
from torchmetrics.classification import BinaryAccuracy
from torchmetrics.wrappers import BootStrapper

torch.set_num_threads(1)
print({name: md.version(name) for name in ("torch", "torchmetrics")})
labels = torch.arange(200) % 2
right = torch.arange(200) % 5 > 0
order = torch.randperm(200, generator=torch.manual_seed(1))
labels, answers = labels[order], torch.where(right, labels, 1 - labels)[order]
alike = torch.argsort((labels == answers).long(), stable=True)


def deviation(strategy, size, order=slice(None)):
    torch.manual_seed(0)
    metric = BootStrapper(BinaryAccuracy(), num_bootstraps=150, sampling_strategy=strategy)
    for x, y in zip(answers[order].split(size), labels[order].split(size)):
        metric.update(x, y)
    found = {key: round(float(value), 4) for key, value in metric.compute().items()}
    print(strategy, "batches of", size, "sorted" if order is alike else "", found)
    return found["std"]


true = (0.8 * 0.2 / 200) ** 0.5
print("expected", round(true, 4))
assert 0.8 * true < deviation("multinomial", 200) < 1.25 * true
assert deviation("multinomial", 2) < 0.85 * true
assert deviation("multinomial", 1) == 0, "single studies are resampled together now"
assert deviation("multinomial", 20, alike) == 0
assert 0.8 * true < deviation("poisson", 1) < 1.25 * true
assert 0.8 * true < deviation("poisson", 20, alike) < 1.25 * true
PY
