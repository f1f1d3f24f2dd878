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
# # 9. What others published: an encoder, features, captions
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/9_published_encoders.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/9_published_encoders.ipynb)
#
# Somebody trained an encoder on more radiographs than you have. This notebook takes its weights, turns images into
# features once, trains a decoder on them, compares it with what three other systems wrote, and exports the
# result to run without Keras.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | three minutes | two minutes (estimated) |

# %%
import importlib.util
from pathlib import Path

extras = "[export]"
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
STUDIES = 600  # phantoms to draw where there are no data
SIZE = "auto"  # "full" (the preset itself), "small", or auto: full for real data with a GPU
ENCODER = None  # a published one, such as "densenet121-res224-all"; None: a stand-in, without a download
WEIGHTS = None  # its file or folder, where it is here already; None: it is downloaded

# %%
from pathlib import Path

import numpy as np
import pandas as pd

import xray_captioning as xc
from xray_captioning import notebook, plots

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)
studies = notebook.usable(xc.read_studies(data.path))
work = Path(WORK) / "published"
work.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The encoder
#
# `xray-captioning encoders` lists the published encoders that this package knows, with what they learned from, their
# licence and their address. A folder as Hugging Face's `save_pretrained` writes it, a PyTorch file and others are
# read, too ([docs/encoders.md](../docs/encoders.md)); nothing that they hold is executed.

# %%
said = work / "said.txt"
# !xray-captioning encoders > {said}
print(said.read_text().split("\n\n")[0])

# %% [markdown]
# On real radiographs set `ENCODER = "densenet121-res224-all"`. Phantoms are drawings, of which that network knows
# nothing. So for them a stand-in is published here: the weights of the shipped model's encoder, which learned from
# other phantoms, as one file.

# %%
encoder, options = ENCODER, ""
if ENCODER is None:
    encoder, WEIGHTS = "phantom_cnn", work / "published.weights.h5"
    xc.Captioner.load("phantom_attention").encoder.backbone.save_weights(WEIGHTS)
    options = "--set image.size=112 --set image.normalisation=unit"
if WEIGHTS:
    options += f" --weights {WEIGHTS}"
print(encoder, options)

# %% [markdown]
# ## Features
#
# Each image goes through the encoder once. Size, resizing and scaling are those of its training, and the file says
# which they were.

# %%
features = work / "features.npz"
# !xray-captioning encode --data {data.path} --encoder {encoder} {options} --out {features} > {said} 2>&1
print(said.read_text())

# %%
with np.load(features) as file:
    arrays = {name: file[name] for name in ("ids", "views", "regions")}
    about = str(file["about"])
print({name: array.shape for name, array in arrays.items()})
print(about)

# %% [markdown]
# Features that another program computed do as well: `regions` as (studies, regions, channels), and `ids`, in an
# `.npz`; or a `.npy` with the ids in a `.csv` of the same name. They are joined to reports by id.
#
# ## Train
#
# Only the decoder learns. Where the features name an encoder, and these are its weights, the bundle holds it and
# captions images, too.

# %%
config = notebook.recipe("chexnet_attention", data, studies, SIZE)
split = xc.split_studies(studies, config.fractions)
run = notebook.run_folder(config, split, work)
if not (run / "manifest.json").is_file():
    given = {"features": features, "weights": str(WEIGHTS) if WEIGHTS else None, "measured": False}
    xc.train(studies, config, run, split=split, about=data.about, **given)
plots.curves(notebook.history(run))

# %% [markdown]
# ## Three other systems
#
# What other systems wrote comes as a table: the study's id, and a column of texts for each system. Three are made
# here: another model (the shipped one), the report of the training study whose features are nearest, and one
# report for everybody.

# %%
captioner = xc.Captioner.load(run)
training, test = (notebook.part(studies, split, config, name) for name in ("train", "test"))
means = {i: r.mean((0, 1, 2)) for i, r in zip(arrays["ids"], arrays["regions"].astype("float32"))}
near = np.stack([means[i] for i in training["study_id"]])
nearest = [int(np.linalg.norm(near - means[i], axis=1).argmin()) for i in test["study_id"]]
images = notebook.images_of(test, config)
theirs = pd.DataFrame(
    {
        "study_id": test["study_id"],
        "shipped": [caption.text for caption in xc.Captioner.load("phantom_attention").caption(images)],
        "nearest": training["reference"].iloc[nearest].to_list(),
        "fixed": training["reference"].mode()[0],
    }
)
theirs.to_csv(work / "theirs.csv", index=False)
theirs.head(3)

# %% [markdown]
# ## Compare
#
# One command scores the bundle and the table on the same studies, beside baselines. `p` says whether a difference is
# more than chance; a system whose captions go as well with other studies is warned of.

# %%
results = work / "results"
command = f"--data {data.path} --features {features} --bundle mine={run} --captions {work}/theirs.csv --beam 1"
# !xray-captioning evaluate {command} --split {run}/split.json --out {results} --report {results}/page.html > {said} 2>&1

# %%
found = notebook.results(results)
for alarm in found["alarms"]:
    notebook.note("Please note", alarm["message"])
systems = ["mine", "shipped", "nearest", "fixed"]
rows = [row for row in found["rows"] if row["system"] in [*systems, "mine shuffled", "label-oracle"]]
notebook.table(rows)

# %%
plots.scores(
    [row for row in rows if row["system"] in systems],
    ("BLEU-4", "clinical_f1", "sides", "distinct"),
    found["intervals"],
)

# %%
columns = ["metric", "system", "rival", "difference", "low", "high", "p", "p_holm"]
others = {"shipped", "nearest", "fixed"}
pairs = [row for row in found["differences"] if {row["system"], row["rival"]} - others == {"mine greedy"}]
notebook.table(pairs, columns)

# %% [markdown]
# `page.html` shows all of it with the cases behind it, and `page.tex` beside it are the tables for a paper.
#
# ## Where it looked

# %%
captions = captioner.caption(images, beam_size=3)
plots.words(notebook.examples(test, notebook.wordiest(test, 1), {"mine": captions}, captioner)[0])

# %% [markdown]
# ## Export
#
# Graphs that onnxruntime runs, without Keras and TensorFlow, each compared with Keras while it is written. They
# write the same captions. (OpenVINO, LiteRT and a page for a browser: [docs/runtime.md](../docs/runtime.md).)

# %%
exported = work / "export"
captioner.export(exported)
graphs = xc.runtime.load(exported)
same = [graphs.caption([study])[0].text == captioner.caption([study])[0].text for study in images[:5]]
print(f"{sum(file.stat().st_size for file in exported.iterdir()) / 1e6:.1f} MB, {sum(same)} of {len(same)} captions are the same")

# %% [markdown]
# `xray-captioning push` sends bundle or export to Hugging Face's hub or to Kaggle
# ([docs/sharing.md](../docs/sharing.md)). Mind the licence of the encoder's weights, which are part of the bundle.
# **No clinical use.** A caption is fluent whether or not it is true.
