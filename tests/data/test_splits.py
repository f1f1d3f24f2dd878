"""A split belongs to the data."""

import json
import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, SplitWarning, check_split, data_digest, split_studies
from xray_captioning.data.studies import Study
from xray_captioning.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:no study fell into")  # tables here are small


def table(n, patients=None, split=None):
    return pd.DataFrame(
        {
            "study_id": [str(i) for i in range(n)],
            "patient_id": patients or [str(i) for i in range(n)],
            "findings": [f"text {i}" for i in range(n)],
            "impression": pd.Series([None] * n, dtype=object),
            "problems": [[] for _ in range(n)],
            "split": pd.Series(split or [None] * n, dtype=object),
        }
    )


@settings(max_examples=60, deadline=None)
@given(patients=st.lists(st.integers(0, 20).map(str), min_size=1, max_size=60), order=st.randoms(use_true_random=False))
def test_groups_stay_together_every_study_once_and_row_order_is_nothing(patients, order):
    studies = table(len(patients), patients)
    split = split_studies(studies)
    check_split(split, studies)
    assert sorted(split.train + split.val + split.test) == sorted(studies["study_id"])
    part_of = {i: name for name, ids in split.parts.items() for i in ids}
    for _, group in studies.groupby("patient_id"):
        assert len({part_of[i] for i in group["study_id"]}) == 1
    rows = list(range(len(studies)))
    order.shuffle(rows)
    assert split_studies(studies.iloc[rows]) == split


def test_sizes_follow_the_fractions():
    """Each part is a binomial share: within three standard deviations of its fraction."""
    split = split_studies(table(2000))
    for ids, share in zip(split.parts.values(), (0.8, 0.1, 0.1)):
        assert abs(len(ids) - 2000 * share) < 3 * (2000 * share * (1 - share)) ** 0.5
    assert not split_studies(table(100), fractions=(0.8, 0.0, 0.2)).val
    assert len(split_studies(table(100), fractions=(1, 0, 0)).train) == 100
    assert len(split_studies(table(100), fractions=(0, 0, 1)).test) == 100


def test_a_patient_has_a_part_for_ever():
    # the same ids give the same parts for ever: bundles name their split by digest
    split = split_studies(table(20), (0.5, 0.25, 0.25))
    assert split.val == ("0", "3", "6", "8", "9")
    assert split.test == ("11", "12", "13", "17", "2", "5")


@settings(max_examples=60, deadline=None)
@given(
    old=st.lists(st.text(max_size=4), min_size=1, max_size=40),
    new=st.lists(st.text(max_size=4), min_size=1, max_size=40),
    share=st.floats(0, 1),
)
def test_added_studies_move_no_other(old, new, share):
    """What a study is used for depends on its own patient alone, so data may grow."""
    fractions = (share, (1 - share) / 2, (1 - share) / 2)
    before = split_studies(table(len(old), old), fractions)
    after = split_studies(table(len(old + new), old + new), fractions)
    for name, ids in before.parts.items():
        assert set(ids) <= set(after.parts[name])


def test_a_larger_test_part_holds_the_smaller_one():
    small, large = (split_studies(table(300), f) for f in ((0.8, 0.1, 0.1), (0.6, 0.1, 0.3)))
    assert set(small.test) < set(large.test)
    assert set(large.train) < set(small.train)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", "  ", "nan", "None"])
def test_studies_of_unknown_patients_are_not_of_one_patient(missing):
    """Two hundred unknown patients fall into all parts, in about the shares asked for."""
    studies = table(200).assign(patient_id=pd.Series([missing] * 200, dtype=object))
    assert split_studies(studies) == split_studies(table(200))
    assert Study("7", [], [], patient_id=missing).patient_id == "7"


