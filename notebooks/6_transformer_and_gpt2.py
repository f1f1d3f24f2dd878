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
# # 6. Transformers: ViT with GPT-2, CNN with a Transformer decoder
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/6_transformer_and_gpt2.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/6_transformer_and_gpt2.ipynb)
#
# Two models without recurrence write the longer section, the findings: a Vision Transformer with a GPT-2
# that has learned to look at the image (cross-attention), and a convolutional network with a Transformer
# decoder whose captions begin with the views they are about.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | six minutes after notebook 5, which trains the encoders | four minutes (estimated) |
# | Indiana University collection, the presets themselves | days: use `SIZE = "small"` | an hour and a half (estimated) |
#
# With `SIZE = "full"` the published weights of ViT-B/16 and GPT-2 come through keras-hub. Where they cannot
# be downloaded the cell stops and says why. The small models always start from random weights, on words
# instead of byte pairs.

# %%
import importlib.util
from pathlib import Path

extras = "[hub]"
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
# ## Two recipes
#
# Both train with AdamW: Adam whose weight decay is applied to the weights themselves rather than to the
# gradient, which Transformers need more than recurrent networks do.

# %%
PRESETS = ("vit_gpt2", "cnn_transformer")
configs = {name: notebook.recipe(name, data, studies, SIZE, "findings") for name in PRESETS}
split = xc.split_studies(studies, configs["vit_gpt2"].fractions)
rows = [
    {
        "preset": name,
        "encoder": config.model.encoder,
        "decoder": config.model.decoder,
        "layers": config.model.layers,
        "heads": config.model.heads,
        "learning rate": f"{config.training.learning_rate:g}",
        "weight decay": f"{config.training.weight_decay:g}",
        "longest text": config.text.maximum_length,
    }
    for name, config in configs.items()
]
notebook.table(rows, list(rows[0]))

# %% [markdown]
# ## Train
#
# Each encoder learns the findings first. A Vision Transformer that starts from random weights needs more
# images than a convolutional network, so the small one looks through four convolutions instead of at raw
# patches.

# %%
captioners, runs = {}, {}
for name, config in configs.items():
    captioners[name] = notebook.fit_captioner(config, studies, split, data, WORK)
    runs[name] = notebook.run_folder(config, split, WORK)

# %%
losses = {name: [row["val_loss"] for row in notebook.history(run)] for name, run in runs.items()}
plots.lines(losses, "epoch", "validation loss")

# %%
plots.curves(notebook.history(runs["vit_gpt2"]))

# %% [markdown]
# ## What they write
#
# `cnn_transformer` names its views first; scores leave that sentence out. No trigram may occur twice in a
# caption of `vit_gpt2` (`decoding.no_repeat_ngram`): small language models like to repeat themselves.

# %%
config = configs["vit_gpt2"]
test = notebook.part(studies, split, config)
images, shown = notebook.images_of(test, config), notebook.wordiest(test, 3)
captions = {name: model.caption(images, beam_size=3) for name, model in captioners.items()}
examples = notebook.examples(test, shown, captions, captioners["vit_gpt2"])
plots.panel(examples)

# %% [markdown]
# ## Cross-attention, word by word
#
# The mean over layers and heads of GPT-2's look at the regions, and below that of the Transformer decoder.
# The regions of a Vision Transformer have already exchanged what they know, so a word need not be read where
# its subject lies: a warning against taking such pictures for explanations.

# %%
plots.words(examples[0], most=24)

# %%
other = notebook.examples(test, shown[:1], dict(reversed(captions.items())), captioners["cnn_transformer"])
plots.words(other[0], most=24)

# %% [markdown]
# ## Scores

# %%
out = Path(WORK) / "findings"
cache = Path(WORK) / "cache"
rows = xc.evaluate(studies, captioners, out, split=split, cache=cache, quick=True)
notebook.table(rows)

# %%
plots.scores(rows, ("BLEU-4", "clinical_f1", "sides"), notebook.results(out)["intervals"])

# %% [markdown]
# ## Which sentences is it sure of?
#
# A sentence's mean log-probability a word, for the captions of all test studies, split by whether the
# sentence also stands in the report. What the model is surer of is more often right, but not always.

# %%
def bare(sentence):
    return sentence.lower().rstrip(" .").strip()


right, wrong = [], []
for caption, reference in zip(captions["vit_gpt2"], test["reference"]):
    there = {bare(sentence) for sentence in reference.split(" . ")}
    for sentence in caption.sentences:
        found = right if bare(sentence.text) in there else wrong
        found.append(sentence.log_probability)
plots.histograms(
    {"sentence stands in the report": right, "does not": wrong},
    "mean log-probability of a word",
    unit="sentences",
)

# %% [markdown]
# **Next:** [7_metrics](7_metrics.ipynb) asks what these scores are worth.
