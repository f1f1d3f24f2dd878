"""Which array is which, whatever a session has called it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.legacy.keras2_files import SIZES, decoder_layers, renamed, stored
from xray_captioning.checkpoints import mismatches
from xray_captioning.legacy.keras2 import KEY, LAYOUT, LOGITS, PUBLISHED, QUERY, expected_shapes, place, read_sizes

# Names a reused session gives; each old text is replaced in order.
SESSIONS = {
    "as published": {},
    "prefix": {"onestep": "decoder/one__step__decoder/onestep", "global": "decoder/one/global"},
    "cell": {"gru_cell": "gru_cell_1", "global_attention": "global_attention_1"},
    "no cell": {"/gru_cell": ""},
    "shifted by one": {"dense_3": "dense_4", "dense_2": "dense_3", "dense_1": "dense_2"} | {"dense/": "dense_1/"},
    "past nine": {"dense_3": "dense_11", "dense_2": "dense_10", "dense_1": "dense_9"} | {"dense/": "dense_8/"},
    "any number": {"dense_3": "dense_5", "dense_2": "dense_70", "dense_1": "dense_2"} | {"dense/": "dense_31/"},
    "nothing left": {"dense_3": "out", "dense_2": "c", "dense_1": "b", "dense/": "a/"}
    | {"global_attention": "att", "onestepdecoder_embedding": "words"}
    | {"onestepdecoder_LSTM/gru_cell": "cell"},
}
# Wholly different widths, equal ones as published, and a vocabulary as wide as the attention.
WIDTHS = [{}, {"head": 16, "attention": 16}, {"head": 16, "attention": 30}, {"vocabulary": 20}]


def answer(layers):
    """What is found in layers with their published names."""
    return {
        (name if layer in ("bkdense", "encoder_batch_norm") else f"{layer}/{name}"): values
        for layer, arrays in layers.items()
        for name, values in arrays.items()
    }


def check(layers, expected):
    found, rest = place(stored(layers))
    assert not rest
    assert set(found) == set(expected) == set(LAYOUT)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].values, values, err_msg=name)
    return found


@pytest.mark.parametrize("session", SESSIONS)
def test_names_of_other_sessions(session):
    for widths in WIDTHS:
        layers = decoder_layers(**widths)
        found = check(renamed(layers, SESSIONS[session]), answer(layers))
        assert read_sizes(found) == {**SIZES, **widths}
        assert expected_shapes(read_sizes(found)) == {n: a.values.shape for n, a in found.items()}


def test_layers_of_other_names_are_told_by_what_they_hold():
    layers = decoder_layers()
    others = {"bkdense": "projection", "encoder_batch_norm": "norm_7", "decoder": "writer"}
    check({others.get(name, name): arrays for name, arrays in layers.items()}, answer(layers))
    numbered = {name: arrays for name, arrays in layers.items() if arrays}
    check({f"{name}_2": arrays for name, arrays in numbered.items()}, answer(layers))


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_published_names_decide_whatever_the_order(random):
    layers = decoder_layers(head=16, attention=16)
    names = list(layers["decoder"])
    random.shuffle(names)
    decoder = {name: layers["decoder"][name] for name in names}
    order = list(layers)
    random.shuffle(order)
    check({name: {**layers, "decoder": decoder}[name] for name in order}, answer(layers))


def test_shapes_decide_where_only_they_can():
    layers = decoder_layers()
    changed = renamed(layers, SESSIONS["nothing left"])
    for order in (reversed, sorted):
        decoder = {name: changed["decoder"][name] for name in order(list(changed["decoder"]))}
        check({**changed, "decoder": decoder}, answer(layers))


@pytest.mark.parametrize("session", SESSIONS)
def test_one_missing_array_is_named(session):
    for name in (name for name in LAYOUT if name.startswith("decoder/")):
        layers = decoder_layers()
        del layers["decoder"][name.removeprefix("decoder/")]
        found, rest = place(stored(renamed(layers, SESSIONS[session])))
        shapes = expected_shapes(read_sizes(found))
        assert mismatches(shapes, found, rest) == [f"{name} of shape {shapes[name]} is missing"]


def test_one_misshapen_array_is_named():
    layers = decoder_layers(**PUBLISHED)
    for name in LAYOUT:
        layer, _, inner = name.partition("/")
        key = inner if layer == "decoder" else name
        shape = layers[layer][key].shape
        wrong = (*shape[:-1], shape[-1] + 1)
        changed = {**layers, layer: {**layers[layer], key: np.zeros(wrong, "float32")}}
        found, rest = place(stored(changed))
        assert mismatches(expected_shapes(read_sizes(found)), found, rest) == [
            f"{name} has shape {wrong} instead of {shape}"
        ]


def test_what_has_no_place_is_named():
    layers = decoder_layers()
    extra = np.zeros((3, 2), "float32")
    layers["decoder"]["onestepdecoder_embedding_dense/kernel"] = extra
    layers["other"] = {"other/kernel": extra, "other/odd": extra}
    found, rest = place(stored(layers))
    assert set(found) == set(LAYOUT)
    assert {array.label for array in rest} == {
        "decoder/onestepdecoder_embedding_dense/kernel",
        "other/kernel",
        "other/odd",
    }


def test_a_dense_layer_too_few_is_not_taken_for_another():
    layers = renamed(decoder_layers(), SESSIONS["shifted by one"])
    layers["decoder"] = {n: v for n, v in layers["decoder"].items() if "dense_4" not in n}
    found, _ = place(stored(layers))
    assert f"{LOGITS}/kernel" not in found
    assert {f"{KEY}/kernel", f"{QUERY}/kernel"} <= set(found)
