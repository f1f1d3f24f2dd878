"""The text of a study that a model is trained to write, and that captions are compared with."""

from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import _WORD, reference_texts, section_texts
from xray_captioning.text.cleaning import PROTOCOLS, clean

REPORT = Config().replace({"text.section": "report"})


def read(folder, *rows):
    (folder / "captions.csv").write_text("\n".join(["image,findings,impression", *rows]) + "\n")
    return read_studies(folder)


def test_a_report_is_findings_and_impression(tmp_path):
    studies = read(tmp_path, "a.png,Clear lungs.,Normal chest.", "b.png,,Normal chest.")
    assert section_texts(studies, REPORT) == ["Clear lungs. Normal chest.", "Normal chest."]


def test_a_text_that_is_findings_and_impression_stands_in_the_report_once(tmp_path):
    """A caption without headings is both; a model would learn to say everything twice."""
    (tmp_path / "captions.csv").write_text("image,caption\na.png,Small left effusion.\n")
    [text] = reference_texts(read_studies(tmp_path), REPORT)
    assert text == "small left effusion ."


@given(st.text(), st.text())
def test_of_a_word_something_is_left_by_every_cleaning(before, after):
    """So that texts need not be cleaned to know that they are there."""
    for word in ("heart", "XNormal1", "2mass."):
        assert _WORD.search(text := f"{before}{word}{after}")
        assert all(clean(text, name).strip(" .") for name in PROTOCOLS)
