# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Metrics: how to be fooled, and how not to be
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/7_metrics.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/7_metrics.ipynb)
#
# BLEU compares words. Most chest X-rays are normal and most normal reports are alike, so one fixed sentence
# scores as well as published systems. This notebook shows how that happens, what an older scoring rule adds
# to it, and what to look at instead: findings, sides, distinct captions, and intervals.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms or any collection of reports | one minute | the same: nothing is trained |

# %%
import importlib.util
from pathlib import Path

extras = ""
address = "git+https://github.com/xray-captioning/xray_captioning"
sources = [f'"xray-captioning{extras}"', f'"xray-captioning{extras} @ {address}"']  # PyPI; GitHub until it is there
if Path("../setup.cfg").exists():  # a checkout
    sources = [f'"..{extras}"', *sources]
for wheel in Path("/kaggle/input").rglob("xray_captioning-*.whl"):  # attached on Kaggle: no internet
    names = {path.name.split("-")[0] for path in wheel.parent.glob("*.whl")}  # what Kaggle lacks, too
    sources = [f"--no-index --no-deps --find-links {wheel.parent} {' '.join(sorted(names))}"]
for source in sources:
    if importlib.util.find_spec("xray_captioning") is None:
        # %pip install --quiet {source}

# %% tags=["parameters"]
DATA = None  # a folder of studies; None: Kaggle's input, Google Drive, else synthetic phantoms
DOWNLOAD = False  # True: without data, kagglehub downloads the Indiana University collection (14 GB)
WORK = "runs"  # phantoms, caches and models; the notebooks share them
STUDIES = 2000  # phantoms to draw where there are no data

# %%
from pathlib import Path

import xray_captioning as xc
from xray_captioning import notebook, plots
from xray_captioning.evaluation.baselines import constant_captions, random_captions

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)
studies = xc.read_studies(data.path)
config = notebook.recipe("phantom_attention", data, studies, "small")
split = xc.split_studies(studies, config.fractions)
training, test = (notebook.part(studies, split, config, name) for name in ("train", "test"))
references, learned = list(test["reference"]), list(training["reference"])
print(f"{len(learned):,} texts to learn from, {len(references):,} to be compared with")

# %% [markdown]
# ## One sentence for everybody
#
# The constant report is the training text that scores highest when it is said of every study. It looks at
# no image. Each metric has a favourite of its own.

