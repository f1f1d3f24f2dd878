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
# # 3. Attention over both views
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/3_attention.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/3_attention.ipynb)
#
# The decoder now looks at the regions of both images anew for every word. It names far more findings, knows
# their sides, and can be asked where it looked: the two views and the words in one figure.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | two minutes after notebook 2, which trains the encoder | two minutes (estimated) |
# | Indiana University collection, the preset itself | a day: use `SIZE = "small"` | half an hour (estimated) |

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
SIZE = "auto"  # "full" (the preset itself), "small", or auto: full for real data with a GPU

# %%
from pathlib import Path

import xray_captioning as xc
from xray_captioning import notebook, plots
from xray_captioning.comparison.evaluate import measure

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)
studies = notebook.usable(xc.read_studies(data.path))

# %% [markdown]
# ## The model
#
# The encoder turns each view into a grid of regions. Before each word the decoder gives every region of
# both views a weight, by comparing the region with its own state (additive attention), and reads their
# weighted mean together with the word before. Weights are positive and sum to 1, so they can be drawn.
#
# Each region knows its view, row and column: otherwise "left" and "right" could not be told apart.

# %%
config = notebook.recipe("chexnet_attention", data, studies, SIZE)
split = xc.split_studies(studies, config.fractions)
encoder, findings = notebook.fit_encoder(config, studies, split, data, WORK)
views, (rows, columns) = config.image.views, encoder.grid
print(f"{views} views of {rows} x {columns} regions, {encoder.channels} channels each")

# %% [markdown]
# The encoder is that of notebook 2, if it has run; otherwise it was just trained.

# %%
captioner = notebook.fit_captioner(config, studies, split, data, WORK)
run = notebook.run_folder(config, split, WORK)
plots.curves(notebook.history(run))

# %% [markdown]
# ## Where it looks while it writes
#
# Above: the two views, the report and the caption. Below, for each word, the weights over both views on one
# scale: the brighter, the more attention. It is the decoder's reading, not a proof of why it wrote the word.

# %%
test = notebook.part(studies, split, config)
captions = captioner.caption(notebook.images_of(test, config), beam_size=3)
examples = notebook.examples(test, notebook.wordiest(test, 3), {"beam-3": captions}, captioner)
plots.words(examples[0])

# %%
plots.words(examples[-1])

# %% [markdown]
# ## Which words are read from which view?
#
# The share of a word's attention that lies on the lateral view, over all test studies that have both views.
# One would expect words on ribs and on the curve of the spine to be read from the front, and words on what
# lies behind the heart from the side. The bars show the eight words that are read most from the side, and
# the eight that are read least from there.

# %%
both = [row for row, views in enumerate(test["views"]) if len(set(views)) > 1]
shares = {}
for row in both:
    for word, weights in zip(captions[row].words, captions[row].attention):
        shares.setdefault(word, []).append(float(weights[1].sum()))
common = {w: sum(s) / len(s) for w, s in shares.items() if len(s) >= 5 and len(w) > 3}
ordered = sorted(common.items(), key=lambda item: -item[1])
ends = [*ordered[:8], *ordered[-8:]]
plots.bars({"attention on the lateral view": {w: round(100 * s) for w, s in ends}}, "per cent")

# %% [markdown]
# ## What if one view is hidden?
#
# A study may have one image only; the other view's regions are then masked and get no weight.

# %%
study = notebook.images_of(test, config)[max(both, key=lambda row: len(captions[row].words))]
alone = captioner.caption([study, study[:1], [None, study[1]]], beam_size=3)
seen = ("both views", "frontal alone", "lateral alone")
notebook.table([{"seen": s, "caption": c.text} for s, c in zip(seen, alone)], ["seen", "caption"])

# %% [markdown]
# ## Scores

# %%
rows = measure(captioner, studies, run, Path(WORK) / "cache", "attention")
notebook.table(rows)

# %%
plots.scores(rows, ("BLEU-4", "clinical_f1", "sides"), notebook.results(run)["intervals"])

# %% [markdown]
# Compare `clinical_f1` and `sides` with the simple model of notebook 2: looking at regions finds more, and
# tells left from right. Whether a difference is more than chance is a question of intervals, and of more
# than one training seed.
#
# The words with the sharpest attention of each study:

# %%
plots.panel(examples)

# %% [markdown]
# The bundle is in the run folder; `xray-captioning caption --bundle FOLDER frontal.png,lateral.png` uses it.
#
# **Next:** [4_context_aggregation](4_context_aggregation.ipynb) lets the regions know their surroundings
# first.
