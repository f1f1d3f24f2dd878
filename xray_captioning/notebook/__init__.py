"""What the notebooks share, so that their cells stay thin.

A notebook finds its data with :func:`find_data`, takes a preset at a size that fits the machine
with :func:`recipe`, and trains with :func:`fit_encoder` and :func:`fit_captioner`, which take what
an earlier notebook, or an interrupted one, left in the working folder.
"""

from xray_captioning.notebook.data import Data, Note, find_data, note, setup, usable
from xray_captioning.notebook.runs import (
    captions,
    encoder_recipe,
    fit_captioner,
    fit_encoder,
    has_gpu,
    history,
    recipe,
    results,
    run_folder,
)
from xray_captioning.notebook.samples import serving, write_captions, write_dicom, write_openi
from xray_captioning.notebook.tables import (
    examples,
    image_sizes,
    images_of,
    legacy_favourite,
    part,
    sentences_by_truth,
    table,
    telling,
    text_rows,
    view_shares,
)

__all__ = [
    "Data",
    "Note",
    "captions",
    "encoder_recipe",
    "examples",
    "find_data",
    "fit_captioner",
    "fit_encoder",
    "has_gpu",
    "history",
    "image_sizes",
    "images_of",
    "legacy_favourite",
    "note",
    "part",
    "recipe",
    "results",
    "run_folder",
    "sentences_by_truth",
    "serving",
    "setup",
    "table",
    "telling",
    "text_rows",
    "usable",
    "view_shares",
    "write_captions",
    "write_dicom",
    "write_openi",
]
