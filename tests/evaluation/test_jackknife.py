"""Intervals and paired differences."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.rows import bleu_statistics, rouge_score_rows
from xray_captioning.errors import DataError
from xray_captioning.evaluation import jackknife as module
from xray_captioning.evaluation.jackknife import (
    MEANS,
    Jackknife,
    jackknife,
    mean_of_runs,
    patient_sums,
    scores_from_sums,
    study_statistics,
)
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.metrics.rouge import rouge_l_rows
from xray_captioning.metrics.scores import score

SENTENCES = [
    "the lungs are clear .",
    "small left pleural effusion .",
    "right pleural effusion and atelectasis .",
    "possible cardiomegaly .",
    "no pneumothorax .",
    "left rib fracture .",
    "",
]
TEXT = st.lists(st.sampled_from(SENTENCES), max_size=3).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)


def reports(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(SENTENCES, size=rng.integers(4))) for _ in range(count)]


def direct(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    """What the functions for one sample say."""
    rouge = rouge_score_rows(references, hypotheses).mean(axis=0)
    length, closest = bleu_statistics(references, hypotheses)[:, 8:].sum(axis=0).tolist()
    return {
        **score(references, hypotheses),
        **dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rouge.tolist(), strict=True)),
        "mean_length": length / len(hypotheses),
        "length_ratio": length / closest if closest else math.nan,
        **clinical_scores(references, hypotheses),
        **compare_mentions(references, hypotheses),
    }


def one_row(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: column[0] for name, column in values.items()}


def intervals(references, hypotheses, groups=None):
    return jackknife(references, {"a": hypotheses}, groups).intervals("a")


def paired_differences(references, first, second):
    found = jackknife(references, {"first": first, "second": second})
    return {name: found.compare("first", "second", name) for name in found.scores["first"]}


@pytest.mark.parametrize("names", [[-1, -1, 0, 1, 2, 3], [19_000_000, 19_000_000, 7, 8, 9, 10], list("aabcde")])
def test_patients_may_be_any_numbers(names):
    references, hypotheses = ["no effusion"] * 6, ["no effusion", "mild edema", *["no effusion"] * 4]
    found = [jackknife(references, {"x": hypotheses}, of) for of in (names, np.array(names))]
    assert found[0].scores["x"] == pytest.approx(found[1].scores["x"], nan_ok=True)
    assert found[0].support == found[1].support
    assert found[0].support["x"]["BLEU-1"] == 5


def test_sums_of_nobody():
    assert patient_sums({"x": np.zeros((0, 2), np.int8)}, np.zeros(0, int))["x"].shape == (0, 2)


@pytest.mark.parametrize("values", [np.ones(1000, bool), np.full((1000, 2), 120, np.uint8), np.full(1000, 2.5)])
def test_sums_of_many_studies_fit(values):
    found = patient_sums({"x": values}, np.repeat([0, 1], [999, 1]))["x"]
    assert found.tolist() == [values[:999].sum(0).tolist(), values[0].tolist()]


@given(PAIRS)
@settings(deadline=None, max_examples=20)
def test_the_sample_itself_has_the_scores_of_every_other_function(pairs) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    expected = direct(references, hypotheses)
    statistics = study_statistics(references, hypotheses)
    found = one_row(scores_from_sums(patient_sums(statistics, np.zeros(len(pairs), int))))
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_sums_of_counts_are_exact() -> None:
    references, hypotheses = reports(300), reports(300, 1)
    expected = direct(references, hypotheses)
    found = jackknife(references, {"a": hypotheses}).scores["a"]
    for name in ("BLEU-4", "clinical_f1", "macro_f1_14", "micro_f1", "side_recall", "length_ratio"):
        assert found[name] == expected[name]


@given(PAIRS.filter(lambda pairs: len(pairs) > 1), st.integers(0, 7))
@settings(deadline=None, max_examples=20)
def test_a_pseudo_value_is_what_the_absence_of_a_patient_changes(pairs, left_out) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    number, left_out = len(pairs), left_out % len(pairs)
    found = jackknife(references, {"a": hypotheses})
    del references[left_out], hypotheses[left_out]
    expected = direct(references, hypotheses)
    for name in set(expected) - {"CIDEr"}:  # whose n-gram weights are those of all studies
        score, pseudo = found.scores["a"][name], found.pseudo["a"][name][left_out]
        without = score - (pseudo - score) / (number - 1)
        known = expected[name] if math.isfinite(expected[name]) else score
        assert without == pytest.approx(known, abs=1e-9, nan_ok=True), name


def test_pseudo_values_of_a_mean_are_the_values_themselves() -> None:
    references, hypotheses = reports(30), reports(30, 1)
    found, values = (jackknife(references, {"a": hypotheses}), study_statistics(references, hypotheses))
    for name in (*MEANS, "example_f1", "example_f1_present"):
        assert found.pseudo["a"][name] == pytest.approx(values[name]), name


@given(PAIRS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=8)
def test_order_and_repetition_leave_scores(pairs, random) -> None:
    def scores(some) -> dict[str, float]:
        left, right = map(list, zip(*some, strict=True))
        return jackknife(left, {"a": right}).scores["a"]

    first, twice = scores(pairs), scores([*pairs, *pairs])
    shuffled = scores(random.sample(pairs, len(pairs)))
    for name, value in first.items():
        assert shuffled[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
        # CIDEr counts an n-gram that no reference has as if one did, so the number of studies
        # matters; BLEU has a tiny constant in place of no match.
        near = pytest.approx(value, abs=1e-4 if name.startswith("BLEU") else 1e-9, nan_ok=True)
        assert name == "CIDEr" or twice[name] == near, name


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 9)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=30)
def test_an_interval_holds_its_score(rows) -> None:
    references, hypotheses, patients = map(list, zip(*rows, strict=True))
    found = jackknife(references, {"a": hypotheses}, patients)
    for name, (low, high) in found.intervals("a").items():
        score = found.scores["a"][name]
        assert (math.isnan(low) and math.isnan(high)) or low <= score <= high, name
        assert name in module.UNBOUNDED or not (low < 0 or high > module.HIGHEST.get(name, 1)), name


def test_an_average_over_rare_findings_lies_in_its_interval_or_has_none() -> None:
    # A resample of studies loses a third of what occurs once: bootstrap percentiles of macro_f1_14
    # were .28 to .64, and the score .65.
    names = [*("effusion", "edema", "fracture", "pneumonia", "atelectasis", "nodule"), "opacity"]
    names += ["cardiomegaly", "pneumothorax", "consolidation"]

    def found(each: int):
        references = [name for name in names for _ in range(each)] + ["no finding"] * 90
        texts = ["edema" if i % 10 == 7 else text for i, text in enumerate(references)]
        one = jackknife(references, {"a": texts})
        return one.scores["a"], one.intervals("a")

    rare, frequent = found(1), found(10)
    assert math.isnan(rare[1]["macro_f1_14"][0])
    for name in ("macro_f1_5", "clinical_f1"):
        assert math.isnan(rare[1][name][0])
        low, high = frequent[1][name]
        assert low < frequent[0][name] < high


def test_nothing_is_said_of_the_spread_of_what_does_not_vary() -> None:
    references = reports(40)
    found = jackknife(references, {"perfect": references})
    for name in ("clinical_f1", "micro_f1", "example_f1", "side_agreement", "length_ratio"):
        assert found.scores["perfect"][name] == 1
        assert all(map(math.isnan, found.intervals("perfect")[name]))


def test_a_perfect_system_is_better_than_one_that_names_nothing() -> None:
    for patients, clear in ((3, False), (12, True)):
        references = ["left effusion .", "edema .", "the lungs are clear ."] * (patients // 3)
        found = jackknife(references, {"a": references, "b": [""] * patients})
        gap = found.compare("a", "b", "clinical_f1")
        assert gap.difference == 1
        assert gap.p == 2.0 ** (1 - patients * 2 // 3)  # a third has no finding
        assert gap.clear == clear


@pytest.mark.parametrize("metric", ["clinical_f1", "macro_f1_5", "side_agreement"])
@pytest.mark.parametrize(("few", "p"), [(1, 1.0), (2, 0.5), (5, 1 / 16)])
def test_few_patients_with_a_finding_among_many_are_few(metric, few, p) -> None:
    """The many without one say nothing of who finds it, and make nothing clear."""
    references = ["left effusion ."] * few + ["normal chest ."] * (100 - few)
    wrong = ["right effusion ." if metric == "side_agreement" else "normal chest ."] * 100
    systems = {"sees": references, "fixed": wrong}
    found = jackknife(references, systems, findings=["Pleural Effusion"])
    assert found.compare("sees", "fixed", metric).p == pytest.approx(p)


def test_below_five_patients_there_is_no_interval() -> None:
    normal = ["the lungs are clear ."] * 40

    def shown(patients_with: int, twice: bool = False) -> set[str]:
        sick = ["left effusion ."] * patients_with * (2 if twice else 1)
        texts = [*sick[:-2], "edema .", "the lungs are clear .", *normal[1:], "effusion ."]
        groups = [*np.arange(len(sick)) % patients_with, *range(100, 140)]
        found = intervals([*sick, *normal], texts, groups)
        return {name for name, (low, _) in found.items() if math.isfinite(low)}

    for name in ("micro_f1", "micro_f1_5", "side_recall", "omissions"):
        assert name in shown(5)
        assert name not in shown(4)
        assert name not in shown(4, twice=True)  # eight studies, but of four patients
    # Averages that count an absent finding as 0 need ten patients with each of their findings.
    assert not {"macro_f1_14", "macro_f1_5", "macro_f1_all"} & shown(5)
    assert {"BLEU-1", "ROUGE-L", "CIDEr", "example_f1", "false_positives"} <= shown(4)


def test_studies_of_a_patient_are_left_out_together() -> None:
    references, hypotheses = reports(20), reports(20, 1)
    patients = [i // 4 for i in range(20)]
    names = [f"patient {i}" for i in patients]
    np.testing.assert_equal(intervals(references, hypotheses, names), intervals(references, hypotheses, patients))
    # Twins carry no more information than one of them.
    one = intervals(references, hypotheses)
    twins = intervals([*references] * 2, [*hypotheses] * 2, [*range(20)] * 2)
    for name in set(one) - {"CIDEr"}:
        assert twins[name] == pytest.approx(one[name], abs=1e-6, nan_ok=True)


SETS = 300


def share_of_intervals_with_the_truth(groups: int, studies_each: int, clustered: bool) -> float:
    """Sets of one-word reports whose ROUGE-1 is 1 in 70 % of the groups, and 0 in the others."""
    rng, hits = np.random.default_rng(5), 0
    patients = np.repeat(np.arange(groups), studies_each)
    for _ in range(SETS):
        values = (rng.random(groups) < 0.7)[patients].astype(float)
        if clustered:
            values = values.reshape(groups, studies_each).mean(1)
        found = Jackknife(
            {"a": {"ROUGE-1": float(values.mean())}}, {"a": {"ROUGE-1": values}}, {"a": {"ROUGE-1": len(values)}}
        )
        low, high = found.intervals("a")["ROUGE-1"]
        hits += low <= 0.7 <= high
    return hits / SETS


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    assert 0.92 <= share_of_intervals_with_the_truth(60, 1, clustered=False) <= 0.98
    assert 0.92 <= share_of_intervals_with_the_truth(60, 4, clustered=True) <= 0.98


def test_studies_of_one_patient_are_no_independent_witnesses() -> None:
    assert share_of_intervals_with_the_truth(60, 4, clustered=False) < 0.8


def test_no_interval_of_lengths_goes_below_no_word() -> None:
    """Runs that write 2, 8 and 48 words: the mean is uncertain by more than itself."""
    name, lengths = "mean_length", [2.0, 8.0, 48.0]
    mean = sum(lengths) / 3
    near = mean + np.linspace(-1, 1, 20)
    runs = {"a": [{name: length} for length in lengths]}
    found = Jackknife({"a": {name: mean}}, {"a": {name: near}}, {"a": {name: 20}}, runs)
    low, high = found.intervals("a")[name]
    assert low == 0.0
    assert high > mean


def test_a_system_does_not_differ_from_itself() -> None:
    references, hypotheses = reports(50), reports(50, 1)
    for name, found in paired_differences(references, hypotheses, hypotheses).items():
        assert found[4:] == (0, 0, 0, 1) or math.isnan(found.difference), name


def test_a_better_system_is_told_from_a_worse_one() -> None:
    references, worse = reports(150), reports(150, 1)
    better = [r if i % 3 == 0 else h for i, (r, h) in enumerate(zip(references, worse))]
    up = paired_differences(references, better, worse)
    down = paired_differences(references, worse, better)
    for name in ("BLEU-4", "ROUGE-L", "CIDEr", "clinical_f1", "example_f1"):
        assert up[name].low > 0
        assert up[name].p < 0.001
        assert up[name].clear
        assert not down[name].clear
        opposite = (-up[name].difference, -up[name].high, -up[name].low, up[name].p)
        assert down[name][4:] == pytest.approx(opposite)


def test_of_means_it_is_the_paired_t_test() -> None:
    references, first, second = reports(60), reports(60, 1), reports(60, 2)
    expected = scipy.stats.ttest_rel(*(rouge_l_rows(references, x) for x in (first, second)))
    found = paired_differences(references, first, second)["ROUGE-L"]
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))


@pytest.mark.parametrize("missing", [None, math.nan, "", "nan"])
def test_studies_of_nobody_known_are_not_of_one_patient(missing) -> None:
    """They are left out one by one, as studies without groups are; a known patient's together."""
    texts = ["clear lungs .", "cardiomegaly .", "scoliosis .", "clear lungs .", "edema .", "normal ."]
    said = {"a": ["clear lungs ."] * 6}
    found, alone = jackknife(texts, said, [missing] * 6), jackknife(texts, said)
    np.testing.assert_array_equal(found.pseudo["a"]["ROUGE-1"], alone.pseudo["a"]["ROUGE-1"])
    some = jackknife(texts, said, ["p", missing, "p", missing, "p", missing])
    assert len(some.pseudo["a"]["ROUGE-1"]) == 4


