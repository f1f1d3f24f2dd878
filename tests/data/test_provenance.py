"""A model is not tested on what it was trained on, whatever was done to the data since."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from xray_captioning.config import Config, load_preset
from xray_captioning.data.provenance import (
    MOST_STUDIES,
    TRAINED_ON,
    TrainedOn,
    check_unseen,
    choose_split,
    describe_data,
    open_studies,
    record_training,
)
from xray_captioning.data.sources.published import render_captions
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, SplitWarning, split_studies
from xray_captioning.errors import BundleError, ConfigError, DataError

NEW = ("version", "patients")


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


def in_16_bits(studies, folder):
    return rewritten(studies, folder, lambda pixels: pixels.astype(np.uint16) * 257)


def in_8_of_12_bits(studies, folder):
    """Write what was stored in 12 bits in 8, cut off as `pixels / 4095 * 255` is by astype."""
    rng = np.random.default_rng(0)

    def cut(pixels):
        fine = pixels.astype(int) * 16 + rng.integers(0, 16, pixels.shape)
        return (fine / 4095 * 255).clip(0, 255).astype(np.uint8)

    return rewritten(studies, folder, cut)


def as_jpeg(studies, folder):
    return rewritten(studies, folder, lambda pixels: pixels, ".jpg")


def opaque(studies, folder):
    """Write images with a fourth channel."""
    return rewritten(studies, folder, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGRA))


def rewritten(studies, folder, change, suffix=".png"):
    """Write changed pixels under other names, for studies with other ids and reports."""

    def rewrite(path):
        target = str(folder / f"changed_{Path(path).stem}{suffix}")
        cv2.imwrite(target, change(cv2.imread(path, cv2.IMREAD_GRAYSCALE)))
        return target

    images = [list(map(rewrite, row)) for row in studies["images"]]
    return renamed(studies, folder).assign(images=images)


def as_dicom(studies, folder):
    """Write DICOM files, whose pixels are scaled from the least value to the greatest."""
    pytest.importorskip("pydicom")
    from tests.data.dicom.test_dicom import dicom

    def rewrite(path):
        target = folder / f"{Path(path).stem}.dcm"
        target.write_bytes(dicom(cv2.imread(path, cv2.IMREAD_GRAYSCALE)))
        return str(target)

    return renamed(studies, folder).assign(images=[list(map(rewrite, row)) for row in studies["images"]])


def with_a_second_image(studies, folder):
    """Write studies that share only their last image, behind one that nobody has seen."""
    other = str(folder / "other.png")
    cv2.imwrite(other, np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8))
    images = [[other, *row[1:2]] if len(row) > 1 else [other, *row] for row in studies["images"]]
    return renamed(studies, folder).assign(images=images, views=[["unknown"] * 2] * len(images))


def one_reworded(studies, folder):
    texts = ["clear .", *studies["findings"][1:]]
    return copied(studies, folder).assign(findings=texts)


CHANGES = [
    *(reworded, copied, renamed, in_colour, smaller, in_16_bits, opaque, as_dicom),
    *(with_a_second_image, one_reworded, in_8_of_12_bits, as_jpeg),
]


@pytest.mark.parametrize("change", CHANGES)
def test_training_studies_are_recognised(studies, split, record, cache, tmp_path, change):
    some = studies[studies["study_id"].isin([*split.train[:5], *split.test[:3]])]
    given = change(some, tmp_path)
    trained = sorted(given["study_id"][some["study_id"].isin(split.train)])
    assert record.recognised(given, given["study_id"], cache) == trained
    asked = Split((), (), tuple(given["study_id"]))
    with pytest.raises(ConfigError, match="mine: was trained on 5 of the test studies, such as"):
        check_unseen({"mine": record}, given, asked, "test", cache)
    check_unseen({"mine": record, "unknown": None}, given, asked, "train", cache)


def test_ids_count_where_a_quarter_of_the_reports_is_known(studies, split, record, cache):
    """Rewording most reports does not make studies unseen, even without their images."""
    some = studies[studies["study_id"].isin(split.train)]
    nothing = [[] for _ in range(len(some))]
    texts = ["another ."] * (len(some) * 3 // 4) + [*some["findings"]][len(some) * 3 // 4 :]
    given = some.assign(images=nothing, views=nothing, findings=texts)
    assert record.recognised(given, split.train, cache) == list(split.train)
    other = given.assign(findings="another .")
    assert record.recognised(other, split.train, cache) == []


@pytest.mark.filterwarnings("ignore::xray_captioning.data.levels.ImageWarning")
@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_images_make_no_study_seen(studies, split, cache, tmp_path, value):
    """Black frames say nothing of whether two studies are one."""
    pixels = np.full((64, 48), value, np.uint8)
    pixels[0, 0] ^= 1  # one value is no picture at all
    cv2.imwrite(str(tmp_path / "blank.png"), pixels)
    blank = studies.assign(images=[[str(tmp_path / "blank.png")]] * 24, views=[["unknown"]] * 24)
    record = record_training(blank, split, cache)
    other = blank.assign(study_id=[f"other{i}" for i in range(24)], findings="other .")
    assert record.recognised(other, other["study_id"], cache) == []


def test_a_placeholder_makes_no_study_seen(studies, cache, tmp_path):
    """An image of very many training studies is none of theirs; one of a few is."""
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    cv2.imwrite(str(tmp_path / "placeholder.png"), pixels)
    images = [[*row, str(tmp_path / "placeholder.png")] for row in studies["images"]]
    views = [["unknown"] * len(row) for row in images]
    given = studies.assign(images=images, views=views)
    many, few = (Split(tuple(studies["study_id"][: MOST_STUDIES + i]), (), ()) for i in (1, 0))
    other = given.assign(images=[row[-1:] for row in images], views=[["unknown"]] * 24)
    other = other.assign(study_id=[f"other{i}" for i in range(24)], findings="other .")
    for trained, count in ((many, 0), (few, 24)):
        record = record_training(given, trained, cache)
        assert len(record.recognised(other, other["study_id"], cache)) == count


def test_other_studies_of_a_training_patient_are_not_unseen(studies, split, cache):
    """A patient's studies resemble each other; a study of nobody known resembles none."""
    patients = [f"p{i // 2}" for i in range(24)]
    known = studies.assign(patient_id=patients)
    trained = Split(tuple(known["study_id"][::2]), (), tuple(known["study_id"][1::2]))
    record = record_training(known, trained, cache)
    assert record.recognised(known, trained.test, cache) == sorted(trained.test)
    with pytest.raises(ConfigError, match=r"12 of the test studies, .*or on others of their pat"):
        check_unseen({"mine": record}, known, replace(trained, val=trained.test[:1]), "test", cache)
    single = record_training(studies, trained, cache)
    assert single.patients == frozenset()
    assert single.recognised(studies, trained.test, cache) == []


