"""A model is not tested on what it was trained on, whatever was done to the data since."""

import json
import shutil
import warnings
from pathlib import Path

import cv2
import pytest

from xray_captioning.config import Config, load_preset
from xray_captioning.data.provenance import (
    TRAINED_ON,
    TrainedOn,
    check_unseen,
    choose_split,
    describe_data,
    open_studies,
    record_training,
)
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, SplitWarning, split_studies
from xray_captioning.errors import BundleError, ConfigError, DataError


@pytest.fixture(scope="module")
def studies(phantoms):
    return read_studies(phantoms)


@pytest.fixture(scope="module")
def split(studies):
    return split_studies(studies, (0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("digests")


@pytest.fixture(scope="module")
def record(studies, split, cache):
    return record_training(studies, split, cache)


def reworded(studies, folder):
    return studies.assign(findings="clear lungs .", impression=None)


def copied(studies, folder, flags=(cv2.IMWRITE_PNG_COMPRESSION, 9), shape=None):
    """Write every image anew under another name."""

    def copy(path):
        image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        target = folder / f"copy_{Path(path).name}"
        cv2.imwrite(str(target), cv2.resize(image, shape) if shape else image, flags)
        return str(target)

    return studies.assign(images=[[copy(path) for path in row] for row in studies["images"]])


def renamed(studies, folder):
    others = [f"study{i}" for i in range(len(studies))]
    return copied(reworded(studies, folder), folder).assign(study_id=others, patient_id=others)


def in_colour(studies, folder):
    return renamed(studies, folder).assign(
        images=[[_coloured(path, folder) for path in row] for row in studies["images"]]
    )


def _coloured(path, folder):
    target = str(folder / f"colour_{Path(path).name}")
    cv2.imwrite(target, cv2.imread(path, cv2.IMREAD_COLOR))
    return target


def smaller(studies, folder):
    return copied(studies, folder, shape=(80, 80))


@pytest.mark.parametrize("change", [reworded, copied, renamed, in_colour, smaller])
def test_training_studies_are_recognised(studies, split, record, cache, tmp_path, change):
    some = studies[studies["study_id"].isin([*split.train[:5], *split.test[:3]])]
    given = change(some, tmp_path)
    trained = sorted(given["study_id"][some["study_id"].isin(split.train)])
    assert record.recognised(given, given["study_id"], cache) == trained
    asked = Split((), (), tuple(given["study_id"]))
    with pytest.raises(ConfigError, match="mine: was trained on 5 of the test studies, such as"):
        check_unseen({"mine": record}, given, asked, "test", cache)
    check_unseen({"mine": record, "unknown": None}, given, asked, "train", cache)


def test_other_studies_with_the_same_ids_are_not(record, cache, tmp_path):
    from xray_captioning.phantom.dataset import write_phantoms

    other = read_studies(write_phantoms(tmp_path / "other", studies=24, seed=2, size=64))
    assert record.recognised(other, other["study_id"], cache) == []


def test_a_study_without_images_is_recognised_by_its_report(studies, split, record, cache):
    nothing = [[] for _ in range(len(studies))]
    bare = studies.assign(images=nothing, views=nothing)
    assert record.recognised(bare, split.train, cache) == list(split.train)


def test_a_model_is_tested_on_its_own_split_and_on_no_other(studies, split, record, cache):
    check_unseen({"mine": record}, studies, split, "test", cache)
    swapped = Split(split.test, split.val, split.train)
    with pytest.raises(ConfigError, match=f"{len(split.train)} of the test"):
        check_unseen({"mine": record}, studies, swapped, "test", cache)


def test_the_split_is_the_one_given_or_that_of_a_model_of_these_studies(
    studies, split, record, tmp_path
):
    config = Config().replace({"fractions": [0.2, 0.0, 0.8]})

    def chosen(given=None, table=studies, models=None):
        return choose_split(table, table, config, given, models or {"other": None})

    assert chosen() == split_studies(studies, config.fractions)
    assert chosen(models={"other": None, "mine": record}) == split
    split.to_json(tmp_path / "split.json")
    assert chosen(tmp_path / "split.json") == chosen(split) == split
    with pytest.raises(DataError, match="not in the data"):
        chosen(split, studies.head(3))
    with pytest.raises(ConfigError, match="use the whole data with the split"):
        chosen(None, studies[studies["study_id"].isin(split.train)], {"mine": record})


def test_only_fractions_that_were_asked_for_are_missed(studies):
    """A preset's own fractions say nothing about data that have a split; others are warned of."""
    published = studies.assign(split=["train", "val", "test"] * 8)
    preset = load_preset("vit_gpt2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = choose_split(published, published, preset, None, {})
    assert split == split_studies(published)
    asked = preset.replace({"fractions": [0.5, 0.25, 0.25]})
    with pytest.warns(SplitWarning, match=r"\(0\.5, 0\.25, 0\.25\) are not used"):
        assert choose_split(published, published, asked, None, {}) == split
    assert choose_split(studies, studies, asked, None, {}) == split_studies(
        studies, asked.fractions
    )


@pytest.fixture
def bundle(record, tmp_path):
    values = {"about": {"data": {"digest": record.data}}}
    (tmp_path / "captioner.json").write_text(json.dumps(values))
    record.save(tmp_path)
    return tmp_path


def test_a_record_is_kept_without_ids_and_texts(record, studies, bundle):
    assert TrainedOn.load(bundle) == record
    text = (bundle / TRAINED_ON).read_text()
    assert not any(name in text for name in studies["study_id"])
    assert set(json.loads(text)) == {"studies", "reports", "images"}
    (bundle / TRAINED_ON).write_text('{"studies": "a"}')
    with pytest.raises(BundleError, match=r"trained_on\.json: is damaged"):
        TrainedOn.load(bundle)


def test_an_older_bundle_is_compared_by_ids_where_the_data_are_the_same(
    studies, split, record, bundle, cache
):
    (bundle / TRAINED_ON).unlink()
    older = TrainedOn.load(bundle)
    assert older.recognised(studies, split.train[:4], cache) == list(split.train[:4])
    assert older.recognised(reworded(studies, bundle), split.train, cache) == []
    older.save(bundle)
    assert not (bundle / TRAINED_ON).exists()
    assert older.including(record).images == record.images
    (bundle / "split.json").unlink()
    assert TrainedOn.load(bundle) is None


def test_a_model_knows_what_its_encoder_was_trained_on(studies, split, record, cache):
    swapped = Split(split.test, split.val, split.train)
    both = record_training(studies, swapped, cache).including(record)
    assert both.split == swapped
    ids = [*split.train, *split.test]
    assert both.recognised(reworded(studies, None), ids, cache) == sorted(ids)
    assert record.including(None) is record


def test_data_are_read_and_described(phantoms, studies, tmp_path):
    found, about = open_studies(phantoms)
    assert found.equals(studies)
    assert about["source"] == "phantom"
    assert "synthetic phantoms only" in about["notice"]
    assert open_studies(studies)[1] == {}
    shutil.copy(phantoms / "indiana_reports.csv", tmp_path)
    assert describe_data(tmp_path) == {"source": tmp_path.name}
