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
# # 4. Attention after chained context aggregation
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/4_context_aggregation.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/4_context_aggregation.ipynb)
#
# A region of a feature map sees a small part of the image. Here each region first learns about its
# surroundings, near ones and far ones in a chain, and only then is attended to. The question: does that help
# beyond attention alone, and can a test set of this size tell?
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | three minutes after notebook 3 | three minutes (estimated) |
# | Indiana University collection, the preset itself | a day: use `SIZE = "small"` | forty minutes (estimated) |

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

notebook.setup()
data = notebook.find_data(DATA, WORK, STUDIES, DOWNLOAD)
studies = notebook.usable(xc.read_studies(data.path))

# %% [markdown]
# ## The model
#
# `chexnet_context` is the third model of the older Keras project, after arXiv:2002.12041. Convolutions of
# growing reach run over each view's feature map, each starting from what the one before has found; their
# results are added to the regions. Decoder, words and training are those of notebook 3.

# %%
config = notebook.recipe("chexnet_context", data, studies, SIZE)
split = xc.split_studies(studies, config.fractions)
captioner = notebook.fit_captioner(config, studies, split, data, WORK)
run = notebook.run_folder(config, split, WORK)
plots.curves(notebook.history(run))

# %% [markdown]
# For the comparison we need the model of notebook 3; it is trained here if it is not there.

# %%
plain = notebook.recipe("chexnet_attention", data, studies, SIZE)
attention = notebook.fit_captioner(plain, studies, split, data, WORK)
plots.lines(
    {
        "context aggregation": [row["val_loss"] for row in notebook.history(run)],
        "attention": [
            row["val_loss"] for row in notebook.history(notebook.run_folder(plain, split, WORK))
        ],
    },
    "epoch",
    "validation loss",
)

# %% [markdown]
# ## The same study, read by both

# %%
test = notebook.part(studies, split, config)
images = notebook.images_of(test, config)
systems = {"context": captioner, "attention": attention}
captions = {name: model.caption(images, beam_size=3) for name, model in systems.items()}
examples = notebook.examples(test, notebook.wordiest(test, 4), captions, captioner)
plots.words(examples[0])

# %%
plots.panel(examples)

# %% [markdown]
# ## Scores, and whether they differ

# %%
out = Path(WORK) / "context-or-attention"
cache = Path(WORK) / "cache"
rows = xc.evaluate(studies, systems, out, split=split, cache=cache, quick=True)
notebook.table(rows)

# %%
results = notebook.results(out)
plots.scores(rows, ("BLEU-4", "clinical_f1", "sides"), results["intervals"])

# %% [markdown]
# Both models are scored on the same test studies, patient by patient, so their difference has an interval of
# its own. Where it holds 0, this test set cannot tell the two apart. It says nothing of another training
# seed, which moves a score as much; `benchmarks/README.md` has three seeds of each preset.

# %%
chosen = [
    row
    for row in results["differences"]
    if {row["system"], row["rival"]} == {"context greedy", "attention greedy"}
]
notebook.table(chosen, ["metric", "system", "rival", "difference", "low", "high", "p"])

# %% [markdown]
# The model as a bundle:

# %%
captioner.save(run)
print(*sorted(path.name for path in run.iterdir() if path.suffix in (".json", ".h5", ".md")))

# %% [markdown]
# **Next:** [5_compare](5_compare.ipynb) puts all presets side by side.
