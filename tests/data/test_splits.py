"""A split belongs to the data."""

import json
import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, check_split, data_digest, split_studies
from xray_captioning.errors import ConfigError, DataError


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
@given(
    patients=st.lists(st.integers(0, 20).map(str), min_size=1, max_size=60),
    order=st.randoms(use_true_random=False),
)
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
    split = split_studies(table(1000))
    assert [len(ids) for ids in split.parts.values()] == [800, 100, 100]
    split = split_studies(table(10), fractions=(0.8, 0.0, 0.2))
    assert [len(ids) for ids in split.parts.values()] == [8, 0, 2]
    assert len(split_studies(table(10), fractions=(1, 0, 0)).train) == 10


def test_the_order_of_groups_is_that_of_their_hash():
    # the same ids give the same parts for ever: bundles name their split by digest
    first = split_studies(table(20))
    assert first.test == split_studies(table(20)).test
    assert first.test != tuple(sorted(str(i) for i in range(20)))[-2:]
    larger = split_studies(table(22))
    assert len(set(first.train) & set(larger.test)) <= 2  # data that grows moves few studies


def test_published_split_is_taken_unless_refused():
    studies = table(4, split=["test", "train", "val", "train"])
    split = split_studies(studies)
    assert (split.train, split.val, split.test) == (("1", "3"), ("2",), ("0",))
    assert split_studies(studies, published=False) == split_studies(table(4))
    studies.loc[2, "split"] = None
    with pytest.raises(DataError, match="study '2' has split None"):
        split_studies(studies)


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.5, 0.5), (float("nan"), 0.5, 0.5)]
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
    with pytest.raises(DataError, match="cannot be read"):
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
