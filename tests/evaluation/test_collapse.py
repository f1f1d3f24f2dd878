"""The alarm goes off for what does not look, and for nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from xray_captioning.evaluation.baselines import constant_caption, random_captions
from xray_captioning.evaluation.collapse import caption_spread
from xray_captioning.evaluation.results import Results, evaluate_systems
from xray_captioning.evaluation.systems import ReportTexts, System
from xray_captioning.phantom.reports import report
from xray_captioning.phantom.study import sample_study
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
        texts.append(clean(report(study, rng).findings, "plain"))
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
    return evaluate_systems(
        ids, systems, ReportTexts.unaltered(references, training), {"part": "test"}
    )


def test_only_what_does_not_look_is_alarmed(results):
    assert [alarm.system for alarm in results.alarms] == ["parrot greedy", "fixed"]
    for alarm in results.alarms:
        assert "its own captions given to other studies" in alarm.message
        assert "\n" not in alarm.message
        assert not alarm.comparisons[0].clear


def test_shuffling_costs_a_good_model_its_findings_and_little_of_its_bleu(results):
    scores = {row["system"]: row for row in results.rows}
    good, shuffled = scores["good"], scores["good shuffled"]
    low, high = results.intervals("random")["clinical_f1"]
    assert good["clinical_f1"] > 0.9
    assert low <= shuffled["clinical_f1"] <= high
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


def test_without_findings_bleu_decides():
    words = [f"sentence {i} says {i} of study {i} ." for i in range(30)]
    systems = [
        System("echo", None, words),
        System("fixed", None, [words[0]] * 30),
        System("constant", None, [words[0]] * 30, "baseline"),
    ]
    found = evaluate_systems(
        [str(i) for i in range(30)], systems, ReportTexts.unaltered(words, words), {}, quick=True
    )
    assert [alarm.system for alarm in found.alarms] == ["fixed"]
    assert "BLEU-4" in found.alarms[0].message


def test_one_study_and_no_baseline_can_be_evaluated():
    found = evaluate_systems(
        ["1"],
        [System("x", None, ["clear ."])],
        ReportTexts.unaltered(["cardiomegaly ."], []),
        {},
    )
    assert [row["system"] for row in found.rows] == ["x"]
    assert found.alarms == []