# %%
constants = constant_captions(learned)
rows = [
    {"chosen by": metric, **xc.score(references, [text] * len(references)), "text": text}
    for metric, text in constants.items()
]
notebook.table(rows, ["chosen by", "BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "text"])

# %% [markdown]
# How well that does depends on how alike the reports are. Phantoms' reports are varied; real ones are not. On
# the published test split of the Indiana University collection (590 studies) one constant normal report
# scores ([how](../docs/evaluation.md#a-fixed-report-on-real-data)), against the published figures of systems that do look:
#
# | | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | ROUGE-L |
# |---|---|---|---|---|---|
# | **constant report**, by BLEU-4 | .500 | .338 | .240 | .172 | .363 |
# | R2Gen (paper) | .470 | .304 | .219 | .165 | .371 |
# | R2GenCMN (paper) | .475 | .309 | .222 | .170 | .375 |
# | CvT2DistilGPT2 (README) | .473 | .304 | .224 | .175 | .376 |
#
# The last one's published output holds four different texts for 590 studies.
#
# ## What changes the meaning hardly changes the score
#
# One report, and what a careless system could make of it. BLEU punishes the paraphrase, which is right, more
# than the wrong side, the lost "no" or the denied effusion, which are dangerous. Each of the other columns
# sees some of that: `clinical_f1` averages over findings that are named, so a lost "no" halves it, and a
# denied effusion leaves nothing; `sides` sees the side; `contradictions` counts what one text asserts and the
# other denies.

# %%
reference = "small left pleural effusion . no pneumothorax . the heart is normal in size ."
variants = {
    "the same": reference,
    "wrong side": reference.replace("left", "right"),
    "a lost no": reference.replace("no pneumothorax", "large pneumothorax"),
    "effusion denied": reference.replace("small left", "no left"),
    "paraphrase": "heart size normal . a left sided effusion , which is small . "
    "pneumothorax is not seen .",
}
from xray_captioning.metrics.clinical import contradictions
from xray_captioning.metrics.mentions import compare_mentions

rows = [
    {
        **{"text": name, "system": name},
        **xc.score([reference], [text], convention="chexpert"),
        "sides": compare_mentions([reference], [text])["side_recall"],
        "contradictions": len(contradictions([reference], [text])),
    }
    for name, text in variants.items()
]
notebook.table(rows, ["text", "BLEU-1", "BLEU-4", "ROUGE-L", "clinical_f1", "sides", "contradictions"])

# %%
plots.scores(rows, ("BLEU-1", "BLEU-4", "clinical_f1", "sides", "contradictions"))

# %% [markdown]
# What the report labeler reads from them: 1 present, 0 denied, -1 uncertain, None not mentioned. It is a set of
# rules and errs, too: against human coding its macro F1 is 0.94
# ([docs/evaluation.md](../docs/evaluation.md#the-labeler)).

# %%
names = ("Pleural Effusion", "Pneumothorax", "Cardiomegaly")
rows = [
    {"text": name, **{n: str(xc.label_report(text)[n]) for n in names}} for name, text in variants.items()
]
notebook.table(rows, ["text", *names])

# %% [markdown]
# ## Three rules of the same name
#
# `coco` pools n-gram counts over the whole corpus. `nltk` averages sentences; a sentence without a common
# 4-gram scores about 0. `legacy` is what NLTK 3.2.5 did: at the first order without a match the product
# stops, so that what is missing counts as perfect, and **BLEU-4 can exceed BLEU-1**. Never compare across
# rules. Below, the same texts under all three.

# %%
from collections import Counter

from xray_captioning.metrics.bleu import bleu

constant = constants["BLEU-4"]
# The legacy rule has a favourite of its own, among the commonest texts and the shortest.
common = [text for text, _ in Counter(learned).most_common(300)]
short = sorted(set(learned), key=lambda text: (len(text.split()), text))[:300]
few = learned[:: -(-len(learned) // 200)]
scored = {text: bleu(few, [text] * len(few), "legacy")[3] for text in {*common, *short}}
texts = {
    "constant": [constant] * len(references),
    "random": random_captions(learned, len(references), seed=0),
    "constant, legacy's choice": [max(sorted(scored), key=scored.get)] * len(references),
}
rows = [
    {"system": name, "rule": rule, **xc.score(references, column, rule)}
    for name, column in texts.items()
    for rule in ("coco", "nltk", "legacy")
]
notebook.table(rows, ["text", "rule", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"])

# %%
curves = {f"{r['system']}: {r['rule']}": [r[f"BLEU-{n}"] for n in (1, 2, 3, 4)] for r in rows}
plots.lines({name: curve for name, curve in curves.items() if "nltk" not in name}, "order of BLEU", "score")

# %% [markdown]
# A score that rises with its order is a broken rule, not a good system. Under the legacy rule the published
# "simple encoder-decoder" of an older project scored .317/.308/.333/.366; one constant caption scores
# .316/.308/.334/.367 on 563 studies that are drawn by its rule ([docs/reproducing.md](../docs/reproducing.md)).
#
# ## A model that looks, and its shuffled double
#
# The shipped bundle was trained on phantoms. `xc.evaluate` scores it beside a dozen rows that look at no image,
# and beside its own captions given to other studies: what is left then is what it says without looking. On
# real images this bundle knows nothing, and the table shows it.

# %%
captioner = xc.Captioner.load("phantom_attention")
present = notebook.usable(studies)
seen = xc.split_studies(present, notebook.recipe("phantom_attention", data, present, "small").fractions)
out, cache = Path(WORK) / "metrics", Path(WORK) / "cache"
rows = xc.evaluate(present, {"shipped": captioner}, out, split=seen, beams=[1], cache=cache)
notebook.table(rows)

# %%
results = notebook.results(out)
named = [row for row in rows if row["system"] in results["intervals"] or row["search"]]
plots.scores(named, ("BLEU-4", "clinical_f1", "sides", "distinct"), results["intervals"])

# %% [markdown]
# Lines are 95 % intervals: how far a score moves when each patient in turn is left out (the jackknife). The count
# of distinct texts has none, because fewer studies always hold fewer.
#
# ## BLEU against findings

# %%
points = {
    row["system"]: (row["BLEU-4"], row["clinical_f1"])
    for row in rows
    if row["system"].split("-")[0] != "constant" or row["system"] == "constant"
}
plots.scatter(points, "BLEU-4", "clinical F1")

# %% [markdown]
# `label-oracle` gets the findings and writes them with a template: a ceiling of what findings alone can
# give, with a BLEU far from 1. Whoever tunes for BLEU moves to the right in this picture; whoever wants a
# reader of X-rays should move up.
#
# ## Is the difference real?
#
# Both systems are scored on the same studies, patient by patient; `p` is two-sided, and `p_holm` is corrected for
# the number of tests of a metric.

# %%
notebook.table(
    results["differences"], ["metric", "system", "rival", "difference", "low", "high", "p", "p_holm"]
)

# %%
for alarm in results["alarms"]:
    notebook.note("Collapse alarm", alarm["message"])
print(f"{len(results['alarms'])} alarms")

# %% [markdown]
# ## A checklist
#
# 1. Is there a constant row, chosen on training texts, in the table?
# 2. Which BLEU rule, which cleaning, which references (truncated, with `<unk>`)?
# 3. How many distinct captions?
# 4. Clinical F1 and sides, with intervals, and by finding.
# 5. The worst cases, read by somebody who can read X-rays: `xray-captioning review` makes blinded sheets.
#
# **Next:** [8_your_own_data](8_your_own_data.ipynb).
