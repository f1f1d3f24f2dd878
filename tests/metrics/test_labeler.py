import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.labeler import explain_report, find_mentions, label_report
from xray_captioning.metrics.labels import statement
from xray_captioning.metrics.labels.rules import rules
from xray_captioning.metrics.labels.spelling import SHORTEST, Kept, distance

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "labeler.py"
SENTENCE_FILE = Path(__file__).parent / "sentences.tsv"
LEFT, RIGHT, BOTH = {"left"}, {"right"}, {"left", "right"}


def said(text):
    """Labels that are not None, without No Finding."""
    return {name: label for name, label in label_report(text).items() if label is not None and name != "No Finding"}


SENTENCES = [
    ("Small pleural effusion.", {"Pleural Effusion": 1}),
    ("No pleural effusion or pneumothorax.", {"Pleural Effusion": 0, "Pneumothorax": 0}),
    (
        "No displaced rib fractures, pneumothorax, or pleural effusion identified.",
        {"Fracture": 0, "Pneumothorax": 0, "Pleural Effusion": 0},
    ),
    (
        "no displaced rib fractures pneumothorax or pleural effusion identified .",
        {"Fracture": 0, "Pneumothorax": 0, "Pleural Effusion": 0},
    ),
    ("The lungs are free of consolidation.", {"Consolidation": 0}),
    ("Cardiomegaly without edema.", {"Cardiomegaly": 1, "Edema": 0}),
    ("Negative for pneumothorax.", {"Pneumothorax": 0}),
    ("The effusion has resolved.", {"Pleural Effusion": 0}),
    ("Interval resolution of the edema.", {"Edema": 0}),
    ("Pneumothorax is no longer seen.", {"Pneumothorax": 0}),
    ("Pneumothorax not identified.", {"Pneumothorax": 0}),
    ("Pneumonia is unlikely.", {"Pneumonia": 0}),
    ("Possible atelectasis.", {"Atelectasis": -1}),
    ("An opacity, which may represent pneumonia.", {"Lung Opacity": 1, "Pneumonia": -1}),
    ("Cannot exclude a small pneumothorax.", {"Pneumothorax": -1}),
    ("A pneumothorax cannot be excluded.", {"Pneumothorax": -1}),
    ("Atelectasis versus consolidation.", {"Atelectasis": -1, "Consolidation": -1}),
    ("No pneumothorax, but there is a small effusion.", {"Pneumothorax": 0, "Pleural Effusion": 1}),
    ("No effusion, however mild edema.", {"Pleural Effusion": 0, "Edema": 1}),
    ("No effusion with mild cardiomegaly.", {"Pleural Effusion": 0, "Cardiomegaly": 1}),
    ("No effusion, possible edema.", {"Pleural Effusion": 0, "Edema": -1}),
    ("No suspicious opacity or effusion.", {"Lung Opacity": 0, "Pleural Effusion": 0}),
    ("No change in the effusion.", {"Pleural Effusion": 1}),
    ("If there is concern for fracture, consider rib views.", {}),
    ("History of pneumonia.", {}),
    ("Healed right rib fractures.", {"Fracture": 1}),
    ("XXXX fracture of XXXX rib.", {"Fracture": 1}),
    ("There is no XXXX of a pleural effusion.", {"Pleural Effusion": 0}),
    ("Pericardial effusion.", {}),
    ("Subcutaneous emphysema.", {}),
    ("Hydropneumothorax.", {"Pleural Effusion": 1, "Pneumothorax": 1}),
    ("Thickened fissures.No effusion.Calcified granuloma.", {"Pleural Effusion": 0, "Granuloma": 1}),
    ("Tip of the right PICC in the atrium.", {"Support Devices": 1}),
    ("Thoracic dextroscoliosis.", {"Scoliosis": 1}),
    ("Small hiatal hernia.", {"Hiatal Hernia": 1}),
]


