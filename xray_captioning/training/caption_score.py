"""What a model writes while it is trained: samples to read, and a score that decides."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.backend import keras, ops
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.data import targets
from xray_captioning.data.datasets import Inputs
from xray_captioning.data.studies import Studies
from xray_captioning.decoders import Features
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.files import atomic_write, progress
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score

MOST = 500  # validation studies that are captioned; captions of more cost more than they tell
SAMPLES = 5  # of them, to read
BATCH = 64  # of them


def monitored_studies(studies: Studies, seed: int, most: int = MOST) -> Studies:
    """Return the validation studies that are captioned after each epoch, the same in each."""
    return studies.sample(most, random_state=seed) if len(studies) > most else studies


class CaptionWriter(keras.callbacks.Callback):
    """Writes greedy captions of some validation studies after each epoch, with the weights of the model in training."""

    # `inputs` says what a batch of the studies, those of `monitored_studies`, holds beside its tokens.
    def __init__(self, captioner: Captioner, studies: Studies, inputs: Inputs) -> None:
        super().__init__()
        self.captioner, self.inputs = captioner, inputs
        self.references = targets.reference_texts(studies, captioner.config)
        self.contexts = targets.contexts(studies, captioner.config)

    def texts(self) -> list[str]:
        """Return the captions of all studies, as they are scored."""
        written = []
        for features, told in self.features(BATCH, "captions"):
            total = len(self.references) * self.params["epochs"]
            written += self.captioner.write_captions(features, beam_size=1, total=total, context=told)
        return [targets.scored_text(caption.words, self.captioner.config) for caption in written]

    def features(self, batch: int, doing: str) -> Iterator[tuple[Features, Any]]:
        """Yield features, and contexts, of so many studies at a time; the captioner gets the weights in training."""
        if (fitted := self.model.captions) is not self.captioner.model:  # in another precision
            self.captioner.model.set_weights(fitted.get_weights())
        numbers = np.arange(len(self.references))
        for start in progress(range(0, len(numbers), batch), doing, leave=False):
            given = self.inputs(numbers[start : start + batch], np.random.default_rng(0))
            features = Features(*map(ops.convert_to_numpy, self.model.features(given)))
            yield features, self.contexts and self.contexts[start : start + batch]


class CaptionSamples(CaptionWriter):
    """Adds captions of a few studies, beside their reports, to ``samples.md`` of a run."""

    def __init__(self, captioner: Captioner, studies: Studies, inputs: Inputs, out: Path) -> None:
        super().__init__(captioner, studies, inputs)
        self.file, self.ids = out / "samples.md", list(studies["study_id"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        title, names = f"\n## Epoch {epoch + 1}\n", ("study", "report", "caption")
        told = self.file.read_text("utf-8") if self.file.is_file() else "# What the model writes\n"
        before, *_ = told.partition(title)  # an epoch that was written, but not kept, is written anew
        rows = [dict(zip(names, row)) for row in zip(self.ids, self.references, self.texts())]
        atomic_write(self.file, f"{before}{title}\n{format_markdown(rows)}\n")


class CaptionScore(CaptionWriter):
    """Scores captions after each epoch, for later callbacks under the name ``monitor``; clinical F1 over `findings`."""

    # No studies, or none that allow the score, are a ConfigError.
    def __init__(
        self, captioner: Captioner, studies: Studies, inputs: Inputs, findings: Sequence[str], reward: Any = None
    ) -> None:
        super().__init__(captioner, studies, inputs)
        self.findings, self.monitor, self.reward = findings, captioner.config.training.watched, reward
        asked = f"training.monitor is {self.monitor}"
        if not self.references:
            lacks = "the validation part of the split is empty; give more studies or fractions"
            raise ConfigError(f"{asked}, but {lacks}, or leave training.monitor at val_loss")
        if not np.isfinite(self._score(self.references)):
            lacks = "no validation report names a finding that is counted"
            raise ConfigError(f"{asked}, but {lacks}; choose another, such as val_BLEU-4")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None  # Keras always gives some
        logs[self.monitor] = self._score(self.texts())

    def _score(self, texts: Sequence[str]) -> float:
        name = self.monitor.removeprefix("val_")
        if name == "reward":
            return float(np.mean(self.reward(self.references, texts)))
        if name == "clinical_f1":
            return clinical_scores(self.references, texts, self.findings)[name]
        return score(self.references, texts)[name]
