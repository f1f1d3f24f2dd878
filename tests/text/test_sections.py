"""Whole reports into sections: house styles, and what must never be taken as seen."""

import itertools
import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xray_captioning as xc
from xray_captioning.errors import DataError
from xray_captioning.text.headings import BOTH, kind_of, spelled
from xray_captioning.text.sections import Sections, split_report

NAMES = ("indication", "technique", "comparison", "findings", "impression")


def split(text: str) -> dict[str, str | None]:
    return {name: value for name, value in asdict(split_report(text)).items() if value is not None}


def test_it_is_public():
    assert xc.split_report is split_report
    assert xc.split_report("") == Sections()


def test_what_is_asked_is_never_seen():
    text = "INDICATION: r/o pneumonia, eval for effusion. FINDINGS: Clear. IMPRESSION: Normal."
    assert split(text) == {
        "indication": "r/o pneumonia, eval for effusion.",
        "findings": "Clear.",
        "impression": "Normal.",
    }


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("REASON FOR THIS EXAMINATION", "indication"),
        ("Clinical findings", "indication"),
        ("ADMITTING DIAGNOSIS", "indication"),
        ("Prior findings", "comparison"),
        ("PREVIOUS IMPRESSION", "comparison"),
        ("REFERENCE EXAM", "comparison"),
        ("CHEST RADIOGRAPH FINDINGS", "findings"),
        ("REPORT", "findings"),
        ("FINAL REPORT", "banner"),
        ("IMPRESSION AND RECOMMENDATIONS", "impression"),
        ("Findings / Impression", BOTH),
        ("SUMMARY OF FINDINGS", "impression"),
        ("CHEST, TWO VIEWS", "view"),
        ("TYPE OF EXAMINATION", "exam"),
        ("END OF IMPRESSION", "stop"),
        ("COMMUNICATION OF FINDINGS", "stop"),
        ("RADIOLOGIST'S IMPRESSION", "impression"),
        ("RADIOLOGIST", "stop"),
        ("PATIENT HISTORY", "indication"),
        ("SOFT TISSUES", "organ"),
        ("RECOMMENDATION(S)", "recommendation"),
        ("no acute findings", None),
        ("of the", None),
        ("INTERVAL CHANGE SINCE PRIOR", "change"),
        ("INTERVAL HISTORY", "indication"),
        ("BONE CHANGES", "organ"),
        ("COMMENTS", "comment"),
        ("CLINICAL COMMENT", "indication"),
        ("FINAL READ", "banner"),
        ("WET READ", "wet"),
        ("ADDENDUM BEGINS", "addendum"),
        ("END OF ADDENDUM", "banner"),
        ("RENSEIGNEMENTS CLINIQUES", "indication"),
        ("ESTUDIOS PREVIOS", "comparison"),
    ],
)
def test_words_of_a_heading(heading, kind):
    assert kind_of(spelled(heading)) == kind


# The yardstick: reports composed of a house style, sections and noise, with known answers.
HEADINGS = {
    "indication": ["INDICATION", "Clinical history", "REASON FOR EXAM", "Reason for this examination", "HISTORY"],
    "technique": ["TECHNIQUE", "Procedure"],
    "comparison": ["COMPARISON", "Comparisons", "REFERENCE EXAM", "Prior studies"],
    "findings": ["FINDINGS", "Findings", "REPORT", "Radiographic findings"],
    "impression": ["IMPRESSION", "Impression", "CONCLUSION", "Opinion", "INTERPRETATION", "Assessment"],
}
TEXTS = {
    "indication": ["Cough, rule out pneumonia.", "___ year old man with prior effusion.", "XXXX-year-old, ?TB."],
    "technique": ["PA and lateral views.", "Single AP view at 10:15."],
    "comparison": ["None.", "Chest x-ray ___ showed edema.", "Prior CT of 3/4/2010."],
    "findings": [
        "The heart is normal. The impression of a nodule is due to the nipple.",
        "Lungs: clear. Heart: normal.",
        "No acute findings. History of surgery: clips. XXXX sternotomy.",
    ],
    "impression": ["No acute disease.", "1. Effusion. 2. No pneumothorax.", "Stable, as compared with prior."],
}
TITLES = ("", "FINAL REPORT\n", "CHEST, TWO VIEWS\n", "EXAM: CHEST PA AND LATERAL\n", "Patient name: A. B.\n")
FOOTERS = ("", "\nElectronically signed by: Dr. B", "\nDictated by: A. B.", "\nI have personally reviewed the images.")
STYLES = {
    "a line each": "{heading}: {text}\n",
    "one line": "{heading}: {text} ",
    "own line": "{heading}\n{text}\n\n",
    "own line with colon": "{heading}:\n\n{text}\n\n",
    "indented": "\n \n {heading}:  {text}\n \n",
    "dash": "{heading} - {text}\n",
    "markdown": "**{heading}:** {text}\n\n",
    "lists": "\n{heading} :-\n{text}\n",
}


