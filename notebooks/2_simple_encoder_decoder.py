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
# # 2. A simple encoder-decoder
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/2_simple_encoder_decoder.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/2_simple_encoder_decoder.ipynb)
#
# The smallest model that writes: an encoder that has learned to see findings, and an LSTM that is given one
# vector about the study. It shows the whole recipe (findings first, captions after, measured beside
# systems that look at no image) and what one vector cannot hold.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | four minutes, the encoder included | two minutes (estimated) |
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
# ## The recipe
#
# A preset is a small JSON file: preprocessing, model, training. `chexnet_simple` is the first model of an
# older Keras project. On a CPU, or on phantoms, it is taken at a small size: a small convolutional network
# instead of DenseNet121, 112 pixels, narrow layers. What else it decides is kept.

# %%
config = notebook.recipe("chexnet_simple", data, studies, SIZE)
split = xc.split_studies(studies, config.fractions)
print({name: len(ids) for name, ids in split.parts.items()})
print(*(f"{name}={value}" for name, value in config.to_dict()["model"].items()), sep="\n")

# %% [markdown]
# ## First the findings
#
# A decoder trained together with an encoder from scratch soon says the same few sentences of every study,
# while its loss looks healthy: common words are learned long before the encoder sees anything. So the
# encoder first learns to name findings (that is what CheXNet is), and stays as it is afterwards.
#
# `fit_encoder` calls `xc.train_encoder`, or takes what is in `WORK` already.

# %%
encoder, findings = notebook.fit_encoder(config, studies, split, data, WORK)
encoder_run = notebook.run_folder(notebook.encoder_recipe(config), split, WORK)
plots.curves(notebook.history(encoder_run))

# %% [markdown]
# The area under the ROC curve is the chance that a study with the finding gets a higher probability than
# one without it; 0.5 is guessing. The lines are 95 % intervals over the patients of the test part.

# %%
known = [row for row in findings if row["AUROC_low"] is not None]
plots.intervals(
    {row["finding"]: (row["AUROC"], row["AUROC_low"], row["AUROC_high"]) for row in known},
    "area under the ROC curve",
    chance=0.5,
)

# %% [markdown]
# ## Then the words
#
# Every image is encoded once; the features stay on disk, so that an epoch of the decoder takes seconds. The
# decoder averages the regions of both views into one vector, and an LSTM reads the words so far. Both meet
# just before the next word is chosen. While it learns it is given the report's own words ("teacher
# forcing"); the validation loss decides which epoch is kept.

# %%
captioner = notebook.fit_captioner(config, studies, split, data, WORK)
run = notebook.run_folder(config, split, WORK)
plots.curves(notebook.history(run))

# %% [markdown]
# ## Greedy and beam search
#
# Greedy search takes the likeliest next word each time. Beam search keeps the three likeliest beginnings
# alive and may find a likelier caption in the end.

# %%
test = notebook.part(studies, split, config)
images = notebook.images_of(test, config)
written = {f"beam-{n}" if n > 1 else "greedy": captioner.caption(images, n) for n in (1, 3)}
shown = notebook.wordiest(test)
plots.panel(notebook.examples(test, shown, written, captioner))

# %% [markdown]
# Log-probabilities are those of the whole caption. The other captions of the beam show what the model was
# undecided about.

# %%
best = written["beam-3"][shown[0]]
rows = [
    {"caption": caption.text, "log probability": caption.log_probability}
    for caption in (best, *best.alternatives)
]
notebook.table(rows, ["log probability", "caption"])

# %% [markdown]
# ## Is it any good?
#
# BLEU, ROUGE-L and CIDEr compare words. `clinical_f1` compares the findings that both texts assert, `sides`
# whether they put them on the same side, and `distinct` is the number of different captions. The other
# rows are systems that look at no image (`constant`, `random`) or only for the nearest training study
# (`retrieval`): a model has to beat them all.

# %%
rows = measure(captioner, studies, run, Path(WORK) / "cache", "simple")
notebook.table(rows)

# %%
plots.scores(rows, ("BLEU-4", "clinical_f1", "sides"), notebook.results(run)["intervals"])

# %% [markdown]
# Points are scores on the test studies, lines their 95 % intervals; grey is what is there for comparison.
# Whatever the model writes is fluent. But it sees one vector: a mean over all regions keeps *that* something
# is there and loses *where*, and a small finding is a 98th of it. On phantoms the report of the nearest
# training study (`retrieval`) names more findings, and more of them on their side. The next notebook lets
# the decoder look at the regions themselves.
#
# ## A bundle
#
# The run folder is a bundle: configuration, tokenizer, weights, a model card with the table above, and
# checksums. No pickle. Whoever loads it writes the same captions.

# %%
print(*sorted(path.name for path in run.iterdir()))
again = xc.Captioner.load(run).caption(images, beam_size=1)
print("the same captions:", [c.text for c in again] == [c.text for c in written["greedy"]])

# %% [markdown]
# **Next:** [3_attention](3_attention.ipynb) lets the decoder look at the regions themselves.
