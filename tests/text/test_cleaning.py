"""The cleaning protocols."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.text.cleaning import PROTOCOLS, clean, prettify, sentences, without_common_marks, without_marks

REPORT_LIKE = st.lists(
    st.sampled_from("aAxX1290 .,;:-'()%/<>_\n\u2019\u2013\u00e9m")
    | st.sampled_from(["xx", "XXX", "mm", "dr.", "0/0", "1,000", "(1)", "1. ", " .5", "x-", "'s"]),
    max_size=40,
).map("".join)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("The heart is NORMAL. No effusion.", "the heart is normal . no effusion ."),
        ("No effusion, or pneumothorax", "no effusion , or pneumothorax ."),
        ("1. No acute disease. 2. Stable.", "no acute disease . stable ."),
        ("1.No acute disease.2.Stable.", "no acute disease . stable ."),
        ("1) No acute disease. (2) Stable.", "no acute disease . stable ."),
        ("A 10mm nodule, 2.5 x 3 cm mass.", "a 10 mm nodule , 2.5 x 3 cm mass ."),
        ("Nodule of .5 cm at T10; 50% smaller", "nodule of 0.5 cm at t10 , 50 % smaller ."),
        ("XXXX-year-old with chest x-XXXX.", "year-old with chest ."),
        ("XXXX. The XXXX's lungs.", "the lungs ."),
        ("ComparisXXXXXXXX, 3XX, X.X.X.X.", "comparis , 3 ."),
        ("Follow-up of right-sided tube.", "follow-up of right-sided tube ."),
        ("Told Dr. Smith at 5 p.m. today.", "told dr smith at 5 pm today ."),
        ("Patient\u2019s 5\u20136 mm nodule!", "patient's 5-6 mm nodule ."),
        ("Ribs 1,000 cc, <end> AP/PA... ok?", "ribs 1,000 cc , end ap pa . ok ."),
        ("Fractures, . , , old.", "fractures . old ."),
        ("Derrame pleural peque\u00f1o.", "derrame pleural peque\u00f1o ."),
        ("", ""),
        (" . XXXX . 3.", ""),
    ],
)
def test_plain(raw: str, cleaned: str) -> None:
    assert clean(raw, "plain") == cleaned


@given(st.one_of(REPORT_LIKE, st.text(max_size=40)))
@settings(max_examples=200, deadline=None)
def test_plain_is_idempotent_and_free_of_marks(raw: str) -> None:
    once = clean(raw, "plain")
    assert clean(once, "plain") == once
    assert "xxx" not in once
    assert once == " ".join(once.split())
    assert once == "" or once.endswith(" .")


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("The heart is normal. No effusion.", "the heart is normal . no effusion ."),
        ("1. No effusion, or edema. 2. Stable.", "no effusion or edema . stable ."),
        ("Left-sided (small) AP/PA view..", "left-sided small appa view ."),
        ("Patient's XXXX: 2.5 cm, 50%.", "patients xxxx 25 cm 50 ."),
        ("A <b>; c=d @ [e] {f} ~ $1", "a b cd e f ~ $1 ."),
        ("no . effusion ", "no . effusion ."),
        ("", "."),
    ],
)
def test_r2gen(raw: str, cleaned: str) -> None:
    assert clean(raw, "r2gen") == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("No acute disease. Normal heart.", "no acute disease . normal heart ."),
        # A digit takes the character after it along.
        ("1. Mass of 10 mm.", "mass of mm ."),
        ("Level T12.", "level t ."),
        ("A 5mm, stable.", "a m stable ."),
        ("XXXX the X-ray is XX .", "the ray is"),
        ("end . Next, no; right-sided", "end next no right sided"),
        ("a &amp; b", "a amp b"),
        ("XXXX 12", ""),
        ("", ""),
    ],
)
def test_legacy(raw: str, cleaned: str) -> None:
    assert clean(raw, "legacy") == cleaned


@given(st.text(max_size=60))
@settings(deadline=None)
def test_legacy_keeps_letters_and_full_stops_only(raw: str) -> None:
    assert set(clean(raw, "legacy")) <= set("abcdefghijklmnopqrstuvwxyz. ")


def test_every_protocol_separates_words_by_single_spaces() -> None:
    for protocol in PROTOCOLS:
        cleaned = clean("  No\tacute\n\ndisease .  Stable,  old.", protocol)
        assert cleaned == " ".join(cleaned.split())


def test_wrong_use_is_an_error_of_one_line() -> None:
    with pytest.raises(ConfigError, match="plain, r2gen, legacy"):
        clean("a", "simple")
    with pytest.raises(DataError, match="not text but float"):
        clean(math.nan, "plain")  # type: ignore[arg-type]


def test_prettify_and_sentences() -> None:
    text = "no pleural effusion . heart is normal , 2.5 cm nodule , 50 % smaller ."
    pretty = "No pleural effusion. Heart is normal, 2.5 cm nodule, 50% smaller."
    assert prettify(text) == pretty
    assert prettify(pretty) == pretty
    assert sentences(text)[0] == "no pleural effusion"
    assert len(sentences(text)) == len(sentences(pretty)) == 2
    assert prettify("") == ""
    assert sentences(" . ") == []


def test_real_reports(shared_data) -> None:
    splits = json.loads((shared_data / "iu" / "r2gen_annotation.json").read_text())
    reports = [study["report"] for split in splits.values() for study in split]
    cleaned = [clean(report, "plain") for report in reports]
    assert not any("xx" in text for text in cleaned)
    assert all(text.endswith(" .") for text in cleaned)
    assert [clean(text, "plain") for text in cleaned[:300]] == cleaned[:300]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("startseq the lungs are clear endseq", "the lungs are clear"),
        ("startofseq the lungs are clear end_of_sequence", "the lungs are clear"),
        ("<start> no effusion . <end>", "no effusion ."),
        ("<s>No effusion.</s><pad><pad>", "No effusion."),
        ("[CLS] no effusion [SEP] [PAD]", "no effusion"),
        ("<|startoftext|>No effusion.<|endoftext|>", "No effusion."),
        ("No effusion. nan", "No effusion."),
        ("nan No effusion.", "No effusion."),
        ("FINDINGS: nan IMPRESSION: Normal. NaN.", "FINDINGS: IMPRESSION: Normal."),
        ("nan nan", ""),
        ("<p>Heart <b>normal</b>.<br/>Lungs clear.</p>", "Heart normal.\nLungs clear."),
        ("lungs &amp;amp; pleura,&#32;&lt;2 cm &lt;/s&gt;", "lungs & pleura, <2 cm"),
        ("A&E; R&D &copy;", None),
        ("a malignancy, <2 cm [see note], at the start and end", None),
        ("The sequence ends at [**Hospital**].", None),
    ],
)
def test_words_of_programs_are_left_out(text, kept):
    assert without_marks(f" {text}\n") == (text if kept is None else kept)
    assert without_marks(without_marks(text)) == without_marks(text)


def test_english_words_are_marks_only_where_every_text_has_them():
    marked = ["start no effusion end", None, "start clear lungs . end"]
    assert without_common_marks(marked) == ["no effusion", None, "clear lungs ."]
    reports = [*marked, "start of treatment, no effusion"]
    assert without_common_marks(reports) == reports
    assert without_common_marks([None]) == [None]
    assert without_common_marks(["start end"]) == [None]
    assert without_common_marks(["START no effusion END"]) == ["no effusion"]


def test_one_text_without_marks_is_enough_to_know_that_a_column_has_none():
    class Unread(str):
        def split(self, *_):
            raise AssertionError("very many texts would take long")

    texts = ["start clear end", "no marks", Unread("start clear end")]
    assert without_common_marks(texts) is texts