def test_a_sentence():
    for text, expected in SENTENCES:
        assert said(text) == expected, text


HEARTS = [
    ("Heart size is normal.", 0),
    ("The heart and mediastinum are within normal limits.", 0),
    ("normal heart size", 0),
    ("The heart is not enlarged.", 0),
    ("Heart size is at the upper limits of normal.", 0),
    ("The cardiac silhouette is mildly enlarged.", 1),
    ("Enlarged heart.", 1),
    ("Stable cardiomegaly.", 1),
    ("Borderline heart size.", -1),
    ("The heart is not normal in size.", None),
    ("The heart size is stable.", -1),
    ("Congestive heart failure.", None),
]


def test_the_heart():
    for text, label in HEARTS:
        assert label_report(text)["Cardiomegaly"] == label, text


def test_clear_lungs_deny_what_would_cloud_them():
    denied = {"Lung Opacity", "Consolidation", "Pneumonia", "Edema", "Atelectasis"}
    assert said("The lungs are clear.") == dict.fromkeys(denied, 0)


def test_lungs_that_are_not_clear_and_volumes_that_are_normal_say_nothing():
    assert said("The lungs are not clear.") == {}
    assert said("Lung volumes are normal.") == {}


def test_a_normal_chest_denies_but_leaves_bones_and_devices_open():
    labels = label_report("Normal chest.")
    assert labels["No Finding"] == 1
    assert labels["Cardiomegaly"] == labels["Pleural Effusion"] == 0
    assert labels["Fracture"] is None
    assert labels["Support Devices"] is None


def test_every_finding_has_a_label_in_order():
    assert tuple(label_report("")) == FINDINGS


def test_a_text_without_words_says_nothing():
    for text in ("", "   ", " . ", "1. 2.\n\n"):
        assert set(label_report(text).values()) == {None}


NORMAL = [
    ("No acute cardiopulmonary abnormality.", 1),
    ("Pacemaker in place. Lungs are clear.", 1),
    ("Small effusion.", None),
    ("Possible effusion.", None),
    ("Degenerative spine.", None),
    ("Elevated right hemidiaphragm.", None),
    ("Hyperexpanded lungs, COPD.", None),
    ("No free air.", 1),
]


@pytest.mark.parametrize(
    "risk", ["at risk for", "with risk factors for", "at increased risk of", "predisposed to", "susceptible to"]
)
def test_what_a_patient_may_get_is_not_there(risk):
    assert label_report(f"The patient is {risk} pneumonia.")["Pneumonia"] is None
    assert label_report(f"Small pleural effusion; {risk} pneumonia.")["Pleural Effusion"] == 1


def test_no_finding():
    for text, label in NORMAL:
        assert label_report(text)["No Finding"] == label, text


def test_mentions_combine_present_over_uncertain_over_denied():
    assert said("No effusion. Possible effusion.") == {"Pleural Effusion": -1}
    assert said("Possible effusion. Small effusion. No effusion.") == {"Pleural Effusion": 1}


