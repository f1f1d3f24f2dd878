"""The Streamlit app: a front end over a captioner. Streamlit runs this file again whenever the user changes something.
What was read is cached in the user's session: no study is decoded twice, and uploads go with the session.
"""

import argparse
import contextlib
import gc
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from xray_captioning.bundles.bundle import shipped_bundles
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data import images, opening, studies
from xray_captioning.errors import XrayCaptioningError
from xray_captioning.metrics.mentions import named_findings, sentence_words, spoken
from xray_captioning.plots.images import View, colour_scale, overlay, strongest
from xray_captioning.serving import app_parts as parts
from xray_captioning.serving.app_parts import html

TYPES = [suffix.removeprefix(".") for suffix in opening.IMAGE_SUFFIXES]
SEED = 2048  # of the samples: three unlike studies, one of them normal
BEAMS = (1, 2, 3, 5, 10)  # the third at first, as of the limits
VIEW_NAME = {studies.FRONTAL: "frontal", studies.LATERAL: "lateral", studies.UNKNOWN: "not said"}.__getitem__
LIMITS = (0, 25, 50, 70, 80, 90, 95, 99)  # percent
LINKED: Any = {"bind": "query-params"}  # of what the page's address says, as a link to it does
KEPT: Any = {"persist_state": "session"}  # of what belongs to one study and is there again with it


def main(arguments: Sequence[str] = ()) -> None:
    """Draw the page once; arguments are ``--bundle``, repeatable, ``--seed`` and ``--runtime``."""
    _keep_uploads_in_memory()
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bundle", action="append", default=[])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--runtime")
    options = parser.parse_args(list(arguments))
    st.set_page_config("Chest X-ray captions", page_icon="🩻", layout="wide")
    st.html(html("style"))
    st.title("Chest X-ray captions")
    st.warning(parts.NOTICE)
    told, asked = st.empty(), set() if "past" in st.session_state else set(st.query_params)  # of a link just followed
    bundles, beam_size, threshold = _settings(list(dict.fromkeys([*options.bundle, *shipped_bundles()])))
    try:
        if study := _study(options.seed):
            _show_all(study, bundles, beam_size, threshold, options.runtime)
        else:
            st.info("Drop one or two images of a study above, or choose a sample.")
    except XrayCaptioningError as error:
        st.error(str(error))
    if lost := sorted(asked - set(st.query_params)):  # Streamlit takes out what is no choice here
        told.warning(f"The link could not be followed in: {', '.join(lost)}. What it asks for is not here.")


@st.cache_resource(show_spinner="Loading the model …", max_entries=4)
def load(bundle: str, runtime: str | None = None) -> Captioner:
    """Return a bundle, loaded once for all sessions."""
    from xray_captioning.runtime import open_captioner  # here: the page appears at once

    captioner = open_captioner(bundle, runtime)
    # Streamlit collects garbage after every event. Without this it looks at all of TensorFlow's
    # objects each time, and nobody is served meanwhile.
    gc.collect()
    gc.freeze()
    return captioner


def _keep_uploads_in_memory() -> None:
    """Keep Streamlit's server from putting an upload above 1 MB into a temporary file."""
    with contextlib.suppress(ImportError):  # before it was Starlette, it never did
        from starlette.formparsers import MultiPartParser

        limit = int(st.get_option("server.maxUploadSize")) << 20
        MultiPartParser.spool_max_size = 2 * limit  # what is larger is refused on its way


def _settings(names: list[str]) -> tuple[list[str], int, float]:
    """Let the user choose one bundle or two, a beam size, and the least confidence, in [0, 1]."""
    with st.sidebar:
        # No sliders: their keys would ask for every value on the way, and each beam size compiles.
        bundle = st.selectbox("Model", names, key="model", **LINKED, help="The trained bundle of a preset.")
        others = [name for name in names if name != bundle]
        more: Any = {"placeholder": "Another model" if others else "Start with --bundle FOLDER", **LINKED}
        beside = st.selectbox("Compare with", others, None, key="compare", disabled=not others, **more)
        beam_size = st.selectbox("Beam size", BEAMS, 2, str, "beam", "1 is greedy and has no alternatives.", **LINKED)
        told = "Less sure sentences are shown as “not confident”. A model that is not calibrated withholds nothing."
        threshold = st.selectbox("Least confidence", LIMITS, 2, "{} %".format, "confidence", told, **LINKED)
    return [bundle, beside] if beside else [bundle], beam_size, threshold / 100