def composed(style: str, generator: random.Random) -> tuple[str, dict[str, str]]:
    kept = [name for name in NAMES if name in ("findings", "impression") or generator.random() < 0.7]
    known = {name: generator.choice(TEXTS[name]) for name in kept}
    body = "".join(
        STYLES[style].format(heading=generator.choice(HEADINGS[name]), text=text) for name, text in known.items()
    )
    return generator.choice(TITLES) + body + generator.choice(FOOTERS), known


@pytest.mark.parametrize("style", STYLES)
def test_reports_of_a_house_style(style):
    generator = random.Random(style)
    for _ in range(400):
        text, known = composed(style, generator)
        found = split(text)
        if "technique" not in known:
            found.pop("technique", None)  # the examination's name stands in
        assert {k: " ".join(v.split()) for k, v in found.items()} == known, text


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_reports_of_one_case(change):
    generator = random.Random(0)
    for _ in range(400):
        text, known = composed("a line each", generator)
        found = split(change(text))
        if "technique" not in known:
            found.pop("technique", None)
        expected = {name: change(text) for name, text in known.items()}
        assert {k: " ".join(v.split()) for k, v in found.items()} == expected, change(text)


@pytest.mark.parametrize("order", list(itertools.permutations(("indication", "findings", "impression"))))
def test_sections_in_any_order(order):
    text = "\n".join(f"{name.upper()}: The {name}." for name in order)
    assert split(text) == {name: f"The {name}." for name in order}


