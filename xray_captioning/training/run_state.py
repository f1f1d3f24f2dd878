"""What a training run keeps on disk so that it can be stopped at any moment and go on."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset
from xray_captioning.data.splits import Split, data_digest
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.files import atomic_path, atomic_write

if TYPE_CHECKING:
    import pandas as pd

RUN = "run.json"
BEST = "best.weights.h5"
STATE = "state.npz"


class RunState(keras.callbacks.Callback):
    """Log, best weights, early stopping and a resumable state, written at the end of each epoch.

    Losses after :meth:`restore` are those of a run that was never stopped: every weight, the
    optimizer, the dropout seeds and the order of the batches go on from where they were.

    Parameters
    ----------
    folder : Path
    dataset : BatchDataset
        Its epoch is set, so that the order of batches depends on it.
    monitor : str
        Name of the loss that decides which epoch is best.
    patience : int
        Epochs without improvement before training stops.
    """

    def __init__(self, folder: Path, dataset: BatchDataset, monitor: str, patience: int) -> None:
        super().__init__()
        self.folder, self.dataset = folder, dataset
        self.monitor, self.patience = monitor, patience
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> int:
        """Index of the best epoch so far, -1 before the first."""
        losses = [row[self.monitor] for row in self.history]
        return int(np.argmin(losses)) if losses else -1

    @property
    def finished(self) -> bool:
        """Whether the last epochs brought nothing."""
        return len(self.history) - 1 - self.best >= self.patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Tell the dataset which order to use."""
        self.dataset.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write best weights first, then the state that names them, then the log."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **values})
        if not np.isfinite(values[self.monitor]):
            raise BundleError(
                f"{self.folder}: the loss became {values[self.monitor]} in epoch {epoch + 1}; "
                "lower training.learning_rate"
            )
        if self.best == epoch:
            with atomic_path(self.folder / BEST) as temporary:
                self.model.save_weights(temporary)
        self._write_state()
        self._write_log()
        if self.finished:
            self.model.stop_training = True

    def restore(self, model: Any) -> int:
        """Load the state of a stopped run into a compiled model.

        Returns
        -------
        int
            The number of epochs already done; 0 when there is no state.

        Raises
        ------
        BundleError
            The state is damaged or of another model.
        """
        path = self.folder / STATE
        if not path.is_file():
            return 0
        variables = _variables(model)
        try:
            with np.load(path, allow_pickle=False) as saved:
                self.history = json.loads(str(saved["history"]))
                values = [saved[str(i)] for i in range(len(variables))]
            for variable, value in zip(variables, values):
                variable.assign(value)
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            reason = str(error).splitlines()[0][:120]
            raise BundleError(f"{path}: not a state of this run ({reason}); start again") from error
        self._write_log()  # a kill may have come between the state and the log
        return len(self.history)

    def _write_state(self) -> None:
        values = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(self._all())}
        with atomic_path(self.folder / STATE) as temporary, open(temporary, "wb") as file:
            np.savez(file, history=json.dumps(self.history), **values)

    def _write_log(self) -> None:
        atomic_write(self.folder / "log.csv", _csv(self.history))

    def _all(self) -> list[Any]:
        return _variables(self.model)


def _variables(model: Any) -> list[Any]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class EpochBar(keras.callbacks.Callback):
    """One progress bar over all epochs, silent where there is no terminal."""

    def __init__(self, done: int, epochs: int) -> None:
        super().__init__()
        self.done, self.epochs = done, epochs

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=self.epochs, initial=self.done, desc="train", unit="epoch", disable=None
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses."""
        self.bar.update()
        self.bar.set_postfix({k: f"{v:.3f}" for k, v in (logs or {}).items() if "loss" in k})

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self.bar.close()


def claim_run(
    out: Path,
    config: Config,
    studies: pd.DataFrame,
    split: Split,
    weights: str,
    resume: bool,
) -> None:
    """Make the run folder this run's own, or check that it is.

    Parameters
    ----------
    out : Path
    config : Config
    studies : pandas.DataFrame
    split : Split
    weights : str
        What the run starts from: a digest or a name.
    resume : bool

    Raises
    ------
    ConfigError
        The folder holds a run and ``resume`` is False, or holds another run.
    """
    path = out / RUN
    values = {
        "config": config.to_dict(),
        "data": data_digest(studies),
        "split": split.digest,
        "weights": weights,
    }
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"{out}: is not empty and holds no run; choose another folder")
        atomic_write(path, json.dumps(values, indent=2) + "\n")
        return
    if not resume:
        raise ConfigError(
            f"{out}: holds a run already; go on with --resume or choose another --out"
        )
    try:
        saved = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged; choose another folder") from error
    different = sorted(name for name in values if values[name] != saved.get(name))
    if different:
        raise ConfigError(
            f"{out}: was started with other {' and '.join(different)}; "
            "resume with the same data and options, or choose another --out"
        )
