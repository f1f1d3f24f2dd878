"""What searching costs, in counts rather than seconds: they are the same on every machine."""

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.captioner.compiled_search import CompiledSearch, SearchSettings
from xray_captioning.config import ModelConfig
from xray_captioning.decoders import DECODERS, CaptionModel, Features
from xray_captioning.errors import ConfigError
from xray_captioning.search import Rules, Sampling

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
    "greedy": SearchSettings(RULES),
    "beam": SearchSettings(RULES, beam_size=3, length_penalty=0.6),
    "sampling": SearchSettings(RULES, sampling=Sampling(top_k=5, seed=1)),
}


@pytest.fixture(scope="module")
def shared():
    """A model and its compiled searches, so that no test compiles what another one has."""
    return (counted := model()), CompiledSearch(counted)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled")
@pytest.mark.parametrize(
    ("name", "sizes"), [("greedy", (1, 64)), ("beam", (64,)), ("sampling", (4,))]
)
def test_in_steady_use_nothing_is_traced_again(shared, name, sizes, monkeypatch):
    monkeypatch.setattr("xray_captioning.captioner.compiled_search.BATCH_SIZES", sizes)
    counted, compiled = shared
    before = counted.steps
    for studies in sizes:
        compiled.prepare(SETTINGS[name])(features(studies))
    traced = counted.steps
    # One loop for each batch size, and one for the unfinished quarter of the large batch.
    assert traced - before == len(sizes) + (64 in sizes)
    for studies in (1, 2, 3, 5, 17, 33, 64):
        if studies > sizes[-1]:
            break
        compiled.prepare(SETTINGS[name])(features(studies))
    if name == "sampling":
        other = Sampling(top_k=5, seed=2)
        compiled.prepare(SETTINGS[name]._replace(sampling=other))(features(3))
    assert counted.steps == traced


def check_batches_and_padding(compiled, settings):
    whole = features(3)
    search = compiled.prepare(settings)
    found = [search(Features(*(x[i : i + 1] for x in whole))) for i in range(3)]
    together = compiled.prepare(settings)(whole)
    for i, alone in enumerate(found):
        assert np.array_equal(alone.tokens[0], together.tokens[i])
        for name in ("log_probabilities", "scores", "gains"):
            np.testing.assert_allclose(
                getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5
            )


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
    first = compiled.prepare(SETTINGS["greedy"])(whole)
    traced = counted.steps
    for studies in (1, 3, 8):
        found = compiled.prepare(SETTINGS["greedy"])(Features(*(x[:studies] for x in whole)))
        assert np.array_equal(found.tokens, first.tokens[:studies])
    assert counted.steps == traced


def test_a_seed_says_what_is_drawn(shared):
    whole = features(4)
    first, same, other = (
        shared[1]
        .prepare(SearchSettings(RULES, sampling=Sampling(top_k=5, seed=seed)))(whole)
        .tokens
        for seed in (1, 1, 2)
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
        ({"sampling": Sampling(top_k=-1)}, "top_k is -1"),
        ({"sampling": Sampling(top_k=0.5)}, "top_k is 0.5"),
        ({"sampling": Sampling(top_p=0)}, "top_p is 0"),
        ({"sampling": Sampling(top_p=1.5)}, "top_p is 1.5"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CompiledSearch(None).prepare(SearchSettings(RULES)._replace(**changes))