SIDES = [
    ("Left pleural effusion and right pneumothorax.", [LEFT, RIGHT]),
    ("left effusion and atelectasis", [LEFT, LEFT]),
    ("effusion and atelectasis on the left", [LEFT, LEFT]),
    ("right basilar atelectasis and emphysema with hyperinflated lungs", [RIGHT, set()]),
    ("edema and effusion on the left", [set(), LEFT]),
    ("small right effusion, atelectasis and scoliosis", [RIGHT, RIGHT, set()]),
    ("effusion and left emphysema", [set(), LEFT]),
    ("effusion and left pneumothorax", [set(), LEFT]),
    ("right opacity representing asymmetric edema", [RIGHT, RIGHT]),
    ("left and right basal atelectasis", [BOTH]),
    ("bilateral effusions with right basilar consolidation", [BOTH, RIGHT]),
    ("effusion on the left and right basilar atelectasis", [LEFT, RIGHT]),
    ("bibasilar atelectasis", [BOTH]),
    ("rightsided effusion", [RIGHT]),
    ("right-sided effusion", [RIGHT]),
    ("opacity in the lingula", [LEFT]),
    ("nodule in the middle lobe", [RIGHT]),
    ("left opacity compatible with fibrosis or atelectasis", [LEFT, LEFT]),
    ("catheter with its tip in the right atrium", [set()]),
    ("cardiomegaly and left effusion", [set(), LEFT]),
    ("small effusion", [set()]),
    ("no left effusion but right pneumothorax", [LEFT, RIGHT]),
    ("tracheal deviation to the right by a left upper lobe mass", [LEFT]),
    ("mediastinal shift to the left from a right pneumothorax", [RIGHT]),
    ("left pneumothorax with shift of the mediastinum to the right", [LEFT]),
    ("leftward tracheal deviation by a right mass", [RIGHT]),
    ("patient rotated to the right, left effusion", [LEFT]),
    ("tube advanced to the right lower lobe with left collapse", [RIGHT, LEFT]),
    ("right-sided aortic arch and a pleural effusion", [set()]),
    ("opacity on the left from atelectasis", [LEFT, LEFT]),
    ("blunted right costophrenic angle from a large pleural effusion", [RIGHT]),
    ("left effusion, unchanged from yesterday, and no pneumothorax", [LEFT, set()]),
    ("effusion on the R", [RIGHT]),
    ("pneumothorax (L)", [LEFT]),
    ("compression fracture at L 3 and L4", [set()]),
    ("L-spine fracture", [set()]),
    ("the heart is shifted into the left chest by a right pneumothorax", [RIGHT]),
    ("large left pneumothorax displacing the mediastinum to the right", [LEFT]),
]


def test_sides():
    for text, sides in SIDES:
        assert [set(mention.sides) for mention in find_mentions(text)] == sides, text


def test_mentions_come_in_reading_order_with_their_sentence():
    first, second = find_mentions("Left EFFUSION. No XXXX pneumothorax!")
    assert (first.finding, first.label, first.sentence) == ("Pleural Effusion", 1, "left effusion")
    assert (second.finding, second.label, second.sentence) == ("Pneumothorax", 0, "no pneumothorax")


def test_what_is_not_text_is_refused():
    for text in (None, float("nan"), 3, b"effusion", ["effusion"]):
        with pytest.raises(DataError, match=r"^a report must be text, .*$"):
            label_report(text)


CUES = ["no", "without", "not", "cannot exclude", "possible", "resolved", "but", "with", "and"]
OTHERS = ["heart size is", "lungs are", "enlarged", "normal", "clear", "xxxx", ",", ".", ":", "/"]
NAMED = ["effusion", "pneumothorax", "nodule", "left", "right"]
WORDS = st.lists(st.sampled_from([*CUES, *OTHERS, *NAMED]), max_size=25).map(" ".join)


@given(st.one_of(WORDS, st.text(max_size=80)))
@settings(max_examples=30, deadline=None)
def test_any_text_gets_consistent_labels(text):
    labels, mentions = label_report(text), find_mentions(text)
    assert set(labels.values()) <= {1, 0, -1, None}
    for name in FINDINGS[1:]:
        own = {mention.label for mention in mentions if mention.finding == name}
        assert (labels[name] is None) == (not own)
        assert labels[name] is None or labels[name] in own
    assert all(mention.sides <= BOTH for mention in mentions)
    assert label_report(text.upper().lower()) == label_report(text.lower())


@given(WORDS, WORDS)
@settings(max_examples=20, deadline=None)
def test_sentences_do_not_touch_each_other(one, two):
    assert find_mentions(f"{one} . {two}") == find_mentions(one) + find_mentions(two)


