"""The order of batches depends on seed and epoch; a batch is no longer than it must be."""

import gc
import threading

import numpy as np
import pytest

from xray_captioning.backend import keras, streamed
from xray_captioning.data.datasets import (
    AHEAD,
    STEP,
    BatchDataset,
    caption_batch,
    caption_lengths,
    feature_inputs,
    finding_batch,
    pixel_inputs,
)
from xray_captioning.data.features import image_regions


def numbers(numbers, rng, index):
    return numbers.tolist(), float(rng.random())


def test_an_epoch_holds_every_study_once():
    data = BatchDataset(numbers, 23, 5, seed=1, lengths=np.arange(23) % 7)
    seen = [i for index in range(len(data)) for i in data[index][0]]
    assert sorted(seen) == list(range(23))


def test_seed_and_epoch_decide_the_order():
    def epoch(seed, number):
        data = BatchDataset(numbers, 23, 5, seed)
        data.epoch = number
        return [data[i] for i in range(len(data))]

    assert epoch(1, 4) == epoch(1, 4)
    assert epoch(1, 4) != epoch(1, 5)
    assert epoch(1, 4) != epoch(2, 4)
    assert [i for batch, _ in epoch(None, 3) for i in batch] == list(range(23))


def test_studies_of_like_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 50, 800)

    def spread(data):
        return np.mean([np.ptp(lengths[data[i][0]]) for i in range(len(data))])

    assert spread(BatchDataset(numbers, 800, 10, 0, lengths)) < spread(BatchDataset(numbers, 800, 10, 0)) / 4


def test_weights_draw_studies_in_their_proportion():
    weights = np.array([1.0, 0.0, 3.0, 0.0] * 250)
    data = BatchDataset(numbers, 1000, 50, seed=1, weights=weights)
    seen = np.concatenate([data[i][0] for i in range(len(data))]).astype(int)
    assert len(seen) == 1000
    assert not np.isin(seen % 4, [1, 3]).any()
    assert 0.65 < np.mean(seen % 4 == 2) < 0.85


class Rows(dict):
    def __missing__(self, path):
        return np.full((2, 2, 3), float(path), "float32")


@pytest.fixture
def tokens():
    tokens = np.zeros((40, 60), "int32")
    for i in range(40):
        tokens[i, : 3 + i] = np.arange(1, 4 + i)
    return tokens


def maps():
    return image_regions(Rows(), [[str(i)] for i in range(40)], 2)


def test_captions_are_shifted_weighted_and_cut(tokens):
    make = caption_batch(feature_inputs(maps()), tokens)
    inputs, targets, weights = make(np.array([0, 3]), np.random.default_rng(0), 5)
    assert inputs["tokens"].shape == targets.shape == (2, STEP)
    assert inputs["tokens"][0].tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert targets[0].tolist() == [2, 3, 0, 0, 0, 0, 0, 0]
    assert weights.sum(axis=1).tolist() == caption_lengths(tokens)[[0, 3]].tolist() == [2, 5]
    assert inputs["regions"].shape == (2, 8, 3)
    assert inputs["mask"].tolist() == [[True] * 4 + [False] * 4] * 2


def test_findings_go_into_the_inputs_where_they_are_given(tokens):
    images, findings = feature_inputs(maps()), np.eye(40)
    rng = np.random.default_rng(0)
    assert "findings" not in caption_batch(images, tokens)(np.array([0]), rng, 0)[0]
    inputs, *_ = caption_batch(images, tokens, findings)(np.array([7, 3]), rng, 0)
    np.testing.assert_array_equal(inputs["findings"], findings[[7, 3]])


def test_the_first_two_batches_differ_in_length_whatever_they_hold(tokens):
    make = caption_batch(feature_inputs(maps()), tokens)
    rng = np.random.default_rng(0)
    for chosen in ([0], [39], [20]):
        first, second = (make(np.array(chosen), rng, i)[1].shape[1] for i in (0, 1))
        assert first != second
        assert min(first, second) >= caption_lengths(tokens)[chosen[0]]