@pytest.mark.parametrize(
    "text",
    [
        "The impression is of a nodule. There are no significant findings: the heart is normal.",
        "sin hallazgos patologicos . cardiomegalia .",
        "Comparison XXXX, XXXX. Clear lungs.",
        "no significant findings : the lungs are clear .",
        "NO EVIDENCE OF\nPNEUMONIA ON THIS\nEXAMINATION OR PRIOR STUDIES\nOF THE CHEST.",
        "Chest: No acute finding. Left knee: Degenerative changes.",
        "startle\nand more text\nof a caption",
        "Findings are consistent with edema.",
        "",
    ],
)
def test_a_text_without_headings_is_both(text):
    kept = text or None
    assert split_report(f" {text}\n") == Sections(findings=kept, impression=kept)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # MIMIC-CXR: the last paragraph after the headings, and the examination's name as heading.
        (
            " FINAL REPORT\n INDICATION:  Fever, question of\n pneumonia.\n \n COMPARISON:  ___.\n"
            " \n PA and lateral views of the chest.  The lungs\n are clear.\n",
            {
                "indication": "Fever, question of pneumonia.",
                "comparison": "___.",
                "findings": "PA and lateral views of the chest. The lungs are clear.",
            },
        ),
        (
            "CHEST, TWO VIEWS:  The lungs are clear.\n\nIMPRESSION:  Normal.",
            {"technique": "CHEST, TWO VIEWS", "findings": "The lungs are clear.", "impression": "Normal."},
        ),
        ("WET READ: ___ 8:19 AM\n effusion\n______________\n FINAL REPORT\n FINDINGS: Clear.", {"findings": "Clear."}),
        ("FINDINGS/ IMPRESSION: Clear.", {"findings": "Clear.", "impression": "Clear."}),
        # CheXpert Plus: a narrative, and Stanford's code of urgency.
        (
            "NARRATIVE:\nChest 1 View, 8-8-2005\n\nHISTORY: 61 years Female\n\nIMPRESSION:\n\n"
            "1.TUBE IN PLACE.\n\n2.NO PNEUMOTHORAX.\n\nSUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED\n"
            "I have personally reviewed.\n\nACCESSION NUMBER:\n99\nThis report has been kept.",
            {
                "technique": "Chest 1 View, 8-8-2005",
                "indication": "61 years Female",
                "impression": "1.TUBE IN PLACE.\n2.NO PNEUMOTHORAX.",
            },
        ),
        (
            "CLINICAL DATA: Sepsis. IMPRESSION: 1. LINE. END OF IMPRESSION: SUMMARY 2: ABNORMAL",
            {"indication": "Sepsis.", "impression": "1. LINE."},
        ),
        # The same squashed into one line.
        (
            "FINAL REPORT EXAMINATION: CHEST (PA AND LAT) INDICATION: ___F with cough // infection"
            " TECHNIQUE: PA COMPARISON: None. FINDINGS: Clear. IMPRESSION: Normal.",
            {
                "indication": "___F with cough // infection",
                "technique": "PA",
                "comparison": "None.",
                "findings": "Clear.",
                "impression": "Normal.",
            },
        ),
        (
            "INDICATION: COUGH COMPARISON: PRIOR CHEST X-RAY FINDINGS: CLEAR IMPRESSION: NORMAL",
            {"indication": "COUGH", "comparison": "PRIOR CHEST X-RAY", "findings": "CLEAR", "impression": "NORMAL"},
        ),
        # Forms by organ.
        (
            "HISTORY: Cough\nLungs: Clear.\nHeart: Normal.\nIMPRESSION: Normal.",
            {"indication": "Cough", "findings": "Lungs: Clear. Heart: Normal.", "impression": "Normal."},
        ),
        ("Lungs: clear. Pleura: no effusion.", {"findings": "Lungs: clear. Pleura: no effusion."}),
        # Several parts of the body; notes of cases, whose discussion is not of the images.
        (
            "Chest: Lungs clear. Spine: Normal. IMPRESSION: Normal.",
            {"findings": "Chest: Lungs clear. Spine: Normal.", "impression": "Normal."},
        ),
        (
            "Presentation: fever. Imaging notes: No effusion. Discussion: Effusions are common.",
            {"indication": "fever.", "technique": "Imaging notes", "findings": "No effusion."},
        ),
        # Only the examination's name: a caption, which may be findings or impression.
        ("CXR: Normal", {"technique": "CXR", "findings": "Normal", "impression": "Normal"}),
        # Only words that point at another section.
        ("FINDINGS: Clear. IMPRESSION: AS ABOVE.", {"findings": "Clear."}),
        # Addenda, recommendations and who was told.
        (
            "FINDINGS: Clear. IMPRESSION: Normal. RECOMMENDATION: CT to exclude a mass.\n"
            "NOTIFICATION: Effusion told to Dr. X.\nADDENDUM: Small nodule.",
            {"findings": "Clear.", "impression": "Normal. Small nodule."},
        ),
        # Without colons.
        (
            "FINDINGS The lungs are clear. IMPRESSION No acute disease.",
            {"findings": "The lungs are clear.", "impression": "No acute disease."},
        ),
        # What stands before the first heading.
        ("The lungs are clear.\nIMPRESSION: Normal.", {"findings": "The lungs are clear.", "impression": "Normal."}),
        ("General Hospital\nIMPRESSION: Normal.", {"impression": "Normal."}),
        (
            "A 45-year-old man with cough.\n\nLungs are clear.\n\nIMPRESSION: Normal.",
            {"indication": "A 45-year-old man with cough.", "findings": "Lungs are clear.", "impression": "Normal."},
        ),
        # A section that is named and empty.
        (
            "HISTORY: Cough.\n\nLungs are clear.\n\nFINDINGS:\n\nIMPRESSION: Normal.",
            {"indication": "Cough.", "findings": "Lungs are clear.", "impression": "Normal."},
        ),
        # Lists, tags, escaped line breaks.
        ("1. FINDINGS: clear\n2. IMPRESSION: normal", {"findings": "clear", "impression": "normal"}),
        ("IMPRESSION:\n1) Normal\n   heart\n2) Stable", {"impression": "1) Normal heart\n2) Stable"}),
        ("<b>FINDINGS:</b> clear<br/><b>IMPRESSION:</b> normal", {"findings": "clear", "impression": "normal"}),
        ("[FINDINGS] clear [IMPRESSION] normal", {"findings": "clear", "impression": "normal"}),
        ("<FINDINGS>clear</FINDINGS><IMPRESSION>normal</IMPRESSION>", {"findings": "clear", "impression": "normal"}),
        (
            "{'clinical_history': 'r/o edema', 'Findings': 'clear', 'impression': None}",
            {"indication": "r/o edema", "findings": "clear"},
        ),
        # Who signed, and forms of the letterhead.
        (
            "Body Part: Chest\nView: PA\n\nFindings\nClear.\n\nDr. A. B.\nConsultant radiologist",
            {"technique": "Body Part. Chest. View. PA", "findings": "Clear."},
        ),
        ("IMPRESSION: Clear. ATTESTATION: I agree.\nSUGGESTED FOLLOW UP: CT for a mass.", {"impression": "Clear."}),
        (
            "CLINICAL INFORMATION\nPain.\n\nClinical Notes\nFever.\n\nFindings\nClear.",
            {"indication": "Pain. Fever.", "findings": "Clear."},
        ),
        (
            "Indication | Pain.\nFindings | Clear.\nImpression | Normal.",
            {"indication": "Pain.", "findings": "Clear.", "impression": "Normal."},
        ),
        ("FINDINGS: clear\\n\\nIMPRESSION: normal", {"findings": "clear", "impression": "normal"}),
        ("findings : clear lungs . impression : normal .", {"findings": "clear lungs .", "impression": "normal ."}),
    ],
)
def test_habits_of_collections_and_houses(text, expected):
    assert split(text) == expected


