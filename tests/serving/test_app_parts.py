"""What the app shows and hands out, without Streamlit."""

import io
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from msgspec import structs

from xray_captioning.captioner.caption import Alternative, Caption, Region, Sentence
from xray_captioning.config import Config, ImageConfig
from xray_captioning.errors import DataError, ImageError
from xray_captioning.phantom.dataset import render
from xray_captioning.phantom.studies import sample_study
from xray_captioning.serving import app_parts as parts
from xray_captioning.serving.app_parts import html

WORDS = ["small", "left", "effusion", ".", "no", "pneumothorax", "."]


def png(height=40, width=30, value=128):
    pixels = np.full((height, width), value, np.uint8)
    pixels[::2] ^= 1  # one value is no picture
    return cv2.imencode(".png", pixels)[1].tobytes()


def result(confidences=(0.9, 0.3), threshold=0.0, **changes):
    attention = np.zeros((len(WORDS), 2, 4, 4), np.float32)
    attention[:, 0, 0, 0], attention[:, 1, 3, 3] = 0.75, 0.25
    texts = ("Small left effusion.", "No pneumothorax.")
    caption = Caption(
        " ".join(texts),
        WORDS,
        -1.5,
        [Sentence(text, -0.2, c) for text, c in zip(texts, confidences)],
        attention,
        [Alternative("Left <b>effusion</b>.", -2.5)],
        0.5,
    )
    probabilities = {"Pleural Effusion": 0.8, "Edema": 0.01}
    return parts.Result("runs", 3, caption._replace(**changes), probabilities, "This model was made up.", threshold)


@pytest.fixture
def study():
    return parts.study_of([png(), png(30, 40)])


def test_pictures_keep_the_proportions_of_the_images(study):
    assert [picture.shape for picture in study.pictures] == [(560, 420), (420, 560)]
    assert study.pictures[0].mean() == pytest.approx(128 / 255, abs=0.01)
    assert study.names == ["image 1", "image 2"]


def test_studies_differ_by_their_images_and_their_order(study):
    swapped = parts.study_of([png(30, 40), png()])
    assert len({study.digest, swapped.digest, parts.study_of([png()]).digest}) == 3


@pytest.mark.parametrize("count", [0, 3])
def test_one_or_two_images_make_a_study(count):
    with pytest.raises(DataError, match=f"{count} images given; give one or two"):
        parts.study_of([png()] * count)


@pytest.mark.parametrize("bad", [b"", b"not an image", png()[:60], png(20, 400), png(6000, 6000)])
def test_a_bad_image_is_named_by_its_place(bad):
    with pytest.raises(ImageError, match=r"^image 2: .*\w$"):
        parts.study_of([png(), bad])


def dicom(view):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.SOPClassUID = data.SOPInstanceUID = "1.2.3"
    data.ViewPosition, data.PatientName = view, "Doe^Jane"
    data.set_pixel_data(np.arange(200, dtype=np.uint8).reshape(20, 10), "MONOCHROME2", 8)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_views_are_named_and_ordered():
    lateral, frontal = dicom("LL"), dicom("PA")
    study = parts.study_of([lateral, frontal])
    assert study.files == [frontal, lateral]
    assert study.views == study.names == ["frontal", "lateral"]
    assert study.pictures[0].shape == (560, 280)


def test_what_the_user_says_of_a_picture_counts():
    one, other = png(), png(30, 40)
    assert parts.study_of([one, other], ["lateral", "frontal"]).files == [other, one]
    lone, unsaid = parts.study_of([one], ["lateral"]), parts.study_of([one])
    assert (lone.views, unsaid.views) == (["lateral"], ["unknown"])
    assert lone.digest != unsaid.digest  # or what was read of one would be shown of the other
    with pytest.raises(ImageError, match="one frontal and one lateral"):
        parts.study_of([one, other], ["lateral", "lateral"])
    asked = []
    captioner = SimpleNamespace(
        features=lambda studies, views: asked.append((studies, views)) or (),
        write_captions=lambda features, beam_size: [result().caption],
        encoder=SimpleNamespace(findings=()),
        about={},
        config=Config(),
        offset=(0.1, 0.2),
    )
    read = parts.read_study(captioner, "runs", lone, 3)
    assert (read.offset, read.pointing) == ((0.1, 0.2), "how often it points at the finding was not measured")
    assert asked == [([[one]], [["lateral"]])]


