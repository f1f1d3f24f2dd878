"""Learning by reward: of the captions that the model samples, the better ones become likelier (docs/training.md).

Each is compared with the mean of the study's other samples, not with the greedy caption as in arXiv:1612.00563: that
needs no further pass and varies less (Kool et al., ICLR 2019 workshop). The reference is learned beside them, so that
texts stay reports (arXiv:1705.04304).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import asdict

from xray_captioning.captioner.caption import words_of
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.captioner.compiled_search import BATCH_SIZES, CompiledSearch
from xray_captioning.config import RewardConfig
from xray_captioning.data import targets
from xray_captioning.data.datasets import BatchDataset, Inputs, rounded, withheld
from xray_captioning.data.features import Array
from xray_captioning.decoders import Features
from xray_captioning.errors import ConfigError
from xray_captioning.metrics import cider, clinical, mentions, ngrams
from xray_captioning.search import Sampling
from xray_captioning.training.caption_score import CaptionWriter

SAMPLES = 4  # of a study
STUDIES = BATCH_SIZES[-1] // SAMPLES  # sampled at a time


class Reward:
    """How good captions are beside their references, (n,), by the weights of :class:`RewardConfig`."""

    def __init__(self, weights: RewardConfig, training: Sequence[str]) -> None:
        self.weights, self.frequency = asdict(weights), cider.document_frequency(training)

    def __call__(self, references: Sequence[str], hypotheses: Sequence[str]) -> Array:
        wanted, said = map(mentions.facts, (references, hypotheses))
        counts, pairs = mentions.mention_statistics(wanted, said), ngrams.checked_pairs(references, hypotheses)
        common = [cider.block_scores(block, self.frequency) for block in ngrams.blocks(pairs)]
        sides = counts["details"][:, 0]
        found = clinical.confusion(clinical.labels_of(wanted), clinical.labels_of(said))
        parts = {
            "clinical_f1": clinical.example_f1(found),
            "sides": np.nan_to_num(clinical.share(sides[:, 2], sides[:, 0]), nan=1.0),
            "contradictions": 1 - counts["captions"][:, 2:].max(axis=1),
            "CIDEr": np.concatenate(common) / 10,
        }
        return np.sum([self.weights[name] * part for name, part in parts.items()], axis=0)


class Rewarded(CaptionWriter):
    """Gives a dataset's batches captions in the last epochs, sampled before each begins, weighted by reward."""

    def __init__(self, captioner: Captioner, studies: Any, inputs: Inputs, data: BatchDataset, reward: Any) -> None:
        super().__init__(captioner, studies, inputs)
        if captioner.config.training.label_smoothing:
            raise ConfigError("a reward makes words rarer, without bound where training.label_smoothing is above 0")
        self.reward, self.make, data.make = reward, data.make, self.batch
        self.search = CompiledSearch(captioner.model)
        self.tokens: Array | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        options = self.captioner.config.training
        if epoch >= options.plain_epochs:
            self.tokens = self._sampled(int(np.random.SeedSequence([options.seed, epoch]).generate_state(1)[0]))
            texts = list(map(self._text, self.tokens[:, :, 1:].reshape(-1, self.tokens.shape[2] - 1)))
            rewards = self.reward(np.repeat(self.references, SAMPLES).tolist(), texts).reshape(-1, SAMPLES)
            self.mean = float(rewards.mean())
            better = rewards - rewards.mean(axis=1, keepdims=True)
            self.advantages = better / (better.std() or 1) / (SAMPLES - 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.tokens is not None and logs is not None:
            logs["reward"] = self.mean

    def batch(self, numbers: Array, rng: np.random.Generator, index: int) -> Any:
        """Return a batch of the dataset, and behind its rows those of the samples; a loss is a mean over the first."""
        given, targets, weights = self.make(numbers, rng, index)
        given["count"] = np.full(len(numbers), weights.sum(), "float32")
        if self.tokens is None:
            return given, targets, weights
        first = np.insert(targets, 0, given.pop("tokens")[:, 0], axis=1)  # with the last word to predict
        said = self.tokens[numbers].reshape(len(numbers) * SAMPLES, -1)
        time = max(targets.shape[1], rounded(int((said[:, 1:] > 0).sum(axis=1).max())))
        rows = (np.pad(part[:, : time + 1], [(0, 0), (0, max(0, time + 1 - part.shape[1]))]) for part in (first, said))
        tokens = np.concatenate(list(rows))
        again = given if self.told is None else given | {"context": self.told[numbers]}  # as samples were drawn
        given = {name: np.concatenate([x, np.repeat(again[name], SAMPLES, axis=0)]) for name, x in given.items()}
        targets, worth = tokens[:, 1:], np.concatenate([np.ones(len(numbers)), self.advantages[numbers].reshape(-1)])
        worth = (targets > 0) * worth[:, None].astype("float32")
        return {**given, "tokens": tokens[:, :time]}, targets, worth

    def _sampled(self, seed: int) -> Array:
        """Return tokens (studies, samples, time + 1), a start token first; keep what the samples were told."""
        config, rules, rng = self.captioner.config, self.captioner.rules(), np.random.default_rng([seed, 1])
        search = self.search.prepare(rules, sampling=Sampling(seed=seed), total=SAMPLES * len(self.references))
        found, read = [], []
        for features, told in self.features(STUDIES, "samples"):
            given = told and targets.context_tokens(told, self.captioner.tokenizer, config)
            if given is not None:
                read.append(given := withheld(given, config.text.context_dropout, rng))
            regions, mask, *context = (np.repeat(x, SAMPLES, axis=0) for x in (*features, given) if x is not None)
            found.append(search(Features(regions, mask), *context).tokens)
        said, self.told = np.concatenate(found), np.concatenate(read) if read else None
        return np.insert(said.reshape(-1, SAMPLES, said.shape[-1]), 0, rules.start_id, axis=2)

    def _text(self, tokens: Array) -> str:
        words = [word for word, _ in words_of(tokens, self.captioner.tokenizer)]
        return targets.scored_text(words, self.captioner.config)