PIECES = st.sampled_from(["FINDINGS", "Impression:", "history", " ", "\n", ": ", ".", "1.", "the", "_", "-", "\u00e9:"])


@given(st.lists(PIECES | st.text(max_size=3)))
def test_no_text_is_an_error_and_no_word_is_made_up(pieces):
    text = "".join(pieces)
    for value in split(text).values():
        assert value.strip() == value != ""
        assert all(word.rstrip(".") in text for word in value.split())


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "\n",
        "_",
        "A ",
        ": ",
        "- ",
        "FINDINGS ",
        "x: ",
        "\n1.",
        "<b>",
        "[a",
        "\n dr",
        "data\n",
        "x | ",
        "\n- History: x",
        "2. History: x ",
        "FINAL REPORT\n",
        "x   ",
    ],
)
def test_time_grows_with_the_length_only(piece):
    """Ten thousand pieces take a moment; a search that goes back and forth would take minutes."""
    split_report("IMPRESSION: x" + piece * 10_000)


def test_a_report_that_is_not_text():
    with pytest.raises(DataError, match="not text but float"):
        split_report(float("nan"))


@pytest.mark.parametrize("heading", ["PA and lateral chest compared to ___", "CHEST, ___ COMPARED TO ___"])
def test_what_images_are_compared_with_may_stand_in_their_name(heading):
    found = split_report(f"HISTORY: Cough.\n\n{heading}:\n\nThe lungs are clear.\n\nIMPRESSION: Normal.")
    assert (found.findings, found.impression) == ("The lungs are clear.", "Normal.")
    assert found.comparison is None


def test_headings_may_be_short():
    found = split_report("IND: cough. COMP: none. TECH: AP. FIND: Clear. IMP: Normal.")
    assert (found.indication, found.comparison, found.technique) == ("cough.", "none.", "AP.")
    assert (found.findings, found.impression) == ("Clear.", "Normal.")


LISTS = [
    "1. Pneumonia. 2. {label}: known. 3. Effusion.",
    "1. Pneumonia. {label}: known. 2. Effusion.",
    "1. {label}: known.\n2. Effusion.",
    "1) Pneumonia.\n2) {label}: known.",
    "- Pneumonia.\n- {label}: known.\n- Effusion.",
    "\u2022 Pneumonia.\n\u2022 {label}: known.\n\u2022 Effusion.",
]


@pytest.mark.parametrize("items", LISTS)
@pytest.mark.parametrize("label", ["History", "Comparison", "INDICATION", "Prior study", "Technique", "Findings"])
def test_what_an_item_of_a_list_is_called_does_not_end_the_list(items, label):
    impression = items.format(label=label)
    assert split(f"IMPRESSION:\n{impression}\n\nHISTORY: 1. Cough. 2. Fever.") == {
        "impression": impression,
        "indication": "1. Cough. 2. Fever.",
    }


