"""What searching costs, in counts rather than seconds: they are the same on every machine."""

import numpy as np
import pytest

from xray_captioning import backend
from xray_captioning.backend import keras, ops
from xray_captioning.captioner.compiled_search import KEPT, CompiledSearch
from xray_captioning.config import ModelConfig
from xray_captioning.decoders import DECODERS, CaptionModel, Features
from xray_captioning.errors import ConfigError
from xray_captioning.search import Rules, Sampling, sample_search

VOCABULARY, GRID, CHANNELS, LENGTH = 23, (2, 2, 3), 5, 9
RULES = Rules(1, 2, LENGTH)


class Counting(CaptionModel):
    """Counts how often Python runs its step: while a search is traced, and never after that."""

    steps = 0

    def step(self, token, state):
        self.steps += 1
        return super().step(token, state)


def model(decoder="global_attention"):
    keras.utils.set_random_seed(0)
    sizes = {"head": 12, "units": 16, "embedding": 10, "attention": 9, "layers": 1, "heads": 4}
    return Counting(ModelConfig(decoder=decoder, **sizes), VOCABULARY, GRID, CHANNELS)


def features(studies):
    regions = np.random.default_rng(0).normal(size=(studies, 12, CHANNELS)).astype("float32")
    return Features(regions * 3, np.ones((studies, 12), bool))


SETTINGS = {
    "greedy": {},
    "beam": {"beam_size": 3, "length_penalty": 0.6},
    "sampling": {"sampling": Sampling(top_k=5, seed=1)},
}


@pytest.fixture(scope="module")
def shared():
    """A model and its compiled searches, so that no test compiles what another one has."""
    return (counted := model()), CompiledSearch(counted)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
@pytest.mark.parametrize(("name", "sizes"), [("greedy", (1, 64)), ("beam", (64,)), ("sampling", (4,))])
def test_in_steady_use_nothing_is_traced_again(shared, name, sizes, monkeypatch):
    monkeypatch.setattr("xray_captioning.captioner.compiled_search.BATCH_SIZES", sizes)
    counted, compiled = shared
    before = counted.steps
    for studies in sizes:
        compiled.prepare(RULES, **SETTINGS[name])(features(studies))
    traced = counted.steps
    # One loop for each batch size, and one for the unfinished quarter of the large batch.
    assert traced - before == len(sizes) + (64 in sizes)
    for studies in (1, 2, 3, 5, 17, 33, 64):
        if studies > sizes[-1]:
            break
        compiled.prepare(RULES, **SETTINGS[name])(features(studies))
    assert counted.steps == traced


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
def test_numbers_of_a_search_are_given_to_it_and_not_compiled_into_it(shared):
    """Every temperature, top-p, top-k up to the next power of two, and penalty shares a trace."""
    counted, compiled = shared
    found, traced = [], None
    for sampling in (
        Sampling(top_k=5, seed=1),
        Sampling(temperature=0.5, top_k=5, seed=1),
        Sampling(temperature=1e-7, top_k=5, seed=2),
        Sampling(top_k=np.int64(7), top_p=0.5, seed=1),
        Sampling(top_k=8, seed=1),
    ):
        found.append(compiled.prepare(RULES, sampling=sampling)(features(4)))
        traced = traced or counted.steps
    assert counted.steps == traced
    tokens = {result.tokens.tobytes() for result in found}
    assert len(tokens) == len(found)  # and each number has its effect
    greedy = compiled.prepare(RULES, **SETTINGS["greedy"])(features(4))
    np.testing.assert_array_equal(found[2].tokens, greedy.tokens)
    scores, traced = [], None
    for penalty in (0.6, 0.0, 1.0):
        settings = SETTINGS["beam"] | {"length_penalty": penalty}
        scores.append(compiled.prepare(RULES, **settings)(features(4)).scores)
        traced = traced or counted.steps
    assert counted.steps == traced
    assert not np.allclose(scores[0], scores[2])


