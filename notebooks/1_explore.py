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
# # 1. Explore: what is in a collection of chest X-rays and reports
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/1_explore.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/1_explore.ipynb)
#
# What does a model that writes radiology reports learn from? This notebook looks at the data before any
# model does: the sections of a report and what is missing from them, the views of a study, sizes, words,
# findings, and the pairing rule of an older project, with what it costs.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms | half a minute | the same: nothing is trained |
# | Indiana University collection | a minute | the same |

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

# %% [markdown]
# ## The data
#
# A folder you name, the Kaggle data set, a mounted Google Drive: the first that is there is taken. Without
# any of them synthetic phantoms are drawn, in the layout of the Kaggle data set, so that everything below
# runs all the same.

# %%
from collections import Counter

import xray_captioning as xc
from xray_captioning import notebook, plots

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)

# %% [markdown]
# ## One row a study
#
# `read_studies` reads Open-i XML, the Kaggle tables, `captions.csv`, R2Gen's `annotation.json` and
# ChestX-ray14 into one table. A study is one examination of one patient: one report, one or more images.

# %%
studies = xc.read_studies(data.path)
studies[["study_id", "views", "indication", "findings", "impression", "problems"]].head(3)

# %%
from xray_captioning.data.studies import format_summary, summarise

summary = summarise(studies)
print(format_summary(summary))

# %% [markdown]
# ## Some studies as they are
#
# The frontal image looks at the patient from the front, so **the patient's right is on your left**. That is
# why no image is ever mirrored here, however common that is as augmentation: left and right are words of
# the report. The text below each pair is its impression, the few lines that answer the referring physician.

# %%
present = notebook.usable(studies)
present = present.assign(reference=present["impression"].fillna("(no impression)"))
plots.panel(notebook.examples(present, notebook.wordiest(present, 3)))

# %% [markdown]
# ## What is there, and what is missing
#
# A report has four sections. *Indication* and *comparison* were known before the images were read;
# *findings* describe, *impression* concludes. Models learn to write one of the last two, so a study without
# that section teaches nothing.

# %%
from xray_captioning.data.studies import SECTIONS

sections = {name: int(studies[name].notna().sum()) for name in SECTIONS}
images = {f"{n} image{'s' * (n != '1')}": k for n, k in summary["images_a_study"].items()}
plots.bars({"section present": sections, "images named": images, "view": summary["views"]})

# %% [markdown]
# ## Sizes of images
#
# What an encoder gets is resized to a square of 112 to 224 pixels. A nodule of 10 mm on a radiograph
# 400 mm wide is 5 pixels of 224: resizing decides what can be seen at all.

# %%
from xray_captioning.data.resizing import opencv

