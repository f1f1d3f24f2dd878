"""The alarm goes off for what does not look, and for nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from xray_captioning.evaluation.baselines import ReportTexts, System, constant_caption, random_captions
from xray_captioning.evaluation.claims import COLLAPSED, NO_BETTER, TOO_FEW, caption_spread, collapse_alarm
from xray_captioning.evaluation.jackknife import Comparison
from xray_captioning.evaluation.results import Results, evaluate_systems
from xray_captioning.phantom.studies import sample_study
from xray_captioning.phantom.wording import report
from xray_captioning.text.cleaning import clean

STUDIES = 150


def _written(seed: int, misses: float | None = None) -> list[str]:
    """Findings of phantoms, or what a good model says of them: another wording, a few misses."""
    texts = []
    for index in range(STUDIES):
        rng = np.random.default_rng([seed, index])
        study = sample_study(rng)
        if misses is not None:
            rng = np.random.default_rng([seed, index, 1])
            kept = tuple(finding for finding in study.findings if rng.random() > misses)
            study = replace(study, findings=kept)
        texts.append(clean(report(study, rng)["findings"], "plain"))
    return texts


@pytest.fixture(scope="module")
def results() -> Results:
    references, good, training = _written(3), _written(3, misses=0.05), _written(4)
    constant = constant_caption(training)
    systems = [
        System("good", None, good),
        System("parrot", "greedy", random_captions(training, STUDIES, seed=5)),
        System("fixed", None, [constant] * STUDIES),
        System("constant", None, [constant] * STUDIES, "baseline"),
        System("random", None, random_captions(training, STUDIES), "baseline"),
    ]
    ids = [str(i) for i in range(STUDIES)]
    return evaluate_systems(ids, systems, ReportTexts.unaltered(references, training), {"part": "test"})


def test_only_what_does_not_look_is_alarmed(results):
    kinds = [(alarm.system, alarm.kind) for alarm in results.alarms]
    assert kinds == [("parrot greedy", COLLAPSED), ("fixed", COLLAPSED)]
    for alarm in results.alarms:
        assert "its own captions given to other studies" in alarm.message
        assert "\n" not in alarm.message
        assert alarm.shuffle_test == results.shuffle_tests[alarm.system]
        assert alarm.shuffle_test.p > 0.05


def test_the_table_says_what_the_test_says(results):
    rows = {row["system"]: row for row in results.rows}
    for name, test in results.shuffle_tests.items():
        name = name.removesuffix(" greedy")
        assert rows[name]["p_shuffled"] == test.p
        assert rows[name]["clinical_f1"] == pytest.approx(test.score, abs=1e-12)
        assert rows[f"{name} shuffled"]["clinical_f1"] == test.shuffled
        assert rows[f"{name} shuffled"]["p_shuffled"] is None
        assert test.excess == pytest.approx(test.score - test.shuffled)
        assert test.share == pytest.approx(test.excess / (1 - test.shuffled))
    assert results.shuffle_tests["fixed"].p == 1
    assert results.shuffle_tests["good"].p == 1 / 2_000


def test_a_system_that_reads_but_names_few_findings_is_not_called_collapsed():
    """Being no better than a fixed report is another statement than being collapsed."""
    references = ["cardiomegaly ."] * 60 + ["scoliosis ."] * 6 + ["clear lungs ."] * 40
    timid = ["clear lungs ."] * 60 + ["scoliosis ."] * 3 + ["clear lungs ."] * 43
    systems = [System("timid", None, timid), System("constant-clinical_f1", None, ["cardiomegaly ."] * 106, "baseline")]
    texts = ReportTexts.unaltered(references, references)
    found = evaluate_systems([str(i) for i in range(106)], systems, texts, {}, quick=True)
    assert [alarm.kind for alarm in found.alarms] == [NO_BETTER]
    assert "timid is not clearly better than a fixed report" in found.alarms[0].message
    assert found.alarms[0].comparisons[0].rival == "constant-clinical_f1"


def test_shuffling_costs_a_good_model_its_findings_and_little_of_its_bleu(results):
    scores = {row["system"]: row for row in results.rows}
    good, shuffled = scores["good"], scores["good shuffled"]
    assert good["clinical_f1"] > 0.9
    assert shuffled["clinical_f1"] < 0.15 * good["clinical_f1"]
    assert shuffled["BLEU-1"] > 0.7 * good["BLEU-1"]
    assert shuffled["BLEU-4"] > 0.5 * good["BLEU-4"]


def test_rows_say_how_varied_captions_are(results):
    scores = {row["system"]: row for row in results.rows}
    assert scores["fixed"]["top_share"] == 1
    assert scores["fixed"]["entropy"] == 0
    assert scores["fixed"]["copied"] == scores["parrot"]["copied"] == 1
    assert scores["good"]["copied"] < 0.2
    assert scores["fixed"]["abnormal_recall"] == 0
    assert scores["good"]["abnormal_recall"] > 0.9
    assert scores["good"]["n"] == STUDIES


def test_spread_by_hand():
    references = ["cardiomegaly .", "clear lungs .", "left effusion .", "cardiomegaly ."]
    texts = ["cardiomegaly .", "scoliosis .", "cardiomegaly .", "clear lungs ."]
    spread = caption_spread(references, texts, ["clear lungs .", "cardiomegaly ."])
    assert spread == pytest.approx((0.75, 3, 0.5, 1.5, 1 / 3))


def test_without_findings_words_decide():
    words = [f"sentence {i} says {i} of study {i} ." for i in range(30)]
    systems = [
        System("echo", None, words),
        System("fixed", None, [words[0]] * 30),
        System("constant", None, [words[0]] * 30, "baseline"),
    ]
    found = evaluate_systems([str(i) for i in range(30)], systems, ReportTexts.unaltered(words, words), {}, quick=True)
    assert [alarm.system for alarm in found.alarms] == ["fixed"]
    assert "F1 of words" in found.alarms[0].message
    assert found.alarms[0].comparisons[0].metric == "BLEU-4"
    assert found.shuffle_tests["echo"].metric == "word_f1"


def test_one_study_and_no_baseline_can_be_evaluated():
    found = evaluate_systems(["1"], [System("x", None, ["clear ."])], ReportTexts.unaltered(["cardiomegaly ."], []), {})
    assert [row["system"] for row in found.rows] == ["x"]
    assert [alarm.kind for alarm in found.alarms] == [TOO_FEW]
    assert "all are of one patient" in found.alarms[0].message


@pytest.mark.parametrize("studies", [2, 3, 5, 12])
def test_a_perfect_system_of_too_few_studies_is_not_called_collapsed(studies):
    """The alarm accuses only where the references themselves would pass."""
    findings = ["edema .", "normal .", "normal .", "scoliosis .", "normal ."]
    references = (findings * 3)[:studies]
    systems = [System("copy", None, references), System("fixed", None, ["normal ."] * studies)]
    texts = ReportTexts.unaltered(references, references)
    found = evaluate_systems([str(i) for i in range(studies)], systems, texts, {}, quick=True)
    kinds = {alarm.system: alarm.kind for alarm in found.alarms}
    few = {"copy": TOO_FEW, "fixed": TOO_FEW}
    assert kinds == ({"fixed": COLLAPSED} if studies == 12 else few)
    for alarm in found.alarms if studies < 12 else ():
        assert "too few studies" in alarm.message
        assert "looks collapsed" not in alarm.message


def test_an_alarm_of_few_studies_names_no_number_that_is_none():
    texts = ReportTexts.unaltered(["edema .", "normal ."], ["edema .", "normal ."])
    fixed = System("constant", None, ["normal ."] * 2, "baseline")
    systems = [System("copy", None, list(texts.references)), fixed]
    (alarm,) = evaluate_systems(["1", "2"], systems, texts, {}, quick=True).alarms
    assert "nan" not in alarm.message
    unknown = Comparison("constant", "clinical_f1", 1.0, 0.0, 1.0, np.nan, np.nan, 0.5)
    passed = alarm.shuffle_test._replace(p=0.01)
    spread = caption_spread(texts.references, texts.references, [])
    alarm = collapse_alarm("copy", spread, passed, unknown)
    assert alarm.kind == NO_BETTER
    assert "nan" not in alarm.message
    assert "no interval" in alarm.message