def test_differences_are_paired() -> None:
    # Both share most errors: each interval is wide, that of the difference is narrow.
    references, first = reports(150), reports(150, 1)
    second = [references[0], references[1], *first[2:]]
    found = jackknife(references, {"first": first, "second": second})
    low, high = found.intervals("first")["ROUGE-L"]
    gap = found.compare("second", "first", "ROUGE-L")
    assert gap.high - gap.low < (high - low) / 2
    assert gap.difference == pytest.approx(found.scores["second"]["ROUGE-L"] - found.scores["first"]["ROUGE-L"])


def test_scores_without_a_value_have_no_interval() -> None:
    found = jackknife(["lungs clear ."] * 5, {"a": ["lungs clear ."] * 5})
    assert math.isnan(found.scores["a"]["clinical_f1"])
    assert all(map(math.isnan, found.intervals("a")["clinical_f1"]))
    assert all(map(math.isnan, found.compare("a", "a", "side_agreement")[2:]))


def test_one_study_and_empty_texts() -> None:
    found = jackknife(["a b c d"], {"a": ["a b c d"], "b": ["a"]})
    assert found.scores["a"]["ROUGE-L"] == 1
    assert all(math.isnan(low) for low, _ in found.intervals("a").values())
    assert found.compare("a", "b", "ROUGE-L").p == 1
    assert jackknife(["", "effusion ."], {"a": ["", ""]}).scores["a"]["BLEU-1"] < 1e-6