def test_samples_are_phantoms_and_say_what_was_drawn():
    study = parts.sample(0, 2048)
    drawn = sample_study(np.random.default_rng([2048, 0]))
    np.testing.assert_allclose(study.pictures[0], render(drawn, parts.SHOWN)[0] / np.float32(255), atol=1e-6)
    assert all(finding.name in study.about for finding in drawn.findings)
    assert parts.study_of(study.files).pictures[0].shape == study.pictures[0].shape


def test_without_calibration_the_models_own_probability_is_shown_and_said_to_be():
    plain = result((None, None), threshold=1.0, novelty=None)
    assert plain.sentences[0].confidence == pytest.approx(np.exp(-0.2))
    assert plain.answer.text == plain.caption.text
    assert "82&nbsp;%" in html("caption", plain)
    assert "not calibrated" in html("caption", plain)
    assert "calibrated on validation" in html("caption", result())


def test_what_is_withheld_is_said_nowhere():
    hidden = result(threshold=0.5)
    made = [
        html("caption", hidden),
        html("alternatives", hidden),
        html("findings", hidden.findings),
        parts.as_text(hidden),
        parts.as_json(hidden),
    ]
    assert not [text for text in made if "neumothorax" in text]
    assert "not confident" in made[0]
    assert "[not confident]" in made[3]
    assert "No pneumothorax." in parts.as_text(result(threshold=0.2))


def test_what_is_said_comes_before_what_is_likely():
    found = result()._replace(probabilities={"Edema": 0.99, "Pleural Effusion": 0.2, "Hernia": 1.0})
    names = [name for name, _, _ in found.findings]
    assert names == ["Pleural Effusion", "Hernia", "Edema", "Pneumothorax"]


def test_cautions_go_wherever_the_caption_goes(study, monkeypatch):
    drawn = []
    monkeypatch.setattr(parts, "card", lambda title, text, notes, *_: drawn.extend(notes))
    monkeypatch.setattr(parts, "png", lambda figure: b"")
    for novelty, alike in ((1.0, True), (2.5, False)):
        drawn.clear()
        strange = result(novelty=novelty)
        parts.as_picture(study, strange, parts.views_of(study, strange, []), "")
        for text in (parts.as_text(strange), " ".join(drawn)):
            assert "Not for clinical use" in text
            assert "This model was made up." in text
            assert ("Not like the chest X-rays" in text) is not alike


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_of_unfamiliar_images_no_finding_has_a_probability(threshold):
    strange = result(threshold=threshold, novelty=2.5)
    assert {probability for _, probability, _ in strange.findings} <= {None}
    assert "%" not in html("findings", strange.findings)
    assert json.loads(parts.as_json(strange))["findings"]["probabilities"] is None
    if threshold:
        assert "Nothing can be said" in html("findings", strange.findings)
    assert result(novelty=0.9).findings[0][1] == 0.8


def opacity(probability):
    return float(html("shade", probability).rpartition(",")[2].rstrip(")"))


def test_the_surer_a_sentence_the_deeper_its_shade():
    shades = [float(x) for x in re.findall(r"<mark .*?([\d.]+)\)\"", html("caption", result()))]
    assert shades == [opacity(0.9), opacity(0.3)]
    assert shades[0] > shades[1] > 0


def test_an_empty_caption_is_said_to_be_empty():
    assert "wrote nothing" in html("caption", result(sentences=[]))
    assert "A beam of one has none" in html("alternatives", result(alternatives=[]))
    assert opacity(None) == 0