def test_items_that_are_sections_are_sections():
    text = "{}HISTORY: cough\n{}COMPARISON: none\n{}FINDINGS: 1. clear 2. normal\n{}IMPRESSION: 1. normal 2. stable\n"
    for marks in (("1. ", "2. ", "3. ", "4. "), ("I. ", "II. ", "III. ", "IV. "), "abcd", ["- "] * 4):
        found = split(text.format(*(f"{mark.upper()}. " if mark.isalpha() else mark for mark in marks)))
        assert (found["indication"], found["comparison"]) == ("cough", "none")
        assert (found["findings"], found["impression"]) == ("1. clear 2. normal", "1. normal 2. stable")
    assert split("IMPRESSION: 1. CHF. 2. RECOMMENDATION: CT. TECHNIQUE: PA.") == {
        "impression": "1. CHF.",
        "technique": "PA.",
    }
    assert split("FINDINGS: 1. Clear. 2. Impression: CHF.") == {"findings": "1. Clear.", "impression": "CHF."}


@pytest.mark.parametrize(
    "heading", ["INTERVAL CHANGE", "Interval findings", "CHANGE FROM PRIOR", "Changes since previous exam", "INTERVAL"]
)
@pytest.mark.parametrize("end", [". ", ".\n", ".\n\n"])
def test_what_has_changed_is_found(heading, end):
    text = f"COMPARISON: 3/1/2020{end}{heading}: Effusion.\nIMPRESSION: CHF."
    assert split(text) == {"comparison": "3/1/2020.", "findings": "Effusion.", "impression": "CHF."}
    assert split(f"FINDINGS: Clear. {heading}: none.")["findings"] == f"Clear. {heading}: none."


@pytest.mark.parametrize(
    "text", ["INDICATION:\nINTERVAL CHANGE\n\nFINDINGS: Clear.", "INDICATION: INTERVAL CHANGE\nFINDINGS: Clear."]
)
def test_a_change_that_is_asked_for(text):
    assert split(text) == {"indication": "INTERVAL CHANGE", "findings": "Clear."}


@pytest.mark.parametrize("gap", ["\t", "\t\t", "    ", "\t: ", ":\t", " \t "])
def test_tables(gap):
    rows = {"Reason for exam": "Cough", "TECHNIQUE": "PA", "Findings": "The heart", "IMPRESSION": "CHF"}
    assert list(split("\n".join(f"{key}{gap}{value}" for key, value in rows.items())).values()) == list(rows.values())
    assert split("FINDINGS: Heart\tnormal.\nComparison\tto prior.") == {
        "findings": "Heart normal. Comparison to prior."
    }


@pytest.mark.parametrize("change", [str, str.upper, str.lower])
@pytest.mark.parametrize(
    "names",
    [
        "Renseignements cliniques|Technique|Comparaison|R\u00e9sultats|Conclusion",
        "Motif de l\u2019examen|Technique|Examens ant\u00e9rieurs|R\u00e9sultat|Synth\u00e8se",
        "Indicaci\u00f3n|T\u00e9cnica|Estudios previos|Hallazgos|Impresi\u00f3n diagn\u00f3stica",
        "Datos cl\u00ednicos|T\u00e9cnica|Comparaci\u00f3n|Resultados|Conclusiones",
    ],
)
def test_languages_that_share_words_with_english(names, change):
    values = [change(value) for value in ("Toux.", "Face.", "2019.", "\u00c9panchement.", "Normal.")]
    for colon, end in ((" : ", " "), (": ", "\n"), ("\u202f:\n", "\n\n")):
        parts = zip(change(names).split("|"), values, strict=True)
        assert list(split("".join(f"{name}{colon}{value}{end}" for name, value in parts)).values()) == values


@pytest.mark.parametrize(
    ("early", "final"),
    [
        ("PRELIMINARY IMPRESSION: {}.", "FINAL IMPRESSION: {}."),
        ("PRELIM IMPRESSION: {}.", "REVISED IMPRESSION: {}."),
        ("PRELIMINARY REPORT\n{}.", "FINAL REPORT\nIMPRESSION: {}."),
        ("PRELIMINARY REPORT\nFINDINGS: {0}.\nIMPRESSION: {0}.", "FINAL REPORT\nIMPRESSION: {}."),
        ("ORIGINAL REPORT\nIMPRESSION: {}.", "CORRECTED REPORT\nIMPRESSION: {}."),
        ("INITIAL IMPRESSION: {}.", "FINAL REPORT: IMPRESSION: {}."),
    ],
)
def test_what_is_preliminary_gives_way_to_what_is_final(early, final):
    first, last = early.format("Pneumothorax"), final.format("None")
    for between in ("\n", "\n\n", " "):
        assert split(f"HISTORY: Fall.\n{first}{between}{last}") == {"indication": "Fall.", "impression": "None."}
    for alone in (first, f"{first}\nFINAL REPORT", f"FINAL REPORT\n{first}"):
        assert split(f"HISTORY: Fall.\n{alone}").popitem()[1] == "Pneumothorax."


