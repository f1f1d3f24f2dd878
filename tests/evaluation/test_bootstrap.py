"""Intervals and paired differences."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation import bootstrap as module
from xray_captioning.evaluation.bootstrap import bootstrap
from xray_captioning.metrics import statistics
from xray_captioning.metrics.bleu import bleu_statistics
from xray_captioning.metrics.chrf import chrf_from_statistics, chrf_statistics
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.rouge import rouge_score_rows
from xray_captioning.metrics.scores import score
from xray_captioning.metrics.sides import side_agreement
from xray_captioning.metrics.statistics import study_statistics, weighted_scores

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
    sides = side_agreement(references, hypotheses)
    rouge = rouge_score_rows(references, hypotheses).mean(axis=0)
    length, closest = bleu_statistics(references, hypotheses)[:, 8:].sum(axis=0).tolist()
    return {
        **score(references, hypotheses),
        **dict(zip(("ROUGE-1", "ROUGE-2", "ROUGE-L-F1"), rouge.tolist(), strict=True)),
        "chrF": float(chrf_from_statistics(chrf_statistics(references, hypotheses).sum(axis=0))),
        "mean_length": length / len(hypotheses),
        "length_ratio": length / closest if closest else math.nan,
        **clinical_scores(references, hypotheses),
        "side_agreement": sides.side_agreement,
        "side_recall": sides.side_recall,
    }


def one_row(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: column[0] for name, column in values.items()}


def intervals(references, hypotheses, groups=None, **options):
    return bootstrap(references, {"a": hypotheses}, groups, **options).intervals("a")


def paired_differences(references, first, second, resamples):
    found = bootstrap(references, {"first": first, "second": second}, resamples=resamples)
    return {name: found.compare("first", "second", name) for name in found.scores["first"]}


@given(PAIRS)
@settings(deadline=None, max_examples=20)
def test_the_sample_itself_has_the_scores_of_every_other_function(pairs) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    expected = direct(references, hypotheses)
    found = one_row(
        weighted_scores(study_statistics(references, hypotheses), np.ones((1, len(pairs))))
    )
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_sums_of_counts_are_exact() -> None:
    references, hypotheses = reports(300), reports(300, 1)
    expected = direct(references, hypotheses)
    found = bootstrap(references, {"a": hypotheses}, resamples=1).scores["a"]
    for name in ("BLEU-4", "clinical_f1", "macro_f1_14", "micro_f1", "side_recall", "length_ratio"):
        assert found[name] == expected[name]


@given(PAIRS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_a_resample_has_the_scores_of_the_drawn_studies(pairs, random) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    chosen = random.choices(range(len(pairs)), k=len(pairs))
    weights = np.bincount(chosen, minlength=len(pairs))[None]
    found = one_row(weighted_scores(study_statistics(references, hypotheses), weights))
    expected = direct([references[i] for i in chosen], [hypotheses[i] for i in chosen])
    for name in set(found) - {"CIDEr"}:  # whose n-gram weights are those of all studies
        assert found[name] == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_cider_of_a_resample_is_a_mean_of_its_studies() -> None:
    references, hypotheses = reports(30), reports(30, 1)
    values = study_statistics(references, hypotheses)
    weights = np.random.default_rng(0).multinomial(30, [1 / 30] * 30, size=5)
    assert weighted_scores(values, weights)["CIDEr"] == pytest.approx(
        weights @ values["CIDEr"] / 30
    )


@given(PAIRS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=8)
def test_order_and_repetition_leave_scores(pairs, random) -> None:
    def scores(some) -> dict[str, float]:
        left, right = map(list, zip(*some, strict=True))
        return bootstrap(left, {"a": right}, resamples=1).scores["a"]

    first, twice = scores(pairs), scores([*pairs, *pairs])
    shuffled = scores(random.sample(pairs, len(pairs)))
    for name, value in first.items():
        assert shuffled[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
        # CIDEr counts an n-gram that no reference has as if one did, so the number of studies
        # matters; BLEU has a tiny constant in place of no match.
        near = pytest.approx(value, abs=1e-4 if name.startswith("BLEU") else 1e-9, nan_ok=True)
        assert name == "CIDEr" or twice[name] == near, name


def test_a_perfect_system_stays_perfect_in_every_resample() -> None:
    references = [*reports(40), "hiatal hernia ."]  # a finding that a third of resamples lack
    found = bootstrap(references, {"perfect": references}, resamples=200)
    for name in ("clinical_f1", "micro_f1", "example_f1", "side_agreement", "length_ratio"):
        assert found.intervals("perfect")[name] == (1.0, 1.0)
    # The averages with absent findings as 0 do vary.
    assert found.intervals("perfect")["macro_f1_all"][0] < found.scores["perfect"]["macro_f1_all"]


def test_intervals_hold_the_scores_and_follow_the_seed() -> None:
    references, hypotheses = reports(120), reports(120, 1)
    found = bootstrap(references, {"a": hypotheses}, resamples=300)
    ranges = intervals(references, hypotheses, resamples=300)
    assert ranges == found.intervals("a")
    assert ranges == intervals(references, hypotheses, resamples=300, seed=0)
    assert ranges != intervals(references, hypotheses, resamples=300, seed=1)
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "ROUGE-1", "clinical_f1", "side_recall"):
        low, high = ranges[name]
        assert low < found.scores["a"][name] < high


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    references, hypotheses = reports(40), reports(40, 1)
    whole = bootstrap(references, {"a": hypotheses}, resamples=50).replicates["a"]
    monkeypatch.setattr(module, "_CELLS", 7 * 40)
    monkeypatch.setattr(statistics, "_ROWS", 9)
    parts = bootstrap(references, {"a": hypotheses}, resamples=50).replicates["a"]
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=0, atol=1e-12)


def test_studies_of_a_patient_are_drawn_together() -> None:
    references, hypotheses = reports(20), reports(20, 1)
    patients = [i // 4 for i in range(20)]
    weights = np.concatenate(list(module._weights(module._codes(patients, 20), 30, 0)))
    assert np.all(weights.reshape(30, 5, 4) == weights.reshape(30, 5, 4)[:, :, :1])
    assert set(weights.sum(axis=1)) == {20.0}
    names = [f"patient {i}" for i in patients]
    assert intervals(references, hypotheses, names) == intervals(references, hypotheses, patients)
    # Twins carry no more information than one of them.
    one = intervals(references, hypotheses, resamples=200)
    twins = intervals([*references] * 2, [*hypotheses] * 2, [*range(20)] * 2, resamples=200)
    for name in set(one) - {"CIDEr"}:
        assert twins[name] == pytest.approx(one[name], abs=1e-6, nan_ok=True)


SETS = 100


def share_of_intervals_with_the_truth(groups: int, studies_each: int, clustered: bool) -> float:
    """Sets of one-word reports whose ROUGE-1 is 1 in 70 % of the groups, and 0 in the others."""
    rng, hits = np.random.default_rng(5), 0
    patients = np.repeat(np.arange(groups), studies_each)
    for _ in range(SETS):
        right = (rng.random(groups) < 0.7)[patients]
        values = {name: np.zeros(len(patients)) for name in statistics.MEANS}
        values |= {"n": np.ones(len(patients)), "ROUGE-1": right.astype(float)}
        values |= {"bleu": np.zeros((len(patients), 10)), "sides": np.zeros((len(patients), 3))}
        values |= dict.fromkeys(("findings", "findings_present"), np.zeros((len(patients), 18, 3)))
        codes = patients if clustered else np.arange(len(patients))
        low, high = module._interval(module._replicates(values, codes, 100, 0)["ROUGE-1"])
        hits += low <= 0.7 <= high
    return hits / SETS


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    assert 0.9 <= share_of_intervals_with_the_truth(60, 1, clustered=False) <= 0.99
    assert 0.9 <= share_of_intervals_with_the_truth(60, 4, clustered=True) <= 0.99


def test_studies_of_one_patient_are_no_independent_witnesses() -> None:
    assert share_of_intervals_with_the_truth(60, 4, clustered=False) < 0.8


def test_a_system_does_not_differ_from_itself() -> None:
    references, hypotheses = reports(50), reports(50, 1)
    for name, found in paired_differences(references, hypotheses, hypotheses, resamples=99).items():
        assert found[4:] == (0, 0, 0, 1) or math.isnan(found.difference), name


def test_a_better_system_is_told_from_a_worse_one() -> None:
    references, worse = reports(150), reports(150, 1)
    better = [r if i % 3 == 0 else h for i, (r, h) in enumerate(zip(references, worse))]
    up = paired_differences(references, better, worse, resamples=199)
    down = paired_differences(references, worse, better, resamples=199)
    for name in ("BLEU-4", "ROUGE-L", "CIDEr", "clinical_f1", "example_f1"):
        assert up[name].low > 0
        assert up[name].p == 2 / 200  # the least that 199 resamples can say
        assert up[name].clear
        assert not down[name].clear
        opposite = (-up[name].difference, -up[name].high, -up[name].low, 2 / 200)
        assert down[name][4:] == pytest.approx(opposite)


def test_differences_are_paired() -> None:
    # Both share most errors: each interval is wide, that of the difference is narrow.
    references, first = reports(150), reports(150, 1)
    second = [references[0], references[1], *first[2:]]
    found = bootstrap(references, {"first": first, "second": second}, resamples=200)
    low, high = found.intervals("first")["ROUGE-L"]
    gap = found.compare("second", "first", "ROUGE-L")
    assert gap.high - gap.low < (high - low) / 2
    assert gap.difference == pytest.approx(
        found.scores["second"]["ROUGE-L"] - found.scores["first"]["ROUGE-L"]
    )


def test_p_is_uniform_enough_between_equal_systems() -> None:
    # Two systems that answer alike well: p below 0.1 in about 10 % of the sets.
    rng, few = np.random.default_rng(3), 0
    for _ in range(200):
        difference = rng.normal(size=50)
        weights = np.concatenate(list(module._weights(np.arange(50), 100, 0)))
        few += module._two_sided(weights @ difference / 50) < 0.1
    assert 0.06 <= few / 200 <= 0.16


def test_scores_without_a_value_have_no_interval() -> None:
    found = bootstrap(["lungs clear ."] * 5, {"a": ["lungs clear ."] * 5}, resamples=20)
    assert math.isnan(found.scores["a"]["clinical_f1"])
    assert all(map(math.isnan, found.intervals("a")["clinical_f1"]))
    assert all(map(math.isnan, found.compare("a", "a", "side_agreement")[2:]))
    # One finding in one study: undefined in some resamples, which are left out.
    rare = intervals(["effusion .", *["lungs clear ."] * 4], ["effusion ."] * 5, resamples=50)
    assert all(map(math.isfinite, rare["clinical_f1"]))


def test_one_study_and_empty_texts() -> None:
    assert intervals(["a b c d"], ["a b c d"], resamples=5)["ROUGE-L"] == (1.0, 1.0)
    ranges = intervals(["", "effusion ."], ["", ""], resamples=50)
    assert ranges["BLEU-1"] == pytest.approx((0, 0), abs=1e-6)


def test_columns_of_any_kind() -> None:
    pandas = pytest.importorskip("pandas")
    references, hypotheses, patients = reports(8), reports(8, 1), list("aabbccdd")
    expected = intervals(references, hypotheses, patients, resamples=20)
    columns = [pandas.Series(c, index=range(5, 13)) for c in (references, hypotheses, patients)]
    arrays = [np.array(column) for column in (references, hypotheses, patients)]
    for given_columns in (columns, arrays):
        found = intervals(*given_columns, resamples=20)
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
        (["a", "b"], {"mine": ["a", "b"]}, ["p"], "1 groups but 2 studies"),
    ],
)
def test_wrong_input_is_refused_in_one_line(references, systems, groups, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        bootstrap(references, systems, groups)
    assert "\n" not in str(caught.value)


def test_no_resample_is_no_interval() -> None:
    with pytest.raises(ConfigError, match="resamples is 0"):
        intervals(["a"], ["a"], resamples=0)


def test_many_studies_are_resampled_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = max(w.nbytes for w in module._weights(np.arange(1_000_000), 9, 0))
    assert peak <= 8 * module._CELLS
    references = ["left pleural effusion .", "the lungs are clear ."] * 500
    texts = ["left pleural effusion ."] * 1_000
    whole = intervals(references, texts, resamples=100)
    monkeypatch.setattr(module, "_CELLS", 1 << 14)
    parts = intervals(references, texts, resamples=100)
    assert list(parts) == list(whole)
    assert np.allclose(list(parts.values()), list(whole.values()), equal_nan=True)
    low, high = whole["example_f1"]
    assert 0.44 < low < 0.5 < high < 0.56


def test_findings_are_those_of_the_reports_where_a_protocol_damages_references() -> None:
    reports = ["left pleural effusion .", "no pneumothorax ."]
    references = ["left pleural <unk> .", "<unk> pneumothorax ."]
    found = bootstrap(references, {"a": reports}, resamples=5, reports=reports).scores["a"]
    assert found["clinical_f1"] == found["example_f1"] == found["side_recall"] == 1
    assert found["BLEU-1"] < 1
    whole = bootstrap(references, {"a": reports}, resamples=5).scores["a"]
    assert whole["clinical_f1"] == 0
    assert whole["BLEU-1"] == found["BLEU-1"]