def _study(seed: int) -> parts.Study | None:
    past: dict[int, parts.Study] = st.session_state.setdefault("past", {})
    if earlier := past.get(st.session_state.get("earlier", 0)):  # so that a link has its sample, or none
        st.session_state["sample"] = earlier.sample
    (own, samples), leave = st.columns([3, 2]), st.session_state.update  # what was chosen before
    with own:
        asked = "One or two images of one study: PNG, JPEG, TIFF, BMP, WebP or DICOM, frontal first; no link holds them"
        uploads = st.file_uploader(asked, TYPES, True, on_change=leave, args=({"earlier": None, "sample": None},))
    with samples:
        told, shown = "Or a sample: drawn by a program, nobody's images", lambda number: f"Sample {number + 1}"
        own_key: Any = {"key": "sample", "disabled": bool(uploads), "on_change": leave, "args": ({"earlier": None},)}
        number = st.pills(told, range(parts.SAMPLES), format_func=shown, **own_key, **LINKED)
        files = [upload.getvalue() for upload in uploads]
        views = _views(files) if 0 < len(files) <= 2 else None
        drawn = None if number is None else _drawn(number, seed)
        if study := _own(parts.digest(files), views, files) if files else drawn:
            parts.remember(past, study)
        if len(past) < 2:
            return study
        names = {n: f"Study {n}: {', '.join(one.names)}{', drawn' * bool(one.about)}" for n, one in past.items()}
        label, name = "Or a study of before", names.__getitem__
        again = st.selectbox(label, sorted(past)[::-1], None, name, "earlier", placeholder="the last one")
        return past[again] if again else study


def _views(files: list[bytes]) -> list[str]:
    """Let the user say what each image shows, where a DICOM file does not say it itself."""
    told = "Each view has its own place in the model. If it is not said, the first image is taken for the frontal one."
    shown: list[str] = []
    for number, (place, file, view) in enumerate(zip(st.columns(len(files)), files, images.known_views(files)), 1):
        key, first = f"view-{number}-{parts.digest([file])}", studies.VIEWS.index(view)
        shown.append(place.selectbox(f"Image {number} shows", studies.VIEWS, first, VIEW_NAME, key, told, **KEPT))
    return shown


_drawn = st.cache_resource(scope="session", max_entries=1, show_spinner=False)(parts.sample)


@st.cache_resource(scope="session", max_entries=1, show_spinner=False)
def _own(digest: str, views: list[str] | None, _files: list[bytes]) -> parts.Study:
    return parts.study_of(_files, views)


@st.cache_resource(scope="session", max_entries=2 * parts.PAST, show_spinner="Reading the images …")
def _read(
    bundle: str, name: str, beam_size: int, digest: str, _captioner: Captioner, _study: parts.Study
) -> parts.Result:
    return parts.read_study(_captioner, name, _study, beam_size)


def _show_all(study: parts.Study, bundles: list[str], beam_size: int, threshold: float, runtime: str | None) -> None:
    if study.about:
        st.html(html("note", study.about))
    top, found = st.container(), []
    places = st.columns(len(bundles)) if len(bundles) > 1 else [st.container()]
    for place, bundle, name in zip(places, bundles, _names(bundles)):
        with place:
            try:
                captioner = load(bundle, runtime)
                kinds = captioner.config.text.context
                # Images of another study come with nothing that was told of this one.
                keys = {kind: f"{kind}-{bundle}-{parts.digest(sorted(study.files))}" for kind in kinds}
                own = study.told({k: st.text_input(k.capitalize(), key=key, **KEPT) for k, key in keys.items()})
                called = captioner.identity.name
                name = called if called == name or len(places) == 1 else f"{called} ({name})"  # two may be of one name
                result = _read(bundle, name, beam_size, own.digest, captioner, own)
            except XrayCaptioningError as error:
                st.error(str(error))
                continue
        found.append((place, result._replace(threshold=threshold), captioner.identity))
    if len(found) > 1:
        results = [result for _, result, _ in found]
        top.header("Sentence beside sentence")
        top.html(html("comparison", results, parts.aligned(results)))
    for number, (place, result, identity) in enumerate(found):
        with place:
            _show(study, result, "2" * number, len(places) == 1)
            st.html(html("note", f"Model: {identity}"))  # as text, whoever named it


