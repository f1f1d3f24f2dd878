"""Captions that the model samples are learned by how much better they are than its others."""

from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace

from tests.metrics.rows import cider_rows
from xray_captioning.backend import keras, ops
from xray_captioning.config import CaptionTrainingConfig, Config, ModelConfig, RewardConfig
from xray_captioning.data import targets
from xray_captioning.data.datasets import BatchDataset, EvenDataset, caption_batch, with_context
from xray_captioning.decoders import DECODERS, CaptionModel
from xray_captioning.errors import ConfigError
from xray_captioning.search import Rules
from xray_captioning.text.tokenizer import Tokenizer
from xray_captioning.training.captions import compile_captions
from xray_captioning.training.losses import WordCrossentropy
from xray_captioning.training.reward import SAMPLES, Reward, Rewarded
from xray_captioning.training.teacher_forcing import TeacherForcing

pytestmark = pytest.mark.usefixtures("eagerly")
WORDS = "small left effusion . right large nodule cardiomegaly no"


def one(reference, hypothesis, **weights):
    rows = Reward(RewardConfig(**weights), [reference, "no effusion ."])([reference], [hypothesis])
    assert rows.shape == (1,)
    return rows[0]


@pytest.mark.parametrize(
    ("part", "hypothesis", "expected"),
    [
        ("clinical_f1", "large right effusion .", 2 / 3),  # one of two, and nothing else
        ("clinical_f1", "cardiomegaly . effusion .", 1),
        ("clinical_f1", "normal chest .", 0),
        ("sides", "large left effusion .", 1),
        ("sides", "bilateral effusions .", 0),
        ("sides", "effusion .", 0),
        ("contradictions", "no effusion .", 0),
        ("contradictions", "edema . no edema .", 0),
        ("contradictions", "right effusion .", 1),
    ],
)
def test_each_part_is_what_it_says(part, hypothesis, expected):
    reference = "small left effusion . cardiomegaly ."
    assert one(reference, hypothesis, **{part: 1}) == pytest.approx(expected)
    assert one(reference, hypothesis, **{part: 3}) == pytest.approx(3 * expected)


def test_cider_is_a_tenth_of_that_by_the_training_references_and_weights_add_up():
    references = ["small left effusion .", "cardiomegaly .", "normal chest ."]
    hypotheses = ["small effusion .", "cardiomegaly .", "normal ."]
    expected = cider_rows(references, hypotheses) / 10
    np.testing.assert_allclose(Reward(RewardConfig(CIDEr=1), references)(references, hypotheses), expected)
    np.testing.assert_allclose(Reward(RewardConfig(CIDEr=1), references)(references[:1], hypotheses[:1]), expected[:1])
    both = Reward(RewardConfig(CIDEr=2, contradictions=1), references)(references, hypotheses)
    np.testing.assert_allclose(both, 2 * expected + 1)


def test_what_no_side_is_said_of_rewards_all_captions_alike():
    reward = Reward(RewardConfig(sides=1), ["cardiomegaly ."])
    assert len(set(reward(["cardiomegaly ."] * 2, ["left effusion .", "normal ."]))) == 1


TEXTS = ["small left effusion .", "right nodule .", "cardiomegaly ."]