def luminance(rgb):
    unit = np.asarray(rgb) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize(("text", "page"), [((49, 51, 63), (255, 255, 255)), ((250, 250, 250), (14, 17, 23))])
def test_every_shade_can_be_read_on_light_and_dark_pages(text, page):
    """WCAG 2.2 asks for a contrast of 4.5."""
    for chance in (0, 0.5, 1):
        share = opacity(chance)
        shaded = share * np.array((0, 114, 178)) + (1 - share) * np.array(page)
        darker, lighter = sorted((luminance(text), luminance(shaded)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_sentences_about_the_same_findings_stand_side_by_side():
    texts = ["No pleural effusion or pneumothorax.", "Mild cardiomegaly.", "Compared with before."]
    others = ["Cardiomegaly.", "No pneumothorax.", "Left pleural effusion.", "Lungs as seen."]
    both = [result(sentences=[Sentence(text, -0.1, 0.9) for text in some]) for some in (texts, others)]
    rows = [(names, [[one.text for one in side] for side in sides]) for names, sides in parts.aligned(both)]
    assert rows == [
        (["Cardiomegaly"], [["Mild cardiomegaly."], ["Cardiomegaly."]]),
        (["Pleural Effusion"], [[texts[0]], ["Left pleural effusion."]]),
        (["Pneumothorax"], [[texts[0]], ["No pneumothorax."]]),
        ([""], [["Compared with before."], ["Lungs as seen."]]),
    ]
    table = html("comparison", both, parts.aligned(both))
    assert "<strong>absent | present, left</strong>" in table
    assert "both: absent" in table


def test_another_side_is_no_agreement():
    texts = ["Right central venous catheter.", "Left central venous catheter."]
    both = [result(sentences=[Sentence(text, -0.1, 0.9)]) for text in texts]
    table = html("comparison", both, parts.aligned(both))
    assert "<strong>present, right | present, left</strong>" in table


def test_in_rows_a_withheld_sentence_tells_no_finding():
    hidden, shown = result(threshold=0.5), result()
    rows = parts.aligned([hidden, shown])
    assert [names for names, _ in rows] == [["Pleural Effusion"], ["Pneumothorax"], [""]]
    assert [[len(side) for side in sides] for _, sides in rows] == [[1, 1], [0, 1], [1, 0]]
    assert "says nothing of it" in html("comparison", [hidden, shown], rows)
    alike = result(sentences=[Sentence("No pleural effusion or pneumothorax.", -0.1, 0.9)])
    assert [names for names, _ in parts.aligned([alike, alike])] == [["Pneumothorax", "Pleural Effusion"]]


def test_only_so_many_studies_of_a_session_are_kept(monkeypatch):
    past, drawn = {}, [parts.sample(number, 1) for number in range(5)]
    monkeypatch.setattr(parts, "PAST", 3)
    for study in drawn:
        parts.remember(past, study)
    assert {number: one.digest for number, one in past.items()} == {n + 1: drawn[n].digest for n in (2, 3, 4)}
    parts.remember(past, drawn[3]._replace(views=["lateral", "frontal"]))  # the same files
    assert list(past) == [3, 4, 5]
    assert past[4].views == ["lateral", "frontal"]
    monkeypatch.setattr(parts, "PAST_BYTES", sum(map(len, drawn[0].files + drawn[4].files)))
    parts.remember(past, drawn[0])
    assert [one.digest for one in past.values()] == [drawn[4].digest, drawn[0].digest]
    monkeypatch.setattr(parts, "PAST_BYTES", 1)
    parts.remember(past, drawn[1])
    assert [one.digest for one in past.values()] == [drawn[1].digest]  # the last one is always there


def test_what_the_model_wrote_is_never_html():
    alternatives = html("alternatives", result())
    assert "&lt;b&gt;" in alternatives
    assert "<b>" not in alternatives
    sentence = Sentence("<script>alert(1)</script>", -0.1, 0.9)
    assert "<script>" not in html("caption", result(sentences=[sentence]))
    assert "<script>" not in html("note", "<script>")
    assert "<script>" not in html("findings", [("<script>", None, "present")])


def test_findings_are_ordered_and_have_both_opinions():
    rows = result().findings
    assert rows[0] == ("Pleural Effusion", 0.8, "present")
    assert ("Pneumothorax", None, "absent") in rows
    table = html("findings", rows)
    assert "80&nbsp;%" in table
    assert "absent" in table
    assert "<td>none</td>" in table
    assert "Encoder" not in html("findings", [("Edema", None, "present")])


def test_json_has_the_names_of_the_api():
    values = json.loads(parts.as_json(result()))
    assert values["sentences"][0]["confidence"] == 0.9
    assert values["findings"]["probabilities"]["Pleural Effusion"] == 0.8
    assert values["findings"]["labels"]["Pneumothorax"] == "absent"
    assert [other["log_probability"] for other in values["alternatives"]] == [-2.5]
    assert "Not for clinical use" in values["notice"]


def test_an_image_that_a_model_sees_twice_is_shown_twice():
    alone = parts.study_of([png()])
    twice = result()
    names = [one.name for one in parts.views_of(alone, twice, [0])]
    assert names == ["image 1", "image 1 (seen twice)"]
    twice.caption.attention[:, 1] = 0
    assert len(parts.views_of(alone, twice, [0])) == 1


def test_attention_lies_over_the_part_that_a_model_saw(study):
    cut = result()._replace(image=ImageConfig(size=224, resize="rad-dino"))
    for view in parts.views_of(study, cut, [0]):
        height, width = view.image.shape
        side = min(height, width)
        assert view.seen[2:] == pytest.approx((side / height, side / width), abs=0.01)
    whole = parts.views_of(study, result(), [0])
    assert whole[0].seen == (0.0, 0.0, 1.0, 1.0)


REGION = Region(0, "Pleural Effusion", 1, (0.25, 0.5, 0.5, 1.0), "class activation", 0.9, 0.2, "left effusion")


def test_a_box_is_drawn_where_it_was_seen_and_said_in_words(study):
    lateral = parts.study_of([png()], ["lateral"])
    assert [(one.place(0), one.place(1)) for one in (study, lateral, parts.study_of([png()]))] == [
        (0, 1),
        (0, 0),
        (0, 0),
    ]
    first, second = parts.views_of(study, result(), [], [REGION])
    assert (first.boxes, second.boxes) == ([], [REGION.box])
    cut = result()._replace(image=ImageConfig(size=224, resize="rad-dino"), offset=(0.1, 0.0))
    _, seen = parts.views_of(study, cut, [], [REGION])  # 560 wide and 420 high: its middle; the offset is in the box
    assert seen.boxes == [pytest.approx((0.3125, 0.5, 0.5, 1.0), abs=0.01)]
    said = html("boxes", [REGION], study)
    assert "Box on image 2: “left effusion” (Pleural Effusion), by class activation." in said
    assert "in 90&nbsp;% of the measured cases, by chance in 20&nbsp;%" in said
    assert html("boxes", [], study) == ""
    views = parts.views_of(study, result(), [], [REGION])
    assert parts.as_picture(study, result(), views, "", said) != parts.as_picture(study, result(), views, "")


def test_the_words_of_a_region_are_never_html(study):
    assert "<b>" not in html("boxes", [structs.replace(REGION, words="<b>")], study)


def test_titles_tell_the_share_of_the_attention(study):
    plain, seen = (parts.views_of(study, result(), w) for w in ([], [0, 1]))
    assert parts.title(plain[0]) == "image 1"
    assert parts.title(seen[1]) == "image 2: 25 % of the attention"


def test_the_picture_is_a_png_of_both_views(study):
    seen, plain = (parts.views_of(study, result(), w) for w in ([0], []))
    data = parts.as_picture(study, result(), seen, "“small”")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] == 836
    assert parts.as_picture(study, result(), plain, "") != data