def test_a_float_that_pandas_made_of_a_patient_is_the_number_it_was():
    numbers = table(60, [str(i // 2) for i in range(60)])
    floats = numbers.assign(patient_id=pd.to_numeric(numbers["patient_id"]).astype(float))
    assert split_studies(floats) == split_studies(numbers)


def test_an_empty_part_is_told():
    with pytest.warns(SplitWarning, match=r"no study fell into val, whose fraction is 0\.1"):
        split_studies(table(1))


def test_fractions_that_are_not_used_are_told():
    """A published split wins over fractions, and never in silence."""
    studies = table(4, split=["test", "train", "val", "train"])
    with pytest.warns(SplitWarning, match=r"\(0\.8, 0\.1, 0\.1\) are not used.*published=False"):
        assert split_studies(studies, (0.8, 0.1, 0.1)) == split_studies(studies)


def test_a_patient_in_two_parts_is_refused_or_told():
    """A test patient whose other study was trained on is no test patient."""
    studies = table(6, list("aabbcd"))
    torn = Split(("0", "2", "3"), ("4",), ("1", "5"))
    with pytest.raises(DataError, match=r"patient 'a' has studies in two parts \(1 such"):
        check_split(torn, studies)
    published = studies.assign(split=["train", "test", "train", "train", "val", "test"])
    with pytest.warns(SplitWarning, match="has 1 of 4 values of patient_id in more than one part"):
        assert split_studies(published) == torn
    check_split(torn, published)  # its own split was warned of when it was read
    unknown = studies.assign(patient_id=[None, None, *"bbcd"])
    check_split(torn, unknown)  # nobody says that these are one patient


def test_published_split_is_taken_unless_refused():
    studies = table(4, split=["test", "train", "val", "train"])
    split = split_studies(studies)
    assert (split.train, split.val, split.test) == (("1", "3"), ("2",), ("0",))
    again = split_studies(table(4), (0.4, 0.3, 0.3))
    assert split_studies(studies, (0.4, 0.3, 0.3), published=False) == again
    studies.loc[2, "split"] = None
    with pytest.raises(DataError, match="study '2' has split None"):
        split_studies(studies)


@pytest.mark.parametrize(
    "fractions",
    [
        *((0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.5, 0.5), (float("nan"), 0.5, 0.5)),
        *(("0.8", "0.1", "0.1"), "0.8,0.1,0.1", 0.8),
    ],
)
def test_bad_fractions(fractions):
    with pytest.raises(ConfigError, match="sum 1"):
        split_studies(table(4), fractions=fractions)


def test_bad_tables():
    with pytest.raises(ConfigError, match="by='doctor'"):
        split_studies(table(4), by="doctor")
    with pytest.raises(DataError, match="occurs 2 times"):
        split_studies(pd.concat([table(2), table(1)]))


def test_round_trip(tmp_path):
    split = split_studies(table(30))
    split.to_json(tmp_path / "split.json")
    assert Split.from_json(tmp_path / "split.json") == split
    assert os.listdir(tmp_path) == ["split.json"]


def test_tampering_is_found(tmp_path):
    path = tmp_path / "split.json"
    split_studies(table(30)).to_json(path)
    content = json.loads(path.read_text())
    content["train"].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="altered"):
        Split.from_json(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"train": []}', '{"train": [1]}', "\x00"])
def test_unusable_files(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"split\.json"):
        Split.from_json(path)
    with pytest.raises(DataError, match="missing"):
        Split.from_json(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(("0",), ("1",), ("0",)), "'0' is in train and in test"),
        (Split(("0", "0"), (), ()), "train names a study twice"),
        (Split(("0",), ("9",), ()), "'9' is not in the data"),
    ],
)
def test_check_split(split, message):
    with pytest.raises(DataError, match=message):
        check_split(split, table(3))


def test_digests():
    studies = table(5)
    assert data_digest(studies) == data_digest(studies.iloc[::-1])
    changed = studies.copy()
    changed.loc[3, "impression"] = ""
    assert data_digest(changed) != data_digest(studies)
    relabelled = studies.assign(problems=[["Edema"]] * 5)
    assert data_digest(relabelled) != data_digest(studies)
    assert Split(("0",), (), ("1",)).digest != Split(("0",), ("1",), ()).digest


def test_real_published_split(shared_data):
    studies = read_studies(shared_data / "iu" / "r2gen_annotation.json")
    split = split_studies(studies)
    assert [len(ids) for ids in split.parts.values()] == [2069, 296, 590]
    check_split(split, studies)