def test_where_only_ids_of_patients_agree_it_is_told(studies, split, cache):
    known = studies.assign(patient_id=[f"p{i // 2}" for i in range(24)])
    trained = Split(tuple(known["study_id"][::2]), (), ())
    record = record_training(known, trained, cache)
    later = known[1::2].reset_index(drop=True)
    asked = Split((), (), tuple(later["study_id"]))
    with pytest.warns(SplitWarning, match="with the ids of 12 of the test studies"):
        check_unseen({"mine": record}, later, asked, "test", cache)


def test_a_captioner_is_not_tested_on_what_trained_its_encoder(studies, split, record, cache):
    """The decoder's own split says nothing about the studies that its encoder was trained on."""
    own = Split(split.test, split.train, split.val)
    both = record_training(studies, own, cache).including(record)
    check_unseen({"mine": both}, studies, own, "test", cache)
    with pytest.raises(ConfigError, match=f"{len(split.train)} of the val studies"):
        check_unseen({"mine": both}, studies, own, "val", cache)


def test_texts_made_from_labels_do_not_hide_the_images(studies, split, record, cache):
    """An encoder learns labels, a decoder texts that are made of them: the studies are the same."""
    bare = studies.assign(findings=None, impression=None)
    made = render_captions(bare).drop(columns="split").assign(split=None)
    assert record.recognised(made, split.train, cache) == list(split.train)


def test_other_studies_with_the_same_ids_are_not(record, cache, tmp_path):
    from xray_captioning.phantom.dataset import write_phantoms

    other = read_studies(write_phantoms(tmp_path / "other", studies=24, seed=2, size=64))
    assert record.recognised(other, other["study_id"], cache) == []


