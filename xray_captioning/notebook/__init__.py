"""What the notebooks share, so that their cells stay short.

A notebook finds its data with :func:`find_data`, takes a preset at a size that fits the machine
with :func:`recipe`, and trains with :func:`fit_encoder` and :func:`fit_captioner`, which take what
an earlier notebook, or an interrupted one, left in the working folder.
"""

# ruff: noqa: E402, F401
from xray_captioning.files import load_quietly

load_quietly()  # a notebook is a program; TensorFlow's notices would stand in its first output

from xray_captioning.data.targets import study_images as images_of
from xray_captioning.evaluation.cases import wordiest
from xray_captioning.notebook.data import Data, Note, find_data, note, setup, usable
from xray_captioning.notebook.runs import (
    captions,
    encoder_recipe,
    examples,
    fit_captioner,
    fit_encoder,
    history,
    part,
    recipe,
    results,
    run_folder,
    table,
)
