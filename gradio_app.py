"""The captions as a Gradio Space starts them; on a machine of one's own: pip install gradio && python gradio_app.py.

A smaller page than `streamlit_app.py`, with the same parts: what it shows is written by `app.html`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from xray_captioning.errors import XrayCaptioningError
from xray_captioning.metrics.mentions import named_findings
from xray_captioning.plots.images import overlay, strongest
from xray_captioning.runtime import open_captioner
from xray_captioning.serving import app_parts as parts

BUNDLE, SEED = "phantom_attention", 2048  # of the samples, as in the other app
SAMPLES = [f"Sample {number + 1}" for number in range(parts.SAMPLES)]
captioner = cache(open_captioner)  # loaded for the first caption


def answer(paths: list[str] | None, sample: str | None, beam_size: int, percent: int) -> tuple[str, list[Any], str]:
    """Return the caption as HTML, pictures with the attention of the words that name findings, and the findings."""
    try:
        if paths:
            study = parts.study_of([Path(path).read_bytes() for path in paths])
        elif sample:
            study = parts.sample(SAMPLES.index(sample), SEED)
        else:
            raise gr.Error("drop one or two images of one study, or choose a sample", print_exception=False)
        read = parts.read_study(captioner(BUNDLE), BUNDLE, study, beam_size)._replace(threshold=percent / 100)
    except XrayCaptioningError as error:
        raise gr.Error(str(error), print_exception=False) from error
    shown = {i for i, sentence in enumerate(read.sentences) if not sentence.hedged}
    words = [word for one in named_findings(read.caption.words) if one.sentence in shown for word in one.words]
    views = parts.views_of(study, read, words)
    notes = [parts.html("note", text) for text in (study.about, *read.cautions) if text]
    pictures = [(overlay(view, strongest(views)), parts.title(view)) for view in views]
    return parts.html("caption", read) + "".join(notes), pictures, parts.html("findings", read.findings)


def page() -> gr.Blocks:
    """Return the page. Gradio keeps uploads as temporary files: these are deleted after ten minutes."""
    with gr.Blocks(title="Chest X-ray captions", analytics_enabled=False, delete_cache=(60, 600)) as blocks:
        gr.HTML(parts.html("style") + f"<h1>Chest X-ray captions</h1><p><strong>{parts.NOTICE}</strong></p>")
        with gr.Row():
            with gr.Column():
                files = gr.File(label="One or two images of one study, frontal first", file_count="multiple")
                sample = gr.Radio(SAMPLES, label="Or a sample: drawn by a program, nobody's images")
                beam_size = gr.Radio([1, 2, 3, 5], value=3, label="Beam size")
                percent = gr.Radio([0, 25, 50, 70, 80, 90], value=50, label="Least confidence, %")
                asked = gr.Button("Write the caption", variant="primary")
            with gr.Column():
                caption = gr.HTML(label="Caption")
                pictures = gr.Gallery(label="Attention of the words that name findings", columns=2, height="auto")
        findings = gr.HTML(label="Findings")
        asked.click(answer, [files, sample, beam_size, percent], [caption, pictures, findings])
    return blocks


if __name__ == "__main__":
    page().launch()
