"""The app, driven without a browser over the shipped bundle."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit")
from streamlit import get_option
from streamlit.testing.v1 import AppTest

from xray_captioning.bundles.bundle import find_bundle
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.metrics.mentions import named_findings
from xray_captioning.serving import app, app_parts

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).resolve().parents[2]
ENTRY = str(ROOT / "streamlit_app.py")


@pytest.fixture
def page():
    return AppTest.from_file(ENTRY, default_timeout=120).run()


@pytest.fixture
def decoded(monkeypatch):
    """Return the beam size of every search, as they come."""
    real, calls = Captioner.write_captions, []

    def counted(self, features, beam_size=None):
        calls.append(beam_size)
        return real(self, features, beam_size)

    monkeypatch.setattr(Captioner, "write_captions", counted)
    return calls


@pytest.fixture
def overlays(monkeypatch):
    """Return the pictures that are shown, as they come."""
    real, shown = app.overlay, []

    def recorded(view, top):
        shown.append(real(view, top))
        return shown[-1]

    monkeypatch.setattr(app, "overlay", recorded)
    return shown


def labelled(widgets, label):
    return next(widget for widget in widgets if widget.label.startswith(label))


def choose(page, label, value):
    """Choose a pill."""
    return labelled(page.button_group, label).set_value(value).run()


def written(page):
    return "".join(block.value for block in page.get("html"))


def phantom_files(folder):
    files = sorted(folder.rglob("*.png"))[:2]
    return [(f"jane_doe_{i}.png", path.read_bytes(), "image/png") for i, path in enumerate(files)]


def test_the_page_appears_without_tensorflow():
    code = (
        "import sys; from streamlit.testing.v1 import AppTest;"
        f"page = AppTest.from_file({ENTRY!r}, default_timeout=60).run();"
        "assert not page.exception; assert 'Not for clinical use' in page.warning[0].value;"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_says_how_to_compare_and_keeps_uploads_in_memory(page):
    beside = labelled(page.selectbox, "Compare with")
    assert beside.disabled
    assert "--bundle" in beside.placeholder
    parsers = pytest.importorskip("starlette.formparsers")
    assert parsers.MultiPartParser.spool_max_size > get_option("server.maxUploadSize") << 20


def test_a_sample_is_captioned_and_another_word_decodes_nothing(page, decoded, overlays, monkeypatch):
    told, real = [], app.st.image
    monkeypatch.setattr(app.st, "image", lambda *a, alt, **k: told.append(alt) or real(*a, **k))
    page = choose(page, "Or a sample", 0)
    assert not page.exception
    assert 'class="xc-caption"' in written(page)
    assert decoded == [3]
    words = labelled(page.button_group, "or of one word").options
    named = {word for one in named_findings(words) for word in map(words.__getitem__, one.words)}
    assert words[0] in named  # that name findings come first
    page = choose(page, "or of one word", words[-1])
    assert decoded == [3]
    assert not page.exception
    assert len(overlays) == 4  # two views of a sentence, then of a word
    assert (overlays[0] != overlays[2]).any()
    assert len(set(told)) == 4  # each is described in words
    assert all(re.match("X-ray, (frontal|lateral); coloured: the attention of .", x) for x in told)
    labelled(page.selectbox, "Attention of").select_index(1).run()
    labelled(page.selectbox, "Least confidence").select(99).run()
    assert decoded == [3]
    labelled(page.selectbox, "Beam size").select(1).run()
    assert decoded == [3, 1]
    labelled(page.selectbox, "Beam size").select(3).run()
    assert decoded == [3, 1]


def test_what_is_not_confident_or_not_alike_is_said(page, monkeypatch):
    real = Captioner.write_captions

    def unsure(self, features, beam_size=None):
        (caption,) = real(self, features, beam_size)
        sentences = [sentence._replace(confidence=0.3) for sentence in caption.sentences]
        return [caption._replace(sentences=sentences, novelty=2.5)]

    monkeypatch.setattr(Captioner, "write_captions", unsure)
    page = choose(page, "Or a sample", 1)
    assert "2.5 times the distance" in page.error[0].value
    assert "%" not in re.search('(?s)<p class="xc-caption">.*?</p>', written(page))[0]
    assert "about 80 % were" not in written(page)
    assert "xc-bar" not in written(page).partition("</style>")[2]  # no percentages of findings
    assert "not confident" in written(page)
    assert not [box for box in page.selectbox if box.label == "Attention of"]
    labelled(page.selectbox, "Least confidence").select(25).run()  # below the .3 of each
    assert "not confident" in written(page)
    labelled(page.selectbox, "Least confidence").select(0).run()
    assert "not confident" not in written(page)
    assert "%" not in re.search('(?s)<p class="xc-caption">.*?</p>', written(page))[0]
    assert [box for box in page.selectbox if box.label == "Attention of"]


def test_uploads_are_captioned_and_their_names_are_not_repeated(page, phantoms):
    files = phantom_files(phantoms)
    page.file_uploader[0].set_value(files).run()
    assert not page.exception
    captioner = app.load("phantom_attention")  # the one the page has
    (caption,) = captioner.caption([[data for _, data, _ in files]], 3)
    for sentence in caption.sentences:
        assert sentence.text in written(page)
    assert "jane_doe" not in written(page)
    labelled(page.button_group, "or of one word").set_value(None).run()
    assert not page.query_params  # neither of the images nor of what was read in them


def test_an_earlier_study_is_shown_again_without_being_read_again(page, phantoms, decoded):
    about = [app_parts.sample(number, app.SEED).about for number in range(2)]
    assert not [box for box in page.selectbox if box.label == "Or a study of before"]
    labelled(page.selectbox, "Beam size").select(2).run()  # no other test has its captions in the cache
    for number in range(2):
        page = choose(page, "Or a sample", number)
    page.file_uploader[0].set_value(phantom_files(phantoms)).run()
    assert page.session_state["sample"] is None
    assert decoded == [2, 2, 2]
    earlier = labelled(page.selectbox, "Or a study of before")
    assert [name.split(":")[0] for name in earlier.options] == ["Study 3", "Study 2", "Study 1"]
    assert "jane_doe" not in "".join(earlier.options)
    earlier.select(1).run()
    assert about[0] in written(page)
    assert page.session_state["sample"] == 0  # for the address
    labelled(page.selectbox, "Or a study of before").select(3).run()
    assert page.session_state["sample"] is None
    labelled(page.selectbox, "Or a study of before").select(2).run()
    assert about[1] in written(page)
    page.file_uploader[0].set_value(phantom_files(phantoms)[:1]).run()  # another study is shown, and kept
    assert about[1] not in written(page)
    assert not page.exception
    assert decoded == [2, 2, 2, 2]


def test_a_link_says_what_is_shown_and_what_of_it_is_not_here():
    asked = {"model": "phantom_attention", "sample": "Sample 2", "beam": "1", "confidence": "0 %", "word": "zebra"}
    page = AppTest.from_file(ENTRY, default_timeout=120)
    page.query_params.update(asked)
    page.run()
    assert app_parts.sample(1, app.SEED).about in written(page)
    assert [labelled(page.selectbox, name).value for name in ("Beam size", "Least confidence")] == [1, 0]
    assert "could not be followed in: model, word." in page.warning[1].value or "in: word." in page.warning[1].value
    labelled(page.selectbox, "Beam size").select(3).run()
    assert len(page.warning) == 1
    assert not page.exception


def test_a_picture_is_said_to_be_lateral(page, phantoms, decoded):
    files = phantom_files(phantoms)
    page.file_uploader[0].set_value(files[:1]).run()
    choice = labelled(page.selectbox, "Image 1 shows")
    assert (choice.options, choice.value) == (["frontal", "lateral", "not said"], "unknown")
    choice.select("lateral").run()
    assert not page.exception
    assert len(decoded) == 2  # another place in the model
    captioner = app.load("phantom_attention")
    (caption,) = captioner.caption([[files[0][1]]], 3, views=["lateral"])
    for sentence in caption.sentences if caption.novelty <= 1 else ():
        assert sentence.text in written(page)
    page.file_uploader[0].set_value(files).run()
    labelled(page.selectbox, "Image 1 shows").select("lateral").run()
    labelled(page.selectbox, "Image 2 shows").select("lateral").run()
    assert "one frontal and one lateral" in page.error[0].value


def test_bundles_that_are_called_alike_are_told_apart():
    assert app._names(["a/runs", "b"]) == ["runs", "b"]
    assert app._names(["a/runs", "b/runs"]) == ["a/runs", "b/runs"]


def test_bad_uploads_are_one_line(page, decoded):
    bad = ("jane_doe.png", b"\x89PNG\r\n\x1a\nno", "image/png")
    page.file_uploader[0].set_value([bad]).run()
    assert [error.value for error in page.error] == [
        "image 1: is truncated, damaged or of a kind that is not read; get it again, or save it anew as PNG"
    ]
    image = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    page.file_uploader[0].set_value([(f"{i}.png", image, "image/png") for i in range(3)]).run()
    assert "3 images given; give one or two" in page.error[0].value
    assert not page.exception
    assert decoded == []


def test_the_name_of_a_bundle_is_text(tmp_path):
    pytest.importorskip("keras")  # an export is not saved under another name
    captioner = Captioner.load("phantom_attention")
    captioner.about["name"] = "![mine](http:a.png) <b>"
    captioner.save(tmp_path / "named")
    code = f"from xray_captioning.serving.app import main; main(['--bundle', {str(tmp_path / 'named')!r}])"
    page = choose(AppTest.from_string(code, default_timeout=120).run(), "Or a sample", 2)
    assert "Model: ![mine](http:a.png) &lt;b&gt; " in written(page)
    assert page.header[0].value == r"\!\[mine\]\(http\:a\.png\) \<b\>"
    assert not page.caption
    assert not page.exception


def test_two_bundles_are_compared_in_rows(tmp_path):
    copy = shutil.copytree(find_bundle("phantom_attention"), tmp_path / "copy")
    code = f"from xray_captioning.serving.app import main; main(['--bundle', {str(copy)!r}])"
    page = choose(AppTest.from_string(code, default_timeout=120).run(), "Or a sample", 0)
    assert "xc-beside" not in written(page).partition("</style>")[2]
    labelled(page.selectbox, "Compare with").select("phantom_attention").run()
    table = re.search('(?s)<table class="xc-table xc-beside">.*?</table>', written(page))[0]
    assert len(re.findall("<mark", table)) == 2 * len(re.findall("both: present", table)) > 0
    assert not page.exception


def test_two_bundles_are_compared_and_a_broken_one_spoils_nothing(tmp_path, decoded):
    broken = shutil.copytree(find_bundle("phantom_attention"), tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{}")
    code = f"from xray_captioning.serving.app import main; main(['--bundle', {str(broken)!r}])"
    page = AppTest.from_string(code, default_timeout=120).run()
    assert labelled(page.selectbox, "Model").options == [str(broken), "phantom_attention"]
    assert not labelled(page.selectbox, "Compare with").disabled
    labelled(page.selectbox, "Compare with").select("phantom_attention").run()
    page = choose(page, "Or a sample", 2)
    assert "altered since it was saved" in page.error[0].value
    assert written(page).count('class="xc-caption"') == 1
    assert not page.exception
