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
# # 8. Your own data: from a folder of images to a running service
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/xray-captioning/xray_captioning/blob/main/notebooks/8_your_own_data.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/xray-captioning/xray_captioning/blob/main/notebooks/8_your_own_data.ipynb)
#
# A table of captions, DICOM files, Open-i XML: how your studies get in, and the commands that prepare, train,
# evaluate, caption and serve. The commands are the same in a terminal. To have something to work on, this
# notebook first writes a small collection in each format; put yours in its place.
#
# | | two CPU cores | GPU |
# |---|---|---|
# | phantoms, small | three minutes | two minutes (estimated) |

# %%
import importlib.util
from pathlib import Path

extras = "[dicom,serve]"
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
studies = notebook.usable(xc.read_studies(data.path)).head(600)

# %% [markdown]
# ## A table of captions
#
# `captions.csv` with the columns `image` (or `filename`) and `caption` (or `report`), beside a folder
# `images/`. Images of one study share a `study_id`; without that column each image is a study.

# %%
import shutil

own = Path(WORK) / "own"
shutil.rmtree(own, ignore_errors=True)
(own / "images").mkdir(parents=True)
table = studies[studies["impression"].fillna("") != ""].explode("images")
for image in table["images"]:
    shutil.copy(image, own / "images")
table = table.assign(image=[Path(image).name for image in table["images"]], caption=table["impression"])
table[["study_id", "image", "caption"]].to_csv(own / "captions.csv", index=False)
print((own / "captions.csv").read_text()[:400])

# %% [markdown]
# ## DICOM
#
# With the `dicom` extra, images may be DICOM files of one frame. Window, inversion (MONOCHROME1) and padding
# are applied as the standard says, the greys are stretched to the full range, and no patient field is read.
# Below, one image as PNG and as DICOM.

# %%
import cv2
import pydicom

from xray_captioning.data.dicom.pixels import view_of
from xray_captioning.data.images import read_image

png, dicom = studies["images"][0][0], f"{WORK}/one.dcm"
dataset = pydicom.Dataset()
dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
dataset.SOPInstanceUID = pydicom.uid.generate_uid()
dataset.Modality, dataset.ViewPosition = "DX", "PA"
dataset.set_pixel_data(cv2.imread(png, cv2.IMREAD_GRAYSCALE), "MONOCHROME2", 8)
pydicom.dcmwrite(dicom, dataset, enforce_file_format=True)
print("view position", view_of(dicom))
for path in (png, dicom):
    pixels = read_image(path, 224)
    print(f"{Path(path).suffix}: {pixels.shape}, greys {pixels.min():.2f} to {pixels.max():.2f}")

# %% [markdown]
# ## Open-i XML
#
# A folder of the collection's XML reports, or the `.tgz` of it, with the images anywhere below.

# %%
from xml.etree import ElementTree

reports = Path(WORK) / "openi"
shutil.rmtree(reports, ignore_errors=True)
reports.mkdir()
for row in studies.head(20).fillna("").to_dict("records"):
    report = ElementTree.Element("eCitation")
    ElementTree.SubElement(report, "uId", id=f"CXR{row['study_id']}")
    for name in ("comparison", "indication", "findings", "impression"):
        ElementTree.SubElement(report, "AbstractText", Label=name.upper()).text = row[name]
    for image in row["images"]:
        ElementTree.SubElement(report, "parentImage", id=Path(image).stem)
    ElementTree.ElementTree(report).write(reports / f"{row['study_id']}.xml", "utf-8")
xc.read_studies(reports)[["study_id", "findings", "impression"]].head(2)

# %% [markdown]
# ## Prepare
#
# What is there, what is missing, and the split, which every later command finds again from the data. (What
# a command says goes through a file here, which leaves out the progress bars one sees in a terminal.)

# %%
said = Path(WORK) / "said.txt"
# !xray-captioning prepare {own} > {said} 2>&1
print(said.read_text())

# %%
shown = xc.read_studies(own)
shown = shown.assign(reference=shown["impression"])
plots.panel(notebook.examples(shown, notebook.wordiest(shown, 2)))

# %% [markdown]
# ## Train
#
# Findings first, then the captions. A table of captions codes no findings, so they are read from its words.
# `--preset` names a recipe and `--set` changes a field of it: here a small one, for phantoms. For real
# images and a GPU use `--preset chexnet_attention` and leave the `--set` out.

# %%
epochs = 1 if SIZE == "quick" else 8
small = "--preset phantom_attention --set fractions=[0.7,0.1,0.2]"
longer = f"--set encoder_training.epochs={epochs} --set training.epochs={epochs}"
folders = f"--data {own} --cache {WORK}/cache"
encoder, run, results = (f"{WORK}/own-{name}" for name in ("encoder", "captioner", "results"))

# %%
# !rm -rf {encoder} {run}
# !xray-captioning train-encoder {folders} --out {encoder} --weights random {small} {longer} > {said} 2>&1
print(said.read_text())

# %%
# !xray-captioning train {folders} --out {run} --encoder {encoder} {small} {longer} > {said} 2>&1
print(said.read_text())

# %%
plots.curves(notebook.history(Path(run)))

# %% [markdown]
# ## Evaluate
#
# The bundle beside a dozen systems that look at no image, as tables, as `captions.csv` and as one HTML page
# to send around. With so few studies expect a warning that it is not clearly better than a fixed report:
# that is what the warning is for.

# %%
# !xray-captioning evaluate {folders} --bundle {run} --beam 1 --out {results} --report {results}/page.html > {said} 2>&1
for alarm in notebook.results(results)["alarms"]:
    notebook.note("Please note", alarm["message"])
notebook.table(notebook.results(results)["rows"])

# %% [markdown]
# ## Caption
#
# Images of one study are joined by a comma; a folder is captioned image by image.

# %%
pair = ",".join(shown["images"][0])

# %%
# !xray-captioning caption --bundle {run} {pair} > {said} 2>&1
print(said.read_text())

# %% [markdown]
# The same from Python, with attention:

# %%
captioner = xc.Captioner.load(run)
test = shown.iloc[notebook.wordiest(shown, 1)]
captions = captioner.caption(notebook.images_of(test, captioner.config), beam_size=3)
plots.words(notebook.examples(test, [0], {"own": captions}, captioner)[0])

# %% [markdown]
# ## Serve
#
# `xray-captioning serve` answers HTTP requests, `xray-captioning app` is a page for a browser (both need the
# `serve` extra). Images travel in the multipart field `images`, repeated; nothing is kept.

# %%
import json
import re
import subprocess

files = " ".join(f"--form images=@{image}" for image in shown["images"][0])
command = ["xray-captioning", "serve", "--bundle", run, "--port=0"]  # a free port, which it prints
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
address = re.search(r"http://\S+", server.stdout.readline())[0]
# While the model is compiled the answer is 503, and curl asks again each second.
# !curl --silent --fail --retry 900 --output {WORK}/ready.json {address}/readyz
# !curl --silent --show-error --fail {files} {address}/v1/captions > {WORK}/answer.json
server.terminate()
answer = json.loads(Path(f"{WORK}/answer.json").read_text())
print(answer["text"])
print(*answer)

# %% [markdown]
# ## Where to go from here
#
# - More studies, a pretrained encoder (`--weights imagenet`, or CheXNet's file), a GPU.
# - `xray-captioning review export` makes blinded sheets for readers.
# - **No clinical use.** A caption is fluent whether or not it is true.