def test_pixels_are_scaled_repeated_and_only_varied_in_training():
    cache = {"a": np.full((32, 32), 51, "uint8"), "b": np.full((32, 32), 255, "uint8")}
    labels = np.array([[1.0], [np.nan]], "float32")
    images = [["a", "b"], [None, "b"]]

    def batch(augmented):
        inputs = pixel_inputs(cache, images, 2, "unit", augmented)
        make = finding_batch(inputs, labels)
        return make(np.array([0, 1]), np.random.default_rng(0), 0)

    inputs, found = batch(False)
    assert inputs["images"].shape == (2, 2, 32, 32, 3)
    assert inputs["images"][0, 0].mean() == pytest.approx(0.2)
    assert inputs["mask"].tolist() == [[True, True], [False, True]]
    assert not inputs["images"][1, 0].any()
    np.testing.assert_array_equal(found, labels)
    assert not np.array_equal(batch(True)[0]["images"], inputs["images"])


def test_the_next_batches_are_made_by_other_threads_meanwhile():
    """The consumer holds one batch; those after it are made without being asked for."""
    made, enough = [], threading.Event()

    def make(numbers, rng, index):
        made.append((index, threading.current_thread().name))
        if len(made) == 1 + AHEAD:
            enough.set()
        return index

    data = BatchDataset(make, 100, 5)
    assert data[0] == 0
    assert enough.wait(timeout=30)
    assert sorted(index for index, _ in made) == list(range(1 + AHEAD))
    assert threading.current_thread().name not in {name for _, name in made}
    assert [data[i] for i in range(1, 20)] == list(range(1, 20))
    assert len(made) == 20  # none of them twice


def test_batches_made_ahead_of_an_epoch_that_is_over_are_not_served():
    data = BatchDataset(numbers, 40, 2, seed=1)
    data[0]
    data.epoch = 1
    fresh = BatchDataset(numbers, 40, 2, seed=1)
    fresh.epoch = 1
    assert [data[i] for i in range(20)] == [fresh[i] for i in range(20)]


def test_an_error_in_a_thread_reaches_whoever_asks():
    def make(numbers, rng, index):
        raise ValueError("no such image")

    with pytest.raises(ValueError, match="no such image"):
        BatchDataset(make, 10, 5)[0]


def batch_threads():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_threads_end_with_the_epoch_or_with_the_dataset():
    before = set(batch_threads())
    data = BatchDataset(numbers, 100, 5)
    for _ in range(2):
        assert [data[i][0][0] for i in range(20)] == list(range(0, 100, 5))
        for thread in set(batch_threads()) - before:
            thread.join(timeout=5)
        assert set(batch_threads()) <= before
    data[0]  # an epoch that is broken off
    del data
    gc.collect()
    for thread in set(batch_threads()) - before:
        thread.join(timeout=5)
    assert set(batch_threads()) <= before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends read a dataset as it is")
def test_a_fitted_model_reads_the_same_batches_and_nothing_tunes_them():
    tokens = np.tri(23, 20, 3, "int32")  # 3 to 20 words
    regions = np.random.default_rng(0).random((23, 4, 8), np.float32)
    data = BatchDataset(caption_batch(lambda chosen, rng: {"regions": regions[chosen]}, tokens), 23, 5, 1)
    read = streamed(data)
    assert not read.options().autotune.enabled
    inputs, targets, _ = read.element_spec
    assert inputs["regions"].shape == (None, 4, 8)
    assert targets.shape.as_list() == [None, None]
    assert int(read.cardinality()) == len(data) == 5
    for index, batch in enumerate(read):
        keras.tree.map_structure(np.testing.assert_array_equal, batch, data[index])
    data.epoch = 2
    assert [len(targets) for _, targets, _ in read] == [5, 5, 5, 5, 3]
    keras.tree.map_structure(np.testing.assert_array_equal, next(iter(read)), data[0])  # of the new epoch