@pytest.mark.parametrize("normal", [0.54, 0.9, 1.0])
def test_reports_that_are_alike_by_chance_tell_nothing(studies, cache, normal):
    """Two collections that count from 1 and say "no finding" of half their studies are two."""

    def collection(seed, number=400):
        rng = np.random.default_rng(seed)
        findings = [f"finding {x} ." for x in rng.integers(0, 30, number)]
        texts = np.where(rng.random(number) < normal, "no finding .", findings)
        rows = studies.iloc[np.zeros(number, int)].reset_index(drop=True)
        ids = [str(i + 1) for i in range(number)]
        nothing = [[] for _ in ids]
        return rows.assign(study_id=ids, patient_id=ids, findings=texts, images=nothing, views=nothing)

    given = [collection(seed) for seed in range(3)]
    everything = Split(tuple(given[0]["study_id"]), (), ())
    record = record_training(given[0], everything, cache)
    for other in given[1:]:
        assert record.recognised(other, everything.train, cache) == []
    if normal < 1:  # texts that are all the same say of no two collections that they are one
        assert len(record.recognised(given[0], everything.train, cache)) == 400


def test_a_split_is_a_split_or_a_path(studies, cache):
    with pytest.raises(DataError, match="expected the path of a folder or file, got int"):
        choose_split(studies, studies, Config(), 3, {}, cache=cache)


def test_a_study_without_images_is_recognised_by_its_report(studies, split, record, cache):
    nothing = [[] for _ in range(len(studies))]
    bare = studies.assign(images=nothing, views=nothing)
    assert record.recognised(bare, split.train, cache) == list(split.train)


def test_a_model_is_tested_on_its_own_split_and_on_no_other(studies, split, record, cache):
    check_unseen({"mine": record}, studies, split, "test", cache)
    swapped = Split(split.test, split.val, split.train)
    with pytest.raises(ConfigError, match=f"{len(split.train)} of the test"):
        check_unseen({"mine": record}, studies, swapped, "test", cache)


def test_a_model_s_own_split_with_an_image_in_two_parts_is_told(studies, split, cache):
    """Two studies of one image make test scores too good, whoever made the split."""
    rows = studies.set_index("study_id", drop=False)
    torn = split.test[0]
    rows.loc[[torn], ["images", "views"]] = rows.loc[[split.train[0]], ["images", "views"]].values
    given = rows.reset_index(drop=True)
    record = record_training(given, split, cache)
    with pytest.warns(SplitWarning, match=f"mine: 1 of the test studies, such as {torn}, have an"):
        check_unseen({"mine": record}, given, split, "test", cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_unseen({"mine": record}, given, split, "val", cache)


def test_the_split_is_the_one_given_or_that_of_a_model_of_these_studies(studies, split, record, tmp_path):
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
    assert choose_split(studies, studies, asked, None, {}) == split_studies(studies, asked.fractions)


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
    assert set(json.loads(text)) == {"version", "studies", "patients", "reports", "images"}
    first = {name: text for name, text in json.loads(text).items() if name not in NEW}
    (bundle / TRAINED_ON).write_text(json.dumps(first))  # its digests of images are others
    assert TrainedOn.load(bundle) == replace(record, images=frozenset())
    (bundle / TRAINED_ON).write_text('{"studies": "a"}')
    with pytest.raises(BundleError, match=r"trained_on\.json: damaged"):
        TrainedOn.load(bundle)


def test_an_older_bundle_is_compared_by_ids_where_the_data_are_the_same(studies, split, record, bundle, cache):
    (bundle / TRAINED_ON).unlink()
    older = TrainedOn.load(bundle)
    assert older.recognised(studies, split.train[:4], cache) == list(split.train[:4])
    assert older.recognised(reworded(studies, bundle), split.train, cache) == []
    asked = Split((), (), split.train)
    with pytest.warns(SplitWarning, match=f"with the ids of {len(split.train)} of the test"):
        check_unseen({"older": older}, reworded(studies, bundle), asked, "test", cache)
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
    found, about, _ = open_studies(phantoms)
    assert found.equals(studies)
    assert about["source"] == "phantom"
    assert "synthetic phantoms only" in about["notice"]
    assert open_studies(studies)[1] == {}
    shutil.copy(phantoms / "indiana_reports.csv", tmp_path)
    assert describe_data(tmp_path) == {"source": tmp_path.name}