def test_columns_of_any_kind() -> None:
    pandas = pytest.importorskip("pandas")
    references, hypotheses, patients = reports(8), reports(8, 1), list("aabbccdd")
    expected = intervals(references, hypotheses, patients)
    columns = [pandas.Series(c, index=range(5, 13)) for c in (references, hypotheses, patients)]
    arrays = [np.array(column) for column in (references, hypotheses, patients)]
    for given_columns in (columns, arrays):
        found = intervals(*given_columns)
        np.testing.assert_equal(list(found.values()), list(expected.values()))


@pytest.mark.parametrize(
    ("references", "systems", "groups", "message"),
    [
        (["a"], {"mine": ["a", "b"]}, None, "mine has 2 texts"),
        (["a", "b"], {"mine": ["a", None]}, None, r"mine\[1\] is not text but NoneType"),
        (["a", 3.0], {"mine": ["a", "b"]}, None, r"references\[1\] is not text but float"),
        ([["a"]], {"mine": ["a"]}, None, r"references\[0\] is not text but list"),
        ([], {"mine": []}, None, "references has no text"),
        ("ab", {"mine": ["a", "b"]}, None, "references is one text"),
        (["a", "b"], {"mine": "ab"}, None, "mine is one text"),
        (["a"], {}, None, "no system"),
        (["a", "b"], {"mine": ["a", "b"]}, ["p"], "1 patients but 2 studies"),
    ],
)
def test_wrong_input_is_refused_in_one_line(references, systems, groups, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        jackknife(references, systems, groups)
    assert "\n" not in str(caught.value)


def test_findings_are_those_of_the_reports_where_a_protocol_damages_references() -> None:
    reports = ["left pleural effusion .", "no pneumothorax ."]
    references = ["left pleural <unk> .", "<unk> pneumothorax ."]
    found = jackknife(references, {"a": reports}, reports=reports).scores["a"]
    assert found["clinical_f1"] == found["example_f1"] == found["side_recall"] == 1
    assert found["BLEU-1"] < 1
    whole = jackknife(references, {"a": reports}).scores["a"]
    assert whole["clinical_f1"] == 0
    assert whole["BLEU-1"] == found["BLEU-1"]


def test_clinical_f1_is_over_the_findings_that_were_named_before() -> None:
    references, texts = ["effusion .", "edema ."], ["effusion .", "fracture ."]
    found = jackknife(references, {"a": texts}, findings=["Pleural Effusion", "Edema"])
    assert found.scores["a"]["clinical_f1"] == 0.5
    assert jackknife(references, {"a": texts}).scores["a"]["clinical_f1"] == pytest.approx(1 / 3)


def test_a_system_of_several_runs_varies_with_them_too() -> None:
    references = reports(80)
    runs = {"1": reports(80, 1), "2": reports(80, 2), "3": reports(80, 3)}
    alone = jackknife(references, runs)
    found = mean_of_runs(alone, {"a": ["1", "2", "3"], "same": ["1"] * 3, "one": ["1"]})
    values = np.array([alone.scores[run]["ROUGE-L"] for run in runs])
    assert found.scores["a"]["ROUGE-L"] == pytest.approx(values.mean())
    error, freedom = found._error(found.pseudo["a"]["ROUGE-L"], "ROUGE-L", "a")
    patients = np.var(found.pseudo["a"]["ROUGE-L"], ddof=1) / 80
    assert error**2 == pytest.approx(patients + values.var(ddof=1) / 3)
    assert 2 <= freedom <= 79 + 2
    # Runs that all write the same are one run.
    assert found.intervals("same")["ROUGE-L"] == pytest.approx(found.intervals("one")["ROUGE-L"])
    assert found.compare("same", "one", "ROUGE-L").p == 1


def test_two_runs_alone_do_not_make_a_difference_clear() -> None:
    # The same better captions: by seeds that lie far apart, nothing is known of a third one.
    references, worse = reports(100), reports(100, 1)
    texts = {"good": references, "worse": worse, "half": [*references[:50], *worse[50:]]}
    alone = jackknife(references, texts | {"rival": reports(100, 2)})
    runs = {"apart": ["good", "worse"], "steady": ["half", "half"], "rival": ["rival"]}
    found = mean_of_runs(alone, runs)
    assert found.compare("steady", "rival", "ROUGE-L").clear
    assert not found.compare("apart", "rival", "ROUGE-L").clear