def test_endless_sentences_are_read_and_not_kept():
    kept = [statement.mentions("chexpert"), statement.labels("chexpert")]
    before = [len(texts) for texts in kept]
    assert len(find_mentions("no effusion and " * 5_000)) == 5_000
    assert "Pleural Effusion" in said("no effusion and " * 5_000)
    assert find_mentions("x" * 100_000) == []
    assert [len(texts) for texts in kept] == before


def test_what_repeats_is_kept_and_never_more_than_so_many():
    asked = []
    kept = Kept(lambda text: asked.append(text) or text, longest=3, most=2)
    texts = ["a", "a", "long", "long", "b", "c", "a"]
    assert [kept[text] for text in texts] == texts
    assert asked == ["a", "long", "long", "b", "c", "a"]
    assert len(kept) == 2


def test_labels_of_a_report_may_be_changed_by_who_asked():
    label_report("No effusion.").clear()
    assert said("No effusion.") == {"Pleural Effusion": 0}


def test_no_report_needs_a_reader_of_toml():
    code = (
        "import sys, xray_captioning as xc; xc.label_report('Indication: cough. Findings: edema.');"
        "print(*{'tomllib', 'json', 'tempfile'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


CONVENTIONS = [
    ("No new opacity.", "Lung Opacity", -1, 0),
    ("Heart size is stable.", "Cardiomegaly", -1, None),
    ("Borderline heart size.", "Cardiomegaly", -1, 1),
    ("Scar or atelectasis.", "Atelectasis", -1, 1),
    ("Atelectasis or pneumonia.", "Atelectasis", -1, 1),
    ("Possible effusion.", "Pleural Effusion", -1, None),
    ("Probable effusion.", "Pleural Effusion", -1, 1),
    ("Vascular congestion.", "Edema", -1, -1),
    ("Infectious process.", "Pneumonia", 1, None),
    ("Nodular opacity.", "Lung Lesion", 1, None),
    ("Calcified nodule.", "Lung Lesion", None, 1),
    ("Hydropneumothorax.", "Pleural Effusion", 1, None),
]


def test_conventions_differ_where_the_documentation_says():
    for text, finding, chexpert, mesh in CONVENTIONS:
        assert label_report(text)[finding] == chexpert, text
        assert label_report(text, convention="mesh")[finding] == mesh, text


def test_another_convention_is_refused():
    with pytest.raises(ConfigError, match=r"^there is no convention 'nih'; take chexpert or mesh$"):
        label_report("effusion", convention="nih")


EXPLAINED = [
    ("Cannot exclude PNA.", "Pneumonia", "pneumonia", "possible", "cannot exclude"),
    ("Effusion has been drained.", "Pleural Effusion", "effusion", "resolved", "has been drained"),
    ("No change in the effusion.", "Pleural Effusion", "effusion", "present", ""),
    ("The heart is not enlarged.", "Cardiomegaly", "heart is not enlarged", "denied", None),
    ("Pneumothorax: none", "Pneumothorax", "pneumothorax", "denied", "is absent"),
    ("no new nodule", "Lung Lesion", "nodule", "no new", "no new"),
]


def test_an_explanation_names_the_words_and_the_cue():
    for text, finding, words, status, cue in EXPLAINED:
        mention = explain_report(text)[finding]
        assert (mention.words, mention.status) == (words, status), text
        assert mention.cue == (words if cue is None else cue), text


def test_an_explanation_is_of_the_label():
    text = "No effusion. Possible effusion on the left. No pneumothorax."
    explained = explain_report(text)
    assert {name: mention.label for name, mention in explained.items()} == said(text)
    assert explained["Pleural Effusion"].sentence == "possible effusion on the left"


def test_details():
    first, second, third = find_mentions(
        "Small to moderate left effusion, not increased, with basilar atelectasis that has improved"
        " and a new trace apical pneumothorax."
    )
    assert (first.severity, first.change, first.zones) == ("moderate", "unchanged", frozenset())
    assert (second.change, second.zones) == ("better", {"basal"})
    assert (third.severity, third.change, third.zones) == ("trace", "new", {"apical"})
    assert find_mentions("The large effusion has resolved.")[0].change == "resolved"
    assert find_mentions("No new effusion.")[0].change is None
    fourth = find_mentions("Small to moderate right lower lobe and lingular opacity, not increased.")[0]
    assert (fourth.severity, fourth.change) == ("moderate", "unchanged")
    assert fourth.zones == {"lower", "lingular"}


HEADED = [
    ("Compared to the prior study: larger effusion.", {"Pleural Effusion": 1}),
    ("COMPARISON: None. Nodule.\n\nIMPRESSION: Effusion.", {"Lung Lesion": 1, "Pleural Effusion": 1}),
    ("HISTORY: Edema. Nodule. IMPRESSION: Effusion.", {"Pleural Effusion": 1}),
    ("TECHNIQUE: Two views\nEffusion.\n\nIMPRESSION: Nodule", {"Lung Lesion": 1, "Pleural Effusion": 1}),
    ("HISTORY: Edema.\n\nNodule.\n\nIMPRESSION: Effusion.", {"Lung Lesion": 1, "Pleural Effusion": 1}),
    ("Clinical history - edema\nFindings - effusion", {"Pleural Effusion": 1}),
    ("--- COMPARISON ---\nFilm with edema.\n--- FINDINGS ---\nNodule.", {"Lung Lesion": 1}),
    ("FINDNGS: effusion. IDICATION: edema.", {"Pleural Effusion": 1}),
    ("INDICATION: pneumonia. FINDINGS: No effusion.", {"Pleural Effusion": 0}),
    ("HISTORY: Edema\n\nThe lungs have a nodule.", {"Lung Lesion": 1}),
    ("Reason for exam: fever, ? pneumonia. Small effusion.", {"Pleural Effusion": 1}),
    ("COMPARISON: film with edema\nFINDINGS: effusion", {"Pleural Effusion": 1}),
    ("INDICATION\nEdema?\n\nIMPRESSION\nEffusion", {"Pleural Effusion": 1}),
    ("**History:** edema\n**Findings:** effusion", {"Pleural Effusion": 1}),
    ("Effusion: none. Edema: mild.", {"Pleural Effusion": 0, "Edema": 1}),
    ("Effusion: No effusion seen", {"Pleural Effusion": 0}),
    ("- No effusion\n- Nodule", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("No effusion\nNodule", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("no focal\nnodule", {"Lung Lesion": 0}),
    ("No consolidation and no\nEffusion.", {"Consolidation": 0, "Pleural Effusion": 0}),
    ("NO EFFUSION\nNODULE", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("1.No effusion 2.Nodule", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("a) no effusion b) nodule", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("no effusion, + nodule", {"Pleural Effusion": 0, "Lung Lesion": 1}),
    ("Effusion? No.", {"Pleural Effusion": 0}),
    ("Atelectasis vs. effusion.", {"Atelectasis": -1, "Pleural Effusion": -1}),
]


def test_headings_lists_and_forms():
    for text, expected in HEADED:
        assert said(text) == expected, text


def test_sentences_of_all_kinds():
    """Written before the rules that read them; what was wrong then has been mended since."""
    rows = [line.split("\t") for line in SENTENCE_FILE.read_text("utf-8").splitlines()[1:]]
    wrong = [sentence for _, sentence, expected in rows if not agrees(sentence, expected)]
    assert len(rows) > 1600
    assert len(wrong) <= 1, wrong


def agrees(sentence, expected):
    labels = label_report(sentence.replace("\\n", "\n").replace("\\t", "\t"))
    pairs = (part.split("=") for part in expected.split(";"))
    return all(str(labels[name]).replace("None", "N") in text.split("/") for name, text in pairs)


@pytest.fixture
def benchmark():
    specification = importlib.util.spec_from_file_location("labeler_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_speed_is_taken_in_a_process_of_its_own(benchmark):
    root = BENCHMARK.parents[1]
    first, labelled, together, again = benchmark.timed(root, pickle.dumps(["No effusion."] * 9))
    assert together == pytest.approx(first + labelled)
    assert min(labelled, again) > 0


def test_agreement_with_human_coding_of_the_even_reports(shared_data, benchmark):
    numbers, texts, terms = benchmark.read(shared_data / "iu" / "ecgen-radiology.tgz")
    even = np.flatnonzero(numbers % 2 == 0)
    assert len(numbers) == 3955
    counts = benchmark.counts([terms[i] for i in even], [label_report(texts[i], "mesh") for i in even])
    assert benchmark.f1(counts.sum(0)).mean() >= 0.92


SPELT = [
    ("pnuemothorax", "pneumothorax"),
    ("effussion", "effusion"),
    ("consolidtion", "consolidation"),
    ("atelactesis", "atelectasis"),
    ("noeffusion", "no effusion"),
    ("pleuraleffusion", "pleural effusion"),
    ("effusionis", "effusion is"),
    ("haemothorax", "hemothorax"),
    ("rll", "right lower lobe"),
]


def test_one_error_leaves_a_beginning_or_an_end_by_which_a_term_is_looked_for():
    spelling = rules("chexpert").spelling
    for term in spelling.terms:
        errors = {term[:i] + term[i + 1 :] for i in range(len(term))}
        errors |= {term[:i] + "q" + term[i:] for i in range(len(term) + 1)}
        errors |= {term[:i] + "q" + term[i + 1 :] for i in range(len(term))}
        errors |= {term[:i] + term[i + 1] + term[i] + term[i + 2 :] for i in range(len(term) - 1)}
        for word in errors:
            found = word[:3] in spelling.beginnings or word[-3:] in spelling.ends
            assert found or len(word) < SHORTEST, (term, word)


def test_words_get_their_standard_spelling():
    spelling = rules("chexpert").spelling
    assert [" ".join(spelling[word]) for word, _ in SPELT] == [form for _, form in SPELT]


def test_what_stands_between_blanks_is_spelt_at_once():
    spelling = rules("chexpert").spelling
    written = ("(effusion,", "w/o", "xxxx,", "-", "t8")
    expected = [("(", "effusion", ","), ("without",), (",",), (), ("t", "8")]
    assert [spelling[text] for text in written] == expected


def test_right_words_are_left_alone():
    spelling = rules("chexpert").spelling
    for word in (
        *("infusion", "perfusion", "injection", "module", "remarkable", "pericardial", "nodular"),
        *("nonspecific", "congested", "unresolved", "fractured", "plural", "reflection", "pe", "cm"),
    ):
        assert spelling[word] == (word,)


@given(st.text(alphabet="aeflnoprsux", min_size=1, max_size=45))
@settings(max_examples=50, deadline=None)
def test_no_word_is_too_strange_to_spell(word):
    assert isinstance(rules("chexpert").spelling[word], tuple)


@given(st.text(alphabet="abc", max_size=6), st.text(alphabet="abc", max_size=6))
@settings(max_examples=100, deadline=None)
def test_distance_is_symmetric_and_zero_for_equal_words_only(one, two):
    assert distance("pnuemothorax", "pneumothorax") == 1 < distance("infusion", "effusion") == 2
    assert distance(one, two) == distance(two, one) <= max(len(one), len(two))
    assert (distance(one, two) == 0) == (one == two)


@pytest.mark.parametrize(
    "text", ["-small effusion, -cardiomegaly", "- Small effusion, - cardiomegaly", "-effusion -cardiomegaly"]
)
def test_dashes_of_a_list_on_one_line_deny_nothing(text):
    found = label_report(text)
    assert (found["Pleural Effusion"], found["Cardiomegaly"], found["No Finding"]) == (1, 1, None)
