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
# # 5. All presets side by side
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/5_compare.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/5_compare.ipynb)
#
# Seven models of five projects, trained on the same studies, scored on the same others, beside systems that
# look at no image. Then the cases they do best and worst on, and the two functions one wants in the end:
# images to caption, and images with a reference to scores.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small, after notebooks 2 to 4 | seven minutes after notebooks 2 to 4 | five minutes (estimated) |
# | Indiana University collection, the presets themselves | days: use `SIZE = "small"` | two hours (estimated) |

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
PRESETS = [
    "chexnet_simple",
    "densenet_gru",
    "cnn_lstm",
    "chexnet_attention",
    "chexnet_context",
    "cnn_transformer",
    "vit_gpt2",
]

# %%
from pathlib import Path

import numpy as np

import xray_captioning as xc
from xray_captioning import notebook, plots
from xray_captioning.evaluation.cases import choose_cases
from xray_captioning.metrics.clinical import confusion, finding_table

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)
studies = notebook.usable(xc.read_studies(data.path))

# %% [markdown]
# ## Train what is not there yet
#
# All learn to write the impression, so that their scores can be compared; what else a preset decides is
# kept: views, decoder, optimiser. What notebooks 2 to 4 left in `WORK` is taken from there.

# %%
configs = {name: notebook.recipe(name, data, studies, SIZE, "impression") for name in PRESETS}
split = xc.split_studies(studies, configs[PRESETS[0]].fractions)
captioners = {
    name: notebook.fit_captioner(config, studies, split, data, WORK)
    for name, config in configs.items()
}

# %%
rows = [
    {
        "preset": name,
        "encoder": config.model.encoder,
        "decoder": config.model.decoder,
        "views": config.image.views,
        "parameters": f"{captioners[name].model.count_params() / 1e6:.2f} M",
    }
    for name, config in configs.items()
]
notebook.table(rows, list(rows[0]))

# %%
runs = {name: notebook.run_folder(config, split, WORK) for name, config in configs.items()}
losses = {name: [row["val_loss"] for row in notebook.history(run)] for name, run in runs.items()}
plots.lines(losses, "epoch", "validation loss")

# %% [markdown]
# ## Scores
#
# Losses of different models are hardly comparable (one of them writes a sentence on its views first), and
# a low loss does not make a true report. So all are scored, with the baselines, on the test studies.

# %%
out = Path(WORK) / "presets"
cache = Path(WORK) / "cache"
rows = xc.evaluate(studies, captioners, out, split=split, cache=cache, quick=True)
notebook.table(rows)

# %%
plots.scores(rows, ("BLEU-4", "clinical_f1", "sides"), notebook.results(out)["intervals"])

# %%
points = {
    row["system"]: (row["BLEU-4"], row["clinical_f1"]) for row in rows if row["search"] != "beam-3"
}
plots.scatter(points, "BLEU-4", "clinical F1")

# %% [markdown]
# Models with attention over regions lie at the top right. Those that see a study as one vector write as
# fluently, and name fewer findings than the report of the nearest training study (`retrieval`) does. BLEU
# alone would not show that.
#
# ## Finding by finding
#
# F1 of each finding, greedy search. A finding of a handful of test studies has a wide interval.

# %%
captions = notebook.captions(out)
names = {row["system"]: f"{row['system']} greedy" if row["search"] else row["system"] for row in rows}
tables = {
    name: finding_table(captions["reference"], captions[column]) for name, column in names.items()
}
common = [row.finding for row in tables[PRESETS[0]] if row.support and row.finding != "No Finding"]
f1 = [[row.f1 for row in table if row.finding in common] for table in tables.values()]
plots.heatmap(np.array(f1), list(tables), common, "F1")

# %% [markdown]
# ## The best and the worst
#
# Studies ordered by the F1 of their findings, and where that is equal by ROUGE-L. One should look at the
# worst before showing the best to anybody.

# %%
best = max((row for row in rows if row["search"] == "greedy"), key=lambda row: row["clinical_f1"])
captioner, config = captioners[best["system"]], configs[best["system"]]
column = f"{best['system']} greedy"
counts = confusion(captions["reference"], captions[column])
good, _, bad = choose_cases(captions["reference"], captions[column], counts)
test = notebook.part(studies, split, config)
print(f"{best['system']}: clinical F1 {best['clinical_f1']:.3f}")

# %%
images = notebook.images_of(test, config)
written = captioner.caption(images, beam_size=1)
plots.panel(notebook.examples(test, [*good, *bad], {best["system"]: written}, captioner))

# %% [markdown]
# The first two are its best studies, the last two its worst.
#
# ## Two functions to take away
#
# Images to caption, and images with a reference to scores: what the older project ended with.

# %%
from xray_captioning.metrics.scores import score


def images_to_caption(images, beam_size=3):
    """Return the caption of one study."""
    return captioner.caption([images], beam_size)[0].text


def images_to_scores(images, reference, beam_size=3):
    """Return the caption of one study and its scores against what a reader wrote."""
    caption = captioner.caption([images], beam_size)[0]
    words, reference = [" ".join(caption.words)], [xc.clean(reference, config.text.cleaning)]
    return {"caption": caption.text, **score(reference, words)}


# %%
case = good[0]
print(images_to_caption(images[case]))

# %%
reference = test["impression"][case]
rows = [{"reference": reference, **images_to_scores(images[case], reference)}]
notebook.table(rows, ["reference", "caption", "BLEU-1", "BLEU-4", "ROUGE-L"])

# %% [markdown]
# BLEU of a single study jumps between 0 and 1 with one word; only means over many studies say something,
# and even those not all: see [7_metrics](7_metrics.ipynb).
#
# **Next:** [6_transformer_and_gpt2](6_transformer_and_gpt2.ipynb) writes the longer section, the findings.