def test_a_final_read_is_no_first_look():
    for text in ("PRELIMINARY READ: Air.\nFINAL READ: None.", "PRELIMINARY REPORT Air. FINAL REPORT None."):
        assert split_report(text) == Sections(findings="None.", impression="None.")
    assert split("FINDINGS: Clear. The PRELIMINARY REPORT was sent. FINAL REPORT to follow.") == {
        "findings": "Clear. The PRELIMINARY REPORT was sent. FINAL REPORT to follow."
    }


@pytest.mark.parametrize(
    "addendum",
    [
        "Addendum Begins\nNodule.\nAddendum Ends\n",
        "ADDENDUM BEGINS: Nodule. ADDENDUM ENDS. ",
        "ADDENDUM BEGINS Nodule. END OF ADDENDUM ",
        "***** ADDENDUM BEGINS *****\nNodule.\n***** ADDENDUM ENDS *****\n",
        "--- Begin Addendum ---\nNodule.\n--- End Addendum ---\n",
    ],
)
def test_marks_of_an_addendum_are_no_text(addendum):
    expected = {"findings": "Clear.", "impression": "Normal. Nodule."}
    assert split(f"FINDINGS: Clear. IMPRESSION: Normal.\n\n{addendum}") == expected
    for original in ("", "ORIGINAL REPORT\n", "\nOriginal report:\n"):
        assert split(f"{addendum}{original}FINDINGS: Clear.\nIMPRESSION: Normal.") == expected


@pytest.mark.parametrize("label", ["COMMENT\n", "Comments:\n", "\nREMARKS: "])
def test_a_comment_belongs_to_what_is_above(label):
    assert split(f"FINDINGS: Clear.\n{label}Rotated.\nIMPRESSION: CHF.\n{label}Effusion.") == {
        "findings": "Clear. Rotated.",
        "impression": "CHF. Effusion.",
    }
    assert split(f"COMPARISON: None.\n{label}Clear.\nIMPRESSION: CHF.")["findings"] == "Clear."


@pytest.mark.parametrize("text", ["Hepatitis B. ", "Stage IV. ", "Pain grade 2. ", "Cough. XXXX. "])
def test_a_number_that_ends_a_sentence_stays(text):
    assert split(f"INDICATION: {text}FINDINGS: Clear.") == {"indication": text.strip(), "findings": "Clear."}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HISTORY: Since 2019: smoker. FINDINGS: Clear.", ("Since 2019: smoker.", "Clear.", None)),
        ("HISTORY: Weight change: 10 kg. FINDINGS: Clear.", ("Weight change: 10 kg.", "Clear.", None)),
        (
            "HISTORY: Fall. Initial chest x-ray: air. FINDINGS: Clear.",
            ("Fall. Initial chest x-ray: air.", "Clear.", None),
        ),
        ("EXAM:\n1. CHEST PA\n2. INDICATION: cough\n3. FINDINGS: clear", ("cough", "clear", None)),
        ("HISTORY: 1. Cough. 2. Exam: wheeze. FINDINGS: Clear.", ("1. Cough. 2. Exam: wheeze.", "Clear.", None)),
        ("findings : no interval change : stable . impression : ok .", (None, "no interval change : stable .", "ok .")),
        ("FINDINGS: Bone changes: old. IMPRESSION: Normal.", (None, "Bone changes: old.", "Normal.")),
        ("FINDINGS: Initial: 3 mm. Now: 5 mm. IMPRESSION: CHF.", (None, "Initial: 3 mm. Now: 5 mm.", "CHF.")),
    ],
)
def test_words_that_only_look_like_those_of_a_heading(text, expected):
    found = split_report(text)
    assert (found.indication, found.findings, found.impression) == expected