@pytest.mark.parametrize("sampling", [Sampling(top_k=5), Sampling(0.7, 3, 0.8), Sampling(top_p=0.6)])
def test_a_compiled_search_draws_what_the_search_itself_draws(shared, sampling):
    """Numbers given at run time, and more candidates than top_k, change no caption of a seed."""
    built, compiled = shared
    given = features(4)
    noise = np.random.default_rng(sampling.seed).random((4, LENGTH), dtype="float32")
    expected = sample_search(built.start(given), built.step, ops.ones((4,), dtype="bool"), RULES, sampling, noise)
    found = compiled.prepare(RULES, sampling=sampling)(given)
    np.testing.assert_array_equal(found.tokens, ops.convert_to_numpy(expected.tokens))


def test_only_so_many_searches_are_kept(monkeypatch):
    made = []
    monkeypatch.setattr(
        "xray_captioning.captioner.compiled_search._Compiled",
        lambda model, rules, beam_size, width, fused: made.append(beam_size),
    )
    compiled = CompiledSearch(None)
    for beam_size in [*range(1, KEPT + 1), 1, KEPT + 1, 1, 2]:
        compiled.prepare(RULES, np.int64(beam_size))
    assert made == [*range(1, KEPT + 2), 2]  # 2 was not used for longest


def check_batches_and_padding(compiled, settings):
    whole = features(3)
    search = compiled.prepare(RULES, **settings)
    found = [search(Features(*(x[i : i + 1] for x in whole))) for i in range(3)]
    together = compiled.prepare(RULES, **settings)(whole)
    for i, alone in enumerate(found):
        assert np.array_equal(alone.tokens[0], together.tokens[i])
        for name in ("log_probabilities", "scores", "gains"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_captions_depend_on_no_batch_and_no_padding(shared, name):
    check_batches_and_padding(shared[1], SETTINGS[name])


@pytest.mark.parametrize("decoder", ["gru", "gpt2"])
def test_captions_of_other_decoders_depend_on_no_batch_and_no_padding(decoder, monkeypatch):
    monkeypatch.setattr("xray_captioning.captioner.compiled_search.BATCH_SIZES", (4,))
    check_batches_and_padding(CompiledSearch(model(decoder)), SETTINGS["beam"])


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
def test_few_studies_are_padded_to_what_is_compiled(shared):
    compiled = CompiledSearch(counted := shared[0])
    whole = features(16)
    first = compiled.prepare(RULES, **SETTINGS["greedy"])(whole)
    traced = counted.steps
    for studies in (1, 3, 8):
        found = compiled.prepare(RULES, **SETTINGS["greedy"])(Features(*(x[:studies] for x in whole)))
        assert np.array_equal(found.tokens, first.tokens[:studies])
    assert counted.steps == traced


def test_few_studies_are_searched_without_xla(monkeypatch):
    made, real = [], backend.compiled
    monkeypatch.setattr(backend, "compiled", lambda f, m, fused: made.append(fused) or real(f, m, fused))
    compiled, given = CompiledSearch(model()), features(4)
    few, many = (compiled.prepare(RULES, total=total)(given) for total in (499, 500))
    assert made == [False, True]
    np.testing.assert_array_equal(few.tokens, many.tokens)
    np.testing.assert_allclose(few.scores, many.scores, rtol=1e-5)


def test_a_seed_says_what_is_drawn(shared):
    whole = features(4)
    first, same, other = (
        shared[1].prepare(RULES, sampling=Sampling(top_k=5, seed=seed))(whole).tokens for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_beams_leave_what_belongs_to_the_study_where_it_is():
    for decoder in DECODERS:
        built = model(decoder)
        state = built.start(features(2))
        _, after = built.step(ops.ones((2,), dtype="int32"), state)
        kept = [a is b for a, b in zip(keras.tree.flatten(state), keras.tree.flatten(after))]
        assert any(kept), decoder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"beam_size": 2, "sampling": Sampling()}, "beam_size is 2, but words are sampled"),
        ({"sampling": Sampling(temperature=0)}, "temperature is 0"),
        ({"sampling": Sampling(temperature=float("inf"))}, "temperature is inf"),
        ({"sampling": Sampling(top_k=-1)}, "top_k is -1"),
        ({"sampling": Sampling(top_k=0.5)}, "top_k is 0.5"),
        ({"sampling": Sampling(top_p=0)}, "top_p is 0"),
        ({"sampling": Sampling(top_p=1.5)}, "top_p is 1.5"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CompiledSearch(None).prepare(RULES, **changes)