def rewarded(decoder="global_attention", studies=6, reward=None, texts=TEXTS, context=(), **options):
    """Return model, dataset and callback of a tiny captioner whose reward is the number of times it says "left"."""
    keras.utils.set_random_seed(0)
    tokenizer = Tokenizer.fit([WORDS])
    size = ModelConfig(head=8, units=8, embedding=6, attention=5, heads=2, layers=1, dropout=0.0, decoder=decoder)
    options = CaptionTrainingConfig(**{"epochs": 9, "reward": RewardConfig(sides=1), "reward_epochs": 8, **options})
    text = replace(Config().text, context=context, maximum_length=8)
    config, shape = replace(Config(), training=options, text=text), (tokenizer.vocabulary_size, (1, 2, 2), 5, 8)
    model = TeacherForcing(CaptionModel(size, *shape, len(context)), options)
    rules = Rules(tokenizer.start_id, tokenizer.end_id, 7, (0, tokenizer.start_id, tokenizer.unknown_id))
    captioner = SimpleNamespace(config=config, model=model.captions, tokenizer=tokenizer, rules=lambda: rules)
    rng = np.random.default_rng(0)
    regions = rng.normal(size=(studies, 4, 5)).astype("float32")
    inputs = lambda numbers, rng: {"regions": regions[numbers], "mask": np.ones((len(numbers), 4), bool)}  # noqa: E731
    texts = texts * (studies // 3)
    tokens = tokenizer.encode_batch(texts, 16)
    table = {"findings": texts, "impression": texts, "indication": texts, "study_id": list(map(str, range(studies)))}
    told = targets.contexts(table, config)
    read = with_context(inputs, targets.context_tokens(told, tokenizer, config), 0.5) if told else inputs
    data = BatchDataset(caption_batch(read, tokens), studies, 3, 0)
    count = reward or (lambda wanted, said: np.array([text.split().count("left") / 7 for text in said]))
    callback = Rewarded(captioner, table, inputs, data, count)
    callback.set_model(model)
    return model, data, callback


def test_before_the_reward_batches_are_those_of_teacher_forcing():
    model, data, callback = rewarded()
    callback.on_epoch_begin(0)
    inputs, targets, weights = data[0]
    plain = callback.make(np.array(data._plan[0]), None, 0)
    np.testing.assert_array_equal(targets, plain[1])
    np.testing.assert_array_equal(weights, plain[2])
    assert inputs["count"].tolist() == [weights.sum()] * 3
    logs = {}
    callback.on_epoch_end(0, logs)
    assert not logs
    compile_captions(model, model.options, 1)
    expected = model.test_on_batch(*plain)
    assert model.test_on_batch(inputs, targets, weights) == pytest.approx(expected)


def test_samples_stand_behind_the_references_weighted_against_the_other_samples_of_their_study():
    _, data, callback = rewarded()
    callback.on_epoch_begin(1)
    inputs, targets, weights = data[0]
    rows, tokens = 3 * (1 + SAMPLES), inputs["tokens"]
    assert {len(x) for x in inputs.values()} == {rows}
    np.testing.assert_array_equal(tokens[:, 1:], targets[:, : tokens.shape[1] - 1])
    said = targets[3:].reshape(3, SAMPLES, -1)
    spoken = (said == callback.captioner.tokenizer.index["left"]).sum(axis=2) / 7
    others = (spoken.sum(axis=1, keepdims=True) - spoken) / (SAMPLES - 1)
    of_all = callback.tokens[:, :, 1:] == callback.captioner.tokenizer.index["left"]
    spread = np.sqrt((of_all.sum(axis=2) / 7).var(axis=1).mean())
    worth = weights[3:].reshape(3, SAMPLES, -1)
    expected = (spoken - others) / SAMPLES / spread
    np.testing.assert_allclose(worth.max(axis=2) + worth.min(axis=2), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weights[:3], targets[:3] > 0)
    assert not weights[targets == 0].any()
    assert inputs["count"].tolist() == [weights[:3].sum()] * rows
    logs = {}
    callback.on_epoch_end(1, logs)
    assert 0 < logs["reward"] < 1
    same = rewarded()[2]
    same.on_epoch_begin(1)
    np.testing.assert_array_equal(same.tokens, callback.tokens)  # as where a run goes on
    same.on_epoch_begin(2)
    assert not np.array_equal(same.tokens, callback.tokens)
    even = EvenDataset(data, 4)[0]
    assert set(even[0]["count"]) == set(inputs["count"])


@pytest.mark.parametrize("words", [7, 8, 9])  # and the end; filled up to a multiple of eight
def test_references_are_learned_to_their_end(words):
    _, data, callback = rewarded(texts=[" ".join(["left"] * (words - 1))] * 3)
    callback.on_epoch_begin(1)
    inputs, targets, weights = data[0]
    assert (weights[:3].sum(axis=1) == words).all()
    assert ((targets[:3] == callback.captioner.tokenizer.end_id).sum(axis=1) == 1).all()
    assert inputs["count"][0] == weights[:3].sum()


def test_samples_are_learned_beside_the_texts_they_were_drawn_with():
    model, data, callback = rewarded(context=("indication",), studies=48)
    model.captions.texts.project.kernel.assign(9 + 0 * model.captions.texts.project.kernel)
    read, prepare = [], callback.search.prepare

    def prepared(*given, **named):
        search = prepare(*given, **named)
        return lambda features, *context: read.extend(context) or search(features, *context)

    callback.search.prepare = prepared
    callback.on_epoch_begin(1)
    told = np.concatenate(read)
    assert 0 < (told.any(axis=(1, 2))).mean() < 1  # from some they are withheld, as in training
    for index in range(2):
        inputs, numbers = data[index][0], data._plan[index]
        own = (numbers[:, None] * SAMPLES + np.arange(SAMPLES)).ravel()
        np.testing.assert_array_equal(inputs["context"][len(numbers) :], told[own])
        assert inputs["context"].dtype == told.dtype


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_rewarded_becomes_likelier_with_every_decoder(decoder):
    model, data, callback = rewarded(decoder, reward=lambda wanted, said: np.array(["left" in t for t in said], float))
    callback.on_epoch_begin(1)
    inputs, targets, weights = next(batch for batch in data if len(set(batch[2].ravel().tolist())) > 2)
    weights[:3] = 0  # of the references
    model.compile(keras.optimizers.SGD(0.1), WordCrossentropy(reduction="sum"))

    def likelihood():
        logits = ops.log_softmax(model(inputs))
        return (ops.convert_to_numpy(-WordCrossentropy(reduction=None)(targets, logits)) * weights).sum()

    before = likelihood()
    model.train_on_batch(inputs, targets, weights)
    assert likelihood() > before


def test_where_all_samples_are_alike_references_alone_are_learned():
    _, data, callback = rewarded(reward=lambda wanted, said: np.ones(len(said)))
    callback.on_epoch_begin(1)
    assert not data[0][2][3:].any()


def test_label_smoothing_beside_a_reward_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"without bound where training\.label_smoothing is above 0"):
        rewarded(label_smoothing=0.1)


def test_a_reward_decides_which_epoch_is_best_unless_a_score_is_named():
    assert Config().training.watched == "val_loss"
    reward = Config().replace({"training.reward.sides": 1, "training.epochs": 10})
    assert (reward.training.watched, reward.training.plain_epochs) == ("val_reward", 4)
    assert reward.replace({"training.monitor": "val_CIDEr"}).training.watched == "val_CIDEr"
    with pytest.raises(ConfigError, match="unknown field 'BLEU'; fields are clinical_f1, sides, contradictions, CI"):
        reward.replace({"training.reward": {"BLEU": 1}})
