"""A score of captions that decides, instead of the validation loss, which epoch is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.backend import keras, ops
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data.datasets import Inputs
from xray_captioning.data.targets import reference_texts, scored_text
from xray_captioning.decoders import Features
from xray_captioning.errors import ConfigError
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score

if TYPE_CHECKING:
    import pandas as pd

MOST = 500  # validation studies; captions of more cost more than they tell
BATCH = 64


def monitored_studies(studies: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the validation studies that are captioned after each epoch, the same in each."""
    return studies.sample(MOST, random_state=seed) if len(studies) > MOST else studies


class CaptionScore(keras.callbacks.Callback):
    """Write captions of validation studies after each epoch, and log how they score.

    The search is greedy. Callbacks that come later find the score in their logs, under the name
    ``monitor`` of the configuration. The captioner's preprocessing and tokenizer are used, with the
    model that is trained; `studies` are those of :func:`monitored_studies`, `inputs` says what a
    batch of them holds beside its tokens, and clinical F1 is over `findings`. No studies, or none
    that allow the score, are a ConfigError.
    """

    def __init__(
        self, captioner: Captioner, studies: pd.DataFrame, inputs: Inputs, findings: Sequence[str]
    ) -> None:
        super().__init__()
        self.captioner, self.inputs, self.findings = captioner, inputs, findings
        self.monitor = captioner.config.training.monitor
        self.references = reference_texts(studies, captioner.config)
        if not self.references:
            raise ConfigError(
                f"training.monitor is {self.monitor}, but the validation part of the split is "
                "empty; give more studies or fractions, or leave training.monitor at val_loss"
            )
        if not np.isfinite(self._score(self.references)):
            raise ConfigError(
                f"training.monitor is {self.monitor}, but no validation report names a finding "
                "that is counted; choose another, such as val_BLEU-4"
            )

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Caption with the model as it is fitted, which may have another precision."""
        old = self.captioner
        self.captioner = Captioner(old.config, old.encoder, self.model.captions, old.tokenizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the score to the logs."""
        config, starts = self.captioner.config, range(0, len(self.references), BATCH)
        captions = [caption for start in starts for caption in self._captions(start)]
        texts = [scored_text(caption.words, config) for caption in captions]
        assert logs is not None  # Keras always gives some
        logs[self.monitor] = self._score(texts)

    def _captions(self, start: int) -> list[Any]:
        numbers = np.arange(start, min(start + BATCH, len(self.references)))
        given = self.inputs(numbers, np.random.default_rng(0))
        features = map(ops.convert_to_numpy, self.model.features(given))
        return self.captioner.caption_features(Features(*features), beam_size=1)

    def _score(self, texts: Sequence[str]) -> float:
        name = self.monitor.removeprefix("val_")
        if name == "clinical_f1":
            return clinical_scores(self.references, texts, self.findings)[name]
        return score(self.references, texts)[name]