def _names(bundles: list[str]) -> list[str]:
    """Return what to call bundles: their folders, or whole paths where those are called alike."""
    names = [Path(bundle).name for bundle in bundles]
    return names if len(set(names)) == len(names) else bundles


def _show(study: parts.Study, result: parts.Result, which: str, wide: bool) -> None:
    # Filled in the order in which a phone shows them, one below the other.
    left, right = st.columns([4, 5]) if wide else (st.container(), st.container())
    with left:
        st.header(re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", result.bundle))  # as text, too, and not as Markdown
        if result.warning:
            st.error(result.warning)
        st.html(html("caption", result))
        if result.limits:
            st.html(html("note", result.limits))
        words, of, sentence = _choice(study, result, which)
    regions = [one for one in result.answer.regions or () if one.sentence == sentence]
    views, boxes = parts.views_of(study, result, words, regions), html("boxes", regions, study)
    with right:
        top = strongest(views)
        for place, one in zip(st.columns(len(views)), views):
            told = f"X-ray, {one.name}" + (f"; coloured: the attention of {of}" if top > 0 else "")
            told += f"; {len(one.boxes)} boxes, described below" if one.boxes else ""
            with place:
                st.image(overlay(one, top), parts.title(one), width="stretch", alt=told)
        if top > 0:
            colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_scale(9)]
            st.html(html("attention", colours, top, len(views), result.pointing))
        if boxes:
            st.html(boxes)
    left, right = st.columns([4, 5]) if wide else (st.container(), st.container())
    with left:
        st.header("Findings")
        st.html(html("findings", result.findings))
    with right:
        st.header("Alternatives")
        st.html(html("alternatives", result))
        st.header("Download")
        stem = "caption" if wide else f"caption_{re.sub('[^A-Za-z0-9]+', '_', result.bundle)}"
        _downloads(study, result, views, of, boxes, stem)


def _choice(study: parts.Study, result: parts.Result, which: str) -> tuple[list[int], str, int]:
    """Let the user choose a sentence, of which words that name findings count, or a word: places, text and sentence."""
    caption, sentences = result.caption, sentence_words(result.caption.words)
    shown = [i for i, sentence in enumerate(result.sentences) if not sentence.hedged]
    regions = result.answer.regions or []
    if not shown or (caption.attention is None and not regions):
        missing = "regions to attend to" if caption.attention is None else "sentence that is shown"
        st.html(html("note", f"No attention: there is no {missing}."))
        return [], "", -1
    first = regions[0].sentence if regions else shown[0]
    label = "Region of" if caption.attention is None else "Attention of"
    own, linked = ("", LINKED) if study.about else ("own-", {})  # no link has what was read in a user's images
    texts = _apart([caption.sentences[i].text for i in shown])
    text = st.selectbox(label, texts, shown.index(first), key=f"{own}sentence{which}", **linked)
    chosen = shown[texts.index(text)]
    named = [place for one in named_findings(caption.words) if one.sentence == chosen for place in one.words]
    places = sorted(spoken(caption.words, sentences[chosen]), key=lambda place: place not in named)
    words, label = _apart([caption.words[place] for place in places]), "or of one word, those of findings first"
    word = None if caption.attention is None else st.pills(label, words, key=f"{own}word{which}", wrap=True, **linked)
    if word is not None:
        return [places[words.index(word)]], f"“{word}”", chosen
    return (named, f"“{' '.join(caption.words[i] for i in named)}”", chosen) if named else (places, text, chosen)


def _apart(texts: list[str]) -> list[str]:
    """Return texts of which no two are the same: the second of one is numbered, and so on."""
    return [f"{text} ({texts[:i].count(text) + 1})" if text in texts[:i] else text for i, text in enumerate(texts)]


def _downloads(study: parts.Study, result: parts.Result, views: list[View], of: str, boxes: str, stem: str) -> None:
    made: dict[str, tuple[str, Callable[[], str | bytes]]] = {
        "txt": ("Text", lambda: parts.as_text(result)),
        "json": ("JSON", lambda: parts.as_json(result)),
        "png": ("Picture", lambda: parts.as_picture(study, result, views, of, boxes)),
    }
    with st.container(horizontal=True):
        for suffix, (label, make) in made.items():
            st.download_button(label, make, f"{stem}.{suffix}", on_click="ignore", key=f"{suffix}-{result.bundle}")


if __name__ == "__main__":
    main(sys.argv[1:])