paths = [path for images in present["images"] for path in images]
cv2 = opencv()
read = (cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in paths[:: -(-len(paths) // 200)])
sizes = [image.shape for image in read if image is not None]  # OpenCV reads no DICOM
plots.histograms(
    {"height": [size[0] for size in sizes], "width": [size[1] for size in sizes]},
    "pixels",
    unit="images",
)

# %% [markdown]
# ## Lengths of texts
#
# The impression is the shorter task. How long the longest are decides `text.maximum_length` of a recipe.

# %%
words = {
    name: [len(text.split()) for text in studies[name].dropna()] for name in ("findings", "impression")
}
plots.histograms(words, "words")

# %% [markdown]
# ## Words
#
# Before words are counted they are cleaned. Each protocol is a choice that scores depend on. `legacy`, that
# of the older Keras project, deletes every digit with the character after it: "10 mm" loses its size.

# %%
sentence = "1. XXXX 10 mm nodule in the right upper lobe, unchanged since 2012."
for protocol in ("plain", "r2gen", "legacy"):
    print(f"{protocol:<7} {xc.clean(sentence, protocol)}")

# %%
cleaned = [xc.clean(text, "plain") for text in studies["impression"].dropna()]
counts = Counter(word for text in cleaned for word in text.split() if word != ".")
once = sum(number == 1 for number in counts.values())
print(f"{len(counts):,} different words, {once:,} of them seen once")
plots.lines(
    {"impression": sorted(counts.values(), reverse=True)}, "rank of the word", "times seen", True
)

# %%
shown = ("no", "normal", "clear", "left", "right", "small", "large", "stable", "mild", "acute")
plots.bars(
    {
        "the commonest words": dict(counts.most_common(10)),
        "some that carry the meaning": {word: counts[word] for word in shown if counts[word]},
    },
    "times seen",
)

# %% [markdown]
# ## Findings
#
# Left: findings as the source codes them (in the Indiana collection by people, as MeSH terms). Right: what
# the report labeler reads from the words. A finding is rare, and several findings in one study are rarer
# still: a model that always says "normal" is often right, which is why accuracy is not looked at here.

# %%
from xray_captioning.metrics.clinical import label_matrix
from xray_captioning.findings import FINDINGS

reports = [" ".join(filter(None, pair)) for pair in zip(studies["findings"], studies["impression"])]
read = Counter(dict(zip(FINDINGS, (label_matrix(reports) == 1).sum(axis=0).tolist())))
coded = dict(list(summary["problems"].items())[:14])
plots.bars({"coded by the source": coded, "read from the words": dict(read.most_common(14))})

# %% [markdown]
# ## The same report again and again
#
# Many normal studies share a handful of texts. A program that looks at no image and always writes the
# commonest one already scores well in BLEU: notebook 7 shows how well.

# %%
rows = [{"studies": n, "impression": text} for text, n in Counter(cleaned).most_common(5)]
share = sum(row["studies"] for row in rows) / len(cleaned)
print(f"the five commonest texts are {share:.0%} of all impressions")
notebook.table(rows, ["studies", "impression"])

# %% [markdown]
# ## The older project's pairs, and what they drop
#
# An older project showed its model two images at a time: of a report with one image the same image twice,
# of a report with k > 2 images every two consecutive ones, each pair a row of its table. Rows without an
# image or an impression were dropped. Of the 3,955 XML reports of the Indiana collection 3,208 name two
# images, 446 one, 197 more and 104 none: they give 4,169 rows, of which 4,033 remain.
#
# Two rows of the same report are not independent: where rows rather than studies are split, a report is in
# training *and* in test. Here studies are split, by patient where the source names patients.

# %%
from xray_captioning.legacy.impressions import pair_images

for images in (["one.png"], ["frontal.png", "lateral.png"], ["a.png", "b.png", "c.png"]):
    print(images, "->", pair_images(images))

# %%
pairs = [
    {"study": study, "pair": pair, "whole": pair[0] is not None and impression is not None}
    for study, images, impression in zip(studies["study_id"], studies["images"], studies["impression"])
    for pair in pair_images(images)
]
lone = sum(row["pair"][0] == row["pair"][1] for row in pairs if row["whole"])
kept = Counter(row["study"] for row in pairs if row["whole"])
pairing = {
    "studies": len(studies),
    "pairs": len(pairs),
    "pairs kept": sum(kept.values()),
    "with one image twice": lone,
    "studies in several rows": sum(number > 1 for number in kept.values()),
}
plots.bars({"the pairing rule": pairing}, "rows")

# %% [markdown]
# Where the XML reports lie beside the tables, the older project's table is rebuilt from them, row for row.

# %%
from pathlib import Path

for archive in sorted(Path(data.path).glob("*.tgz")):
    table = xc.legacy.pair_table(archive)
    print(f"{len(table):,} rows, {len(xc.legacy.drop_incomplete(table)):,} after dropping")

# %% [markdown]
# ## Who learns from what
#
# A split belongs to the data, not to a run: patients are ordered by a hash of their name, without a seed,
# so no training seed can move a test study into training.

# %%
split = xc.split_studies(present)
print({name: len(ids) for name, ids in split.parts.items()}, f"split {split.digest[:12]}")

# %% [markdown]
# **Next:** [2_simple_encoder_decoder](2_simple_encoder_decoder.ipynb) teaches an encoder the findings and a
# first decoder to write.
